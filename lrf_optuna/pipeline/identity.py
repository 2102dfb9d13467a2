"""What a study is about, in words with a digest each: a study of the same name can say what differs."""

from __future__ import annotations

from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, load_plugins
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import digest
from lrf_optuna.models.forward import weights_of
from lrf_optuna.models.inventory import Inventory
from lrf_optuna.scoring.objectives import OBJECTIVES
from lrf_optuna.scoring.similarity import SIMILARITIES
from lrf_optuna.search.samplers import SAMPLERS


def study_identity(spec: StudySpec, data: Data, model: Any, inventory: Inventory) -> dict[str, str]:
    """The whole question: the model, the images, the space, the costs."""
    layers = [(row.path, row.kind, row.params, row.macs) for row in inventory.rows]
    return {
        "model": digest(str(layers), *weights_of(model)),
        "set of sites": digest(str([(site.name, site.op) for site in inventory.sites])),
        **data_word(spec, data),
        **words_of(spec),
    }


def words_of(spec: StudySpec) -> dict[str, str]:
    """What a study is about, as far as the specification alone says: checked before model and data are loaded."""
    asked = spec.search
    return {
        "set of methods": ", ".join(asked.methods or DECOMPOSITIONS),
        "keep grid": ", ".join(map(str, asked.keep)),
        "set of objectives": ", ".join(asked.objectives),
        "similarity": asked.similarity,
        "set of maps": asked.maps,
        "seed": str(asked.seed),
        "calibration": str(asked.calibration),
    }


def data_word(spec: StudySpec, data: Data) -> dict[str, str]:
    """What a study's images are, as far as they decide what a plan costs."""
    calibration = data.calibration(spec.search.calibration, spec.search.seed).pixels
    return {"data": digest(calibration, str(data.preprocess))}


def check_names(spec: StudySpec) -> None:
    """Names that the tables do not have are refused before anything but the plug-ins is loaded."""
    load_plugins()
    for method in spec.search.methods or ():
        lookup(DECOMPOSITIONS, method, "method")
    for objective in spec.search.objectives:
        lookup(OBJECTIVES, objective, "objective")
    lookup(SIMILARITIES, spec.search.similarity, "similarity")
    lookup(SAMPLERS, spec.search.sampler, "sampler")
    for target in spec.search.targets:
        if target not in spec.search.objectives:
            raise LrfError(
                f"a target for {target!r} needs it among the objectives ({', '.join(spec.search.objectives)})"
            )
