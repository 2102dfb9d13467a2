"""Fitting stage kernels to the layer's real inputs instead of to its weights.

With S the second moment of the layer's input patches and W the dense kernel as a (window x cin) by cout matrix, the
error of a chain that composes to V is tr (W - V)' S (W - V). Three steps make every decomposition minimize this error:
the part of S that the first stage sees whitens the kernel before its factorization (exact for SVDs), the last stage is
solved for in closed form under the whole S, and the stages before the last then follow the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array, Conv, Kernels, join_groups, split_groups
from lrf_optuna.decompositions.base import PreparedDecomposition
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.fitting.balance import balanced
from lrf_optuna.fitting.second_moment import SecondMoment, SecondMoments
from lrf_optuna.fitting.variable_projection import MOST_ENTRIES, VariableProjection, fit_stages
from lrf_optuna.plans.plan import Choice

COPIES = 10
"""Copies of a kernel that whitened kernels and prepared factorizations amount to, at most."""


@dataclass
class GroupFitter:
    """One group of a layer; whitened kernels and prepared factorizations are shared by all its fits."""

    op: Conv
    kernel: Array
    moment: SecondMoment | None
    whitened: dict[tuple[object, ...], tuple[SecondMoment, Array]] = field(default_factory=dict)
    prepared: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def fit(self, choice: Choice) -> Kernels:
        """The stage kernels of a choice."""
        method = DECOMPOSITIONS[choice.method]
        chain = method.chain(self.op, choice.ranks)
        first = chain.stages[0]
        if len(chain.stages) == 1 or self.moment is None:
            return balanced(chain, self.factorized(choice, (), self.kernel))
        view = first.window, first.lead, first.trail
        if view not in self.whitened:
            local = self.moment.seen_by(first)
            self.whitened[view] = local, whitened_inputs(local, first, self.kernel)
        local, kernel = self.whitened[view]
        kernels = self.factorized(choice, view, kernel)
        kernels = (whitened_inputs(local, first, kernels[0], inverse=True), *kernels[1:])
        task = VariableProjection(chain, self.moment, self.goal)
        if task.entries > MOST_ENTRIES:
            return balanced(chain, kernels)
        return fit_stages(task, kernels)

    def factorized(self, choice: Choice, view: tuple[object, ...], kernel: Array) -> Kernels:
        """The plain factorization of a kernel that was whitened for one `view`, the inputs of a first stage."""
        method = DECOMPOSITIONS[choice.method]
        if not isinstance(method, PreparedDecomposition):
            return method.factorize(self.op, kernel, choice.ranks)
        key = choice.method, view
        if key not in self.prepared:
            self.prepared[key] = method.prepare(self.op, kernel)
        return method.truncate(self.op, self.prepared[key], choice.ranks)

    @cached_property
    def goal(self) -> Array:
        """R W, with R the root of the moment: distances to it are errors of the layer's outputs."""
        assert self.moment is not None
        return self.moment.root(as_matrix(self.kernel))

    @cached_property
    def output_size(self) -> float:
        """The mean square of the layer's outputs; of its weights without a moment."""
        return self.squared_error(np.zeros_like(self.kernel))

    def squared_error(self, composed: Array) -> float:
        """The mean squared difference of the outputs with a composed kernel."""
        difference = as_matrix(self.kernel - composed)
        return self.moment.size(difference) if self.moment else float(np.vdot(difference, difference))


class LayerFitter:
    """Fits chains to one layer: `kernel` (`op.kernel_shape`), with the `moments` of its inputs, one a group.

    Without moments, the plain factorization in the Frobenius norm. Groups are fitted one by one.
    """

    def __init__(self, op: Conv, kernel: Array, moments: SecondMoments | None = None) -> None:
        each = moments or (None,) * op.groups
        parts = zip(split_groups(kernel, op.groups), each, strict=True)
        self.parts = [GroupFitter(op.part, np.ascontiguousarray(part), moment) for part, moment in parts]

    def fit(self, choice: Choice) -> Kernels:
        """Stage kernels of a choice, each contiguous in memory."""
        fits = zip(*(part.fit(choice) for part in self.parts), strict=True)
        return tuple(np.ascontiguousarray(join_groups(kernels)) for kernels in fits)

    @property
    def nbytes(self) -> int:
        """About the most bytes in memory: the kernel, whitened and factorized in several ways."""
        return sum(COPIES * part.kernel.nbytes for part in self.parts)

    def error(self, composed: Array) -> float:
        """Relative squared error of the layer's outputs with a composed kernel; of its weights without moments."""
        pieces = zip(self.parts, split_groups(composed, len(self.parts)), strict=True)
        return sum(part.squared_error(own) for part, own in pieces) / max(
            sum(part.output_size for part in self.parts), 1e-30
        )


def as_matrix(kernel: Array) -> Array:
    """A kernel `(*window, cin, cout)` as a (window x cin) by cout matrix."""
    return kernel.reshape(-1, kernel.shape[-1])


def whitened_inputs(moment: SecondMoment, first: Conv, kernel: Array, inverse: bool = False) -> Array:
    """The whitening of what the first stage sees, applied to those axes of a kernel (any window that contains them)."""
    width, window = first.kernel_shape[-2], kernel.shape[:-2]
    lead, trail = (first.lead, first.trail) if kernel.shape[-2] > width else (1, 1)
    unfolded = kernel.reshape(*window, lead, width, trail, kernel.shape[-1])
    inside = [axis for axis, size in enumerate(window) if first.window[axis] > 1 or size == 1]
    moved = np.moveaxis(unfolded, [*inside, len(window) + 1], range(len(inside) + 1))
    white = moment.whiten(moved.reshape(prod(first.window) * width, -1), inverse).astype(kernel.dtype, copy=False)
    back = np.moveaxis(white.reshape(moved.shape), range(len(inside) + 1), [*inside, len(window) + 1])
    return np.ascontiguousarray(back).reshape(kernel.shape)
