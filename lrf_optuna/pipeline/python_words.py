"""Messages in the words of Python: arguments, where the command line would name its options."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from lrf_optuna.errors import LrfError
from lrf_optuna.progress import Progress, Step

VALUES = r"none|always|numbers|litert|onnx|keras(?::\w+)?|f1|balanced_accuracy"
"""Values of options that messages give as they are to be typed."""
OPTION = re.compile(rf"`[^`]*`|--([a-z][a-z-]*)(?: ((?:{VALUES})\b|(?:\w+=)?[\d.]*\d))?")
"""A command in backquotes, or an option, perhaps with a value."""
ARGUMENTS = {
    "epochs": "tune",
    "no-tune": "tune=False",
    "no-timing": "time_at_end=False",
    "no-calibrate": "calibrate=False",
    "no-cache": "cache=False",
    "no-initial-plans": "initial_plans=False",
    "output-weight": "weights",
    "divide": "preprocess: divide",
    "mean": "preprocess: mean",
    "std": "preprocess: std",
    "key": "preprocess: keys",
}
"""Option of the command line -> the argument of Python that has another name."""
PHRASES = {"the same command": "the same call", "choose again with select": "choose again"}
"""What only a terminal would say -> what Python says."""


def in_python(text: str) -> str:
    """A message with arguments in the place of options: `--max-drop 1` is `max_drop=1`."""
    for terminal, python in PHRASES.items():
        text = text.replace(terminal, python)
    return OPTION.sub(argument, text)


def argument(match: re.Match[str]) -> str:
    """The argument that an option stands for; a command in backquotes stays as it is."""
    option, value = match[1], match[2]
    if not option:
        return match[0]
    name = ARGUMENTS.get(option, option.replace("-", "_"))
    if not value:
        return name
    key, is_pair, number = value.partition("=")
    if is_pair:
        return f"{name}={{{key!r}: {number}}}"
    return f"{name}={value}" if value[0].isdigit() else f"{name}={value!r}"


@contextmanager
def python_words() -> Iterator[None]:
    """A block whose errors name arguments of Python, and in which TensorFlow warns of nothing, such as retracing."""
    tensorflow = logging.getLogger("tensorflow")
    before = tensorflow.level
    tensorflow.setLevel(max(before, logging.ERROR))
    try:
        yield
    except LrfError as error:
        raise LrfError(in_python(str(error))) from error
    finally:
        tensorflow.setLevel(before)


class PythonProgress:
    """Progress (`lrf_optuna.progress.Progress`) whose messages name arguments of Python."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def task(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Step]:
        """Show a task as it is."""
        return self.shown.task(label, total, done)

    def say(self, text: str) -> None:
        """Show a line in the words of Python."""
        self.shown.say(in_python(text))
