"""The model card has metadata that a YAML parser reads, code that runs, and no folder of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from support.report import content_of, facts

from lrf_optuna.report.card import model_card
from lrf_optuna.report.facts import Usage
from lrf_optuna.report.loading import loading_code


@pytest.fixture
def card() -> str:
    content = content_of()
    origin = replace(facts().provenance, model="/home/someone/models/net.keras")
    return model_card(content.result, facts(provenance=origin))


def test_the_metadata_are_yaml_as_hugging_face_reads_it(card: str) -> None:
    _, text, _ = card.split("---\n", 2)
    metadata = yaml.safe_load(text)
    assert metadata["library_name"] == "keras"
    assert "keras" in metadata["tags"]
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["metrics"] == ["accuracy"]
    ((result,),) = (model["results"] for model in metadata["model-index"])
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"]["split"] == "test"
    assert result["metrics"] == [{"type": "accuracy", "name": "test accuracy", "value": 0.912}]


def test_names_with_any_letters_stay_yaml() -> None:
    bad = 'a: "b" #c\n- d\\'
    result = replace(content_of().result, study=bad, metric=bad)
    _, text, _ = model_card(result, facts()).split("---\n", 2)
    assert yaml.safe_load(text)["model-index"][0]["name"].startswith(bad)


def test_a_task_without_a_name_of_hugging_face_has_no_pipeline() -> None:
    _, text, _ = model_card(content_of().result, facts(task="")).split("---\n", 2)
    metadata = yaml.safe_load(text)
    assert "pipeline_tag" not in metadata
    assert metadata["model-index"][0]["results"][0]["task"] == {"type": "other"}


def test_the_card_says_what_it_is_and_names_no_folder(card: str) -> None:
    assert "31.0% of the parameters" in card
    assert "net.keras" in card
    assert "/home" not in card
    for heading in ("## Use", "## Figures", "## How it was made", "## Limits", "## Provenance"):
        assert heading in card


def test_the_code_has_the_preprocessing_of_the_study() -> None:
    recipe = Usage({"x": "(n, 8, 8, 1)"}, "x = (pixels - np.array([1.0], np.float32))", "yes = outputs > 0.5", "a need")
    code = loading_code(facts(recipe=recipe), "small.keras")
    assert code.startswith('import keras\nimport numpy as np\n\nmodel = keras.saving.load_model("small.keras")')
    assert code.endswith("yes = outputs > 0.5\n")
    compile(code, "code", "exec")
