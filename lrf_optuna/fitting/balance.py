"""Balancing the norms of a chain's stage kernels, so that fine-tuning is stable; the composed kernel stays."""

from __future__ import annotations

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Kernels

BALANCING_SWEEPS = 20
"""Sweeps over the inner channels of a chain at most."""
BALANCED = 1e-3
"""Logarithm of the largest rescaling in a sweep below which norms count as equal: far below a step of training."""


def balanced(chain: Chain, kernels: Kernels) -> Kernels:
    """The same composed kernel with equal norms on both sides of every inner channel, so that fine-tuning is stable.

    A stage between two others has its norms changed from both sides, so several sweeps are made.
    """
    out = list(kernels)
    if chain.tensorized:
        return balanced_contractions(out)
    for _ in range(BALANCING_SWEEPS if len(out) > 2 else 1):
        balance = 0.0
        for i, following in enumerate(chain.stages[1:]):
            axis = -1 if following.depthwise else -2
            before, after = channel_norms(out[i], -1), channel_norms(out[i + 1], axis)
            scale = np.sqrt(np.maximum(after, 1e-20) / np.maximum(before, 1e-20)).astype(kernels[i].dtype)
            balance = max(balance, float(np.abs(np.log(scale)).max()))
            out[i] = out[i] * scale
            out[i + 1] = out[i + 1] / (scale if axis == -1 else scale[:, None])
        if balance < BALANCED:
            break
    return tuple(out)


def balanced_contractions(kernels: list[Array]) -> Kernels:
    """The same product with kernels of equal norms."""
    norms = [max(float(np.linalg.norm(kernel)), 1e-20) for kernel in kernels]
    middle = float(np.exp(np.mean(np.log(norms))))
    return tuple((kernel * (middle / norm)).astype(kernel.dtype) for kernel, norm in zip(kernels, norms, strict=True))


def channel_norms(kernel: Array, axis: int) -> Array:
    """The norm of a kernel's slice for each channel on `axis`."""
    out: Array = np.linalg.norm(np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1), axis=1)
    return out
