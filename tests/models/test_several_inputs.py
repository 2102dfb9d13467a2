"""Models of several inputs and outputs: listed, scored and built as those of one are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.heads import head_at
from typer.testing import CliRunner

from lrf_optuna.cli.app import app
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import cosine

HOWS = ("list", "tuple", "dict")


def arranged(how: str, **named: Any) -> Any:
    """The same things as a list, a tuple or a dict."""
    return {"list": list, "tuple": tuple}[how](named.values()) if how != "dict" else dict(named)


def model_of(how: str, size: int | None = 8) -> Any:
    """An image and words in; a class and a number out."""
    keras.utils.set_random_seed(0)
    picture, words = keras.Input((size, size, 3), name="picture"), keras.Input((12,), name="words")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(12, 3, activation="relu", name="conv")(picture))
    x = layers.Concatenate()([x, layers.Dense(16, activation="tanh", name="hidden")(words)])
    kind = layers.Dense(6, activation="softmax", name="kind")(x)
    number = layers.Dense(4, name="number")(layers.Dense(10, activation="relu", name="middle")(x))
    return keras.Model(arranged(how, picture=picture, words=words), arranged(how, kind=kind, number=number))


def images(how: str, count: int = 24) -> Any:
    rng = np.random.default_rng(1)
    sizes = {"picture": (8, 8, 3), "words": (12,)}
    return arranged(how, **{name: rng.standard_normal((count, *size)).astype("f") for name, size in sizes.items()})


def plan_of(proxy: Proxy) -> Plan:
    return Plan.of({name: proxy.choice(name, proxy.methods_of(name)[-1], 0.5) for name in proxy.sites})


@pytest.mark.parametrize("how", HOWS)
def test_every_layer_is_listed(how: str) -> None:
    inventory = find_sites(model_of(how))
    assert {site.name for site in inventory.sites} == {"conv", "hidden", "kind", "middle", "number"}
    assert inventory.params == model_of(how).count_params()
    assert inventory.macs == 36 * 27 * 12 + 12 * 16 + 28 * (6 + 10) + 10 * 4


@pytest.mark.parametrize("how", HOWS)
def test_open_sizes_are_settled_by_shapes_in_the_inputs_structure(how: str) -> None:
    model = model_of(how, None)
    with pytest.raises(LrfError, match=r"takes inputs of shape .*None.*: say which"):
        find_sites(model)
    found = find_sites(model, arranged(how, picture=(8, 8, 3), words=(12,)))
    assert found == find_sites(model, arranged(how, picture=[8, 8, 3], words=[12]))
    assert found.sites == find_sites(model_of(how)).sites


@pytest.mark.parametrize("shapes", [(8, 8, 3), [(8, 8, 3)], [(8, 8, 3), (13,)]])
def test_shapes_that_the_model_does_not_take_are_refused_in_one_line(shapes: Any) -> None:
    with pytest.raises(LrfError, match="does not take images of shape") as error:
        find_sites(model_of("list"), shapes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", HOWS)
def test_what_is_built_gives_what_is_scored(how: str) -> None:
    model, x = model_of(how), images(how)
    proxy = Proxy(model, x)
    plan = plan_of(proxy)
    built = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    given, network = built(x, training=False), proxy.network
    scored = network.run(network.as_tensors(x), proxy.dense_kernels(plan))
    assert type(given) is type(model(x, training=False))
    kind, number = given.values() if how == "dict" else given
    np.testing.assert_allclose(scored["kind"], proxy.network.heads["kind"].logits(kind), atol=1e-4)
    np.testing.assert_allclose(scored["number"], number, atol=1e-4)
    measured = proxy.measure(plan)
    assert (measured.params, measured.macs) == plan_counts(proxy.inventory, plan)
    assert (measured.params, measured.macs) == (built.count_params(), find_sites(built).macs)


def test_every_output_is_scored_and_counts_as_much_as_any_other() -> None:
    proxy = Proxy(model_of("list"), images("list"))
    assert set(proxy.scored.reference) == {"kind", "number"}
    plan = plan_of(proxy)
    measured, logits = proxy.measure(plan), proxy.network.run(proxy.scored.tensors, proxy.dense_kernels(plan))
    for head, alike in measured.similarity.items():
        pair = (values - values.mean(axis=1, keepdims=True) for values in (proxy.scored.reference[head], logits[head]))
        assert alike == pytest.approx(cosine(*pair), abs=1e-6)
    assert proxy.costs(plan)["loss"] == pytest.approx(1 - np.mean(list(measured.similarity.values())))
    with pytest.raises(LrfError, match="unknown output 'logits'; there is: kind, number"):
        proxy.logits(plan, images("list"))


def test_outputs_of_one_layer_have_a_name_each() -> None:
    inputs = keras.Input((12,))
    halves = keras.ops.split(layers.Dense(16, name="hidden")(inputs), 2, axis=1)
    proxy = Proxy(keras.Model(inputs, halves), images("tuple")[1])
    first, second = proxy.network.heads
    assert second == f"{first}_2"
    whole = np.concatenate(list(proxy.network.run(images("tuple")[1], {}).values()), axis=1)
    np.testing.assert_allclose(whole, proxy.network.model.get_layer("hidden")(images("tuple")[1]), atol=1e-5)


def test_an_only_output_in_a_dict_is_the_logits() -> None:
    inputs = keras.Input((12,), name="words")
    model = keras.Model({"words": inputs}, {"answer": layers.Dense(9, name="top")(inputs)})
    x = {"words": images("dict")["words"]}
    proxy = Proxy(model, x)
    np.testing.assert_allclose(proxy.logits(Plan(()), x), model(x)["answer"], atol=1e-5)


def test_a_softmax_at_one_of_several_outputs_is_seen() -> None:
    inner = model_of("list")
    taken = [keras.Input((8, 8, 3)), keras.Input((12,))]
    outer = keras.Model(taken, list(reversed(inner(taken))))
    assert [head_at(inner, i).activation for i in range(2)] == ["softmax", ""]
    assert [head_at(outer, i).activation for i in range(2)] == ["", "softmax"]


def test_inputs_of_different_number_are_refused() -> None:
    picture, words = images("list")
    with pytest.raises(LrfError, match=r"equally many, but are \[5, 24\]"):
        Proxy(model_of("list"), [picture, words[:5]])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.keras in it."""
    model_of("dict").save(tmp_path / "net.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
def test_the_command_lists_the_layers_and_a_run_says_which_data_it_takes() -> None:
    listed = CliRunner().invoke(app, ["layers", "net.keras", "--json"])
    assert listed.exit_code == 0, listed.stderr
    rows = {row["layer"]: row for row in json.loads(listed.stdout)["layers"]}
    assert rows["conv"]["methods"]
    assert rows["words"]["reason"] == "no weights"
    refused = CliRunner().invoke(app, ["run", "--model", "net.keras", "--data", "digits", "--out", "study"])
    assert refused.exit_code == 2
    assert "the model has several inputs: give x_test.NAME for picture, words" in " ".join(refused.stderr.split())
