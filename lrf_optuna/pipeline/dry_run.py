"""What a run would do, without doing it: the space, the reach of targets, the steps, and about how long they take.

Model and data are loaded and checked as for the run, and the original is measured on validation images. Nothing is
fitted, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log10
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import map_inputs
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import metric_name
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, choice_within_limits, methods_within_limits
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import Inventory, find_sites
from lrf_optuna.models.load import load_to_list
from lrf_optuna.pipeline.expected_time import expected_seconds, pass_seconds, passes_text
from lrf_optuna.pipeline.identity import study_identity
from lrf_optuna.pipeline.load_inputs import check_augmentation, check_training, load_inputs
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.pipeline.setup_checks import setup_warnings
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.progress_bars import duration
from lrf_optuna.scoring.latency import LATENCY
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.reach import check_targets, known, least_shares
from lrf_optuna.scoring.screening import default_keeps, keep_grid_for
from lrf_optuna.scoring.space_limits import SpaceLimits
from lrf_optuna.selection.choose import targets_text
from lrf_optuna.selection.validation import validation_of
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.calibrate import enough_images


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    `layers`: of the model, and `sites`: those that can be factorized; `plans`: the power of ten of the number of plans;
    `least`: cost -> the share that plans can go down to; `trials` in all, and `finished` ones; `images` of a pass,
    which takes `pass_seconds`; `seconds`: phase -> about how long it takes; `last_seconds`: of the last run there.
    `original`: its metric, named `metric`, on the images that points are compared on; None for a net of the zoo, which
    is trained first. `warnings`: what cannot be right about the set-up.
    """

    study: str
    folder: str
    layers: int
    sites: int
    plans: float
    least: dict[str, float]
    trials: int
    finished: int
    steps: list[str]
    images: int
    pass_seconds: float
    seconds: dict[str, float]
    last_seconds: float | None
    metric: str
    original: float | None
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON has it."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The same in sentences."""
        yield f"Study {self.study} in {self.folder}; nothing is written now."
        yield f"{self.sites} of {self.layers} layers can be factorized: at most 10^{self.plans:.1f} plans."
        names = {"params": "parameters", "macs": "MACs"}
        yield (
            "Plans go down to "
            + " and ".join(f"{share:.1%} of the {names[c]}" for c, share in self.least.items())
            + "."
        )
        yield from (f"{i}. {step}." for i, step in enumerate(self.steps, start=1))
        if self.original is not None:
            yield f"The original's {self.metric} is {self.original:.2%}."
        yield f"A forward pass of {self.images} images takes {1e3 * self.pass_seconds:.3g} ms now."
        yield "After the fits of the options come, about:"
        for phase, seconds in self.seconds.items():
            yield f"  {phase} {duration(seconds)} ({passes_text(seconds, self.pass_seconds)})"
        yield f"  in all {duration(sum(self.seconds.values()))}; how long the fits take is unknown before they are done"
        if self.last_seconds is not None:
            yield f"The last run in this folder took {duration(self.last_seconds)}."
        yield from (f"Warning: {warning}." for warning in self.warnings)


def dry_run(spec: StudySpec, folder: Path, progress: Progress = SILENT) -> DryRun:
    """What a run of `spec` in `folder` would do. Raises LrfError as the run does for what does not exist or fit."""
    place, search, is_zoo = RunFolder(folder), spec.search, spec.model.path.startswith("zoo:")
    url, untrained = search.storage or place.url, load_to_list(spec.model.path) if is_zoo else None
    model, data = load_inputs(spec, folder, url, untrained, None, progress)
    check_augmentation(data)
    check_training(spec, model, data)
    inventory = inventory_of(spec, model, data)
    if LATENCY not in search.objectives:  # the machine is a part of that identity, and it is not asked here
        StudyStore.check(url, spec.name, study_identity(spec, data, model, inventory))
    methods, keeps = search.methods or tuple(DECOMPOSITIONS), search.keep or default_keeps(len(inventory.sites))
    least = least_shares(inventory, methods, keeps)
    check_targets(search.wanted, least)
    proxy, trains = proxy_of(spec, model, data, inventory), is_zoo and not (folder / "original.keras").exists()
    one_image = map_inputs(data.train.pixels, lambda array: array[:1])  # no BatchNorm of the original is re-estimated
    validation = None if is_zoo else validation_of(proxy, data, one_image, search.seed)
    finished, one_pass, last = finished_trials(url, spec.name), pass_seconds(proxy), place.read_result()
    return DryRun(
        study=spec.name,
        folder=str(folder),
        layers=len(inventory.rows),
        sites=len(inventory.sites),
        plans=plans_as_power(inventory, methods, keeps),
        least=known(least),
        trials=search.trials,
        finished=finished,
        steps=list(steps_of(spec, finished, trains, enough_images(data))),
        images=len(proxy.scored),
        pass_seconds=one_pass,
        seconds=expected_seconds(spec, data, proxy, one_pass, max(search.trials - finished, 0)),
        last_seconds=sum(last.seconds.values()) if last else None,
        metric=data.compared_metric(metric_name(data.tasks)),
        original=validation.original(len(validation.images)).metric if validation else None,
        warnings=list(setup_warnings(model, data, validation)) if validation else [],
    )


def inventory_of(spec: StudySpec, model: Any, data: Data) -> Inventory:
    """The layers within the limits of a study; a multiple of ranks that is still to be measured counts as 1."""
    shapes = map_inputs(data.train.pixels, lambda array: tuple(array.shape[1:]))
    return SpaceLimits.of(spec, 1).apply(find_sites(model, shapes))


def proxy_of(spec: StudySpec, model: Any, data: Data, inventory: Inventory) -> Proxy:
    """A proxy that is not fitted, without cache and without milliseconds."""
    images = data.preprocess(data.calibration(spec.search.calibration, spec.search.seed).pixels)
    objectives = [name for name in spec.search.objectives if name != LATENCY]
    return Proxy(model, images, inventory=inventory, objectives=objectives, tasks=data.tasks)


def finished_trials(url: str, name: str) -> int:
    """The trials that a study has already; none where there is no such study."""
    try:
        return StudyStore.read(url, name).count()
    except LrfError:
        return 0


def plans_as_power(inventory: Inventory, methods: tuple[str, ...], keeps: tuple[float, ...]) -> float:
    """The power of ten of the number of plans: the product of the distinct choices of all layers, before screening."""
    power = 0.0
    for site in inventory.sites:
        grid = keep_grid_for(keeps, site.op.params / max(inventory.params, 1), site.limits)
        names = methods_within_limits(site, methods)
        power += log10(len({choice_within_limits(site, name, keep) for name in names for keep in grid}))
    return power


def way_to_choose(spec: StudySpec) -> str:
    """How the point is chosen, in words."""
    search = spec.search
    if search.knee:
        return "the knee of the front"
    within = f" within {targets_text(search.wanted)}" if search.wanted else ""
    if search.max_drop is not None:
        when = "as predicted after the fine-tune" if search.after_tuning else "before the fine-tune"
        return f"the smallest{within} that loses at most {search.max_drop:g} points of the metric {when}"
    return f"the best{within}" if within else "the smallest that is predicted to lose at most one point of the metric"


def steps_of(spec: StudySpec, finished: int, trains: bool, calibrates: bool) -> Iterator[str]:
    """The steps of the run in words."""
    search, tune, timing = spec.search, spec.tune, spec.latency
    if trains:
        yield f"{spec.model.path} is trained on the data, because it comes without weights"
    if LATENCY in search.objectives and not timing.latency_table:
        yield f"Layers and chains are timed in {timing.runtime}, which is not in the times below"
    left = max(search.trials - finished, 0)
    yield (
        f"Options of the layers are fitted, and {left} of {search.trials} trials are searched"
        if left
        else (f"No trial is searched: all {search.trials} are there")
    )
    yield f"One point is chosen, {way_to_choose(spec)}, and built"
    if tune.calibrates and calibrates:
        yield "The built network is calibrated without labels"
    yield f"It is fine-tuned for {tune.epochs} epochs at most" if tune.epochs else "It is not fine-tuned"
    if timing.time_at_end:
        yield f"Both networks are timed in {' and '.join(dict.fromkeys((timing.runtime, 'keras')))}"
