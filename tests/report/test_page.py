"""The report shows what the run found, needs no network, and its figures are in the study."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from plotly.io import from_json
from plotly.offline import get_plotlyjs

from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.plans.result import Evaluation, LayerResult, Result
from lrf_optuna.report.figures import lower_edge, run_figures
from lrf_optuna.report.page import save_to_study, write_report
from lrf_optuna.report.tables import method_counts, short_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OBJECTIVES = ("loss", "params", "macs")
METHODS = ("cp", "tucker2", "intact")
VOID = {"meta", "br", "img", "hr", "link", "input"}


def trials(number: int = 40, objectives: Sequence[str] = OBJECTIVES, layers: int = 5) -> list[Candidate]:
    """Random plans, whose loss falls as they grow; the last one is the original."""
    rng = np.random.default_rng(0)
    found = []
    for trial in range(number):
        picks = {f"conv{i}": Choice(str(rng.choice(METHODS[:2])), (int(rng.integers(1, 9)),)) for i in range(layers)}
        size, noise = rng.uniform(0.1, 0.9), rng.uniform(0.5, 1)
        costs = {"loss": noise * 10 ** (-4 * size), "params": size, "macs": size * noise, "latency": 5 * noise}
        found.append(Candidate(trial, Plan.of(picks), {name: costs[name] for name in objectives}))
    intact = Plan.of({f"conv{i}": INTACT for i in range(layers)})
    original = {"loss": 0.0, "params": 1.0, "macs": 1.0, "latency": 10.0}
    return [*found, Candidate(number, intact, {name: original[name] for name in objectives})]


def front_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    values = np.array([list(c.costs.values()) for c in candidates])
    beaten = [np.any(np.all(values <= v, axis=1) & np.any(values < v, axis=1)) for v in values]
    return [c for c, lost in zip(candidates, beaten, strict=True) if not lost]


def result_of(candidates: Sequence[Candidate], chosen: Candidate, name: str = "digits") -> Result:
    parts = [
        LayerResult(site, "Conv2D", choice.method, choice.ranks, 1000 * (i + 1), 310 * (i + 1), 90_000, 34_000)
        for i, (site, choice) in enumerate(chosen.plan)
    ]
    parts.append(LayerResult("norm", "BatchNormalization", "intact", (), 64, 64, 0, 0, "no kernel"))
    parts.append(LayerResult("depthwise", "DepthwiseConv2D", "intact", (), 90, 90, 900, 900, "one channel each"))
    full = Evaluation(10_000, 1_000_000, 0.92, 0.917, 50_000)
    built, tuned = Evaluation(3100, 380_000, 0.87, 0.866, 20_000), Evaluation(3100, 380_000, 0.914, 0.912, 20_000, 5)
    seconds = {"prepare": 1.0, "search": 2.5}
    made = {"built": built, "tuned": tuned, "layers": parts}
    return Result(name, len(candidates), 40, 256, seconds, full, chosen, "the knee", **made)


def run(**options: Any) -> tuple[list[Candidate], list[Candidate], Result]:
    """A whole run: its trials, its front, its result."""
    candidates = trials(**options)
    points = front_of(candidates)
    return candidates, points, result_of(candidates, points[len(points) // 2])


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


@pytest.fixture(scope="module")
def drawn() -> dict[str, go.Figure]:
    return run_figures(*run())


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("run") / "report.html"
    write_report(path, *run())
    return path.read_text(encoding="utf-8").replace(get_plotlyjs(), "PLOTLYJS")


def test_the_ids_are_fit_for_html_and_the_dashboard(drawn: dict[str, go.Figure]) -> None:
    assert list(drawn) == ["front-2d", "front-3d", "hypervolume", "layers"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in drawn)


def test_every_trial_is_where_its_costs_are(drawn: dict[str, go.Figure]) -> None:
    candidates, points, _ = run()
    for name, of in (("trials", candidates[:-1]), ("front", points[:-1])):
        flat, deep = traces(drawn["front-2d"])[name], traces(drawn["front-3d"])[name]
        costs = [c.costs for c in of]
        assert list(zip(flat.x, flat.y, strict=True))[: len(of)] == [(c["params"], c["loss"]) for c in costs]
        assert list(zip(deep.x, deep.y, deep.z, strict=True))[: len(of)] == [
            (c["params"], c["macs"], c["loss"]) for c in costs
        ]
    assert list(traces(drawn["front-2d"])["front"].marker.color) == [c.costs["macs"] for c in points]


def test_the_chosen_point_is_where_its_costs_are(drawn: dict[str, go.Figure]) -> None:
    chosen = run()[2].chosen
    flat, deep = traces(drawn["front-2d"])["chosen"], traces(drawn["front-3d"])["chosen"]
    assert (*flat.x, *flat.y) == (chosen.costs["params"], chosen.costs["loss"])
    assert (*deep.x, *deep.y, *deep.z) == tuple(chosen.costs[name] for name in ("params", "macs", "loss"))
    assert f"trial {chosen.trial}" in flat.hovertext[0]


def test_no_loss_stands_at_the_tick_0_below_every_other_loss(drawn: dict[str, go.Figure]) -> None:
    figure = drawn["front-2d"]
    zero, bottom = traces(figure)["trials"].y[-1], 10 ** figure.layout.yaxis.range[0]
    assert bottom < zero < min(traces(figure)["trials"].y[:-1])
    assert dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))["0"] == zero
    assert (*traces(figure)["original"].x, *traces(figure)["original"].y) == (1.0, zero)


def test_the_edge_has_no_point_above_a_smaller_one() -> None:
    edge = lower_edge(run()[1], "params", "loss")
    assert [p.costs["params"] for p in edge] == sorted(p.costs["params"] for p in edge)
    assert [p.costs["loss"] for p in edge] == sorted((p.costs["loss"] for p in edge), reverse=True)


def test_a_plan_is_summed_up_by_its_methods() -> None:
    picks = {"a": INTACT, "b": Choice("cp", (3,)), "c": Choice("tucker2", (2, 2)), "d": INTACT, "e": INTACT}
    picks["f"] = Choice("tucker2", (1, 1))
    assert method_counts(Plan.of(picks)) == "2 tucker2, 1 cp, 3 intact"


@pytest.mark.parametrize(
    ("objectives", "axes", "ids"),
    [
        (("loss", "params"), ("params", "loss"), {"front-2d"}),
        (("loss", "macs"), ("macs", "loss"), {"front-2d"}),
        (("macs", "params"), ("params", "macs"), {"front-2d"}),
        (("latency", "loss", "params"), ("params", "loss"), {"front-2d", "front-3d"}),
        (("loss", "params", "macs", "latency"), ("params", "loss"), {"front-2d", "front-3d"}),
        (("loss",), (), set()),
    ],
)
def test_any_objectives_are_drawn(tmp_path: Path, objectives: Any, axes: Any, ids: set[str]) -> None:
    candidates, points, result = run(objectives=objectives)
    found = run_figures(candidates, points, result)
    assert set(found) == ids | {"hypervolume", "layers"}
    if axes:
        chosen = traces(found["front-2d"])["chosen"]
        assert (*chosen.x, *chosen.y) == tuple(result.chosen.costs[name] for name in axes)
    write_report(tmp_path / "report.html", candidates, points, result)


def test_a_network_that_was_not_made_is_not_shown(tmp_path: Path) -> None:
    candidates, points, result = run()
    for made, last in (
        (replace(result, tuned=None), "86.6% test accuracy without fine-tuning"),
        (replace(result, tuned=None, built=None), "no network has been built"),
    ):
        write_report(tmp_path / "report.html", candidates, points, made)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert last in text
        assert "Tuned" not in text.replace(get_plotlyjs(), "")


def test_the_page_begins_with_sizes_and_accuracies(html: str) -> None:
    expected = (
        "31.0% of the parameters and 38.0% of the MACs at 91.2% test accuracy after fine-tuning (original 91.7%)."
    )
    assert f'<p class="lead">{expected}</p>' in html


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


@pytest.mark.parametrize("layers", [5, 100])
def test_every_layer_has_the_same_room(layers: int) -> None:
    figure = run_figures(*run(layers=layers))["layers"]
    assert len(figure.layout.yaxis.ticktext) == layers + 1
    assert figure.layout.height >= 20 * layers
    before = next(trace for trace in figure.data if trace.name == "before")
    assert list(before.x) == [*(1000 * (i + 1) for i in range(layers)), 90]


def test_the_report_needs_no_network(html: str) -> None:
    assert html.count("PLOTLYJS") == 1
    assert "plotly.js v" not in html
    assert not re.findall(r"<link|<script[^>]*\ssrc|<img|<iframe|@import|url\(|https?://", html)
    assert '"showSendToCloud": false' in html


def test_the_report_is_whole_html_with_every_figure(html: str) -> None:
    class Balance(HTMLParser):
        open: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.open += [] if tag in VOID else [tag]

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.open = []
    parser.feed(html)
    assert parser.open == []
    assert [html.count(f'id="{name}"') for name in run_figures(*run())] == [1, 1, 1, 1]


def test_the_report_says_what_the_result_says(html: str) -> None:
    _, points, result = run()
    for text in (result.why, f"Trial {result.chosen.trial}", f"{len(points)} on the front"):
        assert text in html
    for part in result.layers[:5]:
        method = f"{part.method}({part.ranks[0]})"
        assert f'<th scope="row">{part.name}</th><td class="text">Conv2D</td><td class="text">{method}</td>' in html
    assert "one channel each" in html
    assert "1 BatchNormalization" in html
    assert "Calibration: 256 of the training images" in html


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    bad = "</script><i>&x"
    candidates, points, result = run()
    result = replace(result, study=bad, why=bad, layers=[replace(part, name=bad, kind=bad) for part in result.layers])
    points = [*points, Candidate(99, Plan.of({bad: Choice(bad)}), points[0].costs)]
    path = tmp_path / "report.html"
    write_report(path, candidates, points, result)
    html = path.read_text(encoding="utf-8")
    assert "<i>" not in html.replace(get_plotlyjs(), "")
    assert "<h1>&lt;/script&gt;&lt;i&gt;&amp;x</h1>" in html
    assert set(run_figures(candidates, points, result)["layers"].layout.yaxis.ticktext) == {
        "&lt;/script&gt;&lt;i&gt;&amp;x"
    }


def test_a_report_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, *run())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def saved(study: optuna.Study) -> dict[str, Any]:
    """The figures that the dashboard finds in a study."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return {name: from_json(text) for name, text in get_plotly_graph_objects(attributes).items()}


def test_figures_are_found_in_the_study_and_saving_again_overwrites_them(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, directions=["minimize"] * 3)
    for number in (40, 8):
        run_of = run(number=number, layers=number)
        save_to_study(study, run_figures(*run_of))
        found = saved(optuna.load_study(study_name=study.study_name, storage=storage))
        assert set(found) == {"front-2d", "front-3d", "hypervolume", "layers"}
        assert list(traces(found["front-2d"])["trials"].x) == [c.costs["params"] for c in run_of[0]]


def test_a_long_list_of_layers_is_moved_on_a_card_of_the_dashboard(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}")
    for layers, dragged in ((5, None), (60, "pan")):
        save_to_study(study, run_figures(*run(layers=layers)))
        layout = saved(study)["layers"].layout
        assert layout.height is None
        assert layout.dragmode == dragged
