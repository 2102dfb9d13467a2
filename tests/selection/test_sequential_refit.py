"""Of a plan's two networks, as scored and refitted in layer order, the more accurate one is built, just as measured."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from lrf_optuna.selection.accuracy import Accuracy
from pipeline.test_build import CLASSES, deep_net, pictures, plan_of
from support.norms import alike

from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.pipeline.build import build
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.choose import BUILT, SCORED, SKETCHED
from lrf_optuna.selection.plan_refits import PlanRefits, RefitResult, StageResult, StageSettings, composed
from lrf_optuna.selection.sequential_refit import SequentialRefit

Array = np.ndarray[Any, Any]


def made(model: Any, *, wrong: bool = False) -> PlanRefits:
    """Corrections judged on how many images get the label that the original gives them, or on none of those."""
    images = pictures(400)
    proxy = Proxy(model, images[:200])
    labels = np.asarray(model(images[200:], training=False)).argmax(1)
    judge = Accuracy(proxy, images[200:], labels + CLASSES * wrong, lambda x: x, lambda: [images[50:125], images[125:]])
    return PlanRefits(judge, lambda: images[len(proxy.scored) : 200])


@pytest.mark.parametrize("norm", [{}, {"norm": True}])
@pytest.mark.parametrize("keep", [0.15, 0.3])
def test_what_is_built_is_what_was_measured(norm: dict[str, Any], keep: float) -> None:
    model = deep_net(**norm)
    corrections = made(model)
    judge, plan = corrections.accuracy, plan_of(corrections.accuracy.proxy, keep)
    corrected = corrections.result(plan)
    built = build(model, judge.proxy, plan, corrected)
    right = np.asarray(built(judge.images, training=False)).argmax(1) == judge.labels
    assert right.mean() == pytest.approx(corrected.accuracy, abs=1.5 / len(right))
    close = alike(built, judge.images, judge.original_logits)
    assert close == pytest.approx(corrected.closeness, abs=1e-5)
    assert built.count_params() == judge.proxy.measure(plan).params


def test_the_more_accurate_one_is_taken_and_the_original_keeps_its_weights() -> None:
    model = deep_net(norm=True)
    weights = model.get_weights()
    corrections = made(model)
    judge = corrections.accuracy
    taken = set()
    for keep in (0.1, 0.15, 0.2, 0.3, 0.45):
        plan = plan_of(judge.proxy, keep)
        corrected = corrections.result(plan)
        scored = judge.of(judge.proxy.dense_kernels(plan))
        assert corrections(plan) == corrected.accuracy
        assert corrected.accuracy >= scored or corrected.closeness > judge.similarity(
            judge.logits(judge.proxy.dense_kernels(plan))
        )
        assert corrected.refitted or corrected.accuracy == scored
        taken.add(corrected.refitted)
    assert True in taken
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


def test_of_equals_the_one_with_closer_logits_is_taken() -> None:
    corrections = made(deep_net(), wrong=True)
    judge = corrections.accuracy
    plan = plan_of(judge.proxy, 0.25)
    corrected = corrections.result(plan)
    assert corrected.accuracy == judge.of(judge.proxy.dense_kernels(plan)) == 0
    assert corrected.closeness >= judge.similarity(judge.logits(judge.proxy.dense_kernels(plan)))
    assert corrected.refitted, "a refit in order brings the logits closer here"


class Ruined:
    """A refit that makes all kernels zero."""

    def __call__(self, plan: Plan, stages: dict[str, tuple[Array, ...]], *_: object) -> object:
        return {site: tuple(0 * kernel for kernel in own) for site, own in stages.items()}


def test_a_refit_that_is_less_accurate_is_not_taken() -> None:
    corrections = made(deep_net())
    proxy = corrections.accuracy.proxy
    plan = plan_of(proxy, 0.4)
    corrections.__dict__["refit"] = Ruined()
    corrected = corrections.result(plan)
    assert not corrected.refitted
    assert corrected.accuracy == corrections.accuracy.of(proxy.dense_kernels(plan))
    kernels = composed(proxy, plan, corrected.stages)
    assert all(np.array_equal(kernels[site], own) for site, own in proxy.dense_kernels(plan).items())


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("gain", [-100, -3, 0, 3, 100])
@pytest.mark.parametrize("closeness", [0.8, 0.9])
def test_a_refit_is_taken_where_it_is_clearly_more_accurate_or_closer_and_not_clearly_less(
    seen: bool, gain: int, closeness: float
) -> None:
    corrections = made(deep_net())
    corrections.validation_was_fitted = seen
    right = np.arange(200) < 100
    scored = StageResult(right, 0.85)
    refitted = StageResult(np.roll(right, 50) if gain == 0 else np.arange(200) < 100 + gain, closeness)
    better = (gain == 100 and not seen) or (closeness > 0.85 and gain != -100)
    assert corrections.improves(refitted, scored) == better


def test_a_plan_that_changes_nothing_needs_no_refit() -> None:
    corrections = made(deep_net())
    corrections.__dict__["refit"] = None
    plan = Plan.of(dict.fromkeys(corrections.accuracy.proxy.sites, INTACT))
    corrected = corrections.result(plan)
    assert (corrected.accuracy, corrected.refitted) == (1.0, False)
    assert all(corrections.right(plan, stage).all() for stage in (SCORED, SKETCHED, BUILT))


def test_a_plan_is_refitted_once_and_its_accuracy_is_remembered_where_its_kernels_are_not() -> None:
    corrections, calls = made(deep_net()), []
    refit = corrections.refit
    corrections.__dict__["refit"] = lambda *args: calls.append(1) or refit(*args)  # type: ignore[func-returns-value]
    plan = plan_of(corrections.accuracy.proxy, 0.3)
    assert corrections(plan) == corrections(plan) == corrections.result(plan).accuracy
    corrections.latest.clear()
    assert corrections(plan) == corrections.right(plan, BUILT).mean()
    assert len(calls) == 1


def test_a_refit_depends_on_neither_the_plans_before_it_nor_on_what_is_remembered() -> None:
    model = deep_net(norm=True)
    one, other = made(model), made(model)
    plan, *before = (plan_of(one.accuracy.proxy, keep) for keep in (0.3, 0.1, 0.5))
    alone = one.result(plan)
    for others in before:
        other.result(others)
        other.right(others, SKETCHED)
    again = other.result(plan)
    other.latest.clear()
    assert_same(alone, again)
    assert_same(alone, other.result(plan))


def assert_same(one: RefitResult, other: RefitResult) -> None:
    """Raises AssertionError where two results differ in anything."""
    assert (one.accuracy, one.closeness, one.refitted) == (other.accuracy, other.closeness, other.refitted)
    for site, kernels in one.stages.items():
        assert all(np.array_equal(a, b) for a, b in zip(kernels, other.stages[site], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.statistics or [], other.statistics or [], strict=True))


def test_the_stages_measure_the_same_images_each_more_of_them() -> None:
    corrections = made(deep_net())
    corrections.settings = StageSettings(scored_images=50, sketched_images=100)
    plan = plan_of(corrections.accuracy.proxy, 0.2)
    for stage, count in ((SCORED, 50), (SKETCHED, 100), (BUILT, 200)):
        assert len(corrections.right(plan, stage)) == len(corrections.right(Plan(()), stage)) == count
    judge = corrections.accuracy
    scored = judge.right(judge.logits(judge.proxy.dense_kernels(plan), 50))
    np.testing.assert_array_equal(corrections.right(plan, SCORED), scored)


@pytest.mark.parametrize(
    ("closeness", "tried", "best"),
    [((0.8, 0.7, 0.9), 1, 0.2), ((0.7, 0.8, 0.8), 2, 1.0), ((0.7, 0.8, 0.9), 2, 3.0), ((0.8, 0.8, 0.9), 1, 0.2)],
)
def test_the_pull_is_raised_as_long_as_the_logits_of_a_plan_come_closer(
    monkeypatch: pytest.MonkeyPatch, closeness: tuple[float, ...], tried: int, best: float
) -> None:
    corrections, pulls = made(deep_net()), []
    plan = plan_of(corrections.accuracy.proxy, 0.2)
    known = dict(zip(corrections.settings.pulls, closeness, strict=True))
    monkeypatch.setattr(corrections, "sketched", lambda _, pull: pulls.append(pull) or {"pull": pull})
    monkeypatch.setattr(
        corrections, "measured", lambda kernels, _: StageResult(np.ones(9, bool), known[kernels["pull"]])
    )
    corrections.results[plan, SKETCHED] = StageResult(np.ones(9, bool), closeness[0])
    assert corrections.pull(plan) == best
    assert len(pulls) == tried


def test_a_pull_holds_chains_to_the_kernels_of_the_original() -> None:
    corrections = made(deep_net())
    proxy, plan = corrections.accuracy.proxy, plan_of(corrections.accuracy.proxy, 0.2)
    stages = {site: proxy.kernels.stages(site, choice) for site, choice in plan}
    last = list(proxy.dense_kernels(plan))[-1]
    moved = []
    for pull in (0.2, 3.0, 1e6):
        refit = SequentialRefit(proxy, corrections.images(), corrections.graph)
        kernels = composed(proxy, plan, refit(plan, stages, pull))
        moved.append(float(np.linalg.norm(kernels[last] - proxy.to_keras_layout(last, proxy.kernels.originals[last]))))
    assert moved[0] > moved[1] > moved[2]


def test_statistics_of_a_built_network_are_the_ones_that_were_measured() -> None:
    model = deep_net(norm=True)
    for layer in norms_of(model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 0.5, variance * 4])
    keras.utils.set_random_seed(0)
    corrections = made(model)
    proxy = corrections.accuracy.proxy
    plan = plan_of(proxy, 0.15)
    corrected = corrections.result(plan)
    built = build(model, proxy, plan, corrected)
    wanted = corrected.statistics or [v for norm in norms_of(model) for v in (norm.moving_mean, norm.moving_variance)]
    found = [v for norm in norms_of(built) for v in (norm.moving_mean, norm.moving_variance)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
