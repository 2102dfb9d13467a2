"""Equations of EinsumDense layers: which are one matrix at every position, and how each is counted."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from support.fitting import fit

from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.registry import choice_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.einsum_layers import Equation
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.layer_kinds import read_kernel, to_keras_kernel
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan


def model_of(equation: str, shape: tuple[int, ...], output: tuple[int | None, ...], **how: Any) -> Any:
    """A model of one EinsumDense layer, named `one`."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.EinsumDense(equation, output, name="one", **how)(inputs))


def row_of(model: Any) -> Any:
    return find_sites(model).rows[-1]


SITES = {
    ("abc,cd->abd", (6, 20), (None, 30)): (20, 30, 6),
    ("...c,cd->...d", (4, 6, 20), (30,)): (20, 30, 24),
    ("abc,cde->abde", (6, 20), (None, 5, 6)): (20, 30, 6),
    ("abcd,cde->abe", (6, 5, 4), (None, 30)): (20, 30, 6),
    ("abc,dc->abd", (6, 20), (None, 30)): (20, 30, 6),
    ("ab,bc->ac", (20,), (30,)): (20, 30, 1),
}


@pytest.mark.parametrize(("made", "found"), SITES.items(), ids=[case[0] for case in SITES])
def test_one_matrix_at_every_position_is_a_site(made: Any, found: tuple[int, int, int]) -> None:
    row, (cin, cout, positions) = row_of(model_of(*made)), found
    assert row.site.op == Conv((1,), cin, cout, (1,), (1,))
    assert row.site.maps == ((positions,),)
    assert row.macs == positions * cin * cout


@pytest.mark.parametrize(
    ("equation", "shape", "output", "reason", "macs"),
    [
        ("abc,bcd->abd", (6, 20), (6, 30), "has a kernel with axes of the batch or the positions", 6 * 20 * 30),
        ("abc,abcd->abd", (6, 20), (6, 30), "has a kernel with axes of the batch or the positions", None),
        ("blct,cd->bldt", (5, 6, 7), (5, 8, 7), "does not sum over the last axes of its input", 5 * 6 * 7 * 8),
        ("ab...,bc->ac...", (6, 7, 5), (8,), "does not sum over the last axes of its input", 6 * 7 * 5 * 8),
        ("...ab,ac->...bc", (4, 6, 20), (20, 30), "does not sum over the last axes of its input", 4 * 6 * 20 * 30),
        ("abc,cd->adb", (6, 20), (30, 6), "does not end in the axes that it makes", 6 * 20 * 30),
        ("abcd,de->acbe", (6, 7, 20), (7, 6, 30), "moves axes that it keeps", 6 * 7 * 20 * 30),
        ("abc,cd->ad", (6, 20), (30,), "sums over axes that its kernel does not have", 6 * 20 * 30),
    ],
)
def test_what_is_no_site_says_why_and_is_counted(
    equation: str, shape: tuple[int, ...], output: tuple[int, ...], reason: str, macs: int | None
) -> None:
    if macs is None:
        with pytest.raises(LrfError, match=reason):
            Equation.of(keras.layers.EinsumDense(equation, output))
        return
    row = row_of(model_of(equation, shape, output))
    assert (row.site, row.reason, row.macs) == (None, f"an EinsumDense layer that {reason}", macs)


@pytest.mark.parametrize("equation", ["aab,bc->aac", "abc,cdd->abd"])
def test_an_axis_twice_in_one_operand_is_no_site(equation: str) -> None:
    with pytest.raises(LrfError, match="repeats an axis"):
        Equation.of(keras.layers.EinsumDense(equation, (None, 3)))


def test_the_equations_of_a_chain_go_from_the_inputs_axes_to_the_outputs() -> None:
    equation = Equation.of(keras.layers.EinsumDense("...xy,byxa->...ab", (3, 4)))
    assert equation.stage(first=True, last=False) == "...xy,xyd->...d"
    assert equation.stage(first=False, last=False) == "...c,cd->...d"
    assert equation.stage(first=False, last=True) == "...c,cab->...ab"
    assert equation.stage(first=True, last=True) == "...xy,xyab->...ab"


@pytest.mark.parametrize("made", SITES, ids=[case[0] for case in SITES])
def test_a_kernel_is_laid_out_in_the_order_of_input_and_output(made: Any) -> None:
    layer = model_of(*made).get_layer("one")
    kernel = read_kernel(layer)
    assert kernel.shape == row_of(model_of(*made)).site.op.kernel_shape
    assert np.array_equal(to_keras_kernel(layer, kernel), layer.kernel.numpy())
    x = np.random.default_rng(0).standard_normal((2, *made[1])).astype(np.float32)
    given = np.asarray(layer(x))
    np.testing.assert_allclose(
        x.reshape(-1, kernel.shape[1]) @ kernel[0], given.reshape(-1, kernel.shape[2]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("bias", "positions"),
    [(None, None), ("e", None), ("de", None), (None, 6), ("e", 6), ("de", 6), ("b", 6), ("bde", 6), ("be", 6)],
)
def test_a_bias_of_any_axes_is_kept(bias: str | None, positions: int | None) -> None:
    axes = keras.initializers.VarianceScaling(input_axes=(0,), output_axes=(1, 2))
    model = model_of("abc,cde->abde", (6, 20), (positions, 5, 6), bias_axes=bias, kernel_initializer=axes)
    layer, (site,) = model.get_layer("one"), find_sites(model).sites
    rng = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(rng.standard_normal(variable.shape))
    layer.kernel.assign(to_keras_kernel(layer, rng.standard_normal((1, 20, 4)) @ rng.standard_normal((1, 4, 30))))
    choice = choice_of(site.op, "svd", 0.4)
    built = materialize(model, Plan.of({"one": choice}), {"one": fit(site.op, choice, read_kernel(layer), None)})
    x = rng.standard_normal((3, 6, 20)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(built(x)), np.asarray(model(x)), atol=1e-3)
    assert built.get_layer("one").layers[-1].bias_axes == bias
    assert built.get_layer("one").layers[0].bias is None
