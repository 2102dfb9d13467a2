"""The tables that users see: each is rows of text, which the terminal (rich) and the page (HTML) show in their ways."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.plans.result import STATES, LayerResult, Result
from lrf_optuna.report.terminal_table import BEST, FAINT, for_terminal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

    from lrf_optuna.plans.comparison import BudgetRows, Comparison, Score

ERROR = "mean absolute error"
"""The figure beside metrics that is no share."""
NONE = "–"
"""What stands in a cell without a value."""
UNCOUNTED = "not counted"
"""What stands in the place of MACs that are not known."""
NAMED_LAYERS = 5
"""Layers that a remark names at most."""


class Column(NamedTuple):
    """A column: its head, and whether it has numbers (on the right, never broken) or text (on the left, folded)."""

    head: str
    number: bool = True


@dataclass(slots=True)
class Table:
    """Columns, rows of as many texts with a tone, a title above and a caption below."""

    columns: list[Column]
    title: str = ""
    caption: str = ""
    rows: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def add(self, *texts: str, tone: str = "") -> None:
        """Add a row; missing texts at its end are empty."""
        self.rows.append((texts + ("",) * (len(self.columns) - len(texts)), tone))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The table for the terminal: nothing of it is cut, however narrow that is."""
        yield from for_terminal(self, options.max_width)


def columns(texts: Sequence[str], numbers: Sequence[str] = ()) -> list[Column]:
    """Columns of text, and then columns of numbers."""
    return [*(Column(head, number=False) for head in texts), *map(Column, numbers)]


def short_count(number: int) -> str:
    """A count with three digits, in the unit that reads best."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= max(size, 1e4):
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{number:,}"


def percent(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{part / whole:.1%}" if whole else NONE


def uncounted_remark(names: Sequence[str]) -> str:
    """What is said beside a total of MACs where some layers are not in it; empty where all are."""
    more = f" and {len(names) - NAMED_LAYERS} others" if len(names) > NAMED_LAYERS else ""
    return f"MACs are of what is counted; not counted: {', '.join(names[:NAMED_LAYERS])}{more}" if names else ""


def change(before: int | None, after: int | None) -> tuple[str, str]:
    """A count before and after, and the share that is left; only the count where nothing has changed."""
    if before is None or after is None:
        return UNCOUNTED, ""
    if after == before:
        return short_count(before) if before else NONE, ""
    return f"{short_count(before)} → {short_count(after)}", percent(after, before)


def layer_table(layers: Sequence[LayerResult]) -> Table:
    """Every layer that may have MACs: its method and ranks or why it has none, its size before and after.

    All others are one row.
    """
    heads = columns(("layer", "kind", "method (ranks)"), ("parameters", "left", "MACs", "left"))
    table = Table(heads, "Layer by layer")
    for layer in (layer for layer in layers if layer.macs_before != 0):
        method = f"{INTACT.method}: {layer.reason}" if layer.reason else str(Choice(layer.method, layer.ranks))
        sizes = *change(layer.params_before, layer.params_after), *change(layer.macs_before, layer.macs_after)
        table.add(layer.name, layer.kind, method, *sizes, tone=FAINT if layer.method == INTACT.method else "")
    others = [layer for layer in layers if layer.macs_before == 0]
    if others:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(layer.kind for layer in others).items())
        params = change(sum(o.params_before for o in others), sum(o.params_after for o in others))
        table.add("the others", "", kinds, *params, NONE, tone=FAINT)
    return table


def evaluation_table(result: Result) -> Table:
    """The networks of a run side by side: sizes, accuracies, seconds of the run."""
    networks = {name: network for name in STATES if (network := getattr(result, name))}
    phases = ", ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items() if value >= 0.05)
    seconds = f"seconds: {phases}, in all {sum(result.seconds.values()):.1f}" if phases else ""
    place = f"ms of a call (times faster): {result.place}" if result.place else ""
    fine_tune = f"fine-tune: {result.fine_tune}" if result.fine_tune else ""
    remarks = fine_tune, uncounted_remark(result.uncounted_macs), place, slower_remark(result), seconds
    caption = "\n".join(filter(None, remarks))
    table, (full, *others) = Table(columns([""], list(networks)), f"Study {result.study}", caption), networks.values()
    params = (f"{n.params:,} ({percent(n.params, full.params)})" for n in others)
    macs = (f"{short_count(n.macs)} ({percent(n.macs, full.macs)})" for n in others)
    test = (f"{n.test_metric:.2%} ({100 * (n.test_metric - full.test_metric):+.2f})" for n in others)
    table.add("parameters", f"{full.params:,}", *params)
    table.add("MACs an image" + ", of what is counted" * bool(result.uncounted_macs), short_count(full.macs), *macs)
    table.add(f"validation {result.metric}", *(f"{n.val_metric:.2%}" for n in networks.values()))
    table.add(f"test {result.metric}", f"{full.test_metric:.2%}", *test)
    for name in full.by_output:
        table.add(f"test {name}", *(f"{n.by_output[name]:.2%}" for n in networks.values()))
    for name in full.further:
        form = ".4g" if name.startswith(ERROR) else ".2%"
        table.add(f"test {name}", *(format(n.further.get(name, math.nan), form) for n in networks.values()))
    for name, whole in full.milliseconds.items():
        times = (n.milliseconds.get(name) for n in others)
        table.add(f"ms, {name}", f"{whole:.3g}", *(faster_text(whole, time) for time in times))
    table.add("file", *(f"{n.file_bytes / 1024:,.0f} KiB" if n.file_bytes else NONE for n in networks.values()))
    return table


def faster_text(before: float, after: float | None) -> str:
    """Milliseconds, and how many times faster that is than before."""
    return NONE if after is None else f"{after:.3g} ({before / after:.2f})"


def slower_remark(result: Result) -> str:
    """One line where the last network is no faster in a runtime, and what to do; empty where it is everywhere."""
    names = result.slower_in
    if not names:
        return ""
    runtime = next(iter(result.original.milliseconds))
    can_be_asked = runtime in names and "latency" not in result.chosen.costs
    advice = f"; search with --target latency=0.7 --runtime {runtime}" if can_be_asked else ""
    return f"not faster in {' and '.join(names)}: calls of more layers take what fewer MACs save{advice}"


def recall_table(result: Result, output: str) -> Table:
    """For every class of an output the share of its test images that each network classifies correctly."""
    networks = {name: network for name in ("original", "built", "tuned") if (network := getattr(result, name))}
    title = "Recall by class" if len(result.original.recalls) == 1 else f"Recall by class of {output}"
    table = Table(columns(["class"], list(networks)), title)
    for one in result.original.recalls[output]:
        shares = [network.recalls.get(output, {}).get(one) for network in networks.values()]
        table.add(one, *(NONE if share is None else f"{share:.1%}" for share in shares))
    return table


def inventory_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Every layer of a model: its size, and the methods that can factorize it or why none can."""
    numbers = ("parameters", "share", "MACs", "share")
    table = Table(columns(("layer", "kind"), numbers) + columns(["factorized by, or the reason why not"]))
    for row in rows:
        sizes = [size_texts(row[name], row[f"{name}_share"]) for name in ("params", "macs")]
        tone = "" if row["methods"] else FAINT
        table.add(row["layer"], row["kind"], *sizes[0], *sizes[1], row["methods"] or row["reason"], tone=tone)
    return table


def size_texts(count: int | None, share: float | None) -> tuple[str, str]:
    """A count and its share as text; nothing for 0."""
    if count is None or share is None:
        return UNCOUNTED, ""
    return (short_count(count), f"{share:.1%}") if count else ("", "")


def budget_table(found: Comparison, block: BudgetRows) -> Table:
    """The rows for one budget, ours first. The best accuracy of every kind has a star."""
    splits = ["val"] if found.original.test is None else ["val", "test"]
    title = f"{found.cost} <= {block.budget:g} (original: {accuracy_text(found.original)})"
    kinds = [(kind, split) for split in splits for kind in ("fitted", "plain")]
    heads = ("params", "MACs", "loss", *(f"{kind}\n{split}" for kind, split in kinds), "beats")
    built = "\n".join(f"{name}, refitted in layer order: {accuracy_text(score)}" for name, score in block.finals)
    table = Table(columns([""], heads), title, built)
    accuracies = [with_star([getattr(getattr(row, kind), split, None) for row in block.rows]) for kind, split in kinds]
    for row, *texts in zip(block.rows, *accuracies, strict=True):
        sizes = [NONE if size is None else f"{size:.1%}" for size in (row.params, row.macs)]
        loss, beats = (NONE, NONE) if row.loss is None else (f"{row.loss:.4f}", str(row.dominated))
        table.add(row.name, *sizes, loss, *texts, beats, tone=BEST if row is block.rows[0] else "")
    return table


def accuracy_text(score: Score) -> str:
    """The accuracies on validation images and, where they were measured, on test images."""
    return f"{score.val:.2%} on validation" + ("" if score.test is None else f", {score.test:.2%} on test")


def rule_table(found: Comparison) -> Table:
    """Validation accuracy with fitted kernels (as published, in brackets): a row a rule and a column a budget."""
    table = Table(columns(["rule"], [f"{block.budget:.0%}" for block in found.blocks]))
    best = [max((row.best.val for row in block.rows if row.best), default=0.0) for block in found.blocks]
    for first in found.blocks[0].rows:
        texts = []
        for block, most in zip(found.blocks, best, strict=True):
            row = block.row(first.name)
            fitted = f"{row.fitted.val:.2%}" if row.fitted else NONE
            star = "*" if row.best and row.best.val == most else ""
            texts.append(f"{star}{fitted} ({row.plain.val:.2%})" if row.plain else f"{star}{fitted}")
        table.add(first.name, *texts, tone=BEST if first is found.blocks[0].rows[0] else "")
    built = [", ".join(f"{name} {score.val:.2%}" for name, score in block.finals) or NONE for block in found.blocks]
    table.add("refitted in layer order", *built)
    return table


def with_star(values: Sequence[float | None]) -> list[str]:
    """Accuracies as text: the best has a star, and a missing one is a dash."""
    best = max((value for value in values if value is not None), default=None)
    return [NONE if value is None else f"{'*' * (value == best)}{value:.2%}" for value in values]
