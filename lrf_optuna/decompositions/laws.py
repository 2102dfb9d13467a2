"""The laws of a decomposition, checked on small operations: a user's own is refused with the law that it breaks.

A new law is a function of an `Example` that says whether the law holds, and its sentence in `LAWS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels
from lrf_optuna.decompositions.base import Decomposition, PreparedDecomposition, factorize
from lrf_optuna.errors import LrfError

PLAIN_NAME = re.compile(r"[A-Za-z][\w-]*")
REQUIRED_METHODS = ("applies", "ranks", "chain", "factorize")
"""A decomposition may have `prepare` and `truncate` in the place of `factorize`."""
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


@dataclass(frozen=True)
class Example:
    """A decomposition of an operation at `LAW_KEEPS`, from the smallest chain."""

    method: Decomposition
    op: Conv

    @cached_property
    def ranks(self) -> list[tuple[int, ...]]:
        """The ranks at each keep."""
        return [self.method.ranks(self.op, keep) for keep in LAW_KEEPS]

    @cached_property
    def chains(self) -> list[Chain]:
        """The chain at each keep."""
        return [self.method.chain(self.op, ranks) for ranks in self.ranks]

    @property
    def kernel(self) -> Array:
        """A new kernel, always equal, whose singular values fall off, as those of trained layers do."""
        rng, shape = np.random.default_rng(0), self.op.kernel_shape
        kernel = 0.3 * rng.standard_normal(shape)
        for i in range(8):
            kernel += 0.6**i * np.multiply.outer(rng.standard_normal(shape[:-1]), rng.standard_normal(shape[-1]))
        return kernel.astype(np.float32)

    def factorize(self, kernel: Array, at: int = -1) -> Kernels:
        """The stage kernels at one of the keeps."""
        return factorize(self.method, self.op, kernel, self.ranks[at])


def check(method: Decomposition) -> None:
    """Raises LrfError with the first law that `method` breaks, and the operation on which it does."""
    check_form(method)
    try:
        examples = {case: Example(method, op) for case, op in OPERATIONS.items() if method.applies(op)}
    except Exception as reason:
        raise LrfError(f"the decomposition {method.name!r}: applies raises {reason!r}") from reason
    if not examples:
        operations = "; ".join(OPERATIONS)
        raise LrfError(f"the decomposition {method.name!r} applies to none of the operations of its laws: {operations}")
    for case, example in examples.items():
        for law, holds in LAWS.items():
            broken = f"the decomposition {method.name!r} breaks the law that {law}: not for {case}"
            try:
                satisfied = holds(example)
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
    prepared = isinstance(method, PreparedDecomposition)
    if prepared and hasattr(method, "factorize"):
        raise LrfError(f"the decomposition {name!r} has factorize besides prepare and truncate: remove factorize")
    needed = REQUIRED_METHODS[: 3 if prepared else 4]
    missing = [part for part in needed if not callable(getattr(method, part, None))]
    if missing:
        raise LrfError(f"the decomposition {name!r} lacks {', '.join(missing)}: it should have {', '.join(needed)}")


def has_whole_ranks(example: Example) -> bool:
    """Whether the ranks at every keep are whole numbers from 1 up, in tuples of one length."""
    whole = all(type(rank) is int and rank >= 1 for ranks in example.ranks for rank in ranks)
    return whole and {(type(ranks), len(ranks)) for ranks in example.ranks} == {(tuple, len(example.ranks[0]))}


def is_within_budget(example: Example) -> bool:
    """Whether every chain has at most its share of the weights, or ranks of 1."""
    shares = zip(LAW_KEEPS, example.ranks, example.chains, strict=True)
    return all(chain.params <= keep * example.op.params or set(ranks) <= {1} for keep, ranks, chain in shares)


def has_one_window(op: Conv, chain: Chain) -> bool:
    """Whether along each axis one stage has the window as the operation has it, and no stage has another window."""
    for axis, size in enumerate(op.window):
        stages = [stage for stage in chain.stages if stage.window[axis] > 1]
        found = [(s.window[axis], s.dilation[axis], s.padding, s.transposed) for s in stages]
        if found != [(size, op.dilation[axis], op.padding, op.transposed)] * (size > 1):
            return False
    return True


def can_be_layers(chain: Chain) -> bool:
    """Whether Keras has a layer for each stage, and the last one can be solved for."""
    return (
        chain.stages[-1].groups == 1
        and all(stage.groups == 1 or (stage.depthwise and not stage.transposed) for stage in chain.stages)
        and not any(max(s.strides) > 1 and max(s.dilation) > 1 for s in chain.stages if s.window)
    )


def has_nested_views(chain: Chain) -> bool:
    """Whether the first has no lead and the last no trail; a lead grows by outputs before it, a trail shrinks."""
    leads, trails = [s.lead for s in chain.stages], [s.trail for s in chain.stages]
    inside, outside = [s.kernel_shape[0] for s in chain.stages], [s.kernel_shape[1] for s in chain.stages]
    return (
        leads[0] == trails[-1] == 1
        and all(after % before == 0 for before, after in pairwise(leads))
        and all(o % (after // before) == 0 for o, (before, after) in zip(outside, pairwise(leads), strict=False))
        and all(more % less == 0 for more, less in pairwise(trails))
        and all(i % (more // less) == 0 for i, (more, less) in zip(inside[1:], pairwise(trails), strict=True))
    )


def gives_kernels(example: Example) -> bool:
    """Whether the smallest and the largest chain get finite kernels of their shapes, in both precisions."""
    for dtype in (np.float32, np.float64):
        for at in (0, -1):
            kernels = example.factorize(example.kernel.astype(dtype), at)
            forms = [(stage.kernel_shape, np.dtype(dtype)) for stage in example.chains[at].stages]
            finite = all(np.isfinite(kernel).all() for kernel in kernels)
            if not isinstance(kernels, tuple) or not finite or [(k.shape, k.dtype) for k in kernels] != forms:
                return False
    return True


def leaves_its_arguments(example: Example) -> bool:
    """Whether the kernel stays as it is, and no stage kernel is a view of it."""
    kernel = example.kernel
    kernels = example.factorize(kernel)
    return np.array_equal(kernel, example.kernel) and not any(np.shares_memory(kernel, stage) for stage in kernels)


def gets_better(example: Example) -> bool:
    """Whether the relative squared error does not rise from one keep to the next."""
    kernel = example.kernel
    composed = [chain.compose(example.factorize(kernel, at)) for at, chain in enumerate(example.chains)]
    errors = [float(np.sum((kernel - found) ** 2) / np.sum(kernel**2)) for found in composed]
    return all(more <= less + SLACK for less, more in pairwise(errors))


LAWS: dict[str, Callable[[Example], bool]] = {
    "its ranks are a tuple of whole numbers from 1 up, as many at every keep": has_whole_ranks,
    "its chain has at most keep * op.params weights, or every rank is 1": is_within_budget,
    "its weights grow with keep": lambda e: all(less.params <= more.params for less, more in pairwise(e.chains)),
    "its stages join from op.cin to op.cout": lambda e: all(
        [e.op.cin, *(stage.cout for stage in chain.stages)] == [*(stage.cin for stage in chain.stages), e.op.cout]
        for chain in e.chains
    ),
    "its strides multiply to op.strides": lambda e: all(
        tuple(map(prod, zip(*(stage.strides for stage in chain.stages), strict=True))) == e.op.strides
        for chain in e.chains
    ),
    "along each axis one stage has the window, dilation and padding of the operation": lambda e: all(
        has_one_window(e.op, chain) for chain in e.chains
    ),
    "every stage is plain or depthwise, the last one plain, none with stride and dilation": lambda e: all(
        map(can_be_layers, e.chains)
    ),
    "contractions go from the first factor of a Dense layer's inputs to the last": lambda e: all(
        e.op.window == () and has_nested_views(chain) for chain in e.chains if chain.tensorized
    ),
    "factorize gives a tuple of one finite kernel a stage, of its kernel_shape and the input's dtype": gives_kernels,
    "equal input gives equal output": lambda e: all(map(np.array_equal, e.factorize(e.kernel), e.factorize(e.kernel))),
    "arguments are left as they are": leaves_its_arguments,
    "the error does not rise with the ranks": gets_better,
}
"""What a decomposition promises -> whether it keeps it in an example."""
