"""The report shows what the run found, needs no network, and is light."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from support.report import content_of, run

from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.page import write_report
from lrf_optuna.report.tables import short_count

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "br", "img", "hr", "link", "input"}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("run") / "report.html"
    write_report(path, content_of())
    return path.read_text(encoding="utf-8")


def page_of(folder: Path, content: ReportContent) -> str:
    write_report(folder / "report.html", content)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_plan_is_summed_up_by_its_methods() -> None:
    picks = {"a": INTACT, "b": Choice("cp", (3,)), "c": Choice("tucker2", (2, 2)), "d": INTACT, "e": INTACT}
    picks["f"] = Choice("tucker2", (1, 1))
    assert Plan.of(picks).methods == "2 tucker2, 1 cp, 3 intact"


def test_a_network_that_was_not_made_is_not_shown(tmp_path: Path) -> None:
    content = content_of()
    for made, last in (
        (replace(content.result, tuned=None), "86.6% without fine-tuning"),
        (replace(content.result, tuned=None, built=None), "no network has been built"),
    ):
        text = page_of(tmp_path, replace(content, result=made, epochs=()))
        assert last in text
        assert ">tuned<" not in text
        assert "The fine-tune" not in text.replace("The fine-tune learns", "")


def test_the_page_begins_with_a_sentence_and_three_numbers(html: str) -> None:
    expected = (
        "The smaller network has 31.0% of the parameters and 38.0% of the MACs of the original. "
        "Its test accuracy is 91.2% after fine-tuning; the original&#39;s is 91.7%."
    )
    assert f'<p class="lead">{expected}</p>' in html
    assert re.findall(r'<dd class="big">([^<]*)</dd>', html) == ["31.0%", "2.00×", "91.2%"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9999, "9,999"),
        (34_560, "34.6 k"),
        (442_368, "442 k"),
        (2_359_296, "2.36 M"),
        (11_600_000_000, "11.6 G"),
    ],
)
def test_a_count_has_about_three_digits(number: int, text: str) -> None:
    assert short_count(number) == text


def test_the_report_needs_no_network(html: str) -> None:
    assert not re.findall(r"<link|<script[^>]*\ssrc|<iframe|@import|url\(|https?://", html)
    assert all(source.startswith("data:image/png") for source in re.findall(r'<img src="([^"]*)"', html))


def test_a_report_of_many_trials_and_layers_is_light(tmp_path: Path) -> None:
    page_of(tmp_path, content_of(number=3000, layers=60))
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


class Balance(HTMLParser):
    """Checks that every tag is closed; keeps headings, ids, images and figures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.attributes: dict[str, list[dict[str, str | None]]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [] if tag in VOID else [tag]
        self.headings += [tag] if re.fullmatch("h[1-6]", tag) else []
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    return parser


def test_the_report_is_whole_html(parsed: Balance) -> None:
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))


def test_who_cannot_see_or_point_has_names_headings_and_the_keyboard(parsed: Balance) -> None:
    levels = [int(heading[1]) for heading in parsed.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in parsed.attributes["img"])
    assert all(head["scope"] in ("col", "row") for head in parsed.attributes["th"])
    charts = [svg for svg in parsed.attributes["svg"] if svg.get("class") == "chart"]
    assert len(charts) >= 6
    for chart in charts:
        assert (chart["role"], chart["tabindex"]) == ("img", "0")
        assert set(str(chart["aria-labelledby"]).split()) <= set(parsed.ids)
    assert {str(section["aria-labelledby"]) for section in parsed.attributes["section"]} <= set(parsed.ids)


def test_the_report_says_what_the_result_says(html: str) -> None:
    content = content_of()
    for text in (content.result.why, f"Trial {content.result.chosen.trial}", f"{len(content.points)} on the front"):
        assert text in html
    for part in content.result.layers[:5]:
        method = f"{part.method}({part.ranks[0]})"
        assert f'scope="row">{part.name}</th>' in html
        assert f'data-head="method (ranks)" class="text">{method}</td>' in html
    assert "1 layer cannot be factorized (depthwise): one channel each." in html
    assert "1 BatchNormalization" in html


def test_the_report_says_how_the_model_is_used_and_where_it_comes_from(html: str) -> None:
    for text in (
        "x = pixels.astype(&#34;float32&#34;) / 255",
        "Calibration: 256",
        "Split off the training images.",
        "lrf-optuna run --model net.keras",
        "2026-01-02 03:04 UTC",
        "A processor, 4 cores, Linux",
        "Right before and wrong now: 8.",
    ):
        assert text in html
    assert html.count("data:image/png;base64,") == 2


def test_the_named_points_have_a_table_and_commands_to_copy(html: str) -> None:
    assert 'scope="row">safe</th>' in html
    assert "~92.00%" in html
    assert "The chosen point is marked." in html
    assert "<code>lrf-optuna build digits --trial 0\n</code>" in html


def test_what_is_not_known_has_no_section(tmp_path: Path) -> None:
    candidates, points, result = run()
    html = page_of(tmp_path, ReportContent(candidates, points, replace(result, tuned=None)))
    for heading in (
        "Load and use",
        "Images whose",
        "Which images",
        "Where this",
        "Sensitivity",
        "Against",
        "fine-tune<",
    ):
        assert heading not in html
    assert "Other ways to choose ranks were not compared: lrf-optuna compare digits does that." in html


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    bad = "</script><b>&x"
    content = content_of()
    layers = [replace(part, name=bad, kind=bad) for part in content.result.layers]
    result = replace(content.result, study=bad, why=bad, layers=layers)
    points = [*content.points, Candidate(99, Plan.of({bad: Choice(bad)}), content.points[0].costs)]
    html = page_of(tmp_path, replace(content, result=result, points=points))
    assert "<b>" not in html
    assert html.count("</script>") == 1
    assert "<h1>&lt;/script&gt;&lt;b&gt;&amp;x</h1>" in html


def test_a_report_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, content_of())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]
