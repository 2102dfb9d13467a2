"""The charts of a run show its trials where their costs are, and its networks where they were measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.report import content_of, run

from lrf_optuna.report.charts import Chart, Series
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.run_charts import SHOWN_DROP, lower_edge, run_charts


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return content_of()


@pytest.fixture(scope="module")
def charts(content: ReportContent) -> dict[str, Chart]:
    return run_charts(content)


def series(chart: Chart) -> dict[str, Series]:
    return {one.name: one for one in chart.series}


def places(one: Series) -> list[tuple[float, float]]:
    return [(mark.x, mark.y) for mark in one.marks]


def test_every_trial_is_where_its_costs_are(content: ReportContent, charts: dict[str, Chart]) -> None:
    for name, size in (("front-2d", "params"), ("front-macs", "macs")):
        found = series(charts[name])
        for kind, of in (("trials", content.candidates[:-1]), ("front", content.points[:-1])):
            expected = [(c.costs[size], c.costs["loss"]) for c in of]
            assert places(found[kind])[: len(of)] == expected
        chosen = content.result.chosen
        assert places(found["chosen"]) == [(chosen.costs[size], chosen.costs["loss"])]
        assert f"trial {chosen.trial}" in found["chosen"].marks[0].text


def test_no_loss_stands_at_the_tick_0_below_every_other_loss(charts: dict[str, Chart]) -> None:
    chart = charts["front-2d"]
    *others, zero = (mark.y for mark in series(chart)["trials"].marks)
    assert chart.y.low < zero < min(others)
    assert {text: value for value, text in chart.y.ticks}["0"] == zero
    assert places(series(chart)["original"]) == [(1.0, zero)]


def test_the_edge_has_no_point_above_a_smaller_one() -> None:
    edge = lower_edge(run()[1], "params", "loss")
    assert [p.costs["params"] for p in edge] == sorted(p.costs["params"] for p in edge)
    assert [p.costs["loss"] for p in edge] == sorted((p.costs["loss"] for p in edge), reverse=True)


def test_the_metric_of_a_point_is_the_best_known_one(content: ReportContent, charts: dict[str, Chart]) -> None:
    found = series(charts["metric-size"])
    known = {p.trial: content.metrics[p.trial] for p in content.points if p.trial in content.metrics}
    built = [own["metric as built"] for own in known.values() if "metric as built" in own]
    scored = [own["metric"] for own in known.values() if "metric as built" not in own]
    assert [mark.y for mark in found["front, as built"].marks] == built
    assert [mark.y for mark in found["front, as scored"].marks] == scored
    assert len(built) + len(scored) == len(known)


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        ("accuracy on validation and training images", " Points of the front have their accuracy on validation and"),
        ("validation accuracy", ""),
        ("", ""),
    ],
)
def test_a_chart_says_where_points_were_not_measured_on_validation_images_alone(
    content: ReportContent, compared: str, said: str
) -> None:
    caption = run_charts(replace(content, compared_metric=compared))["metric-size"].caption
    assert (said in caption) if said else "Points of the front" not in caption


def test_networks_and_baselines_are_beside_the_front(content: ReportContent, charts: dict[str, Chart]) -> None:
    found, result = series(charts["metric-size"]), content.result
    assert places(found["original"]) == [(1.0, result.original.val_metric)]
    assert result.tuned
    assert places(found["tuned"]) == [(0.31, result.tuned.val_metric)]
    assert [mark.text.split("\n")[0] for mark in found["best baseline"].marks] == ["energy", "energy"]
    assert places(found["safe"]) == [(content.result.alternatives[0].costs["params"], 0.918)]
    assert "balanced" not in found, "the chosen point is there as the network that was made of it"
    times = series(charts["metric-milliseconds"])
    assert places(times["safe"]) == [(0.4, 0.918)]
    assert [mark.x for name in ("original", "tuned") for mark in times[name].marks] == [0.5, 0.25]


def test_an_axis_of_the_metric_shows_the_difference(content: ReportContent) -> None:
    good, bad = content.points[1].trial, content.points[3].trial
    chart = run_charts(replace(content, metrics={good: {"metric": 0.9}, bad: {"metric": 0.1}}))["metric-size"]
    assert chart.y.low >= 0.92 - SHOWN_DROP
    assert chart.caption == " Points left out, as their accuracy is far lower: 1."
    assert any("%" in text for _, text in chart.y.ticks)


@pytest.mark.parametrize(
    ("objectives", "axes"),
    [
        (("loss", "params"), ("params", "loss")),
        (("loss", "macs"), ("macs", "loss")),
        (("macs", "params"), ("params", "macs")),
        (("latency", "loss", "params"), ("params", "loss")),
        (("loss", "params", "macs", "latency"), ("params", "loss")),
        (("loss",), ()),
    ],
)
def test_any_objectives_are_drawn(objectives: Any, axes: Any) -> None:
    content = content_of(objectives=objectives)
    found = run_charts(content)
    assert ("front-2d" in found) == bool(axes)
    if axes:
        chosen = series(found["front-2d"])["chosen"]
        assert places(chosen) == [tuple(content.result.chosen.costs[name] for name in axes)]
        fronts = [name for name in found if name.startswith("front-")]
        assert len(fronts) == len(objectives) - 1


def test_a_fine_tune_is_shown_beside_the_original(charts: dict[str, Chart]) -> None:
    chart = charts["tuning"]
    assert places(chart.series[0]) == [(0, 0.87), (1, 0.9), (2, 0.914)]
    assert chart.levels == [(0.92, "original 92.00%")]
    assert chart.y.has(0.92)
    assert places(series(chart)["kept"]) == [(2, 0.914)]


def test_a_fine_tune_of_an_earlier_version_has_no_star() -> None:
    content = content_of()
    earlier = replace(content, result=replace(content.result, fine_tune=None))
    assert "kept" not in series(run_charts(earlier)["tuning"])


def test_without_anything_measured_there_is_no_chart_of_it() -> None:
    candidates, points, result = run()
    bare = replace(result, tuned=None, built=None, alternatives=[])
    assert set(run_charts(ReportContent(candidates, points, bare))) == {"front-2d", "front-macs", "hypervolume"}
