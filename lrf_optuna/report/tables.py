"""What a person sees in the terminal: progress bars, the closing tables, the front, the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, LayerResult, Result

if TYPE_CHECKING:
    from lrf_optuna.pipeline.survey import MethodRow
    from lrf_optuna.plans.comparison import BudgetRows, Comparison
BAR = 10


def bar(share: float) -> str:
    """A share as a bar of blocks; what is over one is cut."""
    full = round(BAR * min(max(share, 0.0), 1.0))
    return "█" * full + "░" * (BAR - full)


def count(number: int) -> str:
    """A count in the unit that reads best."""
    if number < 10_000:
        return f"{number:,}"
    unit, size = next((unit, size) for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if number >= size)
    return f"{number / size:.4g} {unit}"


def layers_table(parts: Sequence[LayerResult]) -> Table:
    """What each layer got."""
    table = Table(title="Layer by layer", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    table.add_column("method (ranks)")
    for name in ("parameters", "", "kept", "MACs"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True, min_width=4 if name else BAR)
    for part in (part for part in parts if part.macs_before):
        ranks = f" ({', '.join(map(str, part.ranks))})" if part.ranks else ""
        kept, macs = part.params_after / part.params_before, part.macs_after / part.macs_before
        style = "dim" if part.method == "intact" else ""
        change = f"{count(part.params_before)} → {count(part.params_after)}" if ranks else count(part.params_before)
        method = part.method + ranks if not part.reason else f"intact: {part.reason}"
        table.add_row(part.name, part.kind, method, change, bar(kept), f"{kept:.0%}", f"{macs:.0%}", style=style)
    return table


def standing_table(result: Result) -> Table:
    """Original, built and tuned side by side."""
    table = Table(title=f"Study {result.study}", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    shown = [("original", result.original), ("built", result.built), ("tuned", result.tuned)]
    there = [(name, standing) for name, standing in shown if standing]
    for name, _ in there:
        table.add_column(name, justify="right", style="bold green" if name == there[-1][0] else "")
    rows: tuple[tuple[str, Callable[[Evaluation], str]], ...] = (
        ("parameters", lambda s: f"{s.params:,}{share(s.params, result.original.params)}"),
        ("MACs an image", lambda s: f"{count(s.macs)}{share(s.macs, result.original.macs)}"),
        ("validation accuracy", lambda s: f"{s.val_accuracy:.2%}"),
        ("test accuracy", lambda s: f"{s.test_accuracy:.2%}{points(s, result.original)}"),
        ("file", lambda s: f"{s.file_bytes / 1024:,.0f} KiB"),
    )
    for label, cell in rows:
        table.add_row(label, *(cell(standing) for _, standing in there))
    table.caption, table.caption_justify = seconds_of(result), "left"
    return table


def seconds_of(result: Result) -> str:
    """The seconds of every phase that took any, and of the whole run."""
    phases = ", ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items() if value >= 0.05)
    return f"seconds: {phases}, in all {sum(result.seconds.values()):.1f}" if phases else ""


def share(after: int, before: int) -> str:
    """A share of the original, in brackets; nothing for the original itself."""
    return "" if after == before else f" ({after / before:.1%})"


def points(standing: Evaluation, original: Evaluation) -> str:
    """The difference of test accuracy in points, in brackets; nothing for the original itself."""
    gain = 100 * (standing.test_accuracy - original.test_accuracy)
    return "" if standing is original else f" ({gain:+.2f})"


def front_table(points: Sequence[Candidate], chosen: int | None = None) -> Table:
    """The points of a front, the chosen one marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right")
    for name in points[0].costs if points else ():
        table.add_column(name, justify="right")
    table.add_column("methods", overflow="fold")
    for point in points:
        mark = " ←" if point.trial == chosen else ""
        style = "bold green" if mark else ""
        cells = [f"{cost:.4f}" if name == "loss" else f"{cost:.1%}" for name, cost in point.costs.items()]
        table.add_row(str(point.trial), *cells, methods(point.plan) + mark, style=style)
    return table


def methods(plan: Plan) -> str:
    """How many layers each method has, the most used first."""
    names = [choice.method for _, choice in plan]
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names), key=lambda n: (-names.count(n), n)))


def inventory_table(rows: Sequence[dict[str, object]]) -> Table:
    """Every layer of a model: what it is, what it holds, whether it can be factorized or why not."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "kind", "parameters", "share", "MACs", "share", "factorized by, or the reason why not"):
        table.add_column(name, justify="right" if name in ("parameters", "share", "MACs") else "left", overflow="fold")
    for row in rows:
        shares = [f"{row[name]:.1%}" if row[name] else "" for name in ("params_share", "macs_share")]
        numbers = [count(int(str(row[name]))) if row[name] else "" for name in ("params", "macs")]
        text = str(row["methods"] or row["reason"])
        cells = (numbers[0], shares[0], numbers[1], shares[1])
        table.add_row(str(row["layer"]), str(row["kind"]), *cells, text, style="" if row["methods"] else "dim")
    return table


def survey_table(rows: Sequence[MethodRow], title: str) -> Table:
    """Every layer under every method at every keep; dim where no chain is smaller than the layer."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "method", "keep", "ranks", "params", "share", "MACs", "share", "error"):
        text, folds = name in ("layer", "method", "ranks"), name in ("layer", "ranks")
        table.add_column(name, justify="left" if text else "right", no_wrap=not folds, overflow="fold")
    before = ""
    for row in rows:
        name, keep = row.layer if row.layer != before else "", f"{row.keep:g}"
        before = row.layer
        if not row.saves:
            table.add_row(name, f"[dim]{row.method}", f"[dim]{keep}", "[dim]no smaller chain")
            continue
        ranks, error = ", ".join(map(str, row.ranks)), f"{row.error:.4f}"
        costs = count(row.params), f"{row.params_share:.1%}", count(row.macs), f"{row.macs_share:.1%}"
        table.add_row(name, row.method, keep, ranks, *costs, error)
    return table


def comparison_table(found: Comparison, block: BudgetRows) -> Table:
    """The rows for one budget, ours first; the best accuracy of every kind has a star; only names are folded."""
    whole = found.original
    text = f"{found.cost} <= {block.budget:g} (original: {whole.val:.2%} on validation"
    title = f"{text})" if whole.test is None else f"{text}, {whole.test:.2%} on test)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.caption, table.caption_justify = finals(block), "left"
    kinds = [(kind, of) for of in ("val", *(["test"] * (whole.test is not None))) for kind in ("fitted", "plain")]
    table.add_column("", overflow="fold", min_width=11)
    for name in ("params", "MACs", "loss", *(f"{kind}\n{of}" for kind, of in kinds), "beats"):
        table.add_column(name, justify="right", no_wrap=True)
    values = [[getattr(getattr(row, kind), of, None) for row in block.rows] for kind, of in kinds]
    columns = [starred(column) for column in values]
    for i, row in enumerate(block.rows):
        sizes = [f"{size:.1%}" if size is not None else "–" for size in (row.params, row.macs)]
        loss = f"{row.loss:.4f}" if row.loss is not None else "–"
        lost = str(row.dominated) if row.loss is not None else "–"
        table.add_row(row.name, *sizes, loss, *(column[i] for column in columns), lost, style="" if i else "bold")
    return table


def finals(block: BudgetRows) -> str | None:
    """What was also refitted in layer order, a line each."""
    texts = [
        f"{name} as built: {score.val:.2%}" + (f" ({score.test:.2%} on test)" if score.test is not None else "")
        for name, score in block.finals
    ]
    return "\n".join(texts) or None


def starred(values: Sequence[float | None]) -> list[str]:
    """Accuracies as text, the best with a star, and a dash for what there is not."""
    best = max((value for value in values if value is not None), default=None)
    marks = {True: "[green]*{:.2%}[/green]", False: "{:.2%}"}
    return ["–" if value is None else marks[value == best].format(value) for value in values]
