"""BatchNorm statistics of a compressed network, re-estimated on images that look as they did in training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lrf_optuna.layers import norms_of
from lrf_optuna.network import gives_probabilities, in_training, logits_of
from lrf_optuna.similarity import cosine
from lrf_optuna.stages import Array


def reestimate(model: Any, batches: Iterable[Array], held_out: Array, reference: Array) -> tuple[bool, float, float]:
    """Re-estimate the statistics in place, and take them back unless they help.

    `batches` of preprocessed, augmented images (n, H, W, C); they help where the logits for the `held_out` images
    come closer to the original's, `reference`. Gives whether they were kept, and the cosine before and after.
    """
    norms = norms_of(model)
    before = alike(model, held_out, reference)
    if not norms:
        return False, before, before
    old = [layer.get_weights() for layer in norms]
    with in_training(norms):
        for i, x in enumerate(batches):
            for layer in norms:
                layer.momentum = i / (i + 1)  # a plain average over the batches
            model(x, training=False)
    after = alike(model, held_out, reference)
    if after > before:
        return True, before, after
    for layer, weights in zip(norms, old, strict=True):
        layer.set_weights(weights)
    return False, before, after


def alike(model: Any, images: Array, reference: Array) -> float:
    """The cosine between the model's logits for `images` and `reference`."""
    return cosine(reference, np.asarray(logits_of(model(images, training=False), gives_probabilities(model))))
