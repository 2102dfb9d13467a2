"""What the benchmarks themselves rest on: no kind of layer is without a line, and volumes and shares are right."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.lib.taps import TappedPass, deep_taps
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.layer_kinds import LAYERS, SEPARABLE, walk_layers
from lrf_optuna.models.separable import split_separable
from lrf_optuna.plans.comparison import AS_BUILT, KERNEL_KINDS, BudgetRows, Comparison, Row, Score
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import SIMILARITIES


@pytest.fixture(scope="module")
def kinds() -> ModuleType:
    return importlib.import_module("benchmarks.coverage.kinds")


@pytest.fixture(scope="module")
def methods() -> ModuleType:
    return importlib.import_module("benchmarks.quality.methods")


@pytest.fixture(scope="module")
def predicting() -> ModuleType:
    return importlib.import_module("benchmarks.quality.proxy")


@pytest.fixture(scope="module")
def comparing() -> ModuleType:
    return importlib.import_module("benchmarks.quality.compare")


@pytest.fixture(scope="module")
def ranking() -> ModuleType:
    return importlib.import_module("benchmarks.lib.ranking")


def test_a_table_on_a_page_is_the_one_that_its_benchmark_wrote_or_none_yet() -> None:
    tables = importlib.import_module("benchmarks.lib.tables")
    pages = [page.read_text() for page in tables.PAGES]
    shown = [(name, page) for page in pages for name in re.findall(r"<!-- (\w+) -->", page)]
    names = [name for name, _ in shown]
    assert {"headline", "kinds", "networks", "heads"} <= set(names)
    assert len(names) == len(set(names))
    for name, page in shown:
        found, file = tables.block(name).search(page), tables.RESULTS / f"{name}.md"
        assert found[2].strip() == (file.read_text().strip() if file.exists() else ""), name


def test_a_table_is_published_in_the_page_that_has_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = importlib.import_module("benchmarks.lib.tables")
    pages = tmp_path / "README.md", tmp_path / "other.md"
    pages[0].write_text("before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nother\n<!-- /b -->\n")
    pages[1].write_text("<!-- d -->\n<!-- /d -->\nafter\n")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "PAGES", pages)
    for _ in range(2):
        tables.publish("a", "| new |\n")
        tables.publish("c", "| elsewhere |\n")
        tables.publish("d", "| first |\n")
    wanted = "before\n<!-- a -->\n| new |\n<!-- /a -->\nbetween\n<!-- b -->\nother\n<!-- /b -->\n"
    assert pages[0].read_text() == wanted
    assert pages[1].read_text() == "<!-- d -->\n| first |\n<!-- /d -->\nafter\n"
    assert (tmp_path / "c.md").read_text() == "| elsewhere |\n"


def test_every_kind_of_layer_has_a_case_in_kinds(kinds: ModuleType) -> None:
    models = [kinds.modelled(name) for name in kinds.CASES]
    there = {row.kind for model in models for row in find_sites(model).rows}
    assert there >= {*LAYERS, *SEPARABLE, "MultiHeadAttention", "LSTM", "Embedding"}
    rows = [row for model in models for row in find_sites(split_separable(model)).rows if row.kind in LAYERS]
    sites = [row.site for row in rows if not row.path.endswith("/attention_output")]  # it has a named reason
    assert all(sites)
    assert any(site.op.groups > 1 and not site.op.depthwise for site in sites)


@pytest.mark.parametrize("name", ["Dense", "SeparableConv1D", "LSTM"])
def test_a_line_of_kinds_has_a_share_or_a_reason_for_every_method(kinds: ModuleType, name: str) -> None:
    for line in kinds.lines(name):
        assert line.count("|") == kinds.head()[0].count("|") == len(DECOMPOSITIONS) + 3
        _, _, _, *cells, why, _ = (cell.strip() for cell in line.split("|"))
        known = "|".join(map(re.escape, [*kinds.CHANGES, *kinds.OTHERS]))
        assert all(re.fullmatch("–" if why else rf"\d+%|{known}", cell) for cell in cells)


def test_a_check_of_kinds_that_fails_is_the_cell(kinds: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    (site,) = find_sites(kinds.modelled("Dense")).sites
    monkeypatch.setattr(kinds, "AGREES", -1)
    assert kinds.cell("Dense", site, "svd").startswith("**FAILED** AssertionError: the composed kernel: outputs differ")


def test_a_reason_of_kinds_is_the_change_with_which_the_method_would_apply(kinds: ModuleType) -> None:
    dense, wide, turned = (find_sites(kinds.modelled(n)).sites[0].op for n in ("Dense", "Conv1D", "Conv2DTranspose"))
    assert kinds.reason(dense, "tucker2") == "one point"
    assert kinds.reason(wide, "spatial_svd") == "one axis"
    assert kinds.reason(wide, "svd") == "window"
    assert kinds.reason(turned, "cp3") == "transposed"
    strided = find_sites(kinds.modelled("Conv2D")).sites[0].op
    assert kinds.reason(strided, "cp") == "strides"
    assert kinds.reason(kinds.windowed(dense, 2), "cp") == ""
    assert kinds.reason(kinds.windowed(dense, 1, 1), "svd") == ""


def test_the_rows_of_methods_are_the_mix_and_every_method_alone(methods: ModuleType, proxy: Proxy) -> None:
    rows = methods.rows_of(proxy)
    sets = [frozenset(names) for names, _ in rows.values()]
    assert len(set(sets)) == len(sets)
    assert sets[0] == set(DECOMPOSITIONS)
    alone = {names[1] for names, on_convolutions in rows.values() if on_convolutions}
    assert alone == {name for site in ("stem", "deep") for name in proxy.methods_of(site)} - {"intact"}
    assert all(names[2:] == (methods.PLAIN,) for names, on_convolutions in rows.values() if on_convolutions)


def test_the_points_of_a_row_are_a_front_of_its_methods(methods: ModuleType, net: Any, images: Any) -> None:
    proxy = Proxy(net, images)
    proxy.methods = ("intact", "channel_svd", "svd")
    table = proxy.table()
    points = methods.pareto_front(methods.search_front(proxy, table, trials=8))
    rows = methods.at_budgets(points, lambda plan: 0.5)
    assert len(rows) == len(methods.BUDGETS)
    for most, one in zip(methods.BUDGETS, rows, strict=True):
        inside = [point.costs["loss"] for point in points if point.costs["params"] <= most]
        assert (one and one["loss"]) == min(inside, default=None)
        assert one is None or one["accuracy"] == 0.5
    losses, shares = zip(*methods.curve(proxy, table), strict=True)
    assert (losses[0], shares[0]) < (1e-3, 1.01)
    assert shares[-1] < 0.4


def test_a_network_without_convolutions_has_rows_of_dense_methods_and_no_shares_of_convolutions(
    methods: ModuleType, images: Any
) -> None:
    inputs = keras.Input(images.shape[1:])
    flat = keras.layers.Dense(24, name="wide")(keras.layers.Flatten()(inputs))
    proxy = Proxy(keras.Model(inputs, keras.layers.Dense(10)(flat)), images)
    assert not any(alone for _, alone in methods.rows_of(proxy).values())
    assert methods.curve(proxy, proxy.table((0.2, 0.5))) == []
    row = methods.line(found(methods.MIX, False))
    assert row.endswith("| – | – | – |"), row


def found(row: str, alone: bool, *curve: tuple[float, float]) -> dict[str, Any]:
    points = [[{"loss": 0.5, "params": 0.5, "macs": 0.5}]]
    asked = {"network": "net", "row": row, "alone": alone, "trials": 9, "seeds": [0, 1]}
    return asked | {"points": points, "curve": curve, "at": [None for _ in range(3)]}


def test_the_mix_is_compared_with_the_best_method_alone_at_the_same_loss(methods: ModuleType) -> None:
    mix = found(methods.MIX, False, (0.005, 0.6), (0.015, 0.4), (0.016, 0.9), (0.03, 0.1))
    one, other = (found(name, True, (0.02, share)) for name, share in (("one", 0.7), ("other", 0.25)))
    assert methods.smallest(mix, 0.01) == pytest.approx(0.5)
    assert methods.smallest(mix, 0.0025) == pytest.approx(0.8)
    assert methods.smallest(mix, 0.5) == pytest.approx(0.1)
    first, *_ = methods.savings([mix, one, other])[2:]
    assert first == "| net | 0.01 | 50.0% | 62.5% (other) | 20.0% | about 11% |"


def test_the_tau_of_four_plans_with_one_pair_turned_is_two_thirds(ranking: ModuleType) -> None:
    assert ranking.tau([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx((5 - 1) / 6)
    assert ranking.tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert np.isnan(ranking.tau([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize("seed", range(3))
def test_tau_is_the_one_of_scipy_and_weights_are_repetitions(ranking: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, (2, 20)).astype(float)
    weights = rng.integers(0, 4, (5, 20))
    assert ranking.tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    repeated = [kendalltau(x.repeat(times), y.repeat(times)).statistic for times in weights]
    assert ranking.tau(x, y, weights) == pytest.approx(repeated)


def test_tau_over_pairs_knows_no_others(ranking: ModuleType) -> None:
    apart = np.kron(np.eye(2), np.ones((2, 2)))
    assert ranking.tau([1, 2, 3, 4], [3, 4, 1, 2]) == pytest.approx(-1 / 3)
    assert ranking.tau([1, 2, 3, 4], [3, 4, 1, 2], pairs=apart) == 1


def test_plans_are_of_three_kinds_and_no_plan_is_there_twice(predicting: ModuleType, proxy: Proxy) -> None:
    table = proxy.table(predicting.KEEP)
    found = predicting.plans_of(proxy, table, 18, 60)
    plans = [plan for _, plan in found]
    assert len(set(plans)) == len(plans)
    assert all(plan.changed for plan in plans)
    kinds = [kind for kind, _ in found]
    assert set(kinds) == {"random", "sweep", "front"}
    assert kinds.count("random") == kinds.count("sweep") == 6 >= kinds.count("front")
    assert found == predicting.plans_of(proxy, table, 18, 60)


def test_items_are_spread_from_the_first_to_the_last(predicting: ModuleType) -> None:
    assert predicting.spread(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert predicting.spread([3, 1], 5) == [3, 1]
    assert predicting.spread([], 5) == predicting.spread([3, 1], 0) == []


def test_the_deepest_maps_are_tapped() -> None:
    base = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="reduce")], name="base")
    top = [keras.layers.GlobalAveragePooling2D(name="pool"), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input((8, 8, 3)), base, *top])
    assert list(deep_taps(model, list(walk_layers(model)), (8, 8, 3))) == ["base/reduce", "pool"]


def test_every_similarity_is_measured_at_every_tap_and_nothing_is_lost_untouched(
    predicting: ModuleType, proxy: Proxy, images: Any
) -> None:
    table, tapped = proxy.table(predicting.KEEP), TappedPass(proxy)
    plan = predicting.random_plan(table, np.random.default_rng(1))
    reference, maps = (predicting.maps_of(tapped, proxy, images, one) for one in (Plan.of({}), plan))
    assert len(reference) == 3
    values = predicting.alike(reference, maps)
    assert {name.split(", ")[0] for name in values} == set(SIMILARITIES)
    assert len(values) == 4 * len(SIMILARITIES)
    for measure, by_count in predicting.by_count(reference, maps).items():
        assert max(by_count) == len(images) == 64
        assert by_count[64] == pytest.approx(values[measure])
    assert all(value == pytest.approx(1) for value in predicting.alike(reference, reference).values())
    errors = predicting.Errors(proxy, table).of_plan(plan)
    assert all(error < 0 for error in errors.values())
    assert errors["weight error as fitted, max"] <= errors["weight error as fitted, mean"]


def ranked_plans(better: str) -> dict[str, Any]:
    """Thirty plans that all measures but one rank at random; the one, and no plan's size, ranks them right."""
    rng, rows = np.random.default_rng(0), []
    names = (
        "cosine, logits",
        "cosine, mean over taps",
        "cka, logits",
        "data-aware errors, sum",
        "parameters left",
        "MACs left",
    )
    for i in range(30):
        values = {name: float(rng.random()) for name in names} | {better: float(i)}
        counts = {measure: {str(n): float(i) for n in (16, 32, 64, 128)} for measure in names[:2]}
        kind = ("random", "sweep", "front")[i % 3]
        true = {"accuracy": i / 30, "halves": [i / 30, i / 30]}
        rows.append({"kind": kind, "plan": {}, "values": values, "counts": counts} | true)
    return {"original": 0.5, "test": 2000, "rows": rows}


def test_the_page_ranks_the_best_measure_first_and_its_rows_are_as_wide_as_their_heads(ranking: ModuleType) -> None:
    found = {name: ranked_plans("cka, logits") for name in ("a", "b")}
    found["a"]["rows"][18]["tuned"], found["a"]["rows"][3]["tuned"] = 0.6, 0.3
    page = ranking.page(found)
    summary, *_ = page.split("\n\n")
    assert summary.splitlines()[2].startswith("| cka, logits | 1.000 / 1.000 /")
    for block in page.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| cosine, logits | 2,048 | – | – |" in page
    assert "10.0% → 30.0%, 60.0% → 60.0%" in page


def test_the_default_stays_until_another_measure_is_better_beyond_chance(ranking: ModuleType) -> None:
    assert ranking.verdict({"a": ranked_plans(ranking.DEFAULT)}).endswith("it stays.")
    other = ranking.verdict({"a": ranked_plans("cka, logits")})
    assert other.endswith("the default should be *cka, logits*.")


def test_a_data_set_that_is_unpacked_at_a_size_is_asked_for_at_that_size(tmp_path: Path) -> None:
    beside = importlib.import_module("benchmarks.lib.beside")
    (tmp_path / "unpack.py").write_text(
        "import sys; open('/'.join((sys.argv[1], 'asked')), 'w').write(str(sys.argv[2:]))"
    )
    (tmp_path / "data").mkdir()
    assert beside.unpacked("imagenet_128", tmp_path, tmp_path) == tmp_path / "data" / "imagenet_128.npz"
    assert (tmp_path / "data" / "asked").read_text() == "['imagenet', '--size', '128']"
    beside.unpacked("fashion_mnist", tmp_path, tmp_path)
    assert (tmp_path / "data" / "asked").read_text() == "['fashion_mnist']"


def compared(*rows: Row) -> Comparison:
    """A comparison at one budget."""
    costs = ("loss", "params", "macs")
    return Comparison("net", 9, "params", costs, 7, 0, Score(0.9, 0.8), (BudgetRows(0.5, rows),), ())


def row(name: str, fitted: Score | None, plain: Score | None) -> Row:
    return Row(name, "", fitted=fitted, plain=plain)


def test_the_best_baseline_of_compare_is_the_best_on_validation(comparing: ModuleType) -> None:
    ours, cut = row("ours", Score(0.8, 0.7), Score(0.5, 0.5)), row("l1 filters", None, Score(0.3, 0.3))
    one, other = row("a", Score(0.7, 0.75), Score(0.4, 0.2)), row("b", Score(0.6, 0.5), Score(0.45, 0.1))
    found = compared(ours, one, other, row("c", None, None), cut)
    assert comparing.line(found, found.blocks[0]) == (
        "| net | 50% | – | 80.00% / 70.00% | – | 70.00% / 75.00% a | 45.00% / 10.00% b | 30.00% / 30.00% |"
    )
    assert comparing.summary(found) == "| net | 90.00% / 80.00% | 1 | 1 | 0 | nowhere | nowhere | 7 | 0 |"
    assert comparing.page([found]).count("\n| net |") == 2


def test_the_budget_where_ours_is_furthest_behind_is_named_with_its_row(comparing: ModuleType) -> None:
    ours, one = row("ours", Score(0.8), Score(0.9)), row("a", Score(0.81), Score(0.825))
    found = compared(ours, one, row("l1 filters", None, Score(0.802)), row("b", None, None))

    def behind(found: Comparison) -> str:
        return str(comparing.behind(found, KERNEL_KINDS))

    assert behind(found) == "2.50 at 50% (a as published)"
    assert behind(compared(ours, row("l1 filters", None, Score(0.802)))) == "0.20 at 50% (l1 filters)"
    assert behind(compared(ours, row("a", Score(0.81), None))) == "1.00 at 50% (a)"
    assert behind(compared(ours, row("a", Score(0.8), None))) == "nowhere"
    assert behind(compared(row("ours", None, None), row("a", Score(0.3), None))).startswith("30.00 at 50%")


def test_ours_as_built_stands_against_whatever_kernels_others_have(comparing: ModuleType) -> None:
    ours, one = row("ours", Score(0.8), None), row("a", Score(0.81), Score(0.825))
    better = replace(ours, built=Score(0.83, 0.7))
    found = compared(better, one)
    assert comparing.leads(found.blocks[0], comparing.on_validation)
    assert comparing.behind(found, (*KERNEL_KINDS, AS_BUILT)) == "nowhere"
    assert comparing.behind(found, KERNEL_KINDS) == "2.50 at 50% (a as published)"
    found = compared(better, replace(one, built=Score(0.84, 0.6)))
    assert not comparing.leads(found.blocks[0], comparing.on_validation)
    assert comparing.leads(found.blocks[0], comparing.on_test)
    assert comparing.behind(found, (*KERNEL_KINDS, AS_BUILT)) == "1.00 at 50% (a as built)"
    found = compared(*found.blocks[0].rows, row("l1 filters", None, None))
    assert "83.00% / 70.00% | 80.00% / – | 84.00% / 60.00% a |" in comparing.line(found, found.blocks[0])


def test_what_was_not_measured_is_no_rival_of_ours(comparing: ModuleType) -> None:
    ours, one, other = row("ours", Score(0.8, 0.7), None), row("a", Score(0.8), None), row("b", Score(0.6, 0.75), None)
    assert comparing.leads(compared(ours, one).blocks[0], comparing.on_test)
    assert not comparing.leads(compared(ours, one, other).blocks[0], comparing.on_test)
    assert comparing.leads(compared(ours, one, other).blocks[0], comparing.on_validation)
    assert not comparing.leads(compared(row("ours", Score(0.8), None)).blocks[0], comparing.on_test)
    assert comparing.shown(Score(0.8)) == "80.00% / –"


def test_ours_of_compare_leads_only_where_it_is_there(comparing: ModuleType) -> None:
    none = compared(row("ours", None, None), row("a", None, None), row("l1 filters", None, None))
    assert comparing.line(none, none.blocks[0]) == "| net | 50% | – | – | – | – | – | – |"
    assert not comparing.leads(none.blocks[0], comparing.on_validation)
