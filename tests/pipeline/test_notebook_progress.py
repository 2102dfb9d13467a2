"""Progress in a notebook is one output that is updated, without widgets."""

from __future__ import annotations

from typing import Any

import pytest

from lrf_optuna.pipeline.notebook_progress import PAUSE, NotebookProgress, say_what_is_left, shown_progress
from lrf_optuna.progress import SILENT
from lrf_optuna.progress_bars import Shown


class Output:
    """A handle of IPython that counts its updates."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, progress: NotebookProgress) -> None:
        self.shown.append(progress._repr_html_())


@pytest.fixture
def progress() -> NotebookProgress:
    return NotebookProgress(output=Output())


def test_messages_stay_and_of_a_bar_nothing_stays(progress: NotebookProgress) -> None:
    progress.say("the original's accuracy is <98%>")
    with progress.task("trials", 4, done=1) as step:
        step(2, note="front 3")
        assert "trials 3/4 front 3" in repr(progress)
        assert '<progress value="3" max="4">' in progress._repr_html_()
        with progress.task("inside", 2):
            assert "inside 0/2" in repr(progress)
            assert "trials" not in repr(progress)
    assert progress._repr_html_() == "<div>the original&#x27;s accuracy is &lt;98%&gt;</div>"


def test_what_is_left_of_the_run_is_said_once_something_tells(progress: NotebookProgress) -> None:
    say_what_is_left(progress, lambda: 600.0)
    with progress.task("trials", 2) as step:
        assert "left" not in repr(progress)
        step(1)
        assert "about 10 min 0 s left" in repr(progress)
    say_what_is_left(SILENT, lambda: 600.0)


def test_steps_do_not_flood_the_browser(progress: NotebookProgress) -> None:
    with progress.task("trials", 1000) as step:
        for _ in range(1000):
            step(1)
    assert len(progress.output.shown) < 3 + 1000 * PAUSE


def test_a_bar_goes_where_its_block_fails(progress: NotebookProgress) -> None:
    with pytest.raises(ValueError, match="no"), progress.task("trials", 2):
        raise ValueError("no")
    assert progress.tasks == []


def test_another_cell_has_an_output_of_its_own(progress: NotebookProgress) -> None:
    progress.say("one")
    assert progress.output is not None
    progress.begin_cell(7)
    assert (progress.output, progress.lines) == (None, [])


def test_progress_is_shown_unless_it_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import lrf_optuna.pipeline.notebook_progress as module

    own: Any = NotebookProgress()
    assert shown_progress(None) is shown_progress(False) is SILENT
    assert shown_progress(own) is own
    assert isinstance(shown_progress(True), Shown)
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    assert isinstance(shown_progress(True), NotebookProgress)
