"""Batches of training images with the teacher's outputs: shuffled, augmented, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.evaluation import Evaluator

KEPT_BYTES = 2**28
"""Bytes of the teacher's outputs that are kept at most: 256 MiB."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of `size` training images at most, and what the teacher gives for each image where that is known.

    `goals`: the teacher's outputs for all training images in their order, or None where every step runs the teacher.
    """

    data: Data
    size: int
    seed: int
    goals: list[Values] | None = None

    @classmethod
    def of(cls, data: Data, size: int, seed: int, teacher: Evaluator, passes: int) -> Batches:
        """Batches for a number of passes.

        The teacher runs once where images stay as they are, it is asked for more than once, and memory has the room.
        """
        each = sum(int(np.prod([n or np.inf for n in head.shape])) for head in teacher.heads.values() if head.shape)
        fits = 4 * each * len(data.train) <= KEPT_BYTES
        goals = teacher.outputs(data.train.pixels) if data.augment == "none" and passes > 1 and fits else None
        return cls(data, min(size, len(data.train)), seed, None if goals is None else list(goals.values()))

    def epoch(self, epoch: int, steps: int) -> Iterator[tuple[Any, dict[str, Values], list[Values] | None]]:
        """`steps` whole batches (inputs, output -> labels, teacher's outputs), the same for the same seed and epoch."""
        turns = (self.data.batches(self.size, np.random.default_rng([self.seed, epoch + 1, turn])) for turn in count())
        whole = (batch for turn in turns for batch in turn if len(batch[0]) == self.size)
        for index, x, y in islice(whole, steps):
            yield x, y, None if self.goals is None else [goal[index] for goal in self.goals]
