"""The laws of a decomposition, checked on small operations: a user's own is refused with the law that it breaks.

A new law is a function of (decomposition, operation) that says whether the law holds, and its sentence in `LAWS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from math import prod

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.decompositions.base import Decomposition, PreparedDecomposition
from lrf_optuna.errors import LrfError

PLAIN_NAME = re.compile(r"[A-Za-z][\w-]*")
REQUIRED_METHODS = ("applies", "ranks", "chain", "factorize")
LAW_KEEPS = (0.05, 0.15, 0.3, 0.5, 0.8)
"""Keeps at which the laws are checked, from small to large."""
SLACK = 0.01
"""How much more relative squared error a larger chain may leave: iterative methods end near a minimum, not in it."""
OPERATIONS = {
    "a Dense layer, 24 to 16": Conv((), 24, 16, (), ()),
    "a 1 x 1 convolution, 12 to 16, stride 2": Conv((1, 1), 12, 16, (2, 2), (1, 1)),
    "a 3 x 3 convolution, 8 to 12": Conv((3, 3), 8, 12, (1, 1), (1, 1), "same"),
    "a 3 x 3 convolution, 12 to 8, stride 2": Conv((3, 3), 12, 8, (2, 2), (1, 1)),
    "a 3 x 3 convolution, 8 to 8, dilation 2": Conv((3, 3), 8, 8, (1, 1), (2, 2), "same"),
    "a 1 x 5 convolution, 8 to 6, stride 2": Conv((1, 5), 8, 6, (2, 2), (1, 1), "same"),
    "a 3 x 3 convolution, 1 to 12": Conv((3, 3), 1, 12, (1, 1), (1, 1), "same"),
    "a transposed 4 x 4 convolution, 8 to 6, stride 2": Conv((4, 4), 8, 6, (2, 2), (1, 1), "same", transposed=True),
    "a causal convolution of 5, 8 to 12": Conv((5,), 8, 12, (1,), (1,), "causal"),
    "a 3 x 2 x 3 convolution, 5 to 6": Conv((3, 2, 3), 5, 6, (1, 2, 1), (1, 1, 1), "same"),
}


def check(method: Decomposition) -> None:
    """Raises LrfError with the first law that `method` breaks, and the operation on which it does."""
    check_form(method)
    try:
        tried = {case: op for case, op in OPERATIONS.items() if method.applies(op)}
    except Exception as reason:
        raise LrfError(f"the decomposition {method.name!r}: applies raises {reason!r}") from reason
    if not tried:
        operations = "; ".join(OPERATIONS)
        raise LrfError(f"the decomposition {method.name!r} applies to none of the operations of its laws: {operations}")
    for case, op in tried.items():
        for law, holds in LAWS.items():
            broken = f"the decomposition {method.name!r} breaks the law that {law}: not for {case}"
            try:
                satisfied = holds(method, op)
            except Exception as reason:  # whatever a stranger's code raises
                raise LrfError(f"{broken} ({' '.join(repr(reason).split())})") from reason
            if not satisfied:
                raise LrfError(broken)


def check_form(method: Decomposition) -> None:
    """Raises LrfError where `method` is no decomposition at all, by its name and methods."""
    if isinstance(method, type):
        raise LrfError(f"a decomposition should be an object, but got the class {method.__name__}: call it")
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
        raise LrfError(f"a decomposition has a plain name (letters, digits, '_' and '-'), but got {name=}")
    missing = [part for part in REQUIRED_METHODS if not callable(getattr(method, part, None))]
    if missing:
        raise LrfError(
            f"the decomposition {name!r} lacks {', '.join(missing)}: it should have {', '.join(REQUIRED_METHODS)}"
        )


def chains_of(method: Decomposition, op: Conv) -> list[Chain]:
    """The chains at `LAW_KEEPS`, from the smallest."""
    return [method.chain(op, method.ranks(op, keep)) for keep in LAW_KEEPS]


def has_whole_ranks(method: Decomposition, op: Conv) -> bool:
    """Ranks from 1 up, as many at every keep."""
    ranks = [method.ranks(op, keep) for keep in LAW_KEEPS]
    valid = all(isinstance(each, tuple) and all(type(rank) is int and rank >= 1 for rank in each) for each in ranks)
    return valid and len({len(each) for each in ranks}) == 1


def is_within_budget(method: Decomposition, op: Conv) -> bool:
    """A chain has no more weights than the share that is wanted."""
    pairs = zip(LAW_KEEPS, chains_of(method, op), strict=True)
    return all(chain.params <= keep * op.params or set(method.ranks(op, keep)) <= {1} for keep, chain in pairs)


def grows(method: Decomposition, op: Conv) -> bool:
    """A chain's weights do not fall from one keep to the next."""
    return all(less.params <= more.params for less, more in pairwise(chains_of(method, op)))


def joins(method: Decomposition, op: Conv) -> bool:
    """Each stage takes the channels that the one before gives."""
    channels = [[op.cin, *(stage.cout for stage in chain.stages)] for chain in chains_of(method, op)]
    inputs = [[stage.cin for stage in chain.stages] for chain in chains_of(method, op)]
    return all(c[:-1] == i and c[-1] == op.cout for c, i in zip(channels, inputs, strict=True))


def has_the_strides(method: Decomposition, op: Conv) -> bool:
    """The stages' strides multiply to the operation's."""
    return all(
        tuple(map(prod, zip(*(stage.strides for stage in chain.stages), strict=True))) == op.strides
        for chain in chains_of(method, op)
    )


def looks_once(method: Decomposition, op: Conv) -> bool:
    """Along each axis of the window one stage has it, as the operation does; no stage has a window elsewhere."""
    for chain in chains_of(method, op):
        for axis, size in enumerate(op.window):
            looking = [stage for stage in chain.stages if stage.window[axis] > 1]
            if [stage.window[axis] for stage in looking] != [size] * (size > 1):
                return False
            wanted = op.dilation[axis], op.padding, op.transposed
            if any((stage.dilation[axis], stage.padding, stage.transposed) != wanted for stage in looking):
                return False
    return True


def can_be_layers(method: Decomposition, op: Conv) -> bool:
    """Keras has a layer for each stage, and the last one can be solved for."""
    return all(
        chain.stages[-1].groups == 1
        and all(stage.groups == 1 or (stage.depthwise and not stage.transposed) for stage in chain.stages)
        and not any(max(s.strides) > 1 and max(s.dilation) > 1 for s in chain.stages if s.window)
        for chain in chains_of(method, op)
    )


def has_nested_views(method: Decomposition, op: Conv) -> bool:
    """Contractions only in Dense layers, and each sees the channels as the one before left them."""
    tensorized = [chain for chain in chains_of(method, op) if chain.tensorized]
    return all(op.window == () and goes_on(chain) for chain in tensorized)


def goes_on(chain: Chain) -> bool:
    """The first has no lead and the last no trail; a lead grows by outputs of the stage before, a trail shrinks."""
    leads, trails = [s.lead for s in chain.stages], [s.trail for s in chain.stages]
    inside, outside = [s.kernel_shape[0] for s in chain.stages], [s.kernel_shape[1] for s in chain.stages]
    return (
        leads[0] == trails[-1] == 1
        and all(after % before == 0 for before, after in pairwise(leads))
        and all(o % (after // before) == 0 for o, (before, after) in zip(outside, pairwise(leads), strict=False))
        and all(more % less == 0 for more, less in pairwise(trails))
        and all(i % (more // less) == 0 for i, (more, less) in zip(inside[1:], pairwise(trails), strict=True))
    )


def gives_kernels(method: Decomposition, op: Conv) -> bool:
    """One kernel a stage, of its shape, finite, in the dtype of the kernel that came in."""
    for dtype in (np.float32, np.float64):
        for keep in (LAW_KEEPS[0], LAW_KEEPS[-1]):
            ranks = method.ranks(op, keep)
            kernels = method.factorize(op, example_kernel(op).astype(dtype), ranks)
            shapes = [stage.kernel_shape for stage in method.chain(op, ranks).stages]
            fits = [k.shape for k in kernels] == shapes and {k.dtype for k in kernels} == {np.dtype(dtype)}
            if not (isinstance(kernels, tuple) and fits and all(np.isfinite(kernel).all() for kernel in kernels)):
                return False
    return True


def is_cut_from_what_is_prepared(method: Decomposition, op: Conv) -> bool:
    """The kernels of `truncate` are those of `factorize`, where a method has both."""
    if not isinstance(method, PreparedDecomposition):
        return True
    kernel, ranks = example_kernel(op), method.ranks(op, LAW_KEEPS[-1])
    cut = method.truncate(op, method.prepare(op, kernel), ranks)
    return all(np.array_equal(a, b) for a, b in zip(cut, method.factorize(op, kernel, ranks), strict=True))


def repeats(method: Decomposition, op: Conv) -> bool:
    """The same bits again for the same kernel."""
    ranks = method.ranks(op, LAW_KEEPS[-1])
    first, second = (method.factorize(op, example_kernel(op), ranks) for _ in range(2))
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def leaves_its_arguments(method: Decomposition, op: Conv) -> bool:
    """The kernel stays as it is, and no stage kernel is a view of it."""
    kernel, ranks = example_kernel(op), method.ranks(op, LAW_KEEPS[-1])
    kernels = method.factorize(op, kernel, ranks)
    return np.array_equal(kernel, example_kernel(op)) and not any(np.shares_memory(kernel, stage) for stage in kernels)


def gets_better(method: Decomposition, op: Conv) -> bool:
    """The relative squared error does not rise from one keep to the next."""
    kernel, errors = example_kernel(op), []
    for keep in LAW_KEEPS:
        ranks = method.ranks(op, keep)
        composed = method.chain(op, ranks).compose(method.factorize(op, kernel, ranks))
        errors.append(float(np.sum((kernel - composed) ** 2) / np.sum(kernel**2)))
    return all(more <= less + SLACK for less, more in pairwise(errors))


def example_kernel(op: Conv, seed: int = 0) -> Array:
    """A kernel whose singular values fall off, as those of trained layers do."""
    rng = np.random.default_rng(seed)
    kernel = 0.3 * rng.standard_normal(op.kernel_shape)
    for i in range(8):
        kernel += 0.6**i * np.multiply.outer(rng.standard_normal(op.kernel_shape[:-1]), rng.standard_normal(op.cout))
    return kernel.astype(np.float32)


LAWS: dict[str, Callable[[Decomposition, Conv], bool]] = {
    "its ranks are a tuple of whole numbers from 1 up, as many at every keep": has_whole_ranks,
    "its chain has at most keep * op.params weights, or every rank is 1": is_within_budget,
    "its weights grow with keep": grows,
    "its stages join from op.cin to op.cout": joins,
    "its strides multiply to op.strides": has_the_strides,
    "along each axis one stage has the window, dilation and padding of the operation": looks_once,
    "every stage is plain or depthwise, the last one plain, none with stride and dilation": can_be_layers,
    "contractions go from the first factor of a Dense layer's inputs to the last": has_nested_views,
    "factorize gives a tuple of one finite kernel a stage, of its kernel_shape and the input's dtype": gives_kernels,
    "truncate of what prepare returns equals factorize": is_cut_from_what_is_prepared,
    "equal input gives equal output": repeats,
    "arguments are left as they are": leaves_its_arguments,
    "the error does not rise with the ranks": gets_better,
}
"""What a decomposition promises -> whether it keeps it for an operation."""
