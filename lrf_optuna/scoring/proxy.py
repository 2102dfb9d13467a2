"""Scoring a plan without surgery: compose each chain, put the kernels into one compiled pass, compare logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from cachetools import LRUCache, cachedmethod
from threadpoolctl import threadpool_limits

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, count_of, input_list, map_inputs
from lrf_optuna.data.tasks import Task
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, choice_within_limits, methods_within_limits
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import digest
from lrf_optuna.fitting.patches import MOST_ROWS
from lrf_optuna.fitting.second_moment import MomentAccumulator, SecondMoments
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.inventory import Inventory, find_sites, plan_counts
from lrf_optuna.models.layer_kinds import read_kernel, read_maps, to_keras_kernel, walk_layers
from lrf_optuna.models.model_inputs import batches_within_memory, images_per_pass
from lrf_optuna.models.outputs import unlabeled_tasks
from lrf_optuna.models.weights import weights_digest
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.build_table import build_option_table
from lrf_optuna.scoring.disk_cache import DiskCache, code_digest
from lrf_optuna.scoring.fitted_kernels import FittedKernels
from lrf_optuna.scoring.latency import LATENCY, LatencyTable, LayerTimer
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import OptionTable, Shares
from lrf_optuna.scoring.scoring_set import ScoringSet
from lrf_optuna.scoring.screening import default_keeps
from lrf_optuna.scoring.similarity import AUTO, OutputSimilarity
from lrf_optuna.scoring.space_limits import SpaceLimits

SCORED_IMAGES = 64
"""Images that a plan is scored on, a quarter of them at most (rows of images in benchmarks/results/ablation.md)."""
SMALL_KERNEL = 10**6
"""Weights of a kernel below which a second BLAS thread only waits, and on a busy machine makes everything wait."""
MEASURED_PLANS = 4096
"""Plans whose costs are remembered: the latest."""


class Proxy:
    """Plan -> costs, on calibration images, without building or training anything.

    `images` `(n, H, W, C)` are preprocessed (of several inputs: a list, tuple or dict of arrays, as the model takes
    them). A quarter, at most `SCORED_IMAGES`, score plans, and kernels are fitted to the others, so that no fit is
    scored on its own images. `tasks`: what the outputs are for, which the `similarity` "auto" follows.
    `refit`: whether kernels are fitted to the layers' inputs instead of the weights alone.
    `limits`: what is left out of the search space by hand, where the `inventory` does not have it already. Kernels
    take at most `memory` bytes, their factorizations four times that. `cache`: a folder that stores fits and
    errors for the next proxy of the same network and images. `timer`: gives the milliseconds of layers, which the
    objective latency needs.

    Raises LrfError where nothing in the model can be factorized, for a single image, and for an unknown name.
    """

    def __init__(
        self,
        model: Any,
        images: Images,
        *,
        inventory: Inventory | None = None,
        limits: SpaceLimits | None = None,
        methods: Sequence[str] | None = None,
        objectives: Sequence[str] = ("loss", "params", "macs"),
        similarity: str = AUTO,
        tasks: Mapping[str, Task] | None = None,
        refit: bool = True,
        memory: int = 2**29,
        cache: Path | None = None,
        timer: LayerTimer | None = None,
        progress: Progress = SILENT,
    ) -> None:
        count = count_of(images)
        if count < 2:
            raise LrfError(f"plans are scored on some images and fitted to others: give 2 or more, but got {count}")
        shapes = map_inputs(images, lambda array: tuple(array.shape[1:]))
        found = inventory or find_sites(model, shapes)
        self.inventory = limits.apply(found) if limits else found
        self.sites = {site.name: site for site in self.inventory.sites}
        if not self.sites:
            reasons = "; ".join(sorted({f"{row.kind}: {row.reason}" for row in self.inventory.rows if row.params}))
            raise LrfError(f"nothing in this model can be factorized ({reasons})")
        self.timer = timer
        self.latencies: LatencyTable | None = None
        """The milliseconds of layers, once `table` has timed them."""
        if LATENCY in objectives and timer is None:
            raise LrfError("the objective latency needs the milliseconds of layers: give a `timer`")
        self.methods = tuple(methods or DECOMPOSITIONS)
        for name in self.methods:
            lookup(DECOMPOSITIONS, name, "method")
        self.check_choices()
        self.objectives = {name: lookup(OBJECTIVES, name, "objective") for name in objectives}
        self.progress, self.refit = progress, refit
        layers = {name: layer for name, layer in walk_layers(model) if name in self.sites}
        self.network = ForwardPass(model, layers, images_per_pass(self.inventory.sites))
        self.similarity = OutputSimilarity.of(tasks or unlabeled_tasks(self.network.heads), similarity)
        names = {output: function.__name__ for output, function in self.similarity.functions.items()}
        self.scoring_key = str((names, self.similarity.weights))
        scored = min(SCORED_IMAGES, max(1, count // 4))
        self.scored = ScoringSet.of(self.network, map_inputs(images, lambda array: array[:scored]))
        self.fitting_images: Images = map_inputs(images, lambda array: array[scored:]) if refit else None
        self.measured: LRUCache[Plan, Measured] = LRUCache(MEASURED_PLANS)
        self.cache = DiskCache(cache, progress=progress) if cache else None
        self.kernels = FittedKernels(
            self.sites,
            {name: read_kernel(layer) for name, layer in self.network.layers.items()},
            (lambda: self.moments) if refit else None,
            memory,
            self.cache.network(self.key(images), self.scored.fingerprint) if self.cache else None,
        )

    def key(self, images: Images) -> str:
        """A digest of all that decides what fits and errors are: the network, the images, the code."""
        shapes = [array.shape for array in input_list(images)]
        layers = [(row.path, row.kind, row.params, row.macs) for row in self.inventory.rows]
        words = code_digest(), str(layers), str((len(self.scored), shapes, self.refit))
        return digest(*words, weights_digest(self.network.model), *input_list(images))

    @cached_property
    def moments(self) -> dict[str, SecondMoments]:
        """The second moments of every site's inputs, gathered where a fit first needs them; none without `refit`.

        The images are released after they were gathered: a gathering that is interrupted can be repeated.
        """
        if not self.refit:
            return {}
        images = self.fitting_images
        rows = max(1, MOST_ROWS // count_of(images))
        sums = {name: MomentAccumulator(site.op, max(1, rows // len(site.maps))) for name, site in self.sites.items()}
        with (
            self.single_blas_thread(),
            self.progress.task("statistics of layer inputs", count_of(images) + len(sums)) as step,
        ):
            for batch in batches_within_memory(images, self.sites.values()):
                for name, calls_maps in self.inputs(batch).items():
                    for maps in calls_maps:
                        sums[name].add(maps)
                step(count_of(batch))
            moments = {}
            for name, accumulator in sums.items():
                moments[name] = accumulator.moments()
                step(1)
        self.fitting_images = None
        return moments

    def inputs(
        self, images: Images, kernels: Mapping[str, Array] | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Array]]:
        """What goes into each (named) site, call by call, laid out as in `Conv`: `(n, *map, cin)`."""
        inputs, layers = self.network.inputs(images, kernels, names), self.network.layers
        return {name: [read_maps(layers[name], maps) for maps in calls] for name, calls in inputs.items()}

    def single_blas_thread(self) -> AbstractContextManager[Any]:
        """One BLAS thread for as long as a block runs, where all kernels are small."""
        limits: AbstractContextManager[Any] = threadpool_limits(1 if self.small else None, user_api="blas")
        return limits

    @property
    def fixed(self) -> Shares:
        """The shares of parameters, MACs and milliseconds that no plan can change."""
        shares = [self.shares(site, INTACT) for site in self.sites]
        return Shares(*(1 - sum(own) for own in zip(*shares, strict=True)))

    @property
    def small(self) -> bool:
        """Whether all kernels are small."""
        return max(site.op.params for site in self.sites.values()) < SMALL_KERNEL

    def choice(self, site: str, method: str, keep: float) -> Choice:
        """What (method, keep) means for a site: exact ranks, or intact where the chain has no fewer parameters."""
        return choice_within_limits(self.sites[site], method, keep)

    def methods_of(self, site: str) -> tuple[str, ...]:
        """The methods that this study allows for a site and that can save parameters there.

        `intact` is the first, unless the limits of the site rule it out. Where layers were timed, only methods that can
        run count.
        """
        found, latencies = methods_within_limits(self.sites[site], self.methods), self.latencies
        return tuple(name for name in found if latencies.has_method(site, name)) if latencies else found

    def options_key(self, site: str) -> str:
        """All that decides which choices a site has and how they are scored, besides the keeps and the network."""
        return str((self.scoring_key, self.methods_of(site), self.sites[site].limits))

    def check_choices(self) -> None:
        """Raises LrfError for a site whose limits leave no choice."""
        for name, site in self.sites.items():
            if not self.methods_of(name):
                least, most = site.limits.least, site.limits.most
                raise LrfError(
                    f"no choice for {name} keeps {least:g} to {most:g} of its parameters"
                    f"{' and has milliseconds' if self.latencies else ''}: widen its keep under [layers]"
                )

    def dense_kernels(self, plan: Plan) -> dict[str, Array]:
        """Site -> composed kernel as Keras lays it out, for the sites that the plan changes."""
        changed = plan.changed.items()
        return {site: self.to_keras_layout(site, self.kernels.dense(site, choice)) for site, choice in changed}

    def to_keras_layout(self, site: str, kernel: Array) -> Array:
        """A kernel of a site, laid out as in `Conv`, as its layer lays it out."""
        return to_keras_kernel(self.network.layers[site], kernel)

    def measure(self, plan: Plan) -> Measured:
        """What one forward pass over the scored images says of a plan, with its milliseconds once layers were timed."""
        found = self.passed(plan)
        if self.latencies is None:
            return found
        return replace(found, latency_share=self.latencies.plan_share(self.sites, plan))

    @cachedmethod(lambda self: self.measured, key=lambda _, plan: plan)
    def passed(self, plan: Plan) -> Measured:
        """What one forward pass over the scored images says of a plan; remembered by plan."""
        return self.measured_with(self.dense_kernels(plan), *self.counts(plan))

    def measured_with(self, kernels: Mapping[str, Any], params: int, macs: int) -> Measured:
        """What one forward pass says of a network of these counts, with `kernels` in Keras' layout."""
        similarity = self.similarity.each(self.scored.reference, self.network.run(self.scored.tensors, kernels))
        shares = params / self.inventory.params, macs / self.inventory.macs
        return Measured(similarity, params, macs, *shares, self.similarity.weights)

    def counts(self, plan: Plan) -> tuple[int, int]:
        """Parameters and MACs of a plan's network."""
        return plan_counts(self.inventory, plan)

    def shares(self, site: str, choice: Choice) -> Shares:
        """What a site under a choice has of the whole network's parameters, MACs and milliseconds."""
        latency = self.latencies.share(self.sites[site], choice) if self.latencies else 0.0
        return Shares(*self.counted_shares(site, choice), latency)

    def counted_shares(self, site: str, choice: Choice) -> tuple[float, float]:
        """What a site under a choice has of the whole network's parameters and MACs."""
        chain = chain_of(self.sites[site].op, choice)
        return chain.params / self.inventory.params, self.sites[site].macs(chain) / self.inventory.macs

    def costs(self, plan: Plan) -> dict[str, float]:
        """Objective name -> cost of a plan. Raises LrfError where a cost is not finite."""
        measured = self.measure(plan)
        costs = {name: objective(measured) for name, objective in self.objectives.items()}
        for name, cost in costs.items():
            if not isfinite(cost):
                raise LrfError(f"the objective {name!r} gave {cost} for {measured}: let it give a finite cost")
        return costs

    def logits(self, plan: Plan, images: Images) -> Array:
        """The compressed network's output for preprocessed images `(n, H, W, C)`. Raises LrfError for several."""
        return self.network.logits(images, self.dense_kernels(plan))

    def table(self, keeps: Sequence[float] | None = None, progress: Progress = SILENT) -> OptionTable:
        """Every option of every site: its costs, and the network's loss that its data-aware error should lead to.

        `keeps`: the shares of its parameters that a site may keep, by default those of `default_keeps`.
        """
        return build_option_table(self, keeps or default_keeps(len(self.sites)), progress)
