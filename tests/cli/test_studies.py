"""A command line names a study by a file, by an embedded study or by a model and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf_optuna.cli.studies import check_files, embedded_studies, find_study, study_of, with_choice
from lrf_optuna.config import StudySpec, name_for
from lrf_optuna.errors import LrfError

MINIMAL = 'name = "x"\n[model]\npath = "m.keras"\n[data]\npath = "c.npz"\n'


@pytest.mark.parametrize("name", sorted(embedded_studies()))
def test_every_embedded_study_is_valid_and_named_as_its_file(name: str) -> None:
    assert StudySpec.from_toml(find_study(name)).name == name


def test_an_unknown_study_lists_those_there_are() -> None:
    with pytest.raises(LrfError, match=r"no such study file: nowhere\.toml; embedded studies: cnn_fashion, digits"):
        find_study("nowhere.toml")


def test_a_path_wins_over_an_embedded_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text(MINIMAL, encoding="utf-8")
    assert find_study("digits") == Path("digits")


@pytest.mark.parametrize(("file", "option"), [("net.keras", "--model"), ("net.H5", "--model"), ("a/c.npz", "--data")])
def test_a_model_or_data_in_the_place_of_a_study_is_told_its_option(file: str, option: str) -> None:
    with pytest.raises(LrfError, match=f"{file} is not a study file: give it as {option} {file}"):
        find_study(file)


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("nets/resnet20_cifar10.keras", "cifar10.npz", "resnet20_cifar10"),
        ("keras:ResNet50", "photos", "ResNet50"),
        ("pkg.mod:fn", "digits", "fn"),
        ("my nets/net (2).keras", "digits", "net_2_"),
        ("runs/model.keras", "data/cifar10.npz", "cifar10-model"),
    ],
)
def test_a_study_is_named_after_its_model(model: str, data: str, name: str) -> None:
    assert name_for(model, data) == name
    assert study_of(None, {"model.path": model, "data.path": data}).name == name


def test_settings_win_over_the_study_file_and_none_of_all_is_the_digits() -> None:
    assert study_of(None, {}).name == "digits"
    assert study_of("digits", {"search.trials": 7, "name": "mine"}).search.trials == 7


def test_a_way_to_choose_takes_the_place_of_the_studys_own() -> None:
    spec = study_of(None, {"search.targets": {"params": 0.4}, "search.max_drop": 1.0, "search.after_tuning": True})
    assert with_choice(spec, {}) == spec
    assert with_choice(spec, {"search.targets": {"macs": 0.5}}).search.targets == {"macs": 0.5}
    drop = with_choice(spec, {"search.max_drop": 2.0}).search
    assert (drop.targets, drop.max_drop, drop.after_tuning) == ({}, 2.0, False)
    knee = with_choice(spec, {"search.knee": True}).search
    assert (knee.targets, knee.max_drop, knee.after_tuning, knee.knee) == ({}, None, False, True)
    assert with_choice(study_of(None, {"search.knee": True}), {"search.max_drop": 2.0}).search.knee is False


def test_after_tuning_may_be_added_to_the_drop_of_a_study() -> None:
    spec = with_choice(study_of(None, {"search.max_drop": 1.0}), {"search.after_tuning": True})
    assert (spec.search.max_drop, spec.search.after_tuning) == (1.0, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.path": "none.keras", "data.path": "digits"}, r"no such model file: .*none\.keras; give FILE\.keras"),
        ({"model.path": "zoo:lenet5", "data.path": "none.npz"}, r"no such data: .*none\.npz; give FILE\.npz"),
    ],
)
def test_a_missing_file_is_named_and_what_can_be_given(settings: dict[str, object], words: str) -> None:
    with pytest.raises(LrfError, match=words):
        check_files(study_of(None, settings))


def test_names_and_functions_are_no_files() -> None:
    for model in ("zoo:lenet5", "keras:ResNet50", "package.module:function"):
        check_files(study_of(None, {"model.path": model, "data.path": "digits"}))
