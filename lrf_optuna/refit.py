"""Fitting stage kernels to the layer's real inputs instead of to its weights.

With X the input patches (rows), S = X'X / n and W the dense kernel as a (window x cin) by cout matrix, the error of a
chain that composes to V is |X (W - V)|^2 = tr (W - V)' S (W - V). Two steps make every decomposition minimise it:
the part of S that the first stage sees whitens the kernel before it is factorised (exact for SVDs), and the last
stage is then solved for in closed form under the whole of S.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrf_optuna.decompositions import DECOMPOSITIONS
from lrf_optuna.plan import Choice
from lrf_optuna.stages import Array, Chain, Conv, Index, joined, split

RIDGE = 1e-3
"""Of the mean eigenvalue of S: pulls the fit towards the plain weights where the data say nothing."""
BALANCINGS = 20
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
    """S = vectors diag(values) vectors', with a ridge; `window` says how its rows are laid out (then cin)."""

    window: tuple[int, ...]
    vectors: Array
    values: Array
    ridge: float

    @classmethod
    def of(cls, window: tuple[int, ...], second: Array) -> Moment:
        """From the second moment itself, `(d, d)`."""
        values, vectors = np.linalg.eigh(second)
        values = np.maximum(values, 0)
        return cls(window, vectors.astype(np.float32), values.astype(np.float32), RIDGE * float(values.mean()) or 1e-12)

    @classmethod
    def of_rows(cls, window: tuple[int, ...], rows: Array) -> Moment:
        """From fewer rows than they are wide, without ever forming S."""
        values, left = np.linalg.eigh((rows @ rows.T).astype(np.float64) / len(rows))
        alive = values > 1e-9 * max(float(values[-1]), 1e-30)
        values, left = values[alive], left[:, alive]
        vectors = rows.T @ (left / np.sqrt(values * len(rows))).astype(np.float32)
        ridge = RIDGE * float(values.sum()) / rows.shape[1] or 1e-12
        return cls(window, vectors, values.astype(np.float32), ridge)

    def root(self, matrix: Array) -> Array:
        """R M with R'R = S: distances between its columns are distances between layer outputs."""
        out: Array = np.sqrt(self.values)[:, None] * (self.vectors.T @ matrix)
        return out

    def whiten(self, matrix: Array, inverse: bool = False) -> Array:
        """(S + ridge)^(1/2) M, or its inverse applied to M."""
        base = np.sqrt(self.ridge)
        scale = np.sqrt(self.values + self.ridge)
        scale, base = (1 / scale, 1 / base) if inverse else (scale, base)
        out: Array = self.vectors @ ((scale - base)[:, None] * (self.vectors.T @ matrix)) + base * matrix
        return out

    def seen_by(self, stage: Conv) -> Moment:
        """The moment of what a first stage with a smaller window sees: S averaged over where that window stands."""
        if stage.window == self.window:
            return self
        whole = self.vectors.reshape(*self.window, stage.cin, -1) * np.sqrt(self.values)
        alone = [axis for axis, size in enumerate(stage.window) if size == 1 and self.window[axis] > 1]
        whole = np.moveaxis(whole, alone, range(len(alone)))
        flat = whole.reshape(prod(self.window[axis] for axis in alone), prod(stage.window) * stage.cin, -1)
        second = np.einsum("oik,ojk->ij", flat, flat, optimize=True) / len(flat)
        return Moment.of(stage.window, second)


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


def fit(op: Conv, choice: Choice, kernel: Array, moments: Moments | None) -> tuple[Array, ...]:
    """Stage kernels of `choice` for `kernel` (`op.kernel_shape`), fitted to the inputs that `moments` describe.

    Without moments, the plain factorization in the Frobenius norm. Groups are fitted one by one.
    """
    parts = split(kernel, op.groups)
    known = moments or (None,) * op.groups
    fitted = [fit_part(op.part, choice, part, moment) for part, moment in zip(parts, known, strict=True)]
    return tuple(joined(stage) for stage in zip(*fitted, strict=True))


def fit_part(op: Conv, choice: Choice, kernel: Array, moment: Moment | None) -> tuple[Array, ...]:
    """The stage kernels of one group."""
    method = DECOMPOSITIONS[choice.method]
    chain = method.chain(op, choice.ranks)
    if len(chain.stages) == 1 or moment is None:
        return balanced(chain, method.factorise(op, kernel, choice.ranks))
    first = chain.stages[0]
    local = moment.seen_by(first)
    kernels = method.factorise(op, on_inputs(local, first, kernel), choice.ranks)
    kernels = (on_inputs(local, first, kernels[0], inverse=True), *kernels[1:])
    return balanced(chain, refit_last(chain, kernels, kernel, moment))


def on_inputs(moment: Moment, first: Conv, kernel: Array, inverse: bool = False) -> Array:
    """The whitening of what the first stage sees, applied to those axes of a kernel (any window that contains them)."""
    window = kernel.shape[:-2]
    outside = [axis for axis, size in enumerate(first.window) if size == 1 and window[axis] > 1]
    moved = np.moveaxis(kernel, outside, range(len(outside)))
    blocks = moved.reshape(-1, prod(first.window) * first.cin, kernel.shape[-1])
    blocks = np.stack([moment.whiten(block, inverse) for block in blocks]).astype(kernel.dtype)
    return np.ascontiguousarray(np.moveaxis(blocks.reshape(moved.shape), range(len(outside)), outside))


def refit_last(chain: Chain, kernels: tuple[Array, ...], kernel: Array, moment: Moment) -> tuple[Array, ...]:
    """The same kernels with the last one solved for: B = (A'SA + ridge)^-1 A'SW."""
    last = kernels[-1]
    a, w = before_last(chain, kernels), kernel.reshape(-1, kernel.shape[-1])
    ra, rw = moment.root(a), moment.root(w)
    gram, right = ra.T @ ra + moment.ridge * (a.T @ a), ra.T @ rw + moment.ridge * (a.T @ w)
    return *kernels[:-1], solved(gram, right).astype(kernel.dtype).reshape(last.shape)


def before_last(chain: Chain, kernels: tuple[Array, ...]) -> Array:
    """A with W = A B for the last kernel B as a matrix: the chain with a last stage that only passes its input on."""
    *earlier, last = chain.stages
    inputs = last.params // last.cout
    passing = np.eye(inputs, dtype=kernels[-1].dtype).reshape(*last.window, last.cin, inputs)
    whole = Chain((*earlier, replace(last, cout=inputs))).compose((*kernels[:-1], passing))
    return whole.reshape(-1, inputs)


def solved(gram: Array, right: Array) -> Array:
    """gram^-1 right in double precision, with as little on the diagonal as keeps a singular gram solvable."""
    gram = gram.astype(np.float64)
    gram += (1e-7 * np.trace(gram) / len(gram) + 1e-30) * np.eye(len(gram))
    out: Array = np.linalg.solve(gram, right.astype(np.float64))
    return out


def balanced(chain: Chain, kernels: tuple[Array, ...]) -> tuple[Array, ...]:
    """The same composed kernel with equal norms on both sides of every inner channel, so that fine-tuning is stable.

    A stage between two others has its norms changed from both sides, so the balance is found by going through again.
    """
    out = list(kernels)
    for _ in range(BALANCINGS if len(out) > 2 else 1):
        for i, following in enumerate(chain.stages[1:]):
            axis = -1 if following.depthwise else -2
            before, after = channel_norms(out[i], -1), channel_norms(out[i + 1], axis)
            scale = np.sqrt(np.maximum(after, 1e-20) / np.maximum(before, 1e-20)).astype(kernels[i].dtype)
            out[i] = out[i] * scale
            out[i + 1] = out[i + 1] / (scale if axis == -1 else scale[:, None])
    return tuple(out)


def channel_norms(kernel: Array, axis: int) -> Array:
    """The norm of a kernel's slice for each channel on `axis`."""
    out: Array = np.linalg.norm(np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1), axis=1)
    return out


def error(kernel: Array, composed: Array, moments: Moments | None) -> float:
    """Relative squared error of the layer's outputs, |X (W - V)|^2 / |X W|^2; of its weights without moments."""
    wrong = whole = 0.0
    known = moments or (None,)
    for w, v, moment in zip(split(kernel, len(known)), split(composed, len(known)), known, strict=True):
        rows = [part.reshape(-1, part.shape[-1]) for part in (w, w - v)]
        right, apart = rows if moment is None else map(moment.root, rows)
        whole, wrong = whole + float(np.sum(right**2)), wrong + float(np.sum(apart**2))
    return wrong / max(whole, 1e-30)
