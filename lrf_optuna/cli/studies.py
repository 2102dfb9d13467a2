"""The study that a command line means: its file, its name, its settings; and whether its files are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lrf_optuna.config import StudySpec, name_for
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DATA_FORMS, MODEL_FORMS, DataSpec, ModelSpec
from lrf_optuna.setting_fields import is_file_name


def study_of(study: str | None, settings: Mapping[str, object]) -> StudySpec:
    """The study of a file, of an embedded study, or of settings alone, with the settings over it.

    Without study, model and data it is the digits' study. Raises LrfError.
    """
    model, data = settings.get("model.path"), settings.get("data.path")
    if study or not (model or data):
        return with_choice(StudySpec.from_toml(find_study(study or "digits")), settings)
    if not (model and data):
        given, missing = ("--model", "--data") if model else ("--data", "--model")
        raise LrfError(f"{given} without {missing}: give both, or a study file that has the other")
    name = name_for(str(model), str(data))
    plain = StudySpec(name="study", model=ModelSpec(path=str(model)), data=DataSpec(path=str(data)))
    return plain.override({"name": name, **settings})


def with_choice(spec: StudySpec, settings: Mapping[str, object]) -> StudySpec:
    """The study with the way to choose a point that options ask for: it takes the place of the study's own way.

    Raises LrfError for two ways.
    """
    takes_its_place = settings.keys() & {"search.targets", "search.max_drop", "search.knee"}
    return (spec.without_choice() if takes_its_place else spec).override(settings)


def check_settings(settings: Mapping[str, object]) -> None:
    """Raises LrfError for values that no study can have, before the study is read.

    Whether --after-tuning has a drop to limit is known only with the study.
    """
    plain = StudySpec(name="study", model=ModelSpec(path="zoo:lenet5"), data=DataSpec(path="digits"))
    plain.override({key: value for key, value in settings.items() if key != "search.after_tuning"})


def check_study(name: str, storage: str | None, out: Path | None) -> None:
    """Raises LrfError where a study's database file is not there; nothing is loaded for that."""
    if storage is None and not any(place.exists() for place in database_files(name, out)):
        *_, place = database_files(name, out)
        raise LrfError(f"no study {name} here: there is no file {place}; run it first, or give --out or --storage")


def database_files(name: str, out: Path | None) -> list[Path]:
    """The places of a study's database file, where no other storage is named."""
    return [folder / "study.db" for folder in ([out] if out else [Path(name), Path("runs") / name])]


def check_files(spec: StudySpec) -> None:
    """Raises LrfError where model or data are files that are not there, or the cache cannot be a folder."""
    check_file("model file", spec.model.path, MODEL_FORMS)
    check_file("data", spec.data.path, DATA_FORMS)
    if spec.latency.latency_table:
        check_file("file of latencies", spec.latency.latency_table, "a file as latency.csv of a run folder")
    if isinstance(spec.search.cache, str):
        from lrf_optuna.files import check_folder

        check_folder(Path(spec.search.cache))


def check_before_loading(spec: StudySpec, folder: Path) -> None:
    """Raises LrfError for a name that its table lacks, and for a run folder that cannot be made; TensorFlow waits."""
    from lrf_optuna.files import check_folder
    from lrf_optuna.pipeline.check_names import check_names

    check_names(spec)
    check_folder(folder)


def check_file(what: str, path: str, forms: str) -> None:
    """Raises LrfError, with the `forms` that there are, where a path is of a file that is not there."""
    if is_file_name(path) and not Path(path).exists():
        raise LrfError(f"no such {what}: {path}; give {forms}")


def find_study(text: str) -> Path:
    """The study file that `text` means: a path, else the name of an embedded study. Raises LrfError."""
    suffix = Path(text).suffix.lower()
    if suffix in (".keras", ".h5", ".hdf5", ".npz"):
        option = "--data" if suffix == ".npz" else "--model"
        raise LrfError(f"{text} is not a study file: give it as {option} {text}")
    if Path(text).is_file():
        return Path(text)
    embedded = embedded_studies()
    if text not in embedded:
        raise LrfError(f"no such study file: {text}; embedded studies: {', '.join(sorted(embedded))}")
    return embedded[text]


def embedded_studies() -> dict[str, Path]:
    """Name -> file: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "studies"
    folder = inside if inside.is_dir() else package.parent / "studies"
    return {path.stem: path for path in folder.glob("*.toml")}
