"""BatchNorm statistics of a model re-estimated by Keras itself: what the network's own are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from support.heads import head_at

from lrf_optuna.models.batchnorm import batch_statistics
from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.scoring.similarity import cosine

Array = np.ndarray[Any, Any]


def reestimate(model: Any, batches: Iterable[Array], held_out: Array, reference: Array) -> tuple[bool, float, float]:
    """Re-estimate in place, unless the logits for `held_out` come no closer: whether they do, and both cosines."""
    norms, before = norms_of(model), alike(model, held_out, reference)
    old = [layer.get_weights() for layer in norms]
    with batch_statistics(norms):
        for i, x in enumerate(batches):
            for layer in norms:
                layer.momentum = i / (i + 1)  # a plain average over the batches
            model(x, training=False)
    after = alike(model, held_out, reference)
    if after <= before:
        for layer, weights in zip(norms, old, strict=True):
            layer.set_weights(weights)
    return after > before, before, after


def alike(model: Any, images: Array, reference: Array) -> float:
    """The cosine between the model's centered logits for `images` and the centered `reference`."""
    logits = np.asarray(head_at(model).logits(model(images, training=False)))
    return cosine(*(values - values.mean(axis=-1, keepdims=True) for values in (reference, logits)))
