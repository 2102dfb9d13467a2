"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here the last stage of
each chain is solved for so that the *compressed* network's inputs give the *original's* outputs: with P the inputs of
the last stage in the compressed network, Y the original layer's outputs and B0 the kernel so far,
B = argmin |P B - Y|^2 + pull |P (B - B0)|^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrf_optuna.decompositions import DECOMPOSITIONS, compose
from lrf_optuna.moments import MOST_ROWS, by_group, patches
from lrf_optuna.network import in_batches
from lrf_optuna.plan import INTACT, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.projection import before_last, inputs_of
from lrf_optuna.proxy import Proxy
from lrf_optuna.refit import flat
from lrf_optuna.stages import Array, Chain, Site, joined, split

PULL = 0.05
MOST_MACS = 2e13
"""Multiply-accumulates spent on it at most: fewer images where layers are many and large."""
FEWEST = 64

Kernels = dict[str, tuple[Array, ...]]


def refit_in_order(proxy: Proxy, plan: Plan, kernels: Kernels, images: Array, progress: Progress = SILENT) -> Kernels:
    """The same stage kernels (site -> kernels) with the last one of every chain refitted, layer after layer.

    `images`: preprocessed, `(n, H, W, C)`.
    """
    chosen = {name: choice for name, choice in plan if choice != INTACT}
    sites = {name: site for name, site in proxy.sites.items() if name in chosen}
    macs = sum(site.macs(Chain((site.op,))) for site in proxy.sites.values())
    images = images[: int(np.clip(MOST_MACS / max(1, macs * len(sites)), FEWEST, len(images)))]
    positions = max(1, MOST_ROWS // (2 * len(images)))
    batches = in_batches(images, proxy.sites.values())
    fitted, whole = dict(kernels), proxy.swaps(plan)
    with proxy.calm(), progress.task("refit in order", len(batches) + len(sites)) as step:
        goals: dict[str, list[Array]] = {name: [] for name in sites}
        for turn, x in enumerate(batches):
            for name, maps in proxy.inputs(x, names=list(sites)).items():
                own = split(proxy.kernels[name], sites[name].op.groups)
                rows = by_group(seen(maps, sites[name], positions, turn), sites[name].op)
                goals[name].append(np.stack([r @ flat(part) for r, part in zip(rows, own, strict=True)]))
            step(1)
        for name, site in sites.items():
            chain = DECOMPOSITIONS[chosen[name].method].chain(site.op.part, chosen[name].ranks)
            parts: list[tuple[Array, ...]] = list(
                zip(*(split(kernel, site.op.groups) for kernel in fitted[name]), strict=True)
            )
            before = [before_last(chain, part) for part in parts]
            last = chain.stages[-1]
            sums = [Sums.empty(inputs_of(last), last.cout // last.slices) for _ in before]
            for turn, x in enumerate(batches):
                rows = by_group(seen(proxy.inputs(x, whole, [name])[name], site, positions, turn), site.op)
                for total, r, a, goal in zip(sums, rows, before, goals[name][turn], strict=True):
                    total.add(r @ a, goal)
            fitted_last = joined([total.solution(part[-1]) for total, part in zip(sums, parts, strict=True)])
            fitted[name] = (*fitted[name][:-1], fitted_last)
            whole[name] = proxy.theirs(name, compose(site.op, chosen[name], fitted[name]))
            goals.pop(name)
            step(1)
    return fitted


@dataclass(slots=True)
class Sums:
    """P'P and P'Y over batches."""

    gram: Array
    right: Array

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> Sums:
        """Nothing added yet."""
        return cls(np.zeros((inputs, inputs)), np.zeros((inputs, outputs)))

    def add(self, inputs: Array, goal: Array) -> None:
        """Take in rows of P and of Y; of a contraction one row a slice."""
        inputs, goal = inputs.reshape(-1, len(self.gram)), goal.reshape(-1, self.right.shape[1])
        self.gram += inputs.T @ inputs
        self.right += inputs.T @ goal

    def solution(self, kernel: Array) -> Array:
        """B, where `kernel` is B0, in its shape."""
        gram = (1 + PULL) * self.gram
        gram[np.diag_indices(len(gram))] += 1e-7 * np.trace(gram) / len(gram) + 1e-30
        found: Array = np.linalg.solve(gram, self.right + PULL * self.gram @ flat(kernel))
        return found.astype(kernel.dtype).reshape(kernel.shape)


def seen(calls: list[Array], site: Site, positions: int, seed: int) -> Array:
    """Input patches of all calls of a site."""
    each = max(1, positions // len(calls))
    return np.concatenate([patches(maps, site.op, each, seed) for maps in calls])
