"""What trials teach of a plan's loss: the weights of layers, and what plans alike came to beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrf_optuna.search.surrogate import (
    BROKEN,
    LEAST,
    MOST,
    NOTHING_LEFT,
    REMEMBERED,
    Surrogate,
    damage,
    lookup,
    weighed,
)

Array = np.ndarray[Any, Any]
LAYERS, OPTIONS = 6, 9


@pytest.fixture
def errors(rng: Any) -> Any:
    """The table's errors of options, 0 where a layer is intact."""
    return 0.03 * rng.uniform(0.5, 1.5, (LAYERS, 1)) * np.linspace(0, 1, OPTIONS) ** 3


@pytest.fixture
def weights(rng: Any) -> Any:
    return 2 * np.exp(0.7 * rng.standard_normal(LAYERS))


def plans(rng: Any, count: int) -> Array:
    return rng.integers(0, OPTIONS, (count, LAYERS))


def damages_of(errors: Array, picked: Array, weights: Any = 1.0) -> Array:
    return (lookup(damage(errors), picked) * weights).sum(axis=1)


def losses_of(errors: Array, weights: Array, picked: Array) -> Array:
    """Of layers whose similarities multiply."""
    return 1 - np.exp(-damages_of(errors, picked, weights))


def apart(found: Array, wanted: Array) -> float:
    """The mean distance as a logarithm."""
    return float(np.abs(np.log(found / wanted)).mean())


def test_planted_weights_of_layers_are_recovered_from_noisy_trials(errors: Array, weights: Array, rng: Any) -> None:
    off = []
    for count in (20, 500):
        picked = plans(rng, count)
        losses = losses_of(errors, weights, picked) * np.exp(0.05 * rng.standard_normal(count))
        found = Surrogate.of(errors, picked, losses).weights
        off.append(apart(found, weights))
    assert np.corrcoef(np.log(found), np.log(weights))[0, 1] > 0.97
    common = np.median(damage(losses) / damages_of(errors, picked))
    assert off[1] < off[0] < apart(np.full(LAYERS, common), weights)
    assert off[1] < apart(np.full(LAYERS, common), weights) / 2


def test_a_common_factor_is_recovered_as_it_is(errors: Array, rng: Any) -> None:
    picked = plans(rng, 40)
    losses = losses_of(errors, np.full(LAYERS, 3.0), picked)
    surrogate = Surrogate.of(errors, picked, losses)
    assert surrogate.weights == pytest.approx(3)
    assert surrogate.losses(picked) == pytest.approx(np.maximum(losses, LEAST))


def test_weights_are_never_negative(errors: Array, rng: Any) -> None:
    picked = plans(rng, 100)
    losses = losses_of(errors, np.array([0, 0, 0, 0, 0, 5.0]), picked) + 1e-4
    found = Surrogate.of(errors, picked, losses).weights
    assert np.all(found >= 0)
    assert found.argmax() == 5


def test_losses_of_scored_plans_and_of_new_ones_are_foretold(errors: Array, weights: Array, rng: Any) -> None:
    picked, new = plans(rng, 200), plans(rng, 200)
    losses = losses_of(errors, weights, picked) * np.exp(0.05 * rng.standard_normal(200))
    surrogate = Surrogate.of(errors, picked, losses)
    assert apart(surrogate.losses(picked), losses) < 0.06
    wanted = losses_of(errors, weights, new)
    common = np.median(damage(losses) / damages_of(errors, picked))
    assert apart(surrogate.losses(new), wanted) < 0.06
    assert apart(surrogate.losses(new), wanted) < apart(1 - np.exp(-common * damages_of(errors, new)), wanted) / 2


def test_what_two_layers_do_to_each_other_is_taken_over_from_plans_alike(errors: Array, rng: Any) -> None:
    def true(picked: Array) -> Array:
        """Losses that are three times as high where the first two layers are both compressed much."""
        return losses_of(errors, np.ones(LAYERS), picked) * np.where(np.all(picked[:, :2] > 4, axis=1), 3.0, 1.0)

    picked, new = plans(rng, 400), plans(rng, 400)
    surrogate = Surrogate.of(errors, picked, true(picked))
    together = np.all(new[:, :2] > 4, axis=1)
    sums = losses_of(errors, surrogate.weights, new)
    assert apart(surrogate.losses(new)[together], true(new)[together]) < 0.7 * apart(
        sums[together], true(new)[together]
    )
    assert apart(surrogate.losses(new), true(new)) < 0.9 * apart(sums, true(new))


def test_a_loss_is_never_foretold_above_one_and_of_broken_networks_some_are_less_so(errors: Array, rng: Any) -> None:
    picked, new = plans(rng, 50), plans(rng, 300)
    weights = np.full(LAYERS, 60.0)
    losses = losses_of(errors, weights, picked)
    assert np.median(losses) > BROKEN
    found = Surrogate.of(errors, picked, losses).losses(new)
    assert np.all((found > 0) & (found <= 1))
    wanted = losses_of(errors, weights, new)
    broken = (wanted > BROKEN) & (wanted < MOST)
    assert np.corrcoef(found[broken], wanted[broken])[0, 1] > 0.9


def test_similarities_multiply(errors: Array, rng: Any) -> None:
    picked = plans(rng, 40)
    alone = 1 - lookup(errors, picked)
    losses = 1 - alone.prod(axis=1)
    surrogate = Surrogate.of(errors, picked, losses)
    assert surrogate.weights == pytest.approx(1)
    new = plans(rng, 40)
    assert surrogate.losses(new) == pytest.approx(1 - (1 - lookup(errors, new)).prod(axis=1))


@pytest.mark.parametrize("loss", [0.0, LEAST / 2, BROKEN, 1.0])
def test_without_a_usable_trial_every_weight_is_one(errors: Array, rng: Any, loss: float) -> None:
    picked = plans(rng, 20)
    assert weighed(lookup(damage(errors), picked), damage(np.full(20, loss))).tolist() == [1] * LAYERS
    assert Surrogate.of(errors, picked, np.full(20, loss)).weights.tolist() == [1] * LAYERS


def test_only_the_intact_plan_says_nothing_of_any_layer(errors: Array) -> None:
    intact = np.zeros((1, LAYERS), int)
    surrogate = Surrogate.of(errors, intact, np.zeros(1))
    assert surrogate.weights.tolist() == [1] * LAYERS
    assert surrogate.losses(intact) == pytest.approx([LEAST])


def test_broken_networks_have_no_part_in_the_weights_but_are_remembered(
    errors: Array, weights: Array, rng: Any
) -> None:
    picked, broken = plans(rng, 100), plans(rng, 1)
    losses = losses_of(errors, weights, picked)
    alone = Surrogate.of(errors, picked, losses)
    both = Surrogate.of(errors, np.vstack([picked, broken]), np.append(losses, 0.9))
    assert both.weights == pytest.approx(alone.weights)
    assert both.losses(broken)[0] > 2 * alone.losses(broken)[0]


def test_a_network_of_which_nothing_is_left_says_little_of_others(errors: Array, weights: Array, rng: Any) -> None:
    picked, broken, new = plans(rng, 100), plans(rng, 1), plans(rng, 50)
    losses = losses_of(errors, weights, picked)
    alone, mild, vague = (
        Surrogate.of(errors, np.vstack([picked, broken[:some]]), np.append(losses, [loss] * some))
        for some, loss in ((0, 0.0), (1, NOTHING_LEFT - 0.01), (1, NOTHING_LEFT + 0.01))
    )
    assert vague.losses(broken)[0] > alone.losses(broken)[0]
    assert mild.losses(broken)[0] > 1.5 * vague.losses(broken)[0]
    assert apart(vague.losses(new), alone.losses(new)) < 0.3 * apart(mild.losses(new), alone.losses(new))


def test_of_many_trials_the_latest_are_learnt_from(errors: Array, rng: Any) -> None:
    early, late = plans(rng, 200), plans(rng, REMEMBERED)
    losses = [losses_of(errors, np.full(LAYERS, factor), picked) for factor, picked in ((9.0, early), (2.0, late))]
    surrogate = Surrogate.of(errors, np.vstack([early, late]), np.concatenate(losses))
    assert len(surrogate.known) == len(surrogate.pulls) == REMEMBERED
    assert surrogate.weights == pytest.approx(2)
