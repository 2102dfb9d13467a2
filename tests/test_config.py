"""A study file says what it means, and a wrong one says where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lrf_optuna.cli.studies import find_study
from lrf_optuna.config import OPTIONS, StudySpec
from lrf_optuna.data.augment import AUGMENTATIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec
from lrf_optuna.pipeline.identity import spec_identity

MINIMAL = 'name = "x"\n[model]\npath = "m.keras"\n[data]\npath = "c.npz"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_study_has_the_documented_defaults(tmp_path: Path) -> None:
    spec = StudySpec.from_toml(written(tmp_path, MINIMAL))
    assert (spec.search.trials, spec.search.population, spec.search.calibration) == (300, 50, 1024)
    assert spec.search.methods is None
    assert spec.search.keep is None
    assert (spec.tune.epochs, spec.tune.rate, spec.tune.batch) == (5, "auto", 128)
    assert (spec.data.divide, spec.data.mean, spec.data.std, spec.data.augment) == (None, None, None, "none")


def test_relative_files_are_taken_from_the_study_files_folder(tmp_path: Path) -> None:
    spec = StudySpec.from_toml(written(tmp_path, MINIMAL))
    assert spec.model.path == str(tmp_path.resolve() / "m.keras")
    assert spec.data.path == str(tmp_path.resolve() / "c.npz")


@pytest.mark.parametrize("name", ["kept", "digits"])
def test_a_relative_cache_is_taken_from_the_study_files_folder(tmp_path: Path, name: str) -> None:
    spec = StudySpec.from_toml(written(tmp_path, f'{MINIMAL}[search]\ncache = "{name}"'))
    assert spec.search.cache == str(tmp_path.resolve() / name)
    assert StudySpec.from_toml(written(tmp_path, f"{MINIMAL}[search]\ncache = false")).search.cache is False


def test_a_text_with_numbers_is_an_option_and_no_key_of_a_study_file(tmp_path: Path) -> None:
    spec = StudySpec.from_toml(written(tmp_path, MINIMAL)).override({"search.trials": "7", "search.keep": ["0.5"]})
    assert (spec.search.trials, spec.search.keep) == (7, (0.5,))
    with pytest.raises(LrfError, match=r"\[search\] trials should be a valid integer, but got '7'"):
        StudySpec.from_toml(written(tmp_path, MINIMAL + "[search]\ntrials = '7'"))


@pytest.mark.parametrize("name", ["zoo:lenet5", "keras:ResNet50", "nets.mine:build"])
def test_named_models_are_not_made_into_files(tmp_path: Path, name: str) -> None:
    assert StudySpec.from_toml(written(tmp_path, MINIMAL.replace("m.keras", name))).model.path == name


@pytest.mark.parametrize("name", ["digits", "keras:cifar10"])
def test_named_data_are_not_made_into_files(tmp_path: Path, name: str) -> None:
    assert StudySpec.from_toml(written(tmp_path, MINIMAL.replace("c.npz", name))).data.path == name


def test_keep_is_ascending_and_holds_each_value_once(tmp_path: Path) -> None:
    spec = StudySpec.from_toml(written(tmp_path, MINIMAL + "[search]\nkeep = [0.3, 0.1, 0.3]"))
    assert spec.search.keep == (0.1, 0.3)


def test_sections_of_layers_keep_their_order_through_toml_and_json(tmp_path: Path) -> None:
    text = '[layers."conv*"]\nmethods = ["cp"]\n[layers."a"]\nkeep = [0.5, 1]\n[search]\nexclude = ["head*"]\n'
    spec = StudySpec.from_toml(written(tmp_path, MINIMAL + text))
    assert [(name, layer.keep, layer.methods) for name, layer in spec.layers.items()] == [
        ("conv*", None, ("cp",)),
        ("a", (0.5, 1.0), None),
    ]
    assert StudySpec.from_json(spec.model_dump_json()) == spec.override({}) == spec


WRONG = {
    '[layers."a*"]\nkep = [0.1, 1]': """unknown key in [layers."a*"]: 'kep' (did you mean 'keep'?)""",
    '[layers."a*"]\nkeep = [0.9, 0.1]': """[layers."a*"] keep should be the least and the largest share""",
    '[layers."a*"]\nkeep = [0.1, 2]': """[layers."a*"] keep should be less than or equal to 1""",
    '[layers."a*"]\nmethods = []': """[layers."a*"] methods should not be empty""",
    "[layers]\na = 3": "[layers] a should be a section",
    "[search]\nrank_multiple = 0": "[search] rank_multiple should be greater than or equal to 1",
    "[search]\ntrails = 3": "unknown key in [search]: 'trails' (did you mean 'trials'?); there is: ",
    "[tune]\ntrials = 3": "unknown key in [tune]: 'trials'; there is: batch, calibrate, cutmix, distil,",
    "[serch]\ntrials = 3": "unknown key 'serch' (did you mean 'search'?)",
    "[search]\ntrials = 0": "[search] trials should be greater than or equal to 1, but got 0",
    "[search]\ntrials = 'many'": "[search] trials should be a valid integer, but got 'many'",
    "[search]\ntrials = true": "[search] trials should be a valid integer, but got True",
    "[search]\ncalibration = 15": "[search] calibration should be greater than or equal to 16, but got 15",
    "[search]\npopulation = 1": "[search] population should be greater than or equal to 2, but got 1",
    "[search]\nkeep = [0.5, 1.0]": "[search] keep should be less than 1, but got 1.0",
    "[search]\nkeep = []": "[search] keep should not be empty",
    "[search]\nmax_drop = nan": "[search] max_drop should be a finite number, but got nan",
    "[search]\ntargets = { parms = 0.4 }": "[search] targets should be 'params', 'macs' or 'latency', but got 'parms'",
    "[search]\ntargets = { params = 1.5 }": "[search] targets should be less than or equal to 1, but got 1.5",
    "[tune]\nepochs = -1": "[tune] epochs should be greater than or equal to 0, but got -1",
    "[tune]\nrate = 'fast'": "[tune] rate should be a valid number or should be 'auto', but got 'fast'",
    "[tune]\nrate = 0": "[tune] rate should be greater than 0",
    "[tune]\noptimizer = 'lion'": "[tune] optimizer should be 'muon', 'adamw' or 'sgd', but got 'lion'",
    "divide = 0": "[data] divide should be greater than 0, but got 0",
    "std = [0.0]": "[data] std should be greater than 0, but got 0.0",
    "mean = [0.1, 0.2, 0.3]\nstd = [1.0, 1.0]": " std should have as many numbers as mean (3), but got [1.0, 1.0]",
    "augment = 'spin'": "[data] augment should be 'none', 'flip', 'crop' or 'flip-crop', but got 'spin'",
    "validation = 1.0": "[data] validation should be less than 1, but got 1.0",
    "[tune\n": "is not a TOML file: Expected ']' at the end of a table declaration (at line 6",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_study_says_file_key_and_value_in_one_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, MINIMAL + text)
    with pytest.raises(LrfError) as caught:
        StudySpec.from_toml(path)
    assert str(path) in str(caught.value)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "trials = 3\n" + MINIMAL,
            "unknown key 'trials'; there is: data, latency, layers, model, name, output, search, tune; it belongs in",
        ),
        ("tune = 3\n" + MINIMAL, "tune should be a section, but got 3"),
        ('name = "x"\n[model]\npath = "m.keras"', "data is missing"),
        ('name = "x"\n[model]\n[data]\npath = "digits"', "[model] path is missing"),
        (MINIMAL.replace('"x"', '"../x"'), "name should be a plain folder name"),
        (MINIMAL.replace('"x"', '".."'), "name should be a plain folder name"),
    ],
)
def test_a_wrong_frame_of_a_study_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(LrfError) as caught:
        StudySpec.from_toml(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_missing_study_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"cannot read the study file .*none\.toml: No such file"):
        StudySpec.from_toml(tmp_path / "none.toml")


def test_an_override_changes_what_it_names_and_nothing_else() -> None:
    before = StudySpec.from_toml(find_study("digits"))
    after = before.override({"search.trials": 7, "search.keep": [0.5, 0.2], "tune.epochs": None, "name": "mine"})
    assert (after.search.trials, after.search.keep, after.name) == (7, (0.2, 0.5), "mine")
    assert (after.model, after.data, after.tune) == (before.model, before.data, before.tune)
    assert before == StudySpec.from_toml(find_study("digits"))


def test_an_overridden_file_is_taken_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = StudySpec.from_toml(find_study("digits")).override({"model.path": Path("x.keras")})
    assert spec.model.path == str(Path.cwd() / "x.keras")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search.trials": 0}, "--trials should be greater than or equal to 1, but got 0"),
        ({"search.max_drop": -1.0}, "--max-drop should be greater than or equal to 0, but got -1.0"),
        ({"search.targets": {"params": 1.5}}, "--target should be less than or equal to 1, but got 1.5"),
        ({"model.path": ""}, "--model should not be empty"),
        ({"search.trails": 3}, "unknown key in [search]: 'trails' (did you mean 'trials'?)"),
    ],
)
def test_a_wrong_option_is_named_as_it_is_typed(options: dict[str, object], words: str) -> None:
    with pytest.raises(LrfError) as caught:
        StudySpec.from_toml(find_study("digits")).override(options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "objectives"),
    [
        ({"params": 0.5}, ("loss", "params", "macs")),
        ({"latency": 0.5}, ("loss", "params", "latency")),
        ({"latency": 0.5, "macs": 0.5}, ("loss", "params", "macs", "latency")),
    ],
)
def test_a_target_of_milliseconds_makes_them_an_objective(
    targets: dict[str, float], objectives: tuple[str, ...]
) -> None:
    plain = StudySpec.from_toml(find_study("digits"))
    found = plain.override({"search.targets": targets})
    assert found.search.objectives == objectives
    assert StudySpec.from_json(found.model_dump_json()) == found


@pytest.mark.parametrize("own", [("loss", "params"), ("loss", "params", "macs")])
def test_a_target_of_milliseconds_needs_them_among_objectives_that_are_given(
    tmp_path: Path, own: tuple[str, ...]
) -> None:
    plain = StudySpec.from_toml(find_study("digits"))
    refusal = rf"--target for 'latency' needs it among the objectives \({', '.join(own)}\)"
    with pytest.raises(LrfError, match=refusal):
        plain.override({"search.objectives": own, "search.targets": {"latency": 0.5}})
    given = StudySpec.from_toml(written(tmp_path, f"{MINIMAL}[search]\nobjectives = {list(own)}\n"))
    with pytest.raises(LrfError, match=refusal):
        given.override({"search.targets": {"latency": 0.5}})
    with pytest.raises(LrfError, match="among the objectives"):
        given.override({"search.trials": 5}).override({"search.targets": {"latency": 0.5}})


def test_a_table_of_latencies_is_beside_the_study_file(tmp_path: Path) -> None:
    text = '[latency]\nlatency_table = "phone.csv"\nruntime = "onnx"\nthreads = 0\n'
    latency = StudySpec.from_toml(written(tmp_path, f"{MINIMAL}{text}")).latency
    assert latency.latency_table == str(tmp_path.resolve() / "phone.csv")
    assert (latency.runtime, latency.threads, latency.runtime_batch, latency.time_at_end) == ("onnx", 0, 1, True)


def test_json_holds_the_whole_study() -> None:
    spec = StudySpec.from_toml(find_study("digits")).override(
        {"search.targets": {"macs": 0.5}, "tune.rate": 0.01, "search.methods": ["svd"]}
    )
    assert StudySpec.from_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("text", ["{", "{}", '{"name": 3}'])
def test_json_of_no_study_is_one_line(text: str) -> None:
    with pytest.raises(LrfError, match=r"the stored study cannot be read: [^\n]+$"):
        StudySpec.from_json(text)


@pytest.mark.parametrize(
    "keys", ["racing = true", "racing = false\nseeded = false", 'sampler = "bred"', 'maps = "logits"']
)
def test_a_study_file_of_an_earlier_version_is_read(tmp_path: Path, keys: str) -> None:
    search = StudySpec.from_toml(written(tmp_path, f"{MINIMAL}[search]\n{keys}")).search
    assert (search.sampler, search.initial_plans) == ("surrogate", "seeded" not in keys)


def test_a_stored_study_of_an_earlier_version_is_read() -> None:
    spec = StudySpec.from_toml(find_study("digits"))
    older = spec.model_dump_json().replace('"initial_plans":true', '"seeded":true,"racing":true')
    assert older != spec.model_dump_json()
    assert StudySpec.from_json(older) == spec


def test_a_study_that_compared_other_maps_than_logits_is_refused_and_one_by_logits_still_opens() -> None:
    spec = StudySpec.from_toml(find_study("digits"))
    deep, logits = (
        spec.model_dump_json().replace('"seed":', f'"maps":"{maps}","seed":') for maps in ("deep", "logits")
    )
    with pytest.raises(LrfError, match=r"^maps = 'deep' is gone, [^\n]+ start a new study$"):
        StudySpec.from_json(deep)
    assert StudySpec.from_json(logits) == spec
    assert spec_identity(spec)["set of maps"] == "logits"


def test_a_wrong_list_of_numbers_is_answered_with_a_right_one() -> None:
    spec = StudySpec.from_toml(find_study("digits"))
    with pytest.raises(LrfError, match=r"--keep should be greater than 0, but got 0\.0; .*commas.*, as in 0\.1,0\.2"):
        spec.override({"search.keep": (0.0, 1.0)})


def test_a_setting_has_its_option() -> None:
    option = OPTIONS["search.targets"]
    assert (option.name, option.panel, option.field.default) == ("--target", "choice", {})


def test_every_augmentation_of_the_data_can_be_asked_for() -> None:
    assert set(get_args(DataSpec.model_fields["augment"].annotation)) == set(AUGMENTATIONS)
