"""How similar two sets of feature maps are: 1 when equal. Each similarity is one function and one row.

The functions are for finite maps; `similarity_of_finite` applies them to maps that may not be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lrf_optuna.chains.conv import Array

Similarity = Callable[[Array, Array], float]
SMALLEST_NORM = 1e-12
"""Norms below this count as zero."""


def cosine(reference: Array, maps: Array) -> float:
    """Mean over the images of the cosine between the two maps, each `(images, ...)` flattened."""
    a, b = flat(reference), flat(maps)
    dots = np.einsum("nf,nf->n", a, b)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.where(norms > SMALLEST_NORM, dots / np.maximum(norms, SMALLEST_NORM), 0.0)))


def cka(reference: Array, maps: Array) -> float:
    """Linear centered kernel alignment (Kornblith et al. 2019), from the images' Gram matrices."""
    a, b = (gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean() for gram in map(gram_of, (reference, maps)))
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / scale if scale > SMALLEST_NORM else 0.0


def explained(reference: Array, maps: Array) -> float:
    """One minus the relative squared error, |A - B|^2 / |A|^2, not below 0."""
    a, b = flat(reference), flat(maps)
    return max(0.0, 1.0 - float(np.sum((a - b) ** 2)) / max(float(np.sum(a**2)), SMALLEST_NORM))


def agreement(reference: Array, maps: Array) -> float:
    """The share of images whose largest feature has the same index: on logits, the share of equal labels."""
    return float(np.mean(np.argmax(flat(reference), axis=1) == np.argmax(flat(maps), axis=1)))


SIMILARITIES: dict[str, Similarity] = {
    "cosine": cosine,
    "cka": cka,
    "explained": explained,
    "agreement": agreement,
}


def similarity_of_finite(similarity: Similarity, reference: Array, maps: Array) -> float:
    """The similarity over the images whose maps are finite, times their share: other images are not similar at all."""
    finite = np.isfinite(flat(maps)).all(axis=1)
    if not finite.any():
        return 0.0
    if not finite.all():
        reference, maps = reference[finite], maps[finite]
    value = similarity(reference, maps) * float(np.mean(finite))
    return value if np.isfinite(value) else 0.0


def flat(maps: Array) -> Array:
    """Maps as rows: `(images, features)`."""
    return maps.reshape(len(maps), -1)


def gram_of(maps: Array) -> Array:
    """Inner products between the images, `(images, images)`."""
    rows = flat(maps).astype(np.float64)
    return rows @ rows.T
