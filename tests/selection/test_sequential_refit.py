"""Of a plan's two networks, as scored and refitted in layer order, the better one is built, just as measured."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from pipeline.test_build import CLASSES, deep_net, pictures, plan_of
from support.evaluation import classes_of
from support.norms import alike
from support.points import measurement_of

from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.pipeline.build import build
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED
from lrf_optuna.selection.measurement import FOLDS
from lrf_optuna.selection.plan_refits import PlanRefits, RefitResult, StageResult, StageSettings, composed
from lrf_optuna.selection.sequential_refit import SequentialRefit

Array = np.ndarray[Any, Any]


def made(model: Any, *, wrong: bool = False) -> PlanRefits:
    """Refits measured by how many images get the label that the original gives them, or on none of those."""
    images = pictures(400)
    proxy = Proxy(model, images[:200])
    labels = np.asarray(model(images[200:], training=False)).argmax(1)
    known = labels + CLASSES * wrong
    validation = classes_of(proxy, images[200:], known, lambda: [images[50:125], images[125:]])
    return PlanRefits(validation, lambda: images[len(proxy.scored) : 200])


@pytest.mark.parametrize("norm", [{}, {"norm": True}])
@pytest.mark.parametrize("keep", [0.15, 0.3])
def test_what_is_built_is_what_was_measured(norm: dict[str, Any], keep: float) -> None:
    model = deep_net(**norm)
    refits = made(model)
    validation, plan = refits.validation, plan_of(refits.validation.proxy, keep)
    result = refits.result(plan)
    built, x = build(model, plan, validation.proxy, result), validation.images.pixels
    right = np.asarray(built(x, training=False)).argmax(1) == validation.labels[OUTPUT]
    assert right.mean() == pytest.approx(result.metric, abs=1.5 / len(right))
    close = alike(built, x, validation.original_logits[OUTPUT])
    assert close == pytest.approx(result.closeness, abs=1e-5)
    assert built.count_params() == validation.proxy.measure(plan).params


def test_the_better_one_is_taken_and_the_original_keeps_its_weights() -> None:
    model = deep_net(norm=True)
    weights = model.get_weights()
    refits = made(model)
    validation = refits.validation
    taken = set()
    for keep in (0.1, 0.15, 0.2, 0.3, 0.45):
        plan = plan_of(validation.proxy, keep)
        result = refits.result(plan)
        scored = validation.of(validation.proxy.dense_kernels(plan))
        assert refits(plan) == result.metric
        assert result.metric >= scored or result.closeness > validation.similarity(
            validation.logits(validation.proxy.dense_kernels(plan))
        )
        assert result.refitted or result.metric == scored
        taken.add(result.refitted)
    assert True in taken
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


def test_of_equals_the_one_with_closer_logits_is_taken() -> None:
    refits = made(deep_net(), wrong=True)
    validation = refits.validation
    plan = plan_of(validation.proxy, 0.25)
    result = refits.result(plan)
    assert result.metric == validation.of(validation.proxy.dense_kernels(plan)) == 0
    assert result.closeness >= validation.similarity(validation.logits(validation.proxy.dense_kernels(plan)))
    assert result.refitted, "a refit in order brings the logits closer here"


class Ruined:
    """A refit that makes all kernels zero."""

    def __call__(self, plan: Plan, stages: dict[str, tuple[Array, ...]], *_: object) -> object:
        return {site: tuple(0 * kernel for kernel in own) for site, own in stages.items()}


def test_a_refit_that_is_worse_is_not_taken() -> None:
    refits = made(deep_net())
    proxy = refits.validation.proxy
    plan = plan_of(proxy, 0.4)
    refits.__dict__["refit"] = Ruined()
    result = refits.result(plan)
    assert not result.refitted
    assert result.metric == refits.validation.of(proxy.dense_kernels(plan))
    kernels = composed(proxy, plan, result.stages)
    assert all(np.array_equal(kernels[site], own) for site, own in proxy.dense_kernels(plan).items())


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("gain", [-100, -3, 0, 3, 100])
@pytest.mark.parametrize("closeness", [0.8, 0.9])
def test_a_refit_is_taken_where_it_is_clearly_better_or_closer_and_not_clearly_worse(
    seen: bool, gain: int, closeness: float
) -> None:
    refits = made(deep_net())
    refits.validation_was_fitted = seen
    right = np.arange(200) < 100
    scored = StageResult(measurement_of(right), 0.85)
    new = np.roll(right, 50) if gain == 0 else np.arange(200) < 100 + gain
    refitted = StageResult(measurement_of(new), closeness)
    better = (gain == 100 and not seen) or (closeness > 0.85 and gain != -100)
    assert refits.improves(refitted, scored) == better


def test_a_plan_that_changes_nothing_needs_no_refit() -> None:
    refits = made(deep_net())
    refits.__dict__["refit"] = None
    plan = Plan.of(dict.fromkeys(refits.validation.proxy.sites, INTACT))
    result = refits.result(plan)
    assert (result.metric, result.refitted) == (1.0, False)
    assert all(refits.measurement(plan, stage).metric == 1 for stage in (SCORED, SKETCHED, BUILT))


def test_a_plan_is_refitted_once_and_its_metric_is_remembered_where_its_kernels_are_not() -> None:
    refits, calls = made(deep_net()), []
    refit = refits.refit
    refits.__dict__["refit"] = lambda *args: calls.append(1) or refit(*args)  # type: ignore[func-returns-value]
    plan = plan_of(refits.validation.proxy, 0.3)
    assert refits(plan) == refits(plan) == refits.result(plan).metric
    refits.latest.clear()
    assert refits(plan) == refits.measurement(plan, BUILT).metric
    assert len(calls) == 1


def test_a_refit_depends_on_neither_the_plans_before_it_nor_on_what_is_remembered() -> None:
    model = deep_net(norm=True)
    one, other = made(model), made(model)
    plan, *before = (plan_of(one.validation.proxy, keep) for keep in (0.3, 0.1, 0.5))
    alone = one.result(plan)
    for others in before:
        other.result(others)
        other.measurement(others, SKETCHED)
    again = other.result(plan)
    other.latest.clear()
    assert_same(alone, again)
    assert_same(alone, other.result(plan))


def assert_same(one: RefitResult, other: RefitResult) -> None:
    """Raises AssertionError where two results differ in anything."""
    assert (one.metric, one.closeness, one.refitted) == (other.metric, other.closeness, other.refitted)
    for site, kernels in one.stages.items():
        assert all(np.array_equal(a, b) for a, b in zip(kernels, other.stages[site], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.statistics or [], other.statistics or [], strict=True))


def test_the_stages_measure_the_same_images_each_more_of_them() -> None:
    refits = made(deep_net())
    refits.settings = StageSettings(scored_images=50, sketched_images=100)
    plan = plan_of(refits.validation.proxy, 0.2)
    for stage, count in ((SCORED, 50), (SKETCHED, 100), (BUILT, 200)):
        assert refits.measurement(plan, stage).images == refits.measurement(Plan(()), stage).images == count
    validation = refits.validation
    scored = validation.measured(validation.logits(validation.proxy.dense_kernels(plan), 50))
    found = refits.measurement(plan, SCORED)
    assert found.metric == scored.metric
    np.testing.assert_array_equal(found.without_fold, scored.without_fold)


@pytest.mark.parametrize(
    ("closeness", "tried", "best"),
    [((0.8, 0.7, 0.9), 1, 0.2), ((0.7, 0.8, 0.8), 2, 1.0), ((0.7, 0.8, 0.9), 2, 3.0), ((0.8, 0.8, 0.9), 1, 0.2)],
)
def test_the_pull_is_raised_as_long_as_the_logits_of_a_plan_come_closer(
    monkeypatch: pytest.MonkeyPatch, closeness: tuple[float, ...], tried: int, best: float
) -> None:
    refits, pulls = made(deep_net()), []
    plan = plan_of(refits.validation.proxy, 0.2)
    known = dict(zip(refits.settings.pulls, closeness, strict=True))
    monkeypatch.setattr(refits, "sketched", lambda _, pull: pulls.append(pull) or {"pull": pull})
    perfect = measurement_of(np.ones(FOLDS, bool))
    monkeypatch.setattr(refits, "measured", lambda kernels, _: StageResult(perfect, known[kernels["pull"]]))
    refits.results[plan, SKETCHED] = StageResult(perfect, closeness[0])
    assert refits.pull(plan) == best
    assert len(pulls) == tried


def test_a_pull_holds_chains_to_the_kernels_of_the_original() -> None:
    refits = made(deep_net())
    proxy, plan = refits.validation.proxy, plan_of(refits.validation.proxy, 0.2)
    stages = {site: proxy.kernels.stages(site, choice) for site, choice in plan}
    last = list(proxy.dense_kernels(plan))[-1]
    moved = []
    for pull in (0.2, 3.0, 1e6):
        refit = SequentialRefit(proxy, refits.images(), refits.graph)
        kernels = composed(proxy, plan, refit(plan, stages, pull))
        moved.append(float(np.linalg.norm(kernels[last] - proxy.to_keras_layout(last, proxy.kernels.originals[last]))))
    assert moved[0] > moved[1] > moved[2]


def test_statistics_of_a_built_network_are_the_ones_that_were_measured() -> None:
    model = deep_net(norm=True)
    for layer in norms_of(model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 0.5, variance * 4])
    keras.utils.set_random_seed(0)
    refits = made(model)
    proxy = refits.validation.proxy
    plan = plan_of(proxy, 0.15)
    result = refits.result(plan)
    built = build(model, plan, proxy, result)
    wanted = result.statistics or [v for norm in norms_of(model) for v in (norm.moving_mean, norm.moving_variance)]
    found = [v for norm in norms_of(built) for v in (norm.moving_mean, norm.moving_variance)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
