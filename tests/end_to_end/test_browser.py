"""Report and dashboard in a real browser: no errors, nothing cut, figures for the pointer and for the keyboard."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from support.browser import WIDTHS, browser, page_at
from support.report import METHODS, OBJECTIVES, content_of

from lrf_optuna.config import StudySpec
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.dashboard import save_to_study
from lrf_optuna.report.page import write_report
from lrf_optuna.storage.study import PLAN, StudyStore

LONG = "a_block_of_a_network_with_a_very_long_name/and_a_convolution_inside_it"
"""The name of a layer that does not fit on a telephone."""
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
CUT = """() => [...document.querySelectorAll("main *")].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width && !element.closest(".wide, pre, svg") && (box.right > innerWidth + 1 || box.left < -1);
}).map((element) => element.outerHTML.slice(0, 80))"""
"""Elements beyond the edges of the window, without those that scroll inside their part."""
CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((n) => n / 255)
      .map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const texts = document.querySelectorAll("p, td, th, dd, dt, small, h1, h2, figcaption, text.tick");
  return Math.min(...[...texts].map((element) => {
    const style = getComputedStyle(element);
    const ink = light(element.matches("text") ? style.fill : style.color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }));
}"""
"""The least contrast of texts on the page."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return content_of(number=60, layers=20)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, content: ReportContent) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, content)
    path.write_text(path.read_text(encoding="utf-8").replace("conv11", LONG), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_has_no_errors_and_nothing_is_cut(opened: Any, report: str, width: int, scheme: str) -> None:
    with page_at(opened, report, width, scheme) as (page, errors):
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert page.evaluate(OVERFLOW) <= 0
        assert page.evaluate(CUT) == []
        assert page.evaluate(CONTRAST) >= 4.5, "WCAG 2.1, level AA"
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert errors == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_mark_shows_its_text_to_the_pointer_and_to_the_keyboard(opened: Any, report: str, width: int) -> None:
    with page_at(opened, report, width) as (page, errors):
        chart = page.locator("svg.chart#metric-size")
        chart.scroll_into_view_if_needed()
        tip = page.locator("#tip")
        assert not tip.is_visible()
        chart.locator("svg.mark.star").hover(force=True)
        tip.wait_for()
        assert "tuned" in tip.inner_text()
        box = tip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.evaluate("dispatchEvent(new Event('scroll'))")
        assert tip.is_visible(), "the event of a scroll before the mark was shown comes a frame late"
        page.evaluate("scrollBy(0, -40)")
        tip.wait_for(state="hidden")
        chart.locator("svg.mark.star").hover(force=True)
        tip.wait_for()
        page.mouse.move(2, 2)
        assert not tip.is_visible()
        chart.focus()
        seen = []
        for _ in range(3):
            page.keyboard.press("ArrowRight")
            seen.append(tip.inner_text())
        assert len(set(seen)) == 3
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        assert errors == []


def test_the_code_is_copied(opened: Any, report: str) -> None:
    with page_at(opened, report, 1280) as (page, _):
        button = page.locator("button.copy").first
        button.click()
        page.wait_for_function("/Copied|Selected/.test(document.querySelector('button.copy').textContent)")
        code = page.locator("pre code").first.inner_text()
        assert re.match("import keras", code)


def test_the_report_is_printed_whole_and_on_white(opened: Any, report: str) -> None:
    with page_at(opened, report, 800, "dark") as (page, _):
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(42, 47, 56)"
        assert page.evaluate(OVERFLOW) <= 0
        assert page.pdf()[:4] == b"%PDF"


def trial_of(candidate: Candidate) -> optuna.trial.FrozenTrial:
    """A candidate as a trial, with the method of each layer as its parameters."""
    params = {f"{site}.method": choice.method for site, choice in candidate.plan}
    space = dict.fromkeys(params, CategoricalDistribution(METHODS))
    attributes = {PLAN: candidate.plan.to_json()}
    values = [*candidate.costs.values()]
    return optuna.trial.create_trial(params=params, distributions=space, values=values, user_attrs=attributes)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory, content: ReportContent) -> Iterator[str]:
    """The address of Optuna's dashboard on a study with all that a run puts into it."""
    folder = tmp_path_factory.mktemp("study")
    url = f"sqlite:///{folder / 'study.db'}"
    spec = StudySpec(name="digits", model=ModelSpec(path="net.keras"), data=DataSpec(path="digits"))
    given: dict[str, Any] = {
        "identity": {"model": "one"},
        "spec": spec.model_dump_json(exclude={"search": {"storage"}}),
    }
    store = StudyStore.open(url, "digits", objectives=OBJECTIVES, **given)
    store.append([trial_of(candidate) for candidate in content.candidates])
    (folder / "report.html").write_text("the report")
    save_to_study(store, content, folder, [folder / "report.html"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lrf_optuna", "dashboard", str(folder), "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(port, server, folder / "server.log")
        yield f"http://127.0.0.1:{port}/dashboard"
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + seconds
    while True:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"the dashboard does not answer: {log.read_text()}"
            time.sleep(0.2)


def test_the_chosen_trial_has_its_note_and_its_plan_does_not_widen_the_page(
    opened: Any, dashboard: str, content: ReportContent
) -> None:
    number = content.result.chosen.trial
    with page_at(opened, f"{dashboard}/studies/1/trials?numbers={number}", 1280) as (page, errors):
        page.get_by_text("What lrf_optuna found").wait_for()
        page.get_by_text("User Attributes").wait_for()
        assert page.get_by_text("This trial is the chosen point").count() == 1
        assert page.evaluate(OVERFLOW) <= 0
        assert errors == []


def test_the_study_has_its_figures_its_note_and_its_files(opened: Any, dashboard: str) -> None:
    with page_at(opened, f"{dashboard}/studies/1", 1280) as (page, errors):
        for text in ("Accuracy and parameters", "Front in 3-D", "Layers", "report.html"):
            page.get_by_text(text).first.wait_for()
        assert page.evaluate(OVERFLOW) <= 0
        assert errors == []
    with page_at(opened, f"{dashboard}/studies/1/note", 1280) as (page, errors):
        page.get_by_text("is the chosen point").wait_for()
        assert page.evaluate(OVERFLOW) <= 0
