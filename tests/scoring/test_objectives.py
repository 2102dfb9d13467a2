"""Every objective is a cost, and the original has the cost 0 of loss and 1 of everything else."""

from __future__ import annotations

import pytest

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured

ORIGINAL = Measured({"a": 1.0, "b": 1.0}, 1000, 50_000, 1.0, 1.0, latency_share=1.0)


def test_the_original_costs_no_loss_and_one_of_everything_else() -> None:
    assert {name: cost(ORIGINAL) for name, cost in OBJECTIVES.items()} == {
        name: 0.0 if name == "loss" else 1.0 for name in OBJECTIVES
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_network_that_is_smaller_or_more_alike_costs_no_more(objective: str) -> None:
    worse = Measured({"a": 0.5, "b": 0.7}, 600, 40_000, 0.6, 0.8, latency_share=0.9)
    better = Measured({"a": 0.6, "b": 0.7}, 500, 30_000, 0.5, 0.6, latency_share=0.7)
    assert OBJECTIVES[objective](better) < OBJECTIVES[objective](worse)


def test_loss_is_one_minus_the_mean_similarity_and_sizes_are_shares() -> None:
    measured = Measured({"a": 0.5, "b": 0.9}, 600, 40_000, 0.6, 0.8)
    assert OBJECTIVES["loss"](measured) == pytest.approx(0.3)
    assert (OBJECTIVES["params"](measured), OBJECTIVES["macs"](measured)) == (0.6, 0.8)


def test_milliseconds_that_are_not_known_are_no_cost() -> None:
    with pytest.raises(LrfError, match="needs the milliseconds of layers"):
        OBJECTIVES["latency"](Measured({"a": 1.0}, 1000, 50_000, 1.0, 1.0))


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LrfError, match="unknown objective 'zzz'; there is: latency, loss, macs, params"):
        lookup(OBJECTIVES, "zzz", "objective")
