"""Second moments of a layer's input patches.

With X the input patches (rows) and S = X'X / n, |X M|^2 / n = tr M'SM: S is all that a linear fit needs of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.chains.linalg import multiply_triangular
from lrf_optuna.fitting.patches import patches, split_by_group

RIDGE_OF_MOMENT = 1e-3
"""Share of the mean eigenvalue of S that is added to S: in directions without data the fit keeps the plain weights."""


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """R with R'R = S + ridge, `(d, d)` upper triangular; its columns are laid out as `(*window, cin)`.

    For fewer patches than columns, `(k, d)` with orthogonal rows and R'R = S: a wide S is never formed.
    """

    window: tuple[int, ...]
    factor: Array
    ridge: float
    thin: bool = False
    """Whether the ridge is not in R."""

    @classmethod
    def of(cls, window: tuple[int, ...], second: Array, share: float = RIDGE_OF_MOMENT) -> SecondMoment:
        """From the second moment itself, `(d, d)`, with a ridge of this share of its mean eigenvalue."""
        second = second.astype(np.float64)
        ridge = share * float(np.trace(second)) / len(second) or 1e-12
        second[np.diag_indices(len(second))] += ridge
        return cls(window, np.ascontiguousarray(np.linalg.cholesky(second).T.astype(np.float32)), ridge)

    @classmethod
    def of_rows(cls, window: tuple[int, ...], rows: Array) -> SecondMoment:
        """From fewer rows than columns."""
        exact = rows.astype(np.float64)
        values, left = np.linalg.eigh(exact @ exact.T / len(rows))
        nonzero = values > 1e-9 * max(float(values[-1]), 1e-30)
        ridge = RIDGE_OF_MOMENT * float(values[nonzero].sum()) / rows.shape[1] or 1e-12
        factor = (left[:, nonzero] / np.sqrt(len(rows))).astype(np.float32).T @ rows
        return cls(window, factor, ridge, thin=True)

    def root(self, matrix: Array) -> Array:
        """R M, with the ridge: distances between its columns are distances between layer outputs."""
        if not self.thin:
            return multiply_triangular(self.factor, matrix)
        return np.concatenate([self.factor @ matrix, np.sqrt(np.float32(self.ridge)) * matrix])

    def back(self, matrix: Array) -> Array:
        """R'M, for M in the shape of a result of `root`."""
        if not self.thin:
            return multiply_triangular(self.factor, matrix, transposed=True)
        rows = len(self.factor)
        data: Array = self.factor.T @ matrix[:rows]
        ridge: Array = np.sqrt(np.float32(self.ridge)) * matrix[rows:]
        return data + ridge

    def size(self, matrix: Array) -> float:
        """tr M'SM: the mean square of the outputs of the kernel M, without the ridge."""
        size = float(np.sum(np.square(self.factor @ matrix), dtype=np.float64))
        return size if self.thin else max(size - self.ridge * float(np.vdot(matrix, matrix)), 0.0)

    def whiten(self, matrix: Array, inverse: bool = False) -> Array:
        """T M with T'T = S + ridge, or T^-1 M."""
        if not self.thin:
            return solve_triangular_system(self.factor, matrix) if inverse else multiply_triangular(self.factor, matrix)
        values = np.einsum("kd,kd->k", self.factor, self.factor)
        base, scale = np.sqrt(np.float32(self.ridge)), np.sqrt(values + np.float32(self.ridge))
        scale, base = (1 / scale, 1 / base) if inverse else (scale, base)
        out: Array = self.factor.T @ (((scale - base) / values)[:, None] * (self.factor @ matrix)) + base * matrix
        return out

    def seen_by(self, stage: Conv) -> SecondMoment:
        """The moment of a first stage's inputs: S averaged over the places of its window or slice."""
        if stage.window == self.window and stage.slices == 1:
            return self
        width = stage.kernel_shape[-2]
        factor = self.factor.reshape(-1, *self.window, stage.lead, width, stage.trail)
        window = len(self.window)
        averaged = [1 + axis for axis, size in enumerate(stage.window) if size == 1 and self.window[axis] > 1]
        factor = np.moveaxis(factor, [*averaged, 1 + window, 3 + window], range(len(averaged) + 2))
        places = prod(factor.shape[: len(averaged) + 2])
        rows = factor.reshape(-1, prod(stage.window) * width)
        second = rows.T @ rows / np.float32(places)
        second[np.diag_indices(len(second))] -= 0 if self.thin else self.ridge
        return SecondMoment.of(stage.window, second)


def solve_triangular_system(upper: Array, matrix: Array) -> Array:
    """R^-1 M for an upper triangular R."""
    from scipy.linalg import solve_triangular

    out: Array = solve_triangular(upper, matrix, lower=False, check_finite=False).astype(matrix.dtype)
    return out


SecondMoments = tuple[SecondMoment, ...]
"""One a group."""


@dataclass(slots=True)
class MomentAccumulator:
    """The sums of a layer's second moments, one a group, over batches of its input maps."""

    op: Conv
    positions: int
    second: Array | None = None
    rows: list[Array] = field(default_factory=list)
    count: int = 0

    def add(self, maps: Array) -> None:
        """Add input maps `(images, *map, cin)`."""
        found = patches(maps, self.op, self.positions, seed=self.count).astype(np.float32, copy=False)
        self.rows.append(split_by_group(found, self.op))
        self.count += len(found)
        if self.count >= self.rows[-1].shape[2]:
            self.second = self.gram.astype(np.float64) if self.second is None else self.second + self.gram
            self.rows.clear()

    def moments(self) -> SecondMoments:
        """The moments of all added maps."""
        window = self.op.window
        if self.second is None:
            return tuple(SecondMoment.of_rows(window, rows) for rows in np.concatenate(self.rows, axis=1))
        return tuple(SecondMoment.of(window, second) for second in (self.second + self.gram) / self.count)

    @property
    def gram(self) -> Array:
        """X'X of every group over the rows that are not in `second` yet, `(groups, d, d)`."""
        return sum((np.swapaxes(rows, 1, 2) @ rows for rows in self.rows), start=np.zeros((), np.float32))
