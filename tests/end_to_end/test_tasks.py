"""A network of every kind of task is measured, chosen, built and tuned by the metric of its task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from support.tasks import TRAINED, arrays_for, network_for

from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import FIDELITY, KINDS, OUTPUT
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.load import load_model
from lrf_optuna.pipeline.build import build
from lrf_optuna.pipeline.compress import compress
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import locate
from lrf_optuna.plans.plan import Plan
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT
from lrf_optuna.scoring.proxy import Proxy

FAST: dict[str, Any] = {
    "trials": 20,
    "methods": ("svd", "channel_svd"),
    "keep": (0.2, 0.4, 0.7),
    "calibration": 256,
    "population": 8,
    "preprocess": {"divide": 16},
    "time_at_end": False,
}


@dataclass(frozen=True)
class Compressed:
    """A network of a kind, what `compress` made of it, and the study."""

    kind: str
    model: Any
    small: Any
    result: Result
    run: Run


@pytest.fixture(scope="module", params=KINDS)
def compressed(request: pytest.FixtureRequest, digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    kind: str = request.param
    arrays, folder = arrays_for(kind, digits), tmp_path_factory.mktemp(kind)
    model = network_for(kind, arrays)
    small, result = compress(model, arrays, target={"params": 0.6}, tune=1, out=folder, **FAST)
    found = locate(str(folder))
    run = Run.resume(found, found.spec, SILENT, model=model, data=arrays)
    return Compressed(kind, model, small, result, run)


def test_every_kind_has_a_network() -> None:
    assert list(TRAINED) == list(KINDS)


def test_the_task_and_its_metric_are_found_and_the_original_is_good_at_it(compressed: Compressed) -> None:
    task = compressed.run.data.tasks[OUTPUT]
    assert (task.kind, task.labeled) == (compressed.kind, compressed.kind != "embedding")
    wanted = KINDS[task.kind].metrics[0] if task.labeled else FIDELITY["R2"]
    assert compressed.result.metric == task.metric_name == wanted
    assert compressed.result.original.test_metric >= TRAINED[task.kind].least - 1e-6


def test_a_plan_is_measured_as_the_network_that_is_built_for_it(compressed: Compressed) -> None:
    run, data = compressed.run, compressed.run.data
    whole = Evaluator(compressed.model, data.preprocess)
    assert run.validation.of({}) == pytest.approx(whole.metric(data, data.val), abs=1e-5)
    plan = compressed.result.chosen.plan
    built = build(run.model, plan, run.proxy, run.refits.result(plan))
    found = Evaluator(built, data.preprocess).metric(data, data.val)
    assert run.refits(plan) == pytest.approx(found, abs=2 / len(data.val))


def test_the_chosen_network_is_within_its_target_keeps_most_and_tuning_does_not_harm(compressed: Compressed) -> None:
    result = compressed.result
    assert result.built is not None
    assert result.tuned is not None
    assert compressed.small.count_params() == result.built.params <= 0.6 * compressed.model.count_params()
    assert result.built.test_metric > 0.7 * result.original.test_metric
    assert result.tuned.val_metric >= result.built.val_metric - 1e-6
    assert result.metric in result.why


def test_the_file_gives_the_tuned_metric(compressed: Compressed) -> None:
    data, result = compressed.run.data, compressed.result
    evaluator = Evaluator(load_model(str(compressed.run.folder.model)), data.preprocess)
    assert result.tuned is not None
    assert evaluator.metric(data, data.test) == pytest.approx(result.tuned.test_metric, abs=1e-5)


def random_plan(proxy: Proxy, rng: np.random.Generator) -> Plan:
    """A random method and share in every layer."""
    return Plan.of({s: proxy.choice(s, rng.choice(proxy.methods_of(s)), rng.uniform(0.1, 0.9)) for s in proxy.sites})


def test_the_loss_of_a_network_with_one_number_ranks_plans_as_their_true_errors_do(digits: Data) -> None:
    """The cosine of one number is its sign, which nearly all plans keep."""
    arrays = arrays_for("numbers", digits)
    proxy = Proxy(network_for("numbers", arrays), digits.preprocess(arrays["x_train"][:512]))
    rng, test = np.random.default_rng(0), digits.preprocess(arrays["x_test"])
    plans = [random_plan(proxy, rng) for _ in range(30)]
    losses = [proxy.costs(plan)["loss"] for plan in plans]
    errors = [float(np.mean((proxy.logits(plan, test)[:, 0] - arrays["y_test"]) ** 2)) for plan in plans]
    assert len({round(loss, 9) for loss in losses}) == len(set(plans))
    assert kendalltau(losses, errors).statistic >= 0.8


def test_images_alone_are_compared_with_the_decisions_of_the_original_and_tuned_by_distillation(
    digits: Data, digits_net: Any, tmp_path: Path
) -> None:
    arrays = {f"x_{part}": getattr(digits, part).pixels for part in ("train", "val", "test")}
    soft = network_for("classes", arrays_for("classes", digits), epochs=4)
    small, result = compress(soft, arrays, target={"params": 0.4}, tune=2, out=tmp_path, **FAST)
    assert result.metric == FIDELITY["accuracy"]
    assert result.original.test_metric == 1
    assert result.built is not None
    assert result.tuned is not None
    x = digits.preprocess(arrays["x_test"])
    agreed = np.mean(small.predict(x, verbose=0).argmax(1) == soft.predict(x, verbose=0).argmax(1))
    assert result.tuned.test_metric == pytest.approx(agreed, abs=1e-9)
    assert result.tuned.val_metric >= (result.calibrated or result.built).val_metric
    moved = [not np.array_equal(a, b) for a, b in zip(small.get_weights(), soft.get_weights(), strict=False)]
    assert any(moved)
