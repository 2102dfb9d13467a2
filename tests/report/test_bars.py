"""Bars and heat say in words what they show, and what is not known has none."""

from __future__ import annotations

from support.report import content_of, facts

from lrf_optuna.plans.result import LayerResult
from lrf_optuna.report.bars import importance_bars, layer_bars, sensitivity_table


def test_every_layer_that_may_have_macs_has_a_bar_for_each_size() -> None:
    layers = content_of().result.layers
    found = layer_bars(layers)
    assert found
    assert [row.name for row in found.rows] == [part.name for part in layers if part.macs_before != 0]
    largest = found.rows[4]
    assert (largest.bars[0].before, largest.bars[0].after) == (100.0, 31.0)
    assert largest.bars[0].text == "5,000 → 1,550 (31.0%)"
    assert found.rows[-1].note == "intact: one channel each"
    assert layer_bars([]) is None


def test_macs_that_are_not_known_are_said_to_be_unknown() -> None:
    found = layer_bars([LayerResult("lstm", "LSTM", "intact", (), 100, 100, None, None)])
    assert found
    assert found.rows[0].bars[1].text == "not counted"


def test_layers_that_decide_more_come_first() -> None:
    found = importance_bars({"loss": {"a": 0.25, "b": 0.75}, "params": {"a": 1.0}})
    assert found
    assert found.heads == ("loss", "parameters")
    assert [row.name for row in found.rows] == ["b", "a"]
    assert [bar.text for bar in found.rows[0].bars] == ["75.0%", "0.0%"]
    assert importance_bars({}) is None
    assert importance_bars({"loss": {}}) is None


def test_sensitivity_is_the_least_loss_at_most_at_a_share_and_never_rises() -> None:
    found = sensitivity_table(facts().sensitivity)
    assert found
    assert found.heads == ("10%", "30%")
    (first, second) = found.rows
    assert [text for text, _ in first[1]] == ["0.50", "0.02"]
    assert [text for text, _ in second[1]] == ["–", "0"]
    heats = [heat for _, heat in first[1]]
    assert heats == sorted(heats, reverse=True)
    assert sensitivity_table({}) is None
