"""The images that plans are scored on, and the logits that the original network gives for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, count_of, map_inputs
from lrf_optuna.models.forward import ForwardPass

FINGERPRINT_IMAGES, FINGERPRINT_VALUES = 4, 256
"""Images and values of each output by which a network is told from another that has its weights."""


@dataclass(frozen=True)
class ScoringSet:
    """The scored images as arrays and as tensors, and the original's logits for them.

    `reference`: name of a head -> logits `(images, ...)`; `fingerprint`: a few of their values, which tell the network
    from another one with equal weights.
    """

    images: Images
    tensors: Any
    reference: dict[str, Array]
    fingerprint: Array

    @classmethod
    def of(cls, network: ForwardPass, images: Images) -> ScoringSet:
        """From preprocessed images and the original network."""
        images = map_inputs(images, np.ascontiguousarray)
        tensors = network.as_tensors(images)
        reference = network.run(tensors, {})
        samples = [logits[:FINGERPRINT_IMAGES].reshape(-1)[:FINGERPRINT_VALUES] for logits in reference.values()]
        return cls(images, tensors, reference, np.concatenate(samples).astype(np.float64))

    def __len__(self) -> int:
        return count_of(self.images)
