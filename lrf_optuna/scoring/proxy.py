"""Scoring a plan without surgery: compose each chain, put the kernels into one compiled pass, compare feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from threadpoolctl import threadpool_limits

from lrf_optuna.chains.conv import Array
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, choice_of, saving_methods
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import digest
from lrf_optuna.fitting.patches import MOST_ROWS
from lrf_optuna.fitting.second_moment import MomentAccumulator, SecondMoments
from lrf_optuna.models.forward import ForwardPass, deep_taps, weights_of
from lrf_optuna.models.images import (
    Images,
    batches_within_memory,
    count_of,
    images_per_pass,
    input_list,
    map_inputs,
    shapes_of,
)
from lrf_optuna.models.inventory import Inventory, find_sites, plan_counts
from lrf_optuna.models.layer_kinds import kernel_of, norms_of, read_kernel, read_maps, to_keras_kernel, walk_layers
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.build_table import build_option_table
from lrf_optuna.scoring.kernel_cache import KernelCache, code
from lrf_optuna.scoring.kernel_store import KernelStore, put_if_fits
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import OptionTable, Shares
from lrf_optuna.scoring.similarity import SIMILARITIES

SCORED = 128
"""Images that a plan is scored on, where calibration has at least four times as many."""
SMALL = 10**6
"""Weights of a kernel below which a second BLAS thread only waits, and on a busy machine makes everything wait."""
TAPS: dict[str, Callable[[Any, list[tuple[str, Any]], Any], dict[str, Any]]] = {
    "logits": lambda *_: {},
    "deep": deep_taps,
}
"""What plans are compared by besides the logits."""
REMEMBERED = 4096
"""Plans of which the costs are remembered: the latest."""
WITNESSES, WITNESSED = 4, 256
"""Images, and of each output values, by which a network is told from another that has its weights."""


class Proxy:
    """Plan -> costs, on calibration images, without building or training anything.

    `images` `(n, H, W, C)` are preprocessed (of several inputs: a list, tuple or dict of arrays, as the model takes
    them); a quarter of them, at most `SCORED`, score plans, and the others say what each layer's inputs look like, so
    that a fit is never judged on the images it was made on. `maps`: what plans are compared by, `logits` or also the
    `deep` maps before them. Kernels are kept in at most `memory` bytes, what they are cut from in four times that.
    `cache`: a folder where fits and errors are kept for the next proxy of the same network and images. Raises LrfError
    where nothing in the model can be factorized, or for a single image.
    """

    def __init__(
        self,
        model: Any,
        images: Images,
        *,
        inventory: Inventory | None = None,
        methods: Sequence[str] | None = None,
        objectives: Sequence[str] = ("loss", "params", "macs"),
        similarity: str = "cosine",
        maps: str = "logits",
        refit: bool = True,
        memory: int = 2**29,
        cache: Path | None = None,
        progress: Progress = SILENT,
    ) -> None:
        there = count_of(images)
        if there < 2:
            raise LrfError(f"plans are scored on some images and fitted to others: give 2 or more, but got {there}")
        self.inventory = inventory or find_sites(model, shapes_of(images))
        self.sites = {site.name: site for site in self.inventory.sites}
        if not self.sites:
            reasons = "; ".join(sorted({f"{row.kind}: {row.reason}" for row in self.inventory.rows if row.params}))
            raise LrfError(f"nothing in this model can be factorized ({reasons})")
        self.methods = tuple(methods or DECOMPOSITIONS)
        for name in self.methods:
            lookup(DECOMPOSITIONS, name, "method")
        self.objectives = {name: lookup(OBJECTIVES, name, "objective") for name in objectives}
        self.similar = lookup(SIMILARITIES, similarity, "similarity")
        layers = dict(walk_layers(model))
        found = {name: layers[name] for name in self.sites}
        taps = lookup(TAPS, maps, "set of maps")(model, list(layers.items()), shapes_of(images))
        variables = {name: kernel_of(layer) for name, layer in found.items()}
        self.network = ForwardPass(
            model, found, variables, taps, norms_of(model), images_per_pass(self.inventory.sites)
        )
        self.kernels = {name: read_kernel(layer) for name, layer in found.items()}
        count = min(SCORED, max(1, there // 4))
        self.scored: Images = map_inputs(images, lambda array: np.ascontiguousarray(array[:count]))
        self.known: LRUCache[Plan, Measured] = LRUCache(REMEMBERED)
        self.sizes: dict[tuple[str, Choice], tuple[int, int]] = {}
        self.ready: LRUCache[tuple[str, Choice], Any] = LRUCache(memory // 4, getsizeof=lambda t: 4 * prod(t.shape))
        reference = self.network.run(self.network.as_tensors(self.scored), {})
        self.pixels = self.network.as_tensors(self.scored)
        self.reference = reference
        self.unscored: Images = map_inputs(images, lambda array: array[count:]) if refit else None
        self.progress, self.sense = progress, str((self.methods, similarity, maps))
        self.cache = KernelCache(cache, progress=progress) if cache else None
        shelf = self.cache.shelf(self.key(images)) if self.cache else None
        witness = [array[:WITNESSES].reshape(-1)[:WITNESSED] for array in reference.values()]
        self.fits = KernelStore(
            self.sites, self.kernels, lambda: self.moments, memory, shelf, np.concatenate(witness).astype(np.float64)
        )

    def key(self, images: Images) -> str:
        """A digest of all that decides what fits and errors are: the network, the images, the code."""
        count, shapes = count_of(self.scored), [array.shape for array in input_list(images)]
        words = code(), str(self.inventory), str((count, shapes, self.unscored is not None))
        return digest(*words, *weights_of(self.network.model), *input_list(images))

    @cached_property
    def moments(self) -> dict[str, SecondMoments]:
        """The second moments of every site's inputs, gathered where a fit first needs them; none without a refit."""
        images, self.unscored = self.unscored, None
        return {} if images is None else self.gathered(images, self.progress)

    def gathered(self, images: Images, progress: Progress) -> dict[str, SecondMoments]:
        """The second moment of every site's inputs over `images`."""
        calls = {name: len(site.maps) for name, site in self.sites.items()}
        rows = max(1, MOST_ROWS // count_of(images))
        adding = {name: MomentAccumulator(site.op, max(1, rows // calls[name])) for name, site in self.sites.items()}
        with self.calm(), progress.task("layer inputs", count_of(images) + len(self.sites)) as step:
            for batch in batches_within_memory(images, self.sites.values()):
                for name, calls_maps in self.inputs(batch).items():
                    for maps in calls_maps:
                        adding[name].add(maps)
                step(count_of(batch))
            moments = {}
            for name, sums in adding.items():
                moments[name] = sums.moments()
                step(1)
        return moments

    def inputs(
        self, images: Images, kernels: Mapping[str, Array] | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Array]]:
        """What goes into each (named) site, call by call, laid out as in `Conv`: `(n, *map, cin)`."""
        heard, layers = self.network.inputs(images, kernels, names), self.network.layers
        return {name: [read_maps(layers[name], maps) for maps in calls] for name, calls in heard.items()}

    def calm(self) -> AbstractContextManager[Any]:
        """One BLAS thread for as long as a block runs, where all kernels are small."""
        limits: AbstractContextManager[Any] = threadpool_limits(1 if self.small else None, user_api="blas")
        return limits

    @cached_property
    def fixed(self) -> dict[str, float]:
        """The shares of parameters and MACs that no plan can change."""
        params = sum(site.op.params for site in self.sites.values())
        macs = sum(sum(site.op.macs(shape) for shape in site.maps) for site in self.sites.values())
        return {"params": 1 - params / self.inventory.params, "macs": 1 - macs / self.inventory.macs}

    @property
    def small(self) -> bool:
        """Whether all kernels are small."""
        return max(site.op.params for site in self.sites.values()) < SMALL

    def choice(self, site: str, method: str, keep: float) -> Choice:
        """What (method, keep) means for a site: exact ranks, or intact where the chain has no fewer parameters."""
        return choice_of(self.sites[site].op, method, keep)

    def methods_of(self, site: str) -> tuple[str, ...]:
        """The methods that this study allows for a site and that can save parameters there, `intact` first."""
        op = self.sites[site].op
        return ("intact", *(name for name in saving_methods(op) if name in self.methods))

    def stages(self, site: str, choice: Choice) -> tuple[Array, ...]:
        """The stage kernels of a choice, fitted to the site's inputs."""
        return self.fits.stages(site, choice)

    def dense(self, site: str, choice: Choice) -> Array:
        """The kernel that a choice composes to, in the layer's own shape."""
        return self.fits.dense(site, choice)

    def error(self, site: str, choice: Choice) -> float:
        """Relative squared error of the site's outputs under a choice."""
        return self.fits.error(site, choice)

    def swaps(self, plan: Plan) -> dict[str, Array]:
        """Site -> composed kernel as Keras lays it out, for the sites that the plan changes."""
        chosen = [(site, choice) for site, choice in plan if choice != INTACT]
        return {site: self.theirs(site, self.dense(site, choice)) for site, choice in chosen}

    def tensors(self, plan: Plan) -> dict[str, Any]:
        """The same as tensors, which a pass takes without a copy; remembered by choice."""
        found = {}
        for site, choice in plan:
            if choice != INTACT:
                tensor = self.ready.get((site, choice))
                if tensor is None:
                    tensor = self.network.as_tensors(self.theirs(site, self.dense(site, choice)))
                    put_if_fits(self.ready, (site, choice), tensor)
                found[site] = tensor
        return found

    def theirs(self, site: str, kernel: Array) -> Array:
        """A kernel of a site, laid out as in `Conv`, as its layer lays it out."""
        return to_keras_kernel(self.network.layers[site], kernel)

    def __len__(self) -> int:
        return count_of(self.scored)

    def measure(self, plan: Plan) -> Measured:
        """What one forward pass over the scored images says of a plan; remembered by plan."""
        if plan not in self.known:
            maps = self.network.run(self.pixels, self.tensors(plan))
            similarity = {tap: finite(self.similar(self.reference[tap], found)) for tap, found in maps.items()}
            params, macs = self.counts(plan)
            shares = params / self.inventory.params, macs / self.inventory.macs
            self.known[plan] = Measured(similarity, params, macs, *shares)
        return self.known[plan]

    def counts(self, plan: Plan) -> tuple[int, int]:
        """Parameters and MACs of a plan's network, as by `layers.counts`; what a choice saves is worked out once."""
        for site, choice in plan:
            if (site, choice) not in self.sizes:
                params, macs = plan_counts(self.inventory, Plan.of({site: choice}))
                self.sizes[site, choice] = params - self.inventory.params, macs - self.inventory.macs
        saved = [self.sizes[pair] for pair in plan]
        params, macs = (sum(costs) for costs in zip(*saved, strict=True)) if saved else (0, 0)
        return self.inventory.params + params, self.inventory.macs + macs

    def shares(self, site: str, choice: Choice) -> Shares:
        """What a site under a choice has of the whole network's parameters and MACs."""
        chain = chain_of(self.sites[site].op, choice)
        return Shares(chain.params / self.inventory.params, self.sites[site].macs(chain) / self.inventory.macs)

    def costs(self, plan: Plan) -> dict[str, float]:
        """Objective name -> cost of a plan."""
        measured = self.measure(plan)
        return {name: cost(measured) for name, cost in self.objectives.items()}

    def logits(self, plan: Plan, images: Images) -> Array:
        """The compressed network's output for preprocessed images `(n, H, W, C)`. Raises LrfError for several."""
        return self.network.logits(images, self.swaps(plan))

    def outputs(self, plan: Plan, images: Images) -> dict[str, Array]:
        """Name -> logits of all of the compressed network's outputs for preprocessed images."""
        return self.network.outputs(images, self.swaps(plan))

    def table(self, keeps: Sequence[float], progress: Progress = SILENT) -> OptionTable:
        """Every option of every site: its costs, and its data-aware error times how much the site's error hurts."""
        return build_option_table(self, keeps, progress)


def finite(value: float) -> float:
    """A similarity of maps that are not finite is none at all."""
    return value if np.isfinite(value) else 0.0
