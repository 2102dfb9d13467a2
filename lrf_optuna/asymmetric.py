"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here the last stage of
each chain is solved for so that the *compressed* network's inputs give the *original's* outputs: with P the inputs of
the last stage in the compressed network, Y the original layer's outputs and B0 the kernel so far,
B = argmin |P B - Y|^2 + pull |P (B - B0)|^2.
"""

from __future__ import annotations

from math import prod

import numpy as np

from lrf_optuna.decompositions import chain_of
from lrf_optuna.network import Network, in_batches
from lrf_optuna.plan import INTACT, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.refit import MOST_ROWS, patches, solved
from lrf_optuna.stages import Array, Chain, Site

PULL = 0.05
MOST_MACS = 2e13
"""Multiply-accumulates spent on it at most: fewer images where layers are many and large."""
FEWEST = 64

Kernels = dict[str, tuple[Array, ...]]


def refit_in_order(
    network: Network, sites: dict[str, Site], plan: Plan, kernels: Kernels, images: Array, progress: Progress = SILENT
) -> Kernels:
    """The same stage kernels with the last one of every chain refitted, layer after layer.

    `sites` in the model's order, `kernels` site -> stage kernels, `images` preprocessed `(n, H, W, C)`.
    """
    chosen = {name: choice for name, choice in plan if choice != INTACT}
    macs = sum(site.macs(Chain((site.op,))) for site in sites.values())
    count = int(np.clip(MOST_MACS / max(1, macs * len(chosen)), FEWEST, len(images)))
    images = images[:count]
    positions = max(1, MOST_ROWS // (2 * count))
    fitted, whole = (
        dict(kernels),
        {name: chain_of(sites[name].op, chosen[name]).compose(kernels[name]) for name in chosen},
    )
    batches = in_batches(images, sites.values())
    with progress.task("refit in order", len(batches) + len(chosen)) as step:
        goals: dict[str, list[Array]] = {name: [] for name in chosen}
        for turn, x in enumerate(batches):
            for name, maps in network.inputs(x, names=list(chosen)).items():
                goals[name].append(seen(maps, sites[name], positions, turn) @ flat(network.kernel(name)))
            step(1)
        for name in (name for name in sites if name in chosen):
            chain = chain_of(sites[name].op, chosen[name])
            a = flat(Chain(chain.stages[:-1]).compose(fitted[name][:-1]))
            gram, right = np.zeros((a.shape[1],) * 2), np.zeros((a.shape[1], sites[name].op.cout))
            for turn, x in enumerate(batches):
                inputs = seen(network.inputs(x, whole, [name])[name], sites[name], positions, turn) @ a
                gram += inputs.T @ inputs
                right += inputs.T @ goals[name][turn]
            last = fitted[name][-1]
            found = solved((1 + PULL) * gram, right + PULL * gram @ flat(last)).astype(last.dtype)
            fitted[name] = (*fitted[name][:-1], found.reshape(last.shape))
            whole[name] = chain.compose(fitted[name])
            goals.pop(name)
            step(1)
    return fitted


def seen(calls: list[Array], site: Site, positions: int, seed: int) -> Array:
    """Input patches of all calls of a site."""
    each = max(1, positions // len(calls))
    return np.concatenate([patches(maps, site.op, each, seed) for maps in calls])


def flat(kernel: Array) -> Array:
    """A kernel `(*window, cin, cout)` as a (window x cin) by cout matrix."""
    return kernel.reshape(prod(kernel.shape[:-1]), kernel.shape[-1])
