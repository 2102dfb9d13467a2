"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here each chain is fitted
so that the *compressed* network's inputs give the *original's* outputs: with P the input patches in the compressed
network, Y the original layer's outputs and W its kernel, the chain V minimises |P V - Y|^2 + pull |P (V - W)|^2. That
is a fit under the moment P'P to the kernel that solves this without a chain. Of layers too wide for P'P only the last
stage B is solved for, with P the inputs of that stage and W the kernel so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lrf_optuna.decompositions import DECOMPOSITIONS, compose
from lrf_optuna.following import Following
from lrf_optuna.layers import own_maps
from lrf_optuna.moments import MOST_ROWS, Moment, by_group, patches
from lrf_optuna.network import in_batches
from lrf_optuna.plan import INTACT, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.projection import MOST_ENTRIES, Projection, before_last, inputs_of, outputs_of, polished
from lrf_optuna.proxy import Proxy
from lrf_optuna.refit import balanced, flat
from lrf_optuna.stages import Array, Chain, Conv, Kernels, Site, joined, split

PULL = 0.2
"""Weight of staying with the original's kernel: what served ResNet-20 best."""
EFFORT = 3
"""Times the steps that a fit in a search may take."""
WIDE = 2048
"""Rows of a kernel above which only the last stage is solved for."""
MOST_MACS = 1e13
"""Multiply-accumulates spent on it at most: fewer images where layers are many and large."""
FEWEST = 64

Fitted = dict[str, Kernels]
"""Site -> stage kernels."""


def refit_in_order(
    proxy: Proxy,
    plan: Plan,
    kernels: Fitted,
    images: Array,
    progress: Progress = SILENT,
    pull: float = PULL,
) -> Fitted:
    """The same chains (site -> stage kernels) refitted layer after layer.

    `images`: preprocessed, `(n, H, W, C)`; `pull`: the weight of staying with the original's kernel.
    """
    chosen = {name: choice for name, choice in plan if choice != INTACT}
    sites = {name: site for name, site in proxy.sites.items() if name in chosen and small(site, chosen[name])}
    following, layers = Following(proxy.network, sites, [images[:1]]), proxy.network.layers
    macs = {name: site.macs(Chain((site.op,))) for name, site in proxy.sites.items()}
    work = sum(macs.values()) + following.work(macs)
    images = images[: int(np.clip(MOST_MACS / max(1, work), FEWEST, len(images)))]
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
        following.take(batches)
        for name, site in sites.items():
            heard = ([own_maps(layers[name], maps) for maps in calls] for calls in following.inputs(name, whole))
            patched = (by_group(seen(maps, site, positions, turn), site.op) for turn, maps in enumerate(heard))
            pairs = zip(patched, goals.pop(name), strict=True)
            chain = part_of(site, chosen[name])
            fitted[name] = refitted_chain(site.op.part, chain, proxy.kernels[name], fitted[name], pairs, pull)
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


def refitted_chain(
    op: Conv,
    chain: Chain,
    dense: Array,
    kernels: Kernels,
    pairs: Iterable[tuple[Array, Array]],
    pull: float,
) -> Kernels:
    """The stage kernels fitted to input rows and the outputs that they should give, which have groups as first axis.

    `op` and `chain` are those of one group, `dense` and `kernels` those of all.
    """
    groups, last = dense.shape[-1] // op.cout, chain.stages[-1]
    parts: list[Kernels] = list(zip(*(split(kernel, groups) for kernel in kernels), strict=True))
    wide, narrow = op.params // op.cout, op.params // op.cout <= WIDE
    size = (wide, op.cout) if narrow else (inputs_of(last), outputs_of(last))
    ways = [None if narrow else before_last(chain, part) for part in parts]
    sums = [Sums.empty(*size) for _ in parts]
    for rows, goals in pairs:
        for total, r, way, goal in zip(sums, rows, ways, goals, strict=True):
            total.add(r if way is None else r @ way, goal)
    owns = split(dense, groups)
    fitted = [
        all_stages(op, chain, own, part, total, pull) if narrow else (*part[:-1], total.solution(part[-1], 0.0, pull))
        for own, part, total in zip(owns, parts, sums, strict=True)
    ]
    return tuple(map(joined, zip(*fitted, strict=True)))


def all_stages(op: Conv, chain: Chain, dense: Array, kernels: Kernels, sums: Sums, pull: float) -> Kernels:
    """The stages of one group, fitted to the kernel that would serve best in the layer's place."""
    moment = Moment.of(op.window, sums.gram / sums.count)
    goal = moment.root(flat(sums.solution(dense, moment.ridge * sums.count, pull)))
    task = Projection(chain, moment, goal, EFFORT)
    return balanced(chain, polished(task, balanced(chain, (*kernels[:-1], task.solved(kernels)))))


@dataclass(slots=True)
class Sums:
    """P'P and P'Y over batches, and of how many rows."""

    gram: Array
    right: Array
    count: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> Sums:
        """Nothing added yet."""
        return cls(np.zeros((inputs, inputs)), np.zeros((inputs, outputs)))

    def add(self, inputs: Array, goal: Array) -> None:
        """Take in rows of P and of Y; of a contraction one row a slice."""
        inputs, goal = inputs.reshape(-1, len(self.gram)), goal.reshape(-1, self.right.shape[1])
        self.gram += inputs.T @ inputs
        self.right += inputs.T @ goal
        self.count += len(inputs)

    def solution(self, kernel: Array, ridge: float, pull: float) -> Array:
        """The kernel that is best for what was added, pulled towards `kernel`, in its shape."""
        before = flat(kernel)
        gram = (1 + pull) * self.gram
        gram[np.diag_indices(len(gram))] += ridge + 1e-7 * np.trace(gram) / len(gram) + 1e-30
        found: Array = np.linalg.solve(gram, self.right + pull * self.gram @ before + ridge * before)
        return found.astype(kernel.dtype).reshape(kernel.shape)


def seen(calls: list[Array], site: Site, positions: int, seed: int) -> Array:
    """Input patches of all calls of a site."""
    each = max(1, positions // len(calls))
    return np.concatenate([patches(maps, site.op, each, seed) for maps in calls])
