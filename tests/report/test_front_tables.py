"""The table of a front has metric, size and milliseconds; what is not known is a dash and never 0."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.points import candidate
from support.results import result_of

from lrf_optuna.plans.result import Alternative
from lrf_optuna.report.front_tables import (
    CHOSEN_MARK,
    PointRow,
    alternative_commands,
    alternatives_table,
    front_table,
)
from lrf_optuna.report.tables import NONE
from lrf_optuna.report.terminal_table import BEST, FAINT

POINT = candidate(3, 0.1, 0.4, 0.5)
ORIGINAL = {"metric": 0.95, "metric as built": 0.9412}


def test_a_point_has_its_metric_its_costs_and_its_milliseconds() -> None:
    row = PointRow(POINT, {"metric": 0.9, "metric as built": 0.93}, 1.5, False, "small", 0.4, True)
    table = front_table([row], "accuracy", ORIGINAL, 2.0)
    heads = ["trial", "scored", "built", "loss", "params", "macs", "ms", "budget"]
    assert [column.head for column in table.columns] == heads
    assert table.rows == [
        (("3", "90.0%", "93.0%", "0.100", "40.0%", "50.0%", "~1.5", f"40% small {CHOSEN_MARK}"), BEST),
        ((NONE, "95.0%", "94.1%", "0", "100%", "100%", "2", "original"), FAINT),
    ]
    assert NONE not in table.caption
    assert "validation accuracy of a few" in front_table([row], "validation accuracy", ORIGINAL, 2.0).caption
    measured = front_table([replace(row, timed=True)], "accuracy", ORIGINAL, 2.0)
    assert measured.rows[0][0][6] == "1.5"


def test_what_is_not_known_is_a_dash() -> None:
    rows = [PointRow(POINT, {}), PointRow(candidate(4, 0.05, 0.6, 0.7), {"metric tuned": 0.94}, 1.0, True)]
    table = front_table(rows, "accuracy", {"metric": 0.95})
    assert [column.head for column in table.columns][:4] == ["trial", "scored", "built", "tuned"]
    assert table.rows[0][0] == ("3", NONE, NONE, NONE, "0.100", "40.0%", "50.0%", NONE, "")
    assert table.rows[1][0][3] == "94.0%"
    assert table.rows[2][0][:4] == (NONE, "95.0%", NONE, NONE)
    assert f"{NONE} is not measured" in table.caption
    assert rows[0].to_dict()["metric"] is None
    assert rows[0].to_dict()["milliseconds"] is None


def test_a_study_without_metrics_says_how_to_get_them() -> None:
    table = front_table([PointRow(POINT, {})], "", {})
    assert "run the study again" in table.caption
    assert len(table.rows) == 1, "nothing is known of the original"
    assert front_table([], "", {}).rows == []


ALTERNATIVES = [
    Alternative("safe", 5, {"loss": 0.01, "params": 0.6}, 0.945, "as scored", (0.948, 0.94, 0.95), None, False, "do 5"),
    Alternative("balanced", 3, {"loss": 0.1, "params": 0.4}, 0.94, "tuned", None, 1.5, True, "do 3"),
]


def test_a_calibrated_network_has_a_column_unless_it_was_tuned_later() -> None:
    metrics = {"metric": 0.9, "metric as built": 0.93, "metric calibrated": 0.94}
    heads = [column.head for column in front_table([PointRow(POINT, metrics)], "accuracy", ORIGINAL).columns]
    assert heads[1:4] == ["scored", "built", "calibrated"]
    tuned = front_table([PointRow(POINT, metrics | {"metric tuned": 0.95})], "accuracy", ORIGINAL)
    assert [column.head for column in tuned.columns][1:4] == ["scored", "built", "tuned"]


def test_named_points_have_metric_size_and_command_and_the_chosen_one_is_marked() -> None:
    result = result_of(candidate(3, 0.1, 0.4), 0.9, 0.94, alternatives=ALTERNATIVES)
    table = alternatives_table(result)
    assert [column.head for column in table.columns] == [
        "point",
        "trial",
        "accuracy",
        "predicted",
        "params",
        "ms",
        "state",
    ]
    assert table.rows == [
        (("safe", "5", "94.50%", "~94.80%", "60.0%", NONE, "as scored"), ""),
        (("balanced", "3", "94.00%", NONE, "40.0%", "1.5", f"tuned {CHOSEN_MARK}"), BEST),
    ]
    assert alternative_commands(result) == ["safe: do 5"]


def test_a_chosen_point_without_a_name_stands_below_the_named_ones() -> None:
    result = result_of(candidate(9, 0.2, 0.3), 0.9, 0.93, alternatives=ALTERNATIVES)
    *named, last = alternatives_table(result).rows
    assert [texts[0] for texts, _ in named] == ["safe", "balanced"]
    assert last == (("chosen", "9", "93.00%", NONE, "30.0%", "1", f"tuned {CHOSEN_MARK}"), BEST)
    assert alternatives_table(result_of(candidate(9, 0.2, 0.3), 0.9, 0.93)).rows == []


@pytest.mark.parametrize("width", [60, 80])
def test_no_number_is_cut_in_a_narrow_terminal(width: int) -> None:
    from io import StringIO

    from rich.console import Console

    row = PointRow(POINT, dict.fromkeys([*ORIGINAL, "metric tuned"], 0.9), 0.00674, False, "balanced", 0.4, True)
    stream = StringIO()
    Console(file=stream, width=width).print(front_table([row], "accuracy", ORIGINAL, 0.0172))
    assert all(text in stream.getvalue() for text in ("90.0%", "94.1%", "~0.00674", "0.0172", "100%"))
