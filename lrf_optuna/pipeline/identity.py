"""The identity of a study: names with a digest each, so that a refusal can say which of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import input_list
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.files import digest
from lrf_optuna.models.inventory import Inventory
from lrf_optuna.models.weights import weights_digest
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.disk_cache import code_digest
from lrf_optuna.scoring.latency import LATENCY, LayerTimer
from lrf_optuna.scoring.proxy import SCORED_IMAGES
from lrf_optuna.sections import LayerSpec


def study_identity(
    spec: StudySpec, data: Data, model: Any, inventory: Inventory, timer: LayerTimer | None = None
) -> dict[str, str]:
    """The whole identity: the model, the images, the search space, the costs; `timer`: of the objective latency."""
    layers = [(row.path, row.kind, row.params, row.macs) for row in inventory.rows]
    return {
        "model": digest(str(layers), weights_digest(model)),
        "set of sites": digest(str([(site.name, site.op) for site in inventory.sites])),
        **data_identity(spec, data),
        **spec_identity(spec),
        **(multiple_identity(timer.rank_multiple() if timer else 1) if spec.search.rank_multiple == "auto" else {}),
        "place of the latency": timer.place if timer else "",
    }


def spec_identity(spec: StudySpec) -> dict[str, str]:
    """The part of the identity that the specification alone gives: it is checked before model and data are loaded."""
    search, latency = spec.search, spec.latency
    is_timed = LATENCY in search.objectives
    return {
        "set of methods": ", ".join(search.methods or DECOMPOSITIONS),
        "keep grid": ", ".join(map(str, search.keep or ["default"])),
        "set of objectives": ", ".join(search.objectives),
        "similarity": search.similarity,
        "set of maps": "logits",  # as earlier versions stored it, which had "deep", too
        "seed": str(search.seed),
        "calibration": str(search.calibration),
        "number of scoring images": str(SCORED_IMAGES),
        # empty by default, because studies of earlier versions do not have them
        "set of excluded layers": ", ".join(sorted(search.exclude)),
        "set of only layers": ", ".join(sorted(search.only)),
        "set of limits of layers": "; ".join(limits_text(*item) for item in spec.layers.items()),
        **({} if search.rank_multiple == "auto" else multiple_identity(search.rank_multiple)),
        "latency": f"{latency.runtime}, {latency.threads}, {latency.runtime_batch}" if is_timed else "",
    }


def multiple_identity(multiple: int) -> dict[str, str]:
    """The part of the identity that ranks in multiples of a number give."""
    return {"rank multiple": str(multiple) if multiple > 1 else ""}


def limits_text(pattern: str, layer: LayerSpec) -> str:
    """The limits of a pattern of layers in words."""
    return f"{pattern}: keep {layer.keep}, methods {layer.methods}"


def data_identity(spec: StudySpec, data: Data) -> dict[str, str]:
    """The part of the identity that the data give: the images that decide what a plan costs."""
    calibration = data.calibration(spec.search.calibration, spec.search.seed).pixels
    tasks = {name: (task.kind, task.weight) for name, task in data.tasks.items()}
    return {"data": digest(*input_list(calibration), str(data.preprocess)), "set of tasks": str(tasks)}


def model_digest(spec: StudySpec, data: Data, identity: Mapping[str, str], plan: Plan, tuned: bool) -> str:
    """A digest of all that decides the content of model.keras, tuned or not."""
    parts = data.train, data.val, data.test
    labels = [array for part in parts if part.labels is not None for array in input_list(part.labels)]
    tune = spec.tune
    recipe = tune.model_dump_json() + spec.output.model_dump_json() if tuned else str(tune.calibrates)
    return digest(plan.to_json(), str(identity), data.augment, recipe, *labels)


def measured_digest(spec: StudySpec, data: Data, identity: Mapping[str, str], images: LabeledImages, how: str) -> str:
    """A digest of all that decides the metric of a plan on validation images; `how`: the settings of measuring."""
    labels = () if images.labels is None else input_list(images.labels)
    settings = str((identity, spec.output.model_dump_json(), how)), data.augment, code_digest()
    return digest(*settings, *input_list(images.pixels), *labels)


def request_digest(spec: StudySpec, data: Data, identity: Mapping[str, str], trials: int) -> str:
    """A digest of all that decides which point of a number of trials is chosen."""
    search = spec.search
    way = str((trials, search.wanted, search.max_drop, search.knee, spec.judged_state, search.by, spec.output.metric))
    return digest(spec.name, way, str(identity), data.augment, *input_list(data.val.labels))
