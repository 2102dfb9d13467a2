"""Variable projection (Golub and Pereyra 1973): all stages of a chain fitted to a layer's inputs at once.

The stages before the last compose to A, and the last stage B = (A'SA)^-1 A'SW is solved for in closed form. The error
is then a function of the stages before the last, which L-BFGS minimizes in a tenth of the steps for all stages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels
from lrf_optuna.chains.linalg import solve_positive_definite
from lrf_optuna.fitting.balance import balanced
from lrf_optuna.fitting.second_moment import SecondMoment

MOST_ENTRIES = 2**28
"""Entries of the last stage's input matrix above which no stage is solved for: one GiB in single precision."""
MOST_STEPS, FEWEST_STEPS = 40, 5
"""Steps of L-BFGS at most, and the number below which none is worth its start."""
STEP_TOLERANCE = 5e-4
"""Share of the first error below which a step's decrease ends a fit in a search: errors rise by 0.5 % in the mean (five
methods at seven keeps on layers of 16, 32 and 64 channels)."""
GRADIENT_TOLERANCE = 1e-5
"""Gradient of the relative squared error below which a fit ends: the default of L-BFGS in scipy."""
MOST_PRODUCTS = 3e9
"""Multiplications for all steps of a chain: large kernels get fewer steps, and the largest none."""
RIDGE_OF_LAST_STAGE = 1e-6
"""Share of the mean second moment of the last stage's inputs: a ridge on its kernel bounds the components."""


@dataclass(frozen=True)
class VariableProjection:
    """A chain, the moment R of the layer's inputs, and `goal`, R W, `(k, cout)`."""

    chain: Chain
    moment: SecondMoment
    goal: Array
    effort: float = 1.0
    """Ratio of the steps to those of a fit in a search."""

    @cached_property
    def inputs(self) -> int:
        """Rows of the last kernel as a matrix."""
        return rows_of_last(self.chain.stages[-1])

    @cached_property
    def before_last(self) -> tuple[Chain, Array]:
        """The chain with an identity in the place of its last stage, and that stage's kernel."""
        return with_identity_last(self.chain)

    @property
    def entries(self) -> int:
        """Entries of R A, or of A where that is larger."""
        wide: int = max(self.goal.shape[0], self.moment.factor.shape[1])
        return wide * self.inputs * self.chain.stages[-1].lead

    @property
    def steps(self) -> int:
        """The number of steps at most."""
        each = max(1, 2 * self.moment.factor.shape[0] * self.entries)
        return int(min(MOST_STEPS * self.effort, MOST_PRODUCTS * self.effort // each))

    def solved(self, kernels: Kernels) -> Array:
        """The best last kernel for those before it, in its shape and dtype."""
        inputs = self.moment.root(compose_before_last(self.chain, kernels)).reshape(-1, self.inputs)
        last, _ = self.solution(inputs)
        return last.astype(kernels[-1].dtype).reshape(kernels[-1].shape)

    def solution(self, inputs: Array) -> tuple[Array, float]:
        """B for R A, as rows of the last stage's `inputs`, and the weight of its ridge."""
        goal = self.goal.reshape(len(inputs), -1)
        gram = (inputs.T @ inputs).astype(np.float64)
        ridge = RIDGE_OF_LAST_STAGE * float(np.trace(gram)) / len(gram) + 1e-30
        gram[np.diag_indices(len(gram))] += ridge
        return solve_positive_definite(gram, (inputs.T @ goal).astype(np.float64)), ridge

    def value(self, kernels: Kernels) -> tuple[float, Kernels]:
        """|R (A B - W)|^2 + ridge |B|^2 with the best B, and its gradients by the stages before the last."""
        chain, identity = self.before_last
        before, back = chain.linearized((*kernels[:-1], identity.astype(kernels[-1].dtype, copy=False)))
        width = self.moment.factor.shape[1]
        inputs = self.moment.root(before.reshape(width, -1)).reshape(-1, self.inputs)
        last, ridge = self.solution(inputs)
        last = last.astype(inputs.dtype)
        residual = inputs @ last - self.goal.reshape(len(inputs), -1)
        size = float(np.vdot(last, last))
        value = float(np.vdot(residual, residual)) + ridge * size
        by_inputs = 2 * (residual @ last.T + RIDGE_OF_LAST_STAGE / self.inputs * size * inputs)
        return value, back(self.moment.back(by_inputs.reshape(self.goal.shape[0], -1)))[:-1]


def compose_before_last(chain: Chain, kernels: Kernels) -> Array:
    """A with W = A B for the last kernel B as a matrix, `(window x cin, lead x inputs)`."""
    before_last, identity = with_identity_last(chain)
    last, dtype = chain.stages[-1], kernels[-1].dtype
    return before_last.compose((*kernels[:-1], identity.astype(dtype))).reshape(-1, last.lead * rows_of_last(last))


def rows_of_last(stage: Conv) -> int:
    """Rows of a stage's kernel as a matrix."""
    return stage.params // stage.kernel_shape[-1]


def with_identity_last(chain: Chain) -> tuple[Chain, Array]:
    """The chain with an identity in the place of its last stage, which has the same window, and that stage's kernel."""
    *earlier, last = chain.stages
    inputs = rows_of_last(last)
    identity = np.eye(inputs, dtype=np.float32).reshape(*last.kernel_shape[:-1], inputs)
    return Chain((*earlier, replace(last, cout=last.slices * inputs))), identity


def fit_stages(task: VariableProjection, kernels: Kernels) -> Kernels:
    """The balanced stage kernels after the last one was solved for and the others were refined."""
    solved = balanced(task.chain, (*kernels[:-1], task.solved(kernels)))
    return balanced(task.chain, refine_stages(task, solved))


def refine_stages(task: VariableProjection, kernels: Kernels) -> Kernels:
    """The stage kernels after as many steps as their size allows; unchanged where it allows too few."""
    if task.steps < FEWEST_STEPS:
        return kernels
    from scipy.optimize import minimize

    shapes = [kernel.shape for kernel in kernels[:-1]]
    cuts = np.cumsum([kernel.size for kernel in kernels[:-1]])[:-1]
    unit = task.value(kernels)[0] or 1.0

    def parts(vector: Array) -> Kernels:
        pieces = zip(np.split(vector.astype(kernels[-1].dtype), cuts), shapes, strict=True)
        return *(piece.reshape(shape) for piece, shape in pieces), kernels[-1]

    def value(vector: Array) -> tuple[float, Array]:
        found, gradients = task.value(parts(vector))
        return found / unit, np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64) / unit

    start = np.concatenate([kernel.ravel() for kernel in kernels[:-1]]).astype(np.float64)
    tolerance = STEP_TOLERANCE if task.effort <= 1 else 0.0
    gradient = GRADIENT_TOLERANCE * float(np.vdot(task.goal, task.goal)) / unit
    options = {"maxiter": task.steps, "maxcor": 20, "ftol": tolerance, "gtol": gradient}
    found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    better = parts(found.x)
    return *better[:-1], task.solved(better)
