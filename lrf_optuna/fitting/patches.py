"""Input patches of a layer: rows whose product with the kernel is the layer's output."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrf_optuna.chains.conv import Array, Conv, Index

MOST_ROWS = 65536
"""Patches for a layer's second moment, spread evenly over the images: more did not lower test errors."""


def patches(maps: Array, op: Conv, positions: int, seed: int = 0) -> Array:
    """Input patches of `op` from `maps` `(images, *map, cin)`: rows of `window x cin`, at most `positions` an image.

    From a larger map, equal random positions of every image are used.
    """
    if not op.window:
        rows = maps.reshape(len(maps), -1, op.cin)
        return np.ascontiguousarray(rows[:, sampled_positions(rows.shape[1], positions, seed)]).reshape(-1, op.cin)
    if op.transposed:
        # a plain convolution of zero-stuffed maps with the window reversed
        plain = replace(op, transposed=False, padding="valid", strides=(1,) * len(op.window))
        rows = patches(zero_stuffed(maps, op), plain, positions, seed).reshape(-1, *op.window, op.cin)
        return np.flip(rows, tuple(range(1, rows.ndim - 1))).reshape(-1, prod(op.window) * op.cin)
    padded = np.pad(maps, ((0, 0), *op.pads(maps.shape[1:-1]), (0, 0)))
    spans = tuple((k - 1) * d + 1 for k, d in zip(op.window, op.dilation, strict=True))
    axes = tuple(range(1, 1 + len(spans)))
    strided: tuple[slice, ...] = (slice(None), *(slice(None, None, s) for s in op.strides))
    dilated: tuple[Any, ...] = (..., *(slice(None, None, d) for d in op.dilation))
    view: Array = sliding_window_view(padded, spans, axis=axes)[strided][dilated]
    out = view.shape[1 : 1 + len(spans)]
    at = np.unravel_index(sampled_positions(prod(out), positions, seed), out)
    picked: tuple[Any, ...] = (slice(None), *at)
    found: Array = np.moveaxis(view[picked], 2, -1)  # (images, positions, *window, cin)
    return found.reshape(-1, prod(op.window) * op.cin)


def zero_stuffed(maps: Array, op: Conv) -> Array:
    """Input maps of a transposed convolution, with zeros between and around pixels, for a plain convolution."""
    shape = maps.shape[1:-1]
    out = op.out_map(shape)
    spans = [(k - 1) * d + 1 for k, d in zip(op.window, op.dilation, strict=True)]
    cut = [max(k - s, 0) // 2 if op.padding == "same" else 0 for k, s in zip(spans, op.strides, strict=True)]
    stuffed = np.zeros((len(maps), *(o + k - 1 for o, k in zip(out, spans, strict=True)), maps.shape[-1]), maps.dtype)
    sizes = zip(shape, spans, cut, op.strides, strict=True)
    at = tuple(slice(k - 1 - c, k - 1 - c + (n - 1) * s + 1, s) for n, k, c, s in sizes)
    stuffed[(slice(None), *at)] = maps
    return stuffed


def sampled_positions(count: int, most: int, seed: int) -> Index:
    """At most `most` of `count` positions, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def split_by_group(rows: Array, op: Conv) -> Array:
    """Patches `(n, window x cin)` as `(groups, n, window x cin // groups)`."""
    if op.groups == 1:
        return rows[None]
    split = rows.reshape(len(rows), -1, op.groups, op.cin // op.groups)
    return np.ascontiguousarray(np.moveaxis(split, 2, 0)).reshape(op.groups, len(rows), -1)
