"""What a layer's inputs look like: patches of its input maps, and their second moments.

With X the input patches (rows), S = X'X / n: |X M|^2 / n = tr M'SM, so S is all that a linear fit needs to know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrf_optuna.linear import upper
from lrf_optuna.stages import Array, Conv, Index

RIDGE = 1e-3
"""Share of the mean eigenvalue of S: pulls the fit towards the plain weights where the data say nothing."""
MOST_ROWS = 65536
"""Patches that a layer's moment is taken from, spread evenly over the images."""


def patches(maps: Array, op: Conv, positions: int, seed: int = 0) -> Array:
    """Input patches of `op` from `maps` `(images, *map, cin)`: rows of `window x cin`, at most `positions` an image.

    Where a map has more positions, the same random ones are taken from every image.
    """
    if not op.window:
        rows = maps.reshape(len(maps), -1, op.cin)
        return np.ascontiguousarray(rows[:, chosen(rows.shape[1], positions, seed)]).reshape(-1, op.cin)
    if op.transposed:
        return (
            patches(stuffed(maps, op), flipped(op), positions, seed)
            .reshape(-1, *op.window, op.cin)[(slice(None), *(slice(None, None, -1) for _ in op.window))]
            .reshape(-1, prod(op.window) * op.cin)
        )
    padded = np.pad(maps, ((0, 0), *op.pads(maps.shape[1:-1]), (0, 0)))
    spans = tuple((k - 1) * d + 1 for k, d in zip(op.window, op.dilation, strict=True))
    axes = tuple(range(1, 1 + len(spans)))
    strided: tuple[slice, ...] = (slice(None), *(slice(None, None, s) for s in op.strides))
    dilated: tuple[Any, ...] = (..., *(slice(None, None, d) for d in op.dilation))
    view: Array = sliding_window_view(padded, spans, axis=axes)[strided][dilated]
    out = view.shape[1 : 1 + len(spans)]
    at = np.unravel_index(chosen(prod(out), positions, seed), out)
    picked: tuple[Any, ...] = (slice(None), *at)
    found: Array = np.moveaxis(view[picked], 2, -1)  # (images, positions, *window, cin)
    return found.reshape(-1, prod(op.window) * op.cin)


def stuffed(maps: Array, op: Conv) -> Array:
    """Input maps of a transposed convolution with the zeros between and around pixels that make it a plain one."""
    shape = maps.shape[1:-1]
    out = op.out_map(shape)
    spans = [(k - 1) * d + 1 for k, d in zip(op.window, op.dilation, strict=True)]
    cut = [max(k - s, 0) // 2 if op.padding == "same" else 0 for k, s in zip(spans, op.strides, strict=True)]
    whole = np.zeros((len(maps), *(o + k - 1 for o, k in zip(out, spans, strict=True)), maps.shape[-1]), maps.dtype)
    sizes = zip(shape, spans, cut, op.strides, strict=True)
    at = tuple(slice(k - 1 - c, k - 1 - c + (n - 1) * s + 1, s) for n, k, c, s in sizes)
    whole[(slice(None), *at)] = maps
    return whole


def flipped(op: Conv) -> Conv:
    """The plain convolution that a transposed one is on its stuffed maps, with the window the other way round."""
    return replace(op, transposed=False, padding="valid", strides=(1,) * len(op.window))


def chosen(there: int, most: int, seed: int) -> Index:
    """`most` of `there` positions, in order; all of them where there are no more."""
    if there <= most:
        return np.arange(there)
    return np.sort(np.random.default_rng(seed).choice(there, most, replace=False))


@dataclass(frozen=True, slots=True)
class Moment:
    """R with R'R = S + ridge, `(d, d)` upper triangular; `window` says how its columns are laid out (then cin).

    For fewer patches than they are wide, `(k, d)` with orthogonal rows and R'R = S: a wide S is never formed.
    """

    window: tuple[int, ...]
    factor: Array
    ridge: float
    thin: bool = False
    """Whether the ridge is not in R."""

    @classmethod
    def of(cls, window: tuple[int, ...], second: Array, share: float = RIDGE) -> Moment:
        """From the second moment itself, `(d, d)`, with a ridge of this share of its mean eigenvalue."""
        second = second.astype(np.float64)
        ridge = share * float(np.trace(second)) / len(second) or 1e-12
        second[np.diag_indices(len(second))] += ridge
        return cls(window, np.ascontiguousarray(np.linalg.cholesky(second).T.astype(np.float32)), ridge)

    @classmethod
    def of_rows(cls, window: tuple[int, ...], rows: Array) -> Moment:
        """From fewer rows than they are wide."""
        exact = rows.astype(np.float64)
        values, left = np.linalg.eigh(exact @ exact.T / len(rows))
        alive = values > 1e-9 * max(float(values[-1]), 1e-30)
        ridge = RIDGE * float(values[alive].sum()) / rows.shape[1] or 1e-12
        factor = (left[:, alive] / np.sqrt(len(rows))).astype(np.float32).T @ rows
        return cls(window, factor, ridge, thin=True)

    def root(self, matrix: Array) -> Array:
        """R M, with the ridge: distances between its columns are distances between layer outputs."""
        if not self.thin:
            return upper(self.factor, matrix)
        return np.concatenate([self.factor @ matrix, np.sqrt(np.float32(self.ridge)) * matrix])

    def back(self, matrix: Array) -> Array:
        """R'M, for M like what `root` gives."""
        if not self.thin:
            return upper(self.factor, matrix, transposed=True)
        seen = len(self.factor)
        data: Array = self.factor.T @ matrix[:seen]
        own: Array = np.sqrt(np.float32(self.ridge)) * matrix[seen:]
        return data + own

    def size(self, matrix: Array) -> float:
        """tr M'SM: the mean square of the outputs of the kernel M, without the ridge."""
        whole = float(np.sum(np.square(self.factor @ matrix), dtype=np.float64))
        return whole if self.thin else max(whole - self.ridge * float(np.vdot(matrix, matrix)), 0.0)

    def whiten(self, matrix: Array, inverse: bool = False) -> Array:
        """T M with T'T = S + ridge, or T^-1 M."""
        if not self.thin:
            return triangular(self.factor, matrix) if inverse else upper(self.factor, matrix)
        values = np.einsum("kd,kd->k", self.factor, self.factor)
        base, scale = np.sqrt(np.float32(self.ridge)), np.sqrt(values + np.float32(self.ridge))
        scale, base = (1 / scale, 1 / base) if inverse else (scale, base)
        out: Array = self.factor.T @ (((scale - base) / values)[:, None] * (self.factor @ matrix)) + base * matrix
        return out

    def seen_by(self, stage: Conv) -> Moment:
        """The moment of what a first stage sees that has a smaller window, or sees a slice of the channels at a time.

        S averaged over where that window, or slice, stands.
        """
        if stage.window == self.window and stage.slices == 1:
            return self
        width = stage.kernel_shape[-2]
        whole = self.factor.reshape(-1, *self.window, stage.lead, width, stage.trail)
        window = len(self.window)
        alone = [1 + axis for axis, size in enumerate(stage.window) if size == 1 and self.window[axis] > 1]
        whole = np.moveaxis(whole, [*alone, 1 + window, 3 + window], range(len(alone) + 2))
        places = prod(whole.shape[: len(alone) + 2])
        rows = whole.reshape(-1, prod(stage.window) * width)
        second = rows.T @ rows / np.float32(places)
        second[np.diag_indices(len(second))] -= 0 if self.thin else self.ridge
        return Moment.of(stage.window, second)


def triangular(upper: Array, matrix: Array) -> Array:
    """R^-1 M for an upper triangular R."""
    from scipy.linalg import solve_triangular

    out: Array = solve_triangular(upper, matrix, lower=False, check_finite=False).astype(matrix.dtype)
    return out


Moments = tuple[Moment, ...]
"""One a group."""


@dataclass(slots=True)
class Gathering:
    """Adds up a layer's second moments, one a group, from batches of its input maps."""

    op: Conv
    positions: int
    second: Array | None = None
    rows: list[Array] = field(default_factory=list)
    count: int = 0

    def add(self, maps: Array) -> None:
        """Take in `(images, *map, cin)`."""
        found = patches(maps, self.op, self.positions, seed=self.count).astype(np.float32, copy=False)
        self.rows.append(by_group(found, self.op))
        self.count += len(found)
        if self.count >= self.rows[-1].shape[2]:
            batch = sum((squared(rows) for rows in self.rows), start=np.zeros((), np.float32))
            self.second = batch.astype(np.float64) if self.second is None else self.second + batch
            self.rows.clear()

    def moments(self) -> Moments:
        """The moments of everything added."""
        window = self.op.window
        if self.second is None:
            return tuple(Moment.of_rows(window, rows) for rows in np.concatenate(self.rows, axis=1))
        rest = sum((squared(rows) for rows in self.rows), start=np.zeros((), np.float32))
        return tuple(Moment.of(window, second) for second in (self.second + rest) / self.count)


def by_group(rows: Array, op: Conv) -> Array:
    """Patches `(n, window x cin)` as `(groups, n, window x cin // groups)`."""
    if op.groups == 1:
        return rows[None]
    split = rows.reshape(len(rows), -1, op.groups, op.cin // op.groups)
    return np.ascontiguousarray(np.moveaxis(split, 2, 0)).reshape(op.groups, len(rows), -1)


def squared(rows: Array) -> Array:
    """X'X of every group: `(groups, n, d) -> (groups, d, d)`."""
    out: Array = np.swapaxes(rows, 1, 2) @ rows
    return out
