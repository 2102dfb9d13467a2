"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here the last stage of
each chain is solved for so that the *compressed* network's inputs give the *original's* outputs: with P the inputs of
the last stage in the compressed network, Y the original layer's outputs and B0 the kernel so far,
B = argmin |P B - Y|^2 + pull |P (B - B0)|^2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lrf_optuna.decompositions import DECOMPOSITIONS, compose
from lrf_optuna.moments import MOST_ROWS, by_group, patches
from lrf_optuna.network import in_batches
from lrf_optuna.plan import INTACT, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.projection import MOST_ENTRIES, before_last, inputs_of
from lrf_optuna.proxy import Proxy
from lrf_optuna.refit import flat
from lrf_optuna.stages import Array, Chain, Site, joined, split
from lrf_optuna.stages import Kernels as Stages

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
    sites = {name: site for name, site in proxy.sites.items() if name in chosen and small(site, chosen[name])}
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
            heard = (proxy.inputs(x, whole, [name])[name] for x in batches)
            patched = (by_group(seen(maps, site, positions, turn), site.op) for turn, maps in enumerate(heard))
            pairs = zip(patched, goals.pop(name), strict=True)
            fitted[name] = with_last(part_of(site, chosen[name]), fitted[name], pairs)
            whole[name] = proxy.theirs(name, compose(site.op, chosen[name], fitted[name]))
            step(1)
    return fitted


def part_of(site: Site, choice: Choice) -> Chain:
    """The chain of one group of a site."""
    return DECOMPOSITIONS[choice.method].chain(site.op.part, choice.ranks)


def small(site: Site, choice: Choice) -> bool:
    """Whether what goes into the last stage of a chain is small enough to be solved for."""
    op, last = site.op.part, part_of(site, choice).stages[-1]
    return last.lead * inputs_of(last) * (op.params // op.cout) <= MOST_ENTRIES


def with_last(chain: Chain, kernels: Stages, pairs: Iterable[tuple[Array, Array]]) -> Stages:
    """The stage kernels with the last one solved for, from input rows and the outputs that they should give.

    Rows and outputs have the groups as their first axis; `chain` is that of one group.
    """
    groups = kernels[-1].shape[-1] // (chain.stages[-1].cout // chain.stages[-1].slices)
    parts: list[Stages] = list(zip(*(split(kernel, groups) for kernel in kernels), strict=True))
    before, last = [before_last(chain, part) for part in parts], chain.stages[-1]
    sums = [Sums.empty(inputs_of(last), last.cout // last.slices) for _ in parts]
    for rows, goals in pairs:
        for total, r, a, goal in zip(sums, rows, before, goals, strict=True):
            total.add(r @ a, goal)
    return *kernels[:-1], joined([total.solution(part[-1]) for total, part in zip(sums, parts, strict=True)])


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
