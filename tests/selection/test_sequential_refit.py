"""Of a plan's two networks, as scored and refitted in layer order, the more accurate one is built, just as measured."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from pipeline.test_build import CLASSES, deep_net, pictures, plan_of
from support.norms import alike

from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.models.outputs import OUTPUT
from lrf_optuna.pipeline.build import build
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection import sequential_refit as room
from lrf_optuna.selection.accuracy import Accuracy
from lrf_optuna.selection.sequential_refit import PlanRefits, RefitResult, composed

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
    judge, plan = corrections.judge, plan_of(corrections.judge.proxy, keep)
    corrected = corrections.of(plan)
    built = build(model, judge.proxy, plan, corrected)
    right = np.asarray(built(judge.images, training=False)).argmax(1) == judge.labels
    assert right.mean() == pytest.approx(corrected.accuracy, abs=1.5 / len(right))
    close = alike(built, judge.proxy.scored.images, judge.proxy.scored.reference[OUTPUT])
    assert close == pytest.approx(corrected.closeness, abs=1e-5)
    assert built.count_params() == judge.proxy.measure(plan).params


def test_the_more_accurate_one_is_taken_and_the_original_keeps_its_weights() -> None:
    model = deep_net(norm=True)
    weights = model.get_weights()
    corrections = made(model)
    judge = corrections.judge
    taken = set()
    for keep in (0.1, 0.15, 0.2, 0.3, 0.45):
        plan = plan_of(judge.proxy, keep)
        corrected = corrections.of(plan)
        scored = judge(plan)
        assert corrections(plan) == corrected.accuracy >= scored
        assert corrected.refitted or corrected.accuracy == scored
        taken.add(corrected.refitted)
    assert True in taken
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


def test_of_equals_the_one_with_closer_logits_is_taken() -> None:
    corrections = made(deep_net(), wrong=True)
    judge = corrections.judge
    plan = plan_of(judge.proxy, 0.25)
    corrected = corrections.of(plan)
    assert corrected.accuracy == judge(plan) == 0
    assert corrected.closeness >= judge.alike(judge.proxy.dense_kernels(plan), None)
    assert corrected.refitted, "a refit in order brings the logits closer here"


def test_a_refit_that_is_less_accurate_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = made(deep_net())
    proxy = corrections.judge.proxy
    plan = plan_of(proxy, 0.4)

    def ruined(_: Proxy, plan: Plan, stages: dict[str, tuple[Array, ...]], *__: object) -> object:
        return {site: tuple(0 * kernel for kernel in own) for site, own in stages.items()}

    monkeypatch.setattr(room, "refit_in_order", ruined)
    corrected = corrections.of(plan)
    assert not corrected.refitted
    assert corrected.accuracy == corrections.judge(plan)
    kernels = composed(proxy, plan, corrected.stages)
    assert all(np.array_equal(kernels[site], own) for site, own in proxy.dense_kernels(plan).items())


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("accuracy", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("closeness", [0.8, 0.9])
def test_where_the_judge_sees_what_was_fitted_a_refit_has_to_be_closer_too(
    seen: bool, accuracy: float, closeness: float
) -> None:
    corrections = made(deep_net())
    corrections.seen = seen
    scored = RefitResult({}, None, 0.5, 0.85, refitted=False)
    refitted = RefitResult({}, None, accuracy, closeness, refitted=True)
    closer = closeness > scored.closeness
    better = accuracy > scored.accuracy or (accuracy == scored.accuracy and closer)
    assert corrections.improves(refitted, scored) == (better and (closer or not seen))


def test_a_plan_that_changes_nothing_needs_no_refit(monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = made(deep_net())
    monkeypatch.setattr(room, "refit_in_order", lambda *_: pytest.fail("there is nothing to refit"))
    corrected = corrections.of(Plan.of(dict.fromkeys(corrections.judge.proxy.sites, INTACT)))
    assert (corrected.accuracy, corrected.refitted) == (1.0, False)


def test_a_plan_is_refitted_once_and_its_accuracy_is_remembered_where_its_kernels_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corrections, calls = made(deep_net()), []
    original = room.refit_in_order
    monkeypatch.setattr(room, "refit_in_order", lambda *args: calls.append(1) or original(*args))
    plan = plan_of(corrections.judge.proxy, 0.3)
    assert corrections(plan) == corrections(plan) == corrections.of(plan).accuracy
    first = len(calls)
    assert first <= len(room.PULLS), "one for every pull at most"
    corrections.latest.clear()
    assert corrections(plan) == corrections.known[plan]
    assert len(calls) == first


@pytest.mark.parametrize(
    ("closeness", "tried", "kept"),
    [((0.8, 0.7, 0.9), 2, 0), ((0.7, 0.8, 0.8), 3, 1), ((0.7, 0.8, 0.9), 3, 2), ((0.8, 0.8, 0.9), 2, 0)],
)
def test_the_pull_that_brings_logits_closest_is_kept_until_a_plan_loses_much_more(
    monkeypatch: pytest.MonkeyPatch, closeness: tuple[float, ...], tried: int, kept: int
) -> None:
    corrections, pulls = made(deep_net()), []
    known = dict(zip(room.PULLS, closeness, strict=True))

    def pulled(_: PlanRefits, __: Plan, ___: object, pull: float) -> RefitResult:
        pulls.append(pull)
        return RefitResult({}, None, 0.5, known[pull], refitted=True)

    monkeypatch.setattr(PlanRefits, "pulled", pulled)
    for lost, again in ((0.1, tried), (0.14, 1), (0.05, 1), (0.2, tried), (0.25, 1)):
        pulls.clear()
        found = corrections.refitted(Plan(()), RefitResult({}, None, 0.5, 1 - lost, refitted=False))
        assert (len(pulls), corrections.pull, found.closeness) == (again, room.PULLS[kept], closeness[kept])


def test_a_pull_holds_chains_to_the_kernels_of_the_original() -> None:
    corrections = made(deep_net())
    proxy, plan = corrections.judge.proxy, plan_of(corrections.judge.proxy, 0.2)
    stages = {site: proxy.kernels.stages(site, choice) for site, choice in plan}
    swaps = composed(proxy, plan, stages)
    last = list(swaps)[-1]
    moved = []
    for pull in (0.2, 3.0, 1e6):
        kernels = composed(proxy, plan, room.refit_in_order(proxy, plan, stages, corrections.images(), pull=pull))
        own = proxy.to_keras_layout(last, proxy.kernels.originals[last])
        moved.append(float(np.linalg.norm(kernels[last] - own)))
    assert moved[0] > moved[1] > moved[2]


def test_statistics_of_a_built_network_are_the_ones_that_were_measured() -> None:
    model = deep_net(norm=True)
    for layer in norms_of(model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 0.5, variance * 4])
    keras.utils.set_random_seed(0)
    corrections = made(model)
    proxy = corrections.judge.proxy
    plan = plan_of(proxy, 0.15)
    corrected = corrections.of(plan)
    built = build(model, proxy, plan, corrected)
    wanted = corrected.statistics or [v for norm in norms_of(model) for v in (norm.moving_mean, norm.moving_variance)]
    found = [v for norm in norms_of(built) for v in (norm.moving_mean, norm.moving_variance)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
