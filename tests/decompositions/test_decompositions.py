"""The laws of a decomposition (see its protocol), over the whole table; and each method against an authority."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
import tensorly as tl
from hypothesis import assume, given
from hypothesis import strategies as st
from tensorly.decomposition import parafac, partial_tucker, tensor_train

from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.base import Decomposition, factorize
from lrf_optuna.decompositions.cp import als
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Choice

Array = np.ndarray[Any, Any]
ITERATIVE = {"cp": 0.02, "cp3": 0.02, "tucker2": 1e-3}
"""Methods that iterate, and the relative squared error that they may leave where an exact solution exists."""
OPS = {
    "dense": Conv((), 24, 16, (), ()),
    "dense, one out": Conv((), 24, 1, (), ()),
    "1x1, stride 2": Conv((1, 1), 12, 16, (2, 2), (1, 1)),
    "3x3 same": Conv((3, 3), 8, 12, (1, 1), (1, 1), "same"),
    "3x3 valid, stride 2": Conv((3, 3), 12, 8, (2, 2), (1, 1)),
    "3x3 dilated": Conv((3, 3), 8, 8, (1, 1), (2, 2), "same"),
    "5x1": Conv((5, 1), 8, 6, (1, 1), (1, 1), "same"),
    "1x5, stride 2": Conv((1, 5), 8, 6, (2, 2), (1, 1), "same"),
    "even window": Conv((2, 4), 6, 10, (1, 1), (1, 1), "same"),
    "one channel in": Conv((3, 3), 1, 12, (1, 1), (1, 1), "same"),
    "one channel out": Conv((3, 3), 12, 1, (1, 1), (1, 1), "same"),
    "1-D": Conv((5,), 8, 12, (2,), (1,), "same"),
    "3-D": Conv((3, 2, 3), 5, 6, (1, 2, 1), (1, 1, 1), "same"),
}
OVER_TABLE = [
    pytest.param(method, op, id=f"{name}: {case}")
    for name, method in DECOMPOSITIONS.items()
    for case, op in OPS.items()
    if method.applies(op)
]
over_table = pytest.mark.parametrize(("method", "op"), OVER_TABLE)


@st.composite
def operations(draw: st.DrawFn) -> Conv:
    """Any operation without groups, from a Dense layer to a 3-D convolution; often one that every method applies to."""
    sizes, more = st.integers(1, 5), st.integers(2, 5)
    window = tuple(
        draw(st.just([]) | st.just([]) | st.lists(sizes, max_size=3) | st.lists(more, min_size=2, max_size=3))
    )
    products = st.sampled_from([8, 12, 16, 18, 20, 24, 27, 30, 36, 40])
    channels = st.integers(1, 40) | products | products
    strides = tuple(draw(st.integers(1, 3)) for _ in window)
    dilation = tuple(1 if max(strides) > 1 else draw(st.integers(1, 2)) for _ in window)
    padding = draw(st.sampled_from(["same", "valid"])) if window else "valid"
    return Conv(window, draw(channels), draw(channels), strides, dilation, padding)


def random_kernel(op: Conv, seed: int = 0) -> Array:
    """A kernel whose singular values fall off, as those of trained layers do."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(op.kernel_shape)
    smooth = sum(
        0.6**i * np.multiply.outer(rng.standard_normal(op.kernel_shape[:-1]), rng.standard_normal(op.cout))
        for i in range(8)
    )
    return (0.3 * noise + smooth).astype(np.float32)


def off(kernel: Array, composed: Array) -> float:
    """Relative squared error."""
    return float(np.sum((kernel - composed) ** 2) / np.sum(kernel**2))


def error_at(method: Decomposition, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> float:
    return off(kernel, method.chain(op, ranks).compose(factorize(method, op, kernel, ranks)))


def applicable(name: str, op: Conv) -> Decomposition:
    assume(DECOMPOSITIONS[name].applies(op))
    return DECOMPOSITIONS[name]


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_a_decomposition_stands_under_its_own_name_and_applies_to_something(name: str) -> None:
    assert DECOMPOSITIONS[name].name == name
    assert any(DECOMPOSITIONS[name].applies(op) for op in OPS.values())


def test_there_is_a_decomposition_for_every_operation() -> None:
    for case, op in OPS.items():
        assert any(method.applies(op) for name, method in DECOMPOSITIONS.items() if name != "intact"), case


def test_an_unknown_method_in_a_plan_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LrfError, match=r"unknown method 'svdd'.*'svd'.*there is: .*tucker2"):
        chain_of(OPS["dense"], Choice("svdd", (2,)))


@pytest.mark.parametrize("name", [name for name in DECOMPOSITIONS if name != "intact"])
@given(op=operations(), keep=st.floats(0.001, 1.0))
def test_a_chain_keeps_to_its_budget_or_has_ranks_of_one(name: str, op: Conv, keep: float) -> None:
    method = applicable(name, op)
    ranks = method.ranks(op, keep)
    assert all(isinstance(rank, int) and rank >= 1 for rank in ranks)
    assert method.chain(op, ranks).params <= keep * op.params or set(ranks) == {1}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
@given(op=operations(), keeps=st.lists(st.floats(0.001, 1.0), min_size=2, max_size=6))
def test_a_chain_has_no_fewer_weights_when_more_are_kept(name: str, op: Conv, keeps: list[float]) -> None:
    method = applicable(name, op)
    sizes = [method.chain(op, method.ranks(op, keep)).params for keep in sorted(keeps)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", [name for name in DECOMPOSITIONS if name != "intact"])
@given(op=operations(), keep=st.floats(0.05, 0.9), more=st.floats(0.0, 0.5))
def test_no_larger_chain_of_the_family_keeps_to_the_budget(name: str, op: Conv, keep: float, more: float) -> None:
    method = applicable(name, op)
    params, larger = (method.chain(op, method.ranks(op, share)).params for share in (keep, keep + more))
    assert larger == params or larger > keep * op.params


@pytest.mark.parametrize("name", DECOMPOSITIONS)
@given(op=operations(), keep=st.floats(0.01, 1.0))
def test_stages_join_to_the_operation(name: str, op: Conv, keep: float) -> None:
    method = applicable(name, op)
    stages = method.chain(op, method.ranks(op, keep)).stages
    channels = [op.cin, *(stage.cout for stage in stages)]
    assert [stage.cin for stage in stages] == channels[:-1]
    assert channels[-1] == op.cout
    assert tuple(map(prod, zip(*(stage.strides for stage in stages), strict=True))) == op.strides
    for axis, size in enumerate(op.window):
        looking = [stage for stage in stages if stage.window[axis] > 1]
        assert [stage.window[axis] for stage in looking] == [size] * (size > 1)
        assert all(stage.dilation[axis] == op.dilation[axis] for stage in looking)
        assert all(stage.padding == op.padding for stage in looking)
    assert not any(max(stage.strides) > 1 and max(stage.dilation) > 1 for stage in stages if stage.window)
    assert all(stage.groups in (1, stage.cin) for stage in stages)


@over_table
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factorize_gives_one_kernel_of_the_right_shape_and_dtype_a_stage(
    method: Decomposition, op: Conv, dtype: type
) -> None:
    for keep in (0.01, 0.4, 1.0):
        ranks = method.ranks(op, keep)
        chain, kernels = method.chain(op, ranks), factorize(method, op, random_kernel(op).astype(dtype), ranks)
        assert [kernel.shape for kernel in kernels] == [stage.kernel_shape for stage in chain.stages]
        assert {kernel.dtype for kernel in kernels} == {np.dtype(dtype)}
        assert chain.compose(kernels).shape == op.kernel_shape
        assert all(np.isfinite(kernel).all() for kernel in kernels)


@over_table
@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_planted_kernel_is_recovered(method: Decomposition, op: Conv, most: int) -> None:
    ranks = tuple(min(most, rank) for rank in method.ranks(op, 1.0))
    chain, rng = method.chain(op, ranks), np.random.default_rng(most)
    kernel = chain.compose(tuple(rng.standard_normal(s.kernel_shape).astype(np.float32) for s in chain.stages))
    assert error_at(method, op, kernel, ranks) <= ITERATIVE.get(method.name, 1e-9)


@over_table
def test_the_error_does_not_rise_with_the_ranks(method: Decomposition, op: Conv) -> None:
    slack = 0.01 if method.name in ITERATIVE else 1e-6
    kernel = random_kernel(op)
    errors = [error_at(method, op, kernel, method.ranks(op, keep)) for keep in (0.05, 0.15, 0.3, 0.5, 0.8, 1.2)]
    assert all(more <= less + slack for less, more in pairwise(errors)), errors


@over_table
def test_the_same_kernel_gives_the_same_stages_and_stays_as_it_is(method: Decomposition, op: Conv) -> None:
    kernel, ranks = random_kernel(op), method.ranks(op, 0.6)
    before = kernel.copy()
    first, second = (factorize(method, op, kernel, ranks) for _ in range(2))
    assert np.array_equal(kernel, before)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)
        assert not np.shares_memory(a, kernel)


@pytest.mark.parametrize("case", OPS)
def test_intact_is_the_kernel_itself(case: str) -> None:
    op, kernel = OPS[case], random_kernel(OPS[case])
    assert chain_of(op, INTACT).stages == (op,)
    assert np.array_equal(factorize(DECOMPOSITIONS["intact"], op, kernel, ())[0], kernel)


@pytest.mark.parametrize(("name", "case"), [("svd", "dense"), ("svd", "1x1, stride 2"), ("channel_svd", "3x3 same")])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_svd_leaves_the_least_error_there_is(name: str, case: str, rank: int) -> None:
    op, kernel = OPS[case], random_kernel(OPS[case])
    values = np.linalg.svd(kernel.reshape(-1, op.cout).astype(float), compute_uv=False)
    least = np.sum(values[rank:] ** 2) / np.sum(values**2)  # Eckart and Young 1936
    assert error_at(DECOMPOSITIONS[name], op, kernel, (rank,)) == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize("case", ["3x3 same", "3x3 dilated", "even window", "3-D"])
def test_tucker2_is_as_near_as_the_higher_order_svd_of_tensorly(case: str) -> None:
    op, kernel = OPS[case], random_kernel(OPS[case])
    ranks, channels = (4, 3), [len(op.window), len(op.window) + 1]
    (core, factors), _ = partial_tucker(kernel, rank=ranks, modes=channels, init="svd", n_iter_max=100, tol=1e-8)
    wanted = tl.tenalg.multi_mode_dot(core, factors, modes=channels)
    assert error_at(DECOMPOSITIONS["tucker2"], op, kernel, ranks) == pytest.approx(off(kernel, wanted), rel=1e-3)


@pytest.mark.parametrize(
    ("case", "ranks"), [("3x3 same", (4, 6, 5)), ("even window", (3, 5, 7)), ("3-D", (3, 5, 4, 3)), ("1-D", (5, 6))]
)
def test_tt_is_the_tensor_train_of_tensorly(case: str, ranks: tuple[int, ...]) -> None:
    op, kernel = OPS[case], random_kernel(OPS[case])
    method = DECOMPOSITIONS["tt"]
    wanted = tensor_train(np.moveaxis(kernel, -2, 0), rank=[1, *ranks, 1]).to_tensor()
    composed = method.chain(op, ranks).compose(factorize(method, op, kernel, ranks))
    np.testing.assert_allclose(composed, np.moveaxis(wanted, 0, -2), atol=1e-4)


@pytest.mark.filterwarnings("ignore:Trying to compute SVD:UserWarning")
@pytest.mark.parametrize("case", ["3x3 same", "5x1", "even window", "1-D", "3-D"])
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_cp_is_no_worse_than_the_parafac_of_tensorly(case: str, rank: int) -> None:
    tensor = np.squeeze(random_kernel(OPS[case])).astype(np.float64)
    theirs = parafac(tensor, rank, n_iter_max=30, init="svd", tol=1e-8, random_state=0).to_tensor()
    ours = tl.cp_to_tensor((None, als(tensor, rank)))
    assert off(tensor, ours) <= 1.05 * off(tensor, theirs)


@pytest.mark.parametrize("rank", [2, 20])
def test_cp_components_are_bounded(rank: int) -> None:
    """No component may be many times larger than the kernel and cancel against another."""
    tensor = random_kernel(OPS["3x3 same"])
    factors = als(tensor, rank)
    sizes = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)
    assert sizes.max() < 10 * np.linalg.norm(tensor)
