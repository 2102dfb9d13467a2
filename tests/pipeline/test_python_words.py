"""Python hears of arguments, never of options."""

from __future__ import annotations

import logging

import pytest
from support.progress import Heard

from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.python_words import PythonProgress, in_python, python_words

SAID = {
    "give another --name": "give another name",
    "--max-drop should be 0 or more": "max_drop should be 0 or more",
    "give --no-tune to leave it": "give tune=False to leave it",
    "search with --target latency=0.7": "search with target={'latency': 0.7}",
    "give both, or --labels none": "give both, or labels='none'",
    "--preprocess keras:resnet50 by default.": "preprocess='keras:resnet50' by default.",
    "a smaller --rate, or --epochs 3": "a smaller rate, or tune=3",
    "for numbers give --task numbers": "for numbers give task='numbers'",
    "with --target latency=0.7 --runtime litert": "with target={'latency': 0.7} runtime='litert'",
    "--task says otherwise.": "task says otherwise.",
    "after `optuna delete-study --storage x`": "after `optuna delete-study --storage x`",
    "the same command goes on from there": "the same call goes on from there",
}


@pytest.mark.parametrize("text", SAID)
def test_an_option_becomes_an_argument(text: str) -> None:
    assert in_python(text) == SAID[text]


def test_errors_and_messages_are_in_the_words_of_python() -> None:
    heard = Heard()
    PythonProgress(heard).say("--task says otherwise.")
    assert heard.lines == ["task says otherwise."]
    with PythonProgress(heard).task("trials", 3) as step:
        step(1)
    assert heard.tasks == ["trials"]
    with pytest.raises(LrfError, match="give another name"), python_words():
        raise LrfError("give another --name")


def test_tensorflow_warns_of_nothing_meanwhile_and_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("tensorflow")
    before = log.level
    with python_words():
        log.warning("5 out of the last 5 calls triggered tf.function retracing")
    assert not caplog.records
    assert log.level == before
