"""The surrogate learns what the layers of a plan do to each other from scored plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrf_optuna.search.surrogate import (
    BROKEN_LOSS,
    LEAST_LOSS,
    MOST_LOSS,
    TRAINING_PLANS,
    Surrogate,
    damage,
    layer_damages,
)

Array = np.ndarray[Any, Any]
LAYERS, OPTIONS = 6, 9


@pytest.fixture
def table_losses(rng: Any) -> Any:
    """Losses of options, 0 where a layer is intact."""
    return 0.03 * rng.uniform(0.5, 1.5, (LAYERS, 1)) * np.linspace(0, 1, OPTIONS) ** 3


@pytest.fixture
def weights(rng: Any) -> Any:
    return 2 * np.exp(0.7 * rng.standard_normal(LAYERS))


def random_plans(rng: Any, count: int) -> Array:
    return rng.integers(0, OPTIONS, (count, LAYERS))


def damages_of(table_losses: Array, plans: Array, weights: Any = 1.0) -> Array:
    return (layer_damages(damage(table_losses), plans) * weights).sum(axis=1)


def losses_of(table_losses: Array, plans: Array, weights: Any = 1.0) -> Array:
    """Losses of networks whose layers' similarities multiply."""
    return 1 - np.exp(-damages_of(table_losses, plans, weights))


def distance(found: Array, wanted: Array) -> float:
    """The mean distance of logarithms."""
    return float(np.abs(np.log(found / wanted)).mean())


def test_a_common_factor_is_recovered_exactly(table_losses: Array, rng: Any) -> None:
    plans = random_plans(rng, 40)
    losses = losses_of(table_losses, plans, 3.0)
    surrogate = Surrogate.fit(table_losses, plans, losses)
    assert surrogate.scale == pytest.approx(3)
    assert surrogate.losses(plans) == pytest.approx(np.maximum(losses, LEAST_LOSS))


def test_additive_damages_are_predicted_for_plans_that_were_never_scored(table_losses: Array, rng: Any) -> None:
    plans, new = random_plans(rng, 40), random_plans(rng, 40)
    surrogate = Surrogate.fit(table_losses, plans, losses_of(table_losses, plans))
    assert surrogate.losses(new) == pytest.approx(1 - (1 - layer_damages(table_losses, new)).prod(axis=1))


@pytest.mark.parametrize(("count", "share"), [(40, 0.7), (200, 0.5)])
def test_predictions_are_better_than_the_scaled_sum_of_the_table_after_a_few_dozen_plans(
    table_losses: Array, weights: Array, rng: Any, count: int, share: float
) -> None:
    plans, new = random_plans(rng, count), random_plans(rng, 200)
    losses = losses_of(table_losses, plans, weights) * np.exp(0.05 * rng.standard_normal(count))
    surrogate, wanted = Surrogate.fit(table_losses, plans, losses), losses_of(table_losses, new, weights)
    common = np.median(damage(losses) / damages_of(table_losses, plans))
    by_the_sum = distance(1 - np.exp(-common * damages_of(table_losses, new)), wanted)
    assert distance(surrogate.losses(new), wanted) < share * by_the_sum
    assert distance(surrogate.losses(plans), losses) < 0.06


def test_an_interaction_of_two_layers_is_learned_from_similar_plans(table_losses: Array, rng: Any) -> None:
    def true(plans: Array) -> Array:
        """Losses that are three times as high where the first two layers are both compressed much."""
        return losses_of(table_losses, plans) * np.where(np.all(plans[:, :2] > 4, axis=1), 3.0, 1.0)

    plans, new = random_plans(rng, 400), random_plans(rng, 400)
    surrogate = Surrogate.fit(table_losses, plans, true(plans))
    both = np.all(new[:, :2] > 4, axis=1)
    sums = losses_of(table_losses, new, surrogate.scale)
    assert distance(surrogate.losses(new)[both], true(new)[both]) < 0.7 * distance(sums[both], true(new)[both])
    assert distance(surrogate.losses(new), true(new)) < 0.9 * distance(sums, true(new))


def test_predictions_are_below_one_and_broken_plans_are_still_ranked(table_losses: Array, rng: Any) -> None:
    plans, new = random_plans(rng, 50), random_plans(rng, 300)
    losses = losses_of(table_losses, plans, 60.0)
    assert np.median(losses) > 0.5
    found = Surrogate.fit(table_losses, plans, losses).losses(new)
    assert np.all((found > 0) & (found <= 1))
    wanted = losses_of(table_losses, new, 60.0)
    broken = (wanted > 0.5) & (wanted < MOST_LOSS)
    assert np.corrcoef(found[broken], wanted[broken])[0, 1] > 0.9


def test_the_intact_plan_alone_says_nothing_of_any_layer(table_losses: Array) -> None:
    intact = np.zeros((1, LAYERS), int)
    surrogate = Surrogate.fit(table_losses, intact, np.zeros(1))
    assert surrogate.losses(intact) == pytest.approx([LEAST_LOSS])


def test_broken_plans_are_remembered(table_losses: Array, weights: Array, rng: Any) -> None:
    plans, broken = random_plans(rng, 100), random_plans(rng, 1)
    losses = losses_of(table_losses, plans, weights)
    alone = Surrogate.fit(table_losses, plans, losses)
    both = Surrogate.fit(table_losses, np.vstack([plans, broken]), np.append(losses, 0.9))
    assert both.losses(broken)[0] > 2 * alone.losses(broken)[0]


def test_a_plan_above_the_broken_loss_changes_other_predictions_little(
    table_losses: Array, weights: Array, rng: Any
) -> None:
    plans, broken, new = random_plans(rng, 100), random_plans(rng, 1), random_plans(rng, 50)
    losses = losses_of(table_losses, plans, weights)
    alone, below, above = (
        Surrogate.fit(table_losses, np.vstack([plans, broken[:count]]), np.append(losses, [loss] * count))
        for count, loss in ((0, 0.0), (1, BROKEN_LOSS - 0.01), (1, BROKEN_LOSS + 0.01))
    )
    assert above.losses(broken)[0] > alone.losses(broken)[0]
    assert below.losses(broken)[0] > 1.5 * above.losses(broken)[0]
    assert distance(above.losses(new), alone.losses(new)) < 0.3 * distance(below.losses(new), alone.losses(new))


def test_the_surrogate_is_fitted_to_the_latest_plans(table_losses: Array, rng: Any) -> None:
    early, late = random_plans(rng, 200), random_plans(rng, TRAINING_PLANS)
    losses = [losses_of(table_losses, plans, factor) for factor, plans in ((9.0, early), (2.0, late))]
    surrogate = Surrogate.fit(table_losses, np.vstack([early, late]), np.concatenate(losses))
    assert len(surrogate.plans) == len(surrogate.coefficients) == TRAINING_PLANS
    assert surrogate.scale == pytest.approx(2)
