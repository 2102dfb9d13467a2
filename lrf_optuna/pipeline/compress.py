"""`compress`: what `python -m lrf_optuna run` does, as one function for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrf_optuna.config import DataSpec, ModelSpec, StudySpec
from lrf_optuna.data.dataset import Data, data_from_arrays
from lrf_optuna.errors import LrfError
from lrf_optuna.models.load import describe_input, load_model
from lrf_optuna.pipeline.run import Run
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT, Progress

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val")


def compress(
    model: Any,
    data: Mapping[str, Any] | Data | str | Path,
    *,
    name: str = "notebook",
    trials: int = 300,
    target: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    tune: int | bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    preprocess: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
    **search: Any,
) -> tuple[Any, Result]:
    """Search, choose one point, build and tune it: what `python -m lrf_optuna run` does, from Python.

    `model`: a Keras model, or what `--model` takes. `data`: a mapping of arrays (x_train, y_train, x_test, y_test, and
    x_val, y_val where there are any), or what `--data` takes. `preprocess`: keys of a study's [data] section (divide,
    mean, std, augment). `target`: e.g. {"params": 0.4}. `tune`: passes, True for the default, False for none. Further
    keywords are keys of [search]. Gives the smaller Keras model and the `Result`; files are in `out`, else
    runs/`name`. Raises LrfError for whatever does not fit.
    """
    named = isinstance(model, (str, Path))
    plain = StudySpec(
        name="notebook",
        model=ModelSpec(path=str(model) if named else "keras.Model"),
        data=DataSpec(path="arrays"),
    )
    options: dict[str, object] = {
        "name": name,
        "data.path": str(data) if isinstance(data, (str, Path)) else None,
        "search.trials": trials,
        "search.targets": dict(target or {}),
        "search.max_drop": max_drop,
        "search.seed": seed,
        "tune.epochs": {True: None, False: 0}[tune] if isinstance(tune, bool) else tune,
    }
    options |= {f"data.{key}": value for key, value in (preprocess or {}).items()}
    spec = plain.override(options | {f"search.{key}": value for key, value in search.items()})
    in_zoo = named and str(model).startswith("zoo:")
    network = None if in_zoo else load_model(spec.model.path) if named else model
    if isinstance(data, Mapping):
        shape, classes = (None, None) if network is None else describe_input(network)
        data = data_from_arrays(**named_arrays(data), spec=spec.data, seed=seed, input_shape=shape, classes=classes)
    folder = Path(out) if out else Path("runs") / name
    run = Run.open(spec, folder, model=network, data=data if isinstance(data, Data) else None, progress=progress)
    result = run.finish(run.search())
    return run.made or load_model(str(folder / "model.keras")), result


def named_arrays(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by their names. Raises LrfError where one is missing or unknown."""
    missing, unknown = sorted(set(ARRAYS[:4]) - data.keys()), sorted(map(str, data.keys() - set(ARRAYS)))
    if missing or unknown:
        what = f"lack {', '.join(missing)}" if missing else f"have unknown names: {', '.join(unknown)}"
        raise LrfError(f"the data {what}; they should be {', '.join(ARRAYS[:4])}, and {', '.join(ARRAYS[4:])} if any")
    return dict(data)
