"""Models of points stand side by side, and a better model of the same point is never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.points import candidate
from support.results import result_of

from lrf_optuna.pipeline.point_models import PointModels, is_better
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.plans.result import Export, Result, Tuned

HELPED, UNHELPED = Tuned(1e-3, (0.9, 0.93, 0.94), 2, "logits"), Tuned(1e-3, (0.95, 0.93, 0.94), 0, "logits")
POINT, OTHER = candidate(3, 0.1, 0.4), candidate(7, 0.2, 0.3)


class Saved:
    """A model whose file has a text."""

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PointModels:
    monkeypatch.setattr(
        "lrf_optuna.pipeline.point_models.save_compact", lambda model, path: path.write_text(model.text)
    )
    return PointModels(tmp_path / "models")


def made(models: PointModels, text: str, result: Result) -> str:
    """Write a model and its result; what is said."""
    assert models.write_model(result.chosen.trial, Saved(text)) == len(text)
    return models.write_result(result, {})


def text_of(found: tuple[Result, Path] | None) -> str | None:
    return found[1].read_text() if found else None


def test_each_point_has_its_own_model(models: PointModels) -> None:
    assert models.latest(POINT) is None
    made(models, "one", result_of(POINT, 0.9))
    made(models, "other", result_of(OTHER, 0.8))
    assert [text_of(models.latest(point)) for point in (POINT, OTHER)] == ["one", "other"]
    assert sorted(path.name for path in models.path.iterdir()) == ["3.json", "3.keras", "7.json", "7.keras"]


def test_a_tuned_model_takes_the_place_of_the_one_that_it_was_made_of(models: PointModels) -> None:
    made(models, "built", result_of(POINT, 0.9))
    assert made(models, "tuned", result_of(POINT, 0.9, 0.93)) == ""
    assert sorted(path.name for path in models.path.iterdir()) == ["3.json", "3.keras"]
    assert text_of(models.tuned(POINT)) == "tuned"


def test_a_better_model_of_the_same_point_is_kept_and_said_and_found_by_its_digest(models: PointModels) -> None:
    best = result_of(POINT, 0.9, 0.94)
    made(models, "best", best)
    assert "3-before.keras" in made(models, "worse", result_of(POINT, 0.9, 0.92))
    assert (text_of(models.latest(POINT)), text_of(models.tuned(POINT))) == ("worse", "best")
    assert text_of(models.with_digest(POINT, best.model_digest)) == "best"
    assert "3-before.keras" in made(models, "untuned", result_of(POINT, 0.99))
    assert (text_of(models.latest(POINT)), text_of(models.tuned(POINT))) == ("untuned", "best")
    assert made(models, "still better", result_of(POINT, 0.9, 0.95)) == ""
    assert not models.model(3, before=True).exists()


def test_a_fine_tune_that_did_not_help_never_stands_for_one_that_did(models: PointModels) -> None:
    best, unhelped = result_of(POINT, 0.9, 0.94, fine_tune=HELPED), result_of(POINT, 0.95, 0.95, fine_tune=UNHELPED)
    assert (best.helped, unhelped.helped, result_of(POINT, 0.9).helped) == (True, False, False)
    assert is_better(best, unhelped)
    assert not is_better(unhelped, best)
    made(models, "unhelped", unhelped)
    assert models.helped(POINT, None) is None
    made(models, "best", best)
    assert text_of(models.helped(POINT, None)) == text_of(models.tuned(POINT)) == "best"


def test_of_two_helped_models_the_current_one_stays(models: PointModels) -> None:
    best, worse = (result_of(POINT, 0.9, metric, fine_tune=HELPED) for metric in (0.94, 0.92))
    made(models, "best", best)
    made(models, "worse", worse)
    assert text_of(models.helped(POINT, worse)) == "worse"
    assert text_of(models.helped(POINT, best)) == text_of(models.helped(POINT, None)) == "best"


def test_a_fine_tuned_model_that_is_gone_is_noted(models: PointModels) -> None:
    each = [result_of(POINT, 0.9, metric, fine_tune=HELPED) for metric in (0.94, 0.92, 0.93, 0.95)]
    for number, (result, gone) in enumerate(zip(each, [[], [], [0.92], [0.92, 0.93, 0.94]], strict=True)):
        made(models, str(number), result)
        assert [one.final.val_metric for one in models.replaced] == gone
    assert models.tried(3) == {result.model_digest: result.final.val_metric for result in each[:3]}
    text, *others = models.said_of_replaced()
    assert (len(others), models.said_of_replaced()) == (2, []), "each is said once"
    assert text.startswith(
        "an earlier fine-tuned model of trial 3, validation accuracy 92.00% (2 epochs, learning rate"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"a": []}', "null"])
def test_a_broken_note_of_fine_tunes_says_nothing(models: PointModels, text: str) -> None:
    models.path.mkdir()
    models.tried_file(3).write_text(text)
    assert models.tried(3) == {}


def test_a_model_without_its_result_does_not_count(models: PointModels) -> None:
    made(models, "tuned", result_of(POINT, 0.9, 0.94))
    models.write_model(3, Saved("half way"))
    assert models.read(3) is None
    assert text_of(models.latest(POINT)) == "tuned"
    made(models, "tuned again", result_of(POINT, 0.9, 0.95))
    assert text_of(models.latest(POINT)) == "tuned again"


def test_the_model_of_another_studys_trial_is_not_taken(models: PointModels) -> None:
    made(models, "earlier", result_of(POINT, 0.9, 0.99))
    same_number = candidate(3, 0.3, 0.2)
    assert models.latest(same_number) is None
    assert made(models, "now", result_of(same_number, 0.8)) == ""
    assert text_of(models.latest(same_number)) == "now"
    assert not models.model(3, before=True).exists()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_broken_result_does_not_count(models: PointModels, text: str) -> None:
    made(models, "one", result_of(POINT, 0.9))
    models.result(3).write_text(text)
    assert models.latest(POINT) is None


def test_a_tuned_model_is_better_than_any_other_of_the_point_and_of_two_the_one_with_the_better_metric() -> None:
    untuned, tuned, better = result_of(POINT, 0.99), result_of(POINT, 0.9, 0.91), result_of(POINT, 0.9, 0.92)
    assert is_better(tuned, untuned)
    assert not is_better(untuned, tuned)
    assert is_better(better, tuned)
    assert not is_better(tuned, better)
    assert is_better(tuned, tuned), "the first of two that are equal"
    assert not is_better(untuned, untuned)
    assert not is_better(result_of(OTHER, 0.9, 0.99), untuned)


def test_the_chosen_model_is_a_copy_with_what_goes_with_it(models: PointModels, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for point, text in ((POINT, "one"), (OTHER, "other")):
        result = result_of(point, 0.9, 0.93 if point is POINT else None)
        folder.tuning.write_text(f"epochs of {text}")
        folder.facts.write_text(f"facts of {text}")
        folder.models.write_model(point.trial, Saved(text))
        folder.keep_model(result)
        folder.put_model(result, folder.models.model(point.trial))
        folder.write_result(result)
    assert (folder.model.read_text(), folder.facts.read_text()) == ("other", "facts of other")
    assert not folder.tuning.exists(), "that model was not tuned"
    found = folder.models.latest(POINT)
    assert found
    result, file = found
    folder.put_model(result, file)
    assert not folder.result.exists(), "it comes last"
    assert [path.read_text() for path in (folder.model, folder.facts, folder.tuning)] == [
        "one",
        "facts of one",
        "epochs of one",
    ]
    folder.model.write_text("of the user")
    assert file.read_text() == "one"


def test_exports_of_the_model_before_are_said_to_be_of_another_point(models: PointModels, tmp_path: Path) -> None:
    folder, file = RunFolder(tmp_path), tmp_path / "model.tflite"
    file.write_text("exported")
    export = Export("litert", "fp32", str(file), "1")
    made(models, "one", result_of(POINT, 0.9))
    made(models, "other", result_of(OTHER, 0.8))
    folder.put_model(result_of(POINT, 0.9), models.model(3))
    folder.write_result(result_of(POINT, 0.9, exports=[export]))
    assert folder.put_model(result_of(POINT, 0.9), models.model(3)) == []
    assert folder.put_model(result_of(OTHER, 0.8), models.model(7)) == [f"{file} is of trial 3: export again"]


def test_the_model_of_an_earlier_version_stands_among_the_others(models: PointModels, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep_earlier()
    assert not models.path.exists()
    folder.model.write_text("earlier")
    folder.write_result(result_of(POINT, 0.9, 0.93))
    folder.keep_earlier()
    assert text_of(models.tuned(POINT)) == "earlier"
