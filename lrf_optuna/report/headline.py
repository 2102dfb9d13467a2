"""The first sentence and the three numbers of a run, and what a report leaves out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from lrf_optuna.plans.plan import INTACT
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.tables import percent, short_count, uncounted_remark

STATE_WORDS = {"tuned": "after fine-tuning", "calibrated": "after calibration, without fine-tuning"}
"""State of the last network -> how it came about; any other is without fine-tuning."""

NAMED_SHARE = 0.01
"""Share of the parameters from which on a layer without MACs is named: normalizations have less."""


class Number(NamedTuple):
    """One of the three numbers: what it is of, the number, and what it is compared with."""

    name: str
    number: str
    about: str


class Headline(NamedTuple):
    """A sentence that says what came out, and three numbers that show it."""

    sentence: str
    numbers: tuple[Number, ...]


def headline(result: Result) -> Headline:
    """The headline of a run; without numbers where no network has been built."""
    last, full = result.final, result.original
    if last is full:
        return Headline(f"Trial {result.chosen.trial} is chosen, but no network has been built from it yet.", ())
    how = STATE_WORDS.get(result.final_state, "without fine-tuning")
    sentence = (
        f"The smaller network has {percent(last.params, full.params)} of the parameters and "
        f"{percent(last.macs, full.macs)} of the MACs of the original. "
        f"Its test {result.metric} is {last.test_metric:.1%} {how}; the original's is {full.test_metric:.1%}."
    )
    params = f"{short_count(full.params)} → {short_count(last.params)}"
    numbers = Number("Parameters left", percent(last.params, full.params), params), speed_number(last, full)
    return Headline(sentence, (*numbers, metric_number(result)))


def speed_number(last: Evaluation, full: Evaluation) -> Number:
    """How many times faster the last network is, where that was measured; else how many MACs are left."""
    for runtime, before in full.milliseconds.items():
        after = last.milliseconds.get(runtime)
        if after:
            return Number("Times faster", f"{before / after:.2f}×", f"{before:.3g} → {after:.3g} ms, {runtime}")
    return Number("MACs left", percent(last.macs, full.macs), f"{short_count(full.macs)} → {short_count(last.macs)}")


def metric_number(result: Result) -> Number:
    """The test metric of the last network, and how far it is from the original's."""
    points = 100 * (result.final.test_metric - result.original.test_metric)
    words = "as the original" if abs(points) < 0.005 else f"{points:+.2f} points"
    return Number(f"Test {result.metric}", f"{result.final.test_metric:.1%}", words)


def left_out_remarks(content: ReportContent) -> list[str]:
    """What was not factorized, counted, measured or tuned, each in a sentence with its reason."""
    return [*left_out_layers(content.result), *left_out_measures(content)]


def left_out_layers(result: Result) -> Iterator[str]:
    """The layers that stay as they are, by reason, and those whose MACs are not known."""
    whole = max(result.original.params, 1)
    parts = [part for part in result.layers if part.macs_before != 0 or part.params_before / whole >= NAMED_SHARE]
    reasons = Counter(part.reason for part in parts if part.reason)
    for reason, count in reasons.most_common():
        names = [part.name for part in parts if part.reason == reason]
        shown = ", ".join(names[:3]) + (f" and {count - 3} more" if count > 3 else "")
        layers = "1 layer cannot" if count == 1 else f"{count} layers cannot"
        yield f"{layers} be factorized ({shown}): {reason}."
    kept = [p.name for p in result.layers if p.method == INTACT.method and not p.reason and p.macs_before]
    if kept:
        one = "1 layer could be factorized, but the chosen plan leaves it as it is."
        more = f"{len(kept)} layers could be factorized, but the chosen plan leaves them as they are."
        yield one if len(kept) == 1 else more
    if result.uncounted_macs:
        yield f"{uncounted_remark(result.uncounted_macs)}."


def left_out_measures(content: ReportContent) -> Iterator[str]:
    """What was not measured in this run."""
    result = content.result
    if not result.original.milliseconds:
        yield "No milliseconds were measured: the run was told not to, or its runtime was missing."
    if not result.tuned:
        yield "The network is not fine-tuned."
    if not content.comparison:
        yield f"Other ways to choose ranks were not compared: lrf-optuna compare {result.study} does that."
    if not result.alternatives:
        yield "No points have names, as too few metrics were measured."
    unmeasured = sum(content.metric_of(point.trial) is None for point in content.points)
    if unmeasured:
        total = len(content.points)
        yield f"The {result.metric} of {unmeasured:,} of the {total:,} points of the front was not measured."
