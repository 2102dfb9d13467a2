"""A chart as SVG has its marks where its axes say, and is light however many they are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from support.report import content_of

from lrf_optuna.report.charts import Chart, Mark, Series, linear_axis, log_axis
from lrf_optuna.report.run_charts import run_charts
from lrf_optuna.report.svg import MARKS, chart_svg


def chart(marks: list[Mark], **more: object) -> Chart:
    x, y = linear_axis("across", [0, 10], low=0.0), linear_axis("up", [0, 1], percent=True)
    return Chart("one", "One & all", x, y, [Series("marks", marks, "front", **more)])  # type: ignore[arg-type]


def elements(of: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{chart_svg(of)}</div>")


def test_every_chart_of_a_run_is_well_formed() -> None:
    for one in run_charts(content_of()).values():
        assert elements(one).find(".//svg[@class='chart']/title") is not None


def test_a_mark_is_where_its_axes_say_and_has_its_text() -> None:
    one = chart([Mark(5, 0.5, "here <&>")])
    circle = elements(one).find(".//circle")
    assert circle is not None
    assert circle.get("cx") == f"{100 * one.x.place(5):.2f}%"
    assert circle.get("cy") == f"{100 * (1 - one.y.place(0.5)):.2f}%"
    assert circle.findtext("title") == "here <&>"


def test_a_mark_outside_of_the_axes_is_left_out() -> None:
    assert elements(chart([Mark(5, 9.0, "far")])).find(".//circle") is None


def test_many_marks_are_spread_over_few() -> None:
    many = chart([Mark(i / 1000, 0.5, str(i)) for i in range(10_000)])
    found = elements(many).findall(".//circle")
    assert len(found) == MARKS
    assert (found[0].findtext("title"), found[-1].findtext("title")) == ("0", "9999")


def test_a_cloud_has_each_place_once_and_no_marks() -> None:
    cloud = chart([Mark(5, 0.5, "same")] * 100, is_cloud=True)
    assert elements(cloud).find(".//circle") is None
    (path,) = elements(cloud).findall(".//path")
    assert str(path.get("d")).count("M") == 1


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0, 1.0], ["0%", "25%", "50%", "75%", "100%"]),
        ([0.98, 0.985], ["98.0%", "98.2%", "98.4%"]),
        ([0.5], ["48%", "50%", "52%"]),
    ],
)
def test_ticks_are_round_and_tell_apart(values: list[float], texts: list[str]) -> None:
    found = [text for _, text in linear_axis("", values, percent=True).ticks]
    assert found == texts


def test_a_log_axis_has_room_for_all_and_a_tick_0() -> None:
    zero, axis = log_axis("loss", [0.0, 1e-3, 0.5], 1e-5)
    assert axis.low < zero < 1e-3
    assert axis.high > 0.5
    assert axis.ticks[0] == (zero, "0")
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 1


def test_the_summary_names_ranges_that_hold_all_values() -> None:
    marks = [Mark(1, 0.9770, ""), Mark(7, 0.9851, "")]
    x = linear_axis("epoch", (mark.x for mark in marks), low=0.0, least=1.0)
    y = linear_axis("accuracy", (mark.y for mark in marks), True)
    text = str(chart_svg(Chart("tuning", "Fine-tune", x, y, [Series("accuracy", marks, "chosen", "dot")])))
    assert "epoch, from 1 to 7" in text
    assert "accuracy, from 97.7% to 98.51%" in text
    assert log_axis("MACs", [0.012, 0.5], 1e-3)[1].ends == ("0.012", "0.5")
