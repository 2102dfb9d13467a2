"""The tables of exported files and of milliseconds in other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf_optuna.plans.result import Export
from lrf_optuna.report.tables import NONE, Table, columns
from lrf_optuna.report.terminal_table import FAINT

if TYPE_CHECKING:
    from lrf_optuna.runtimes.latency import LatencyRow
    from lrf_optuna.runtimes.timing import Timing


def export_table(exports: Sequence[Export]) -> Table:
    """Every exported file beside the Keras model: largest difference, metric, bytes, milliseconds; or its problem."""
    numbers = ("file", "batch", "largest\ndifference", "metric\n(Keras)", "ms\n(Keras)")
    table = Table(columns(["format", "file or problem"], numbers), caption=export_caption(exports))
    for row in exports:
        if row.problem:
            table.add(row.format, f"{row.precision}: {row.problem}", *[NONE] * len(numbers), tone=FAINT)
            continue
        metric = NONE if row.metric is None else f"{row.metric:.2%} ({row.keras_metric or 0:.2%})"
        took = NONE if row.milliseconds is None else f"{row.milliseconds:.3g} ({row.keras_milliseconds or 0:.3g})"
        file = row.file.replace("\\", "/").rpartition("/")[2]
        size = f"{row.file_bytes / 1024:,.0f} KiB"
        table.add(row.format, file, size, row.batch, f"{row.difference or 0:.1e}", metric, took)
    return table


def export_caption(exports: Sequence[Export]) -> str:
    """What the numbers of the table of exports are measured on."""
    good = next((row for row in exports if not row.problem), None)
    if good is None:
        return ""
    kind = "test images" if good.real_images else "random inputs, as no data are given"
    largest = f"Differences are of outputs up to {good.largest_output or 0:.3g}, on {good.images:,} {kind}."
    runtimes = ", ".join(dict.fromkeys(row.runtime for row in exports if row.runtime))
    return f"{largest}\nMilliseconds: one image, one thread, least of turns with Keras. {runtimes}."


def latency_table(rows: Sequence[LatencyRow]) -> Table:
    """Milliseconds of a call in every runtime: median and least of each network, and the ratio of the least."""
    names = list(dict.fromkeys(name for row in rows for name in (*row.timings, *row.problems)))
    table = Table(columns(["runtime"], ["batch", "threads", *names, "times\nfaster"]), caption=latency_caption(rows))
    for row in rows:
        texts = [timing_text(row.timings.get(name)) for name in names]
        place = row.place
        least = [row.timings[name].least for name in names if name in row.timings]
        ratio = f"{least[0] / least[-1]:.2f}" if len(least) == len(names) > 1 else NONE
        table.add(place.runtime, str(place.batch), str(place.threads or "all"), *texts, ratio)
    return table


def timing_text(timing: Timing | None) -> str:
    """The least milliseconds of a call, its median and its spread."""
    return f"{timing.least:.3g} ({timing.median:.2g} ±{timing.spread / 2:.1g})" if timing else NONE


def latency_caption(rows: Sequence[LatencyRow]) -> str:
    """How the milliseconds were measured, by which versions, and what could not be converted."""
    versions = ", ".join(dict.fromkeys(row.version for row in rows))
    problems = dict.fromkeys(
        f"{row.place.runtime}, {name}: {why}" for row in rows for name, why in row.problems.items()
    )
    slower = [row.place for row in rows if len(row.timings) > 1 and is_slower(row)]
    remark = "Not faster in: " + "; ".join(
        f"{p.runtime}, batch {p.batch}, threads {p.threads or 'all'}" for p in slower
    )
    measured = (
        "Milliseconds of a call in turns: least (median ± half the spread of its quartiles); the ratio is of the least."
    )
    return "\n".join([measured, f"{versions}.", *problems, *([remark] if slower else [])])


def is_slower(row: LatencyRow) -> bool:
    """Whether the last network takes at least as long as the first."""
    timings = list(row.timings.values())
    return timings[-1].least >= timings[0].least
