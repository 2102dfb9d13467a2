"""Batches of training images with the teacher's outputs: shuffled, augmented, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.model_inputs import PASS_BATCH
from lrf_optuna.progress import SILENT, Progress

KEPT_BYTES = 2**28
"""Bytes of the teacher's outputs that are kept at most: 256 MiB."""

Batch = tuple[Any, dict[str, Values], list[Values] | None]
"""Inputs, output -> labels, and the teacher's outputs where they are known."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of `size` training images at most, and what the teacher gives for each image where that is known.

    `teacher`: None where every step runs it. Else it runs once on every image, which is never augmented. `cutmix`:
    whether some augmented images get a rectangle of another one, and have no label then.
    """

    data: Data
    size: int
    seed: int
    teacher: Evaluator | None = None
    cutmix: bool = False
    known: list[Values] = field(default_factory=list)

    @classmethod
    def of(cls, data: Data, size: int, seed: int, teacher: Evaluator | None, cutmix: bool = False) -> Batches:
        """Batches with the teacher's outputs where images are not augmented, and memory has the room for them.

        Views of an image that are made once and used again were measured, too: benchmarks/results/tune_tried.md.
        """
        heads = teacher.heads.values() if teacher else ()
        each = sum(int(np.prod([n or np.inf for n in head.shape])) for head in heads if head.shape)
        fits = data.augment == "none" and 4 * each * len(data.train) <= KEPT_BYTES
        return cls(data, min(size, len(data.train)), seed, teacher if fits else None, cutmix)

    def epoch(self, epoch: int, steps: int, progress: Progress = SILENT) -> Iterator[Batch]:
        """`steps` whole batches, the same for the same seed and epoch."""
        goals = self.goals(progress) if self.teacher else None
        rngs = (np.random.default_rng([self.seed, epoch + 1, turn]) for turn in count())
        turns = (self.data.batches(self.size, rng, self.cutmix) for rng in rngs)
        whole = (batch for turn in turns for batch in turn if len(batch[0]) == self.size)
        for index, x, y in islice(whole, steps):
            yield x, y, [goal[index] for goal in goals] if goals else None

    def goals(self, progress: Progress = SILENT) -> list[Values]:
        """The teacher's outputs for all training images in their order, computed when they are first asked for."""
        assert self.teacher
        if not self.known:
            found, count = [], len(self.data.train)
            with progress.task("outputs of the original", count) as step:
                for start in range(0, count, PASS_BATCH):
                    part = self.data.train.take(slice(start, start + PASS_BATCH))
                    found.append(self.teacher.outputs(part.pixels))
                    step(len(part))
            self.known.extend(np.concatenate(parts) for parts in zip(*(one.values() for one in found), strict=True))
        return self.known
