"""The milliseconds of a network's layers and chains, each exported alone and timed in one runtime on this machine.

Equal layers of equal inputs are timed once. Times are kept in the cache, by machine, runtime, version and threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import tensorflow as tf

from lrf_optuna.chains.site import Site
from lrf_optuna.data.arrays import Images, map_inputs
from lrf_optuna.errors import LrfError
from lrf_optuna.files import digest
from lrf_optuna.models.forward import called_shapes
from lrf_optuna.models.layer_copies import copy_layer, layer_config
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.models.model_inputs import Shape
from lrf_optuna.models.surgery import chain_layer, materialize
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.runtimes.convert import problem_of
from lrf_optuna.runtimes.exports import Samples
from lrf_optuna.runtimes.formats import check_runtimes
from lrf_optuna.runtimes.graph_timing import time_graphs
from lrf_optuna.runtimes.graphs import GraphFile, write_graph
from lrf_optuna.runtimes.latency import Place, model_latencies, place_text
from lrf_optuna.runtimes.rank_steps import rank_step
from lrf_optuna.runtimes.sessions import runtime_version
from lrf_optuna.runtimes.time_cache import KeptTimes
from lrf_optuna.runtimes.timing import TimingSettings
from lrf_optuna.scoring.latency import LayerTimes
from lrf_optuna.scoring.proxy import Proxy

TIMELESS = ("name", "trainable", "seed")
TIMELESS_ENDINGS = ("_initializer", "_regularizer", "_constraint")
"""Keys of a layer's configuration, and ends of such keys, that change nothing about its time."""
STEP = "rank step"
"""The name of the number of channels that a runtime computes at once, among the times that are kept."""
AGAIN = "again"
"""The name of the second measurement of the first network."""
MOST_NOISE = 0.15
"""Relative difference of two measurements of one network above which the machine is too busy to time any."""


@dataclass(frozen=True, slots=True)
class LayerTimerSettings:
    """How often layers and networks are timed; each takes the least of its rounds."""

    layer_rounds: int = 10
    """Turns of a layer. A plan sums some dozens of layers, so their noise averages out."""
    network_rounds: int = 30
    """Turns of a whole network."""
    attempts: int = 3
    """Times that networks are measured at most, where other work on the machine disturbs that."""


@dataclass(eq=False)
class LayerTimer:
    """Times the layers of a model in one place.

    `inputs`: an image as the model takes it, with the batch axis, for its shape. `cache`: the folder that keeps
    times; None for none. Raises LrfError for a runtime that is not installed.
    """

    model: Any
    inputs: Images
    where: Place
    cache: Path | None = None
    settings: LayerTimerSettings = LayerTimerSettings()
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        check_runtimes([self.where.runtime])

    @cached_property
    def place(self) -> str:
        """The runtime with its version, the threads, the images of a call, and the machine, in words."""
        return place_text(self.where, runtime_version(self.where.runtime))

    @cached_property
    def by_path(self) -> dict[str, Any]:
        """Path -> layer of the model."""
        return dict(walk_layers(self.model))

    @cached_property
    def calls(self) -> dict[str, list[Shape]]:
        """Path -> the shape of the input of every call of a layer."""
        shapes = map_inputs(self.inputs, lambda array: tuple(array.shape[1:]))
        found = called_shapes(self.model, self.by_path, shapes)
        return {path: [before for before, _ in calls if before] for path, calls in found.items()}

    @cached_property
    def kept(self) -> KeptTimes:
        """The times in the cache."""
        return KeptTimes.read(self.cache, self.place)

    def rank_multiple(self) -> int:
        """The number that ranks should be multiples of: the channels that the runtime computes at once here."""
        if STEP not in self.kept.times:
            self.kept.add({STEP: float(rank_step(self.where.runtime, self.where.threads))}, {})
        return int(self.kept.times[STEP] or 1)

    def check(self, sites: Iterable[Site]) -> None:
        """Nothing is known before it is measured."""

    def layers(self, proxy: Proxy, wanted: Mapping[str, Collection[Choice]]) -> dict[str, LayerTimes]:
        """The milliseconds of the wanted choices of every site; a choice that the runtime cannot run is left out.

        Raises LrfError where the runtime cannot run a layer as it is.
        """
        asked = {site: dict.fromkeys((INTACT, *choices)) for site, choices in wanted.items()}
        self.measure({self.key(*job): job for site, own in asked.items() for job in self.jobs(site, own)})
        found: dict[str, LayerTimes] = {site: {} for site in asked}
        for site, choices in asked.items():
            for choice in choices:
                times = [self.kept.times[self.key(*job)] for job in self.jobs(site, [choice])]
                known = [time for time in times if time is not None]
                if len(known) == len(times):
                    found[site][choice] = sum(known)
            if INTACT not in found[site]:
                reason = self.kept.problems.get(self.key(*self.jobs(site, [INTACT])[0]), "it cannot be exported")
                raise LrfError(f"{self.where.runtime} cannot run {site}: {reason}; give another --runtime")
        return found

    def jobs(self, site: str, choices: Iterable[Choice]) -> list[Job]:
        """What is timed for choices of a site: each with every distinct call of the layer."""
        return [Job(site, choice, shape) for choice in choices for shape in self.calls[site]]

    def key(self, site: str, choice: Choice, shape: Shape) -> str:
        """A digest of all that decides the time of a choice for inputs of a shape."""
        layer = self.by_path[site]
        config = {
            name: value
            for name, value in layer_config(layer).items()
            if name not in TIMELESS and not name.endswith(TIMELESS_ENDINGS)
        }
        return digest(type(layer).__name__, repr(sorted(config.items(), key=str)), str(shape), str(choice))

    def measure(self, wanted: Mapping[str, Job]) -> None:
        """Time what is not kept yet, and the intact layers with it.

        A machine is not equally fast at all times, so new times are scaled by those that intact layers had before.
        """
        missing = {key: job for key, job in wanted.items() if key not in self.kept.times}
        if not missing:
            return
        again = {key: job for key, job in wanted.items() if job.choice == INTACT and self.kept.times.get(key)}
        times, problems = self.timed(missing | again)
        ratios = [old / new for key in again if (old := self.kept.times[key]) and (new := times[key])]
        ratio = median(ratios) if ratios else 1.0
        self.kept.add({key: time and time * ratio for key, time in times.items() if key in missing}, problems)

    def timed(self, jobs: Mapping[str, Job]) -> tuple[dict[str, float | None], dict[str, str]]:
        """The milliseconds of jobs by key, None where the runtime cannot run one, and why it cannot."""
        graphs: dict[str, GraphFile] = {}
        times: dict[str, float | None] = dict.fromkeys(jobs)
        problems: dict[str, str] = {}
        with (
            TemporaryDirectory(prefix="lrf-optuna-") as folder,
            self.progress.task(f"milliseconds of layers, {self.where.runtime}", 2 * len(jobs)) as step,
        ):
            for key, job in jobs.items():
                try:
                    graphs[key] = self.graph(job, Path(folder, f"{key}.pb"))
                except (TypeError, ValueError, LrfError, tf.errors.OpError) as error:
                    problems[key] = problem_of(str(error))
                step(1)
            settings = TimingSettings(self.where.threads, self.settings.layer_rounds)
            found, reasons = time_graphs(list(graphs.values()), self.where.runtime, settings)
            times |= dict(zip(graphs, found, strict=True))
            problems |= {key: reason for key, reason in zip(graphs, reasons, strict=True) if reason}
            step(len(jobs))
        return times, problems

    def graph(self, job: Job, path: Path) -> GraphFile:
        """The frozen graph of a layer under a choice."""
        layer = self.by_path[job.site]
        new = copy_layer(layer) if job.choice == INTACT else chain_layer(layer, job.choice)
        return write_graph(new, job.shape, layer.compute_dtype, self.where.batch, path)

    def networks(self, proxy: Proxy, plans: Sequence[Plan]) -> list[float]:
        """The milliseconds of whole networks in turns.

        The first one is measured twice; where the two differ much, all are measured again. Raises LrfError where the
        machine stays too busy.
        """
        models = {str(i): self.network(proxy, plan) for i, plan in enumerate(plans)}
        for _ in range(max(1, self.settings.attempts)):
            times = self.in_turns(models | {AGAIN: models["0"]})
            one, other = times["0"], times[AGAIN]
            if max(one, other) <= (1 + MOST_NOISE) * min(one, other):
                return [times[name] for name in models]
        raise LrfError(
            f"the machine is too busy to time networks: the same one took {one:.3g} and {other:.3g} ms; "
            "try again when it is idle, or give --latency-table"
        )

    def in_turns(self, models: Mapping[str, Any]) -> dict[str, float]:
        """The milliseconds of models by name. Raises LrfError where the runtime cannot run one."""
        given = [self.where], Samples(self.inputs)
        (row,) = model_latencies(models, *given, rounds=self.settings.network_rounds, progress=self.progress)
        for name, problem in row.problems.items():
            raise LrfError(f"{self.where.runtime} cannot run the network {name}: {problem}; give another --runtime")
        return {name: timing.least for name, timing in row.timings.items()}

    def network(self, proxy: Proxy, plan: Plan) -> Any:
        """The network of a plan, with kernels as they were fitted."""
        if not plan.changed:
            return self.model
        return materialize(
            self.model, plan, {site: proxy.kernels.stages(site, own) for site, own in plan.changed.items()}
        )


class Job(NamedTuple):
    """A site under a choice, for inputs of a shape without the batch axis."""

    site: str
    choice: Choice
    shape: Shape
