"""result.json says the same after a trip through the disk; a broken one is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.files import write_text
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.plans.result import STATES, Evaluation, LayerResult, Result, Tuned

CHOSEN = Candidate(17, Plan.of({"a": Choice("tucker2", (3, 5)), "b": Choice("intact")}), {"loss": 0.01, "params": 0.4})
PARTS = [
    LayerResult("a", "Conv2D", "tucker2", (3, 5), 1000, 400, 64_000, 30_000),
    LayerResult("odd", "DepthwiseConv2D", "intact", (), 90, 90, 900, 900, "this kind is not factorized yet"),
]
SPEC = StudySpec(name="digits", model=ModelSpec(path="zoo:digits"), data=DataSpec(path="digits"))


def result(**changes: Any) -> Result:
    stand = Evaluation(1000, 64_000, 0.91, 0.9, milliseconds={"litert": 2.0, "keras": 3.0})
    whole: dict[str, Any] = {
        "study": "digits",
        "trials": 300,
        "distinct": 250,
        "calibration": 1024,
        "seconds": {"prepare": 1.5, "search": 20.25},
        "original": stand,
        "chosen": CHOSEN,
        "why": "the knee",
        "built": Evaluation(400, 30_000, 0.85, 0.84),
        "calibrated": Evaluation(400, 30_000, 0.88, 0.87),
        "tuned": Evaluation(400, 30_000, 0.9, 0.89, epochs=5),
        "layers": PARTS,
        "model_digest": "abc",
        "place": "LiteRT 2, 1 thread, 1 image",
    }
    return Result(**(whole | changes))


@pytest.mark.parametrize("last", ["original", "built", "calibrated", "tuned"])
def test_the_last_network_has_its_own_name(last: str) -> None:
    later = STATES[STATES.index(last) + 1 :]
    found = result(**dict.fromkeys(later))
    assert found.final_state == last
    assert found.final is getattr(found, last)


@pytest.mark.parametrize(
    ("tuned", "text"),
    [
        (
            Tuned(1e-3, (0.8, 0.9, 0.91), 2, "logits"),
            "2 epochs, learning rate 0.001, logits distilled; the weights after epoch 2 are kept",
        ),
        (Tuned(3e-4, (0.8, 0.7), 0), "1 epoch, learning rate 0.0003; the weights from before the fine-tune are kept"),
    ],
)
def test_a_fine_tune_says_what_it_did(tuned: Tuned, text: str) -> None:
    assert str(tuned) == text


@pytest.mark.parametrize(
    "changes",
    [{}, {"built": None, "calibrated": None, "tuned": None}, {"layers": []}, {"fine_tune": Tuned(1e-3, (0.8, 0.9), 1)}],
)
def test_a_result_is_the_same_after_a_trip_through_the_disk(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_text(tmp_path / "result.json", result(**changes).to_json())
    assert Result.read(tmp_path / "result.json") == result(**changes)


def test_a_result_can_be_read_without_our_code() -> None:
    table = json.loads(result().to_json())
    assert table["chosen"] == {
        "trial": 17,
        "loss": 0.01,
        "params": 0.4,
        "plan": {"a": {"method": "tucker2", "ranks": [3, 5]}, "b": {"method": "intact", "ranks": []}},
        "why": "the knee",
    }
    assert table["tuned"]["epochs"] == 5
    assert "epochs" not in table["built"]
    assert [row["name"] for row in table["layers"]] == ["a", "odd"]


def test_a_missing_result_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=f"no result in {tmp_path}: run it first"):
        Result.read(tmp_path / "result.json")


NO_RESULT = ["", "{", "[]", "7", "null", "{}", '{"chosen": 1}', '{"chosen": {}}', "\udcff"]
WRONG = [{"layers": 3}, {"layers": [{"name": "a"}]}, {"original": {"params": 1}}, {"original": "x"}, {"unknown": 3}]


@pytest.mark.parametrize("text", [*NO_RESULT, *(json.dumps(result().to_dict() | wrong) for wrong in WRONG)])
def test_a_broken_result_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LrfError, match="is not a result of lrf_optuna") as error:
        Result.read(tmp_path / "result.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tuned", "slower"),
    [({"litert": 1.0, "keras": 2.9}, []), ({"litert": 1.0, "keras": 3.0}, ["keras"]), ({"litert": 2.1}, ["litert"])],
)
def test_a_runtime_is_slower_where_the_last_network_was_measured_and_took_no_less(
    tuned: dict[str, float], slower: list[str]
) -> None:
    assert result(tuned=Evaluation(400, 30_000, 0.9, 0.89, milliseconds=tuned)).slower_in == slower
    assert result().slower_in == []


def test_a_result_is_shown_in_one_short_line() -> None:
    assert repr(result()) == (
        "<Result digits, tuned: 40.0% of the parameters, 46.9% of the MACs, test accuracy 89.00% (original 90.00%)>"
    )
    untouched = repr(result(built=None, calibrated=None, tuned=None))
    assert untouched == "<Result digits: no network was built yet, the original has 1,000 parameters>"
