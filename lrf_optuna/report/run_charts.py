"""The charts of a run: its metric over size and milliseconds, the front, the hypervolume, the fine-tune, baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lrf_optuna.plans.comparison import OURS, Comparison, Row
from lrf_optuna.plans.front import hypervolume_history
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Alternative, Evaluation, Result
from lrf_optuna.report.charts import Axis, Chart, Mark, Series, linear_axis, log_axis
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.costs import ORIGINAL, ZERO_LOSS, axes_of, axis_title, cost_name, cost_text, point_text
from lrf_optuna.scoring.option_table import SIZES
from lrf_optuna.storage.study import AS_BUILT, METRIC

SHOWN_DROP = 0.1
"""Most of the metric below the best network that its axis shows: points far below would hide the differences."""
HISTORY = 400
"""Points of a line over the trials, at most."""
NAMED_COLORS = {"safe": "c1", "balanced": "c3", "small": "c4"}
"""Name of a point -> its color, as a class of page.css."""
LINES = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
"""Colors of lines beside ours, as classes of page.css."""


def run_charts(content: ReportContent) -> dict[str, Chart]:
    """The charts that there is something to show in, by name."""
    found = [*metric_charts(content), *front_charts(content), *hypervolume_chart(content.candidates)]
    found += [*tuning_chart(content), *comparison_chart(content.comparison, content.result.metric)]
    return {chart.name: chart for chart in found}


def metric_charts(content: ReportContent) -> Iterator[Chart]:
    """The metric over parameters, and over milliseconds where some are known."""
    for cost in ("params", "macs", "latency"):
        series = list(metric_series(content, cost))
        known = [mark for one in series for mark in one.marks]
        if len({mark.x for mark in known}) < 2 or (cost == "macs" and "params" in content.result.chosen.costs):
            continue
        top = max(mark.y for mark in known)
        hidden = sum(mark.y < top - SHOWN_DROP for mark in known)
        lost = f" Points left out, as their {content.result.metric} is far lower: {hidden}." if hidden else ""
        lost += other_images(content)
        label = content.result.metric if other_images(content) else f"validation {content.result.metric}"
        y = linear_axis(label, (m.y for m in known), True, top - SHOWN_DROP, 1.0)
        x = size_axis(cost, (m.x for m in known if m.y >= top - SHOWN_DROP), content.result)
        name = {"params": "size", "macs": "macs", "latency": "milliseconds"}[cost]
        title = f"{content.result.metric.capitalize()} and {cost_name(cost)}"
        yield Chart(f"metric-{name}", title, x, y, series, caption=lost)


def other_images(content: ReportContent) -> str:
    """A sentence where points were not measured on validation images alone, as the networks that were made are."""
    compared, usual = content.compared_metric, f"validation {content.result.metric}"
    if compared in ("", usual):
        return ""
    return f" Points of the front have their {compared}, networks that were made their {usual}."


def size_axis(cost: str, values: Iterable[float], result: Result) -> Axis:
    """The axis of a share of the original, or of milliseconds, from 0."""
    if cost != "latency":
        return linear_axis(f"{cost_name(cost)}, share of the original", [0.0, *values], True, 0.0)
    return linear_axis(f"milliseconds of a call, {next(iter(result.original.milliseconds))}", [0.0, *values], low=0.0)


def metric_series(content: ReportContent, cost: str) -> Iterator[Series]:
    """Points of the front as scored and as built, baselines, and the networks that were made."""
    result = content.result
    for name, label, color, symbol in (
        (METRIC, "front, as scored", "soft", "ring"),
        (AS_BUILT, "front, as built", "front", "dot"),
    ):
        yield Series(label, list(point_marks(content, cost, name)), color, symbol)
    if content.comparison and cost != "latency":
        yield Series("best baseline", list(baseline_marks(content.comparison, cost)), "c2", "diamond")
    for one in result.alternatives:
        where = alternative_place(one, cost)
        if where is not None and one.trial != result.chosen.trial:
            known = f"{one.name}, trial {one.trial}\n{result.metric} {one.metric:.2%}, {one.state}"
            mark = Mark(where, one.metric, f"{known}\n{axis_text(cost, where)}")
            yield Series(one.name, [mark], NAMED_COLORS.get(one.name, "c3"), "diamond", label=one.name)
    for name, evaluation, color, symbol in made_networks(result):
        if (where := place(evaluation, result, cost)) is not None:
            text = f"{name}\n{result.metric} {evaluation.val_metric:.2%}\n{axis_text(cost, where)}"
            label = "" if name == "built" else name  # it is often just below the last network
            yield Series(name, [Mark(where, evaluation.val_metric, text)], color, symbol, label=label)


def made_networks(result: Result) -> Iterator[tuple[str, Evaluation, str, str]]:
    """Name, evaluation, color and symbol of the original, the built and the last network."""
    yield "original", result.original, "soft", "diamond"
    if result.built and result.final is not result.built:
        yield "built", result.built, "chosen", "ring"
    if result.final is not result.original:
        yield result.final_state, result.final, "chosen", "star"


def place(evaluation: Evaluation, result: Result, cost: str) -> float | None:
    """Where a network is on the axis of a cost; None where that is not known."""
    if cost == "latency":
        return next(iter(evaluation.milliseconds.values()), None)
    whole = getattr(result.original, cost)
    return getattr(evaluation, cost) / whole if whole else None


def alternative_place(one: Alternative, cost: str) -> float | None:
    """Where a named point is on the axis of a cost; None where that is not known."""
    return one.milliseconds if cost == "latency" else one.costs.get(cost)


def axis_text(cost: str, value: float) -> str:
    """A place on the axis of a cost in words."""
    return f"{value:.3g} ms" if cost == "latency" else cost_text(cost, value)


def point_marks(content: ReportContent, cost: str, name: str) -> Iterator[Mark]:
    """The points of the front whose best known metric is the one of this name."""
    whole = next(iter(content.result.original.milliseconds.values()), None) if cost == "latency" else 1.0
    for point in content.points:
        found, size = content.metric_of(point.trial), point.costs.get(cost)
        if found and found[1] == name and size is not None and whole is not None:
            metric = f"{content.result.metric} {found[0]:.2%}, {'as built' if name == AS_BUILT else 'as scored'}"
            yield Mark(size * whole, found[0], f"{metric}\n{point_text(point)}")


def baseline_marks(comparison: Comparison, cost: str) -> Iterator[Mark]:
    """The best other rule for ranks at each budget."""
    for block in comparison.blocks:
        row = block.best("fitted")
        size = getattr(row, cost) if row else None
        if row and row.best and size is not None:
            text = f"{row.name}\nvalidation {row.best.val:.2%}\n{cost_text(cost, size)}"
            yield Mark(size, row.best.val, text)


def front_charts(content: ReportContent) -> Iterator[Chart]:
    """The loss over each size, or the second objective over the first where the loss is none."""
    axes = axes_of(tuple(content.result.chosen.costs))
    for number, x_name in enumerate(axes[:1] + axes[2:] if len(axes) > 1 else []):
        yield front_chart(content, f"front-{x_name}" if number else "front-2d", x_name, axes[1])


def front_chart(content: ReportContent, name: str, x_name: str, y_name: str) -> Chart:
    """Two objectives of all trials faintly, of the front, of its lower edge, of the chosen point."""
    chosen = content.result.chosen
    everything = [*content.candidates, *content.points, chosen]
    y_values = [c.costs[y_name] for c in everything]
    zero, y = 0.0, linear_axis(axis_title(y_name), y_values, y_name in SIZES)
    if y_name == "loss":
        zero, y = log_axis("loss, log scale", y_values, ZERO_LOSS)
    x = linear_axis(axis_title(x_name), [0.0, *(c.costs[x_name] for c in everything)], x_name in SIZES, 0.0)

    def marks(of: Sequence[Candidate]) -> list[Mark]:
        texts = ["original" if c is ORIGINAL else point_text(c) for c in of]
        heights = [zero if y_name == "loss" and c.costs[y_name] < ZERO_LOSS else c.costs[y_name] for c in of]
        return [Mark(c.costs[x_name], high, text) for c, high, text in zip(of, heights, texts, strict=True)]

    series = [
        Series("trials", marks(content.candidates), "soft", is_cloud=True),
        Series("edge", marks(lower_edge(content.points, x_name, y_name)), "front", "", "steps", in_legend=False),
        Series("front", marks(content.points), "front"),
    ]
    if {x_name, y_name} <= set(ORIGINAL.costs):
        series.append(Series("original", marks([ORIGINAL]), "soft", "diamond"))
    series.append(Series("chosen", marks([chosen]), "chosen", "star", label=f"trial {chosen.trial}"))
    return Chart(name, f"Front: {cost_name(x_name)} and {cost_name(y_name)}", x, y, series)


def lower_edge(points: Sequence[Candidate], x: str, y: str) -> list[Candidate]:
    """The points that are the least in `y` among all that are no larger in `x`."""
    edge: list[Candidate] = []
    for point in sorted(points, key=lambda p: (p.costs[x], p.costs[y])):
        if not edge or point.costs[y] < edge[-1].costs[y]:
            edge.append(point)
    return edge


def hypervolume_chart(candidates: Sequence[Candidate]) -> Iterator[Chart]:
    """The hypervolume of the front after each trial."""
    volumes = hypervolume_history(candidates)
    if len(volumes) < 2:
        return
    step = max(1, len(volumes) // HISTORY)
    shown = sorted({*range(0, len(volumes), step), len(volumes) - 1})
    marks = [Mark(i, volumes[i], f"after trial {i}\nhypervolume {volumes[i]:.4f}") for i in shown]
    x = linear_axis("trial", (m.x for m in marks), low=0.0, least=1.0)
    y = linear_axis("hypervolume", (m.y for m in marks))
    series = [Series("hypervolume", marks, "front", "spot", "straight")]
    yield Chart("hypervolume", "Hypervolume of the front", x, y, series)


def tuning_chart(content: ReportContent) -> Iterator[Chart]:
    """The metric on validation images after each epoch of the fine-tune, beside the original's; a star is kept."""
    rows, result = content.epochs, content.result
    if len(rows) < 2 or not result.tuned:
        return
    losses = ["" if row.loss is None else f"\ntraining loss {row.loss:.4g}" for row in rows]
    shown = zip(rows, losses, strict=True)
    marks = [Mark(r.epoch, r.metric, f"epoch {r.epoch}\nvalidation {r.metric:.2%}{loss}") for r, loss in shown]
    original = result.original.val_metric
    x = linear_axis("epoch", (m.x for m in marks), low=0.0, least=1.0)
    y = linear_axis(f"validation {result.metric}", [*(m.y for m in marks), original], True, high=1.0)
    series = [Series(f"validation {result.metric}", marks, "chosen", "dot", "straight")]
    kept = [mark for mark in marks if result.fine_tune and mark.x == result.fine_tune.kept_epoch]
    if kept:
        series.append(Series("kept", kept, "chosen", "star"))
    yield Chart("tuning", "Fine-tune", x, y, series, levels=[(original, f"original {original:.2%}")])


def comparison_chart(comparison: Comparison | None, metric: str) -> Iterator[Chart]:
    """The metric of every rule for ranks over the budgets' cost, ours last."""
    if comparison is None:
        return
    names = [row.name for row in comparison.blocks[0].rows if row.name != OURS]
    series = [rule_series(comparison, name, LINES[i % len(LINES)]) for i, name in enumerate(names)]
    series.append(rule_series(comparison, OURS, "chosen"))
    marks, top = [m for one in series for m in one.marks], comparison.original.val
    if not marks:
        return
    x = linear_axis(f"{cost_name(comparison.cost)}, share of the original", [0.0, *(m.x for m in marks)], True, 0.0)
    y = linear_axis(f"validation {metric}", [top, *(m.y for m in marks)], True, top - 3 * SHOWN_DROP, 1.0)
    level = [(top, f"original {top:.2%}")]
    title = f"{metric.capitalize()} against other ways to choose ranks"
    yield Chart("compare", title, x, y, series, levels=level)


def rule_series(comparison: Comparison, name: str, color: str) -> Series:
    """The line of one way to choose ranks."""
    rows: list[Row] = [row for block in comparison.blocks if (row := block.row(name)).best]
    marks = []
    for row in rows:
        size = getattr(row, comparison.cost)
        if size is not None and row.best:
            text = f"{name}\nvalidation {row.best.val:.2%}\n{cost_text(comparison.cost, size)}"
            marks.append(Mark(size, row.best.val, text))
    return Series(name, sorted(marks, key=lambda m: m.x), color, "dot", "straight")
