"""Batches of training images with the teacher's outputs: shuffled, augmented, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.augment import Moves
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.model_inputs import PASS_BATCH
from lrf_optuna.progress import SILENT, Progress

KEPT_BYTES = 2**28
"""Bytes of the teacher's outputs that are kept at most: 256 MiB."""
VIEWS = 5
"""Augmented views of each image at most, which take turns from epoch to epoch: the teacher runs once on each.

A pass of the original is about a fourth of a training step of it (benchmarks/results/epoch.md). The default fine-tune
has as many epochs.
"""

Batch = tuple[Any, dict[str, Values], list[Values] | None]
"""Inputs, output -> labels, and the teacher's outputs where they are known."""


@dataclass
class View:
    """All training images flipped and shifted in one way, and the teacher's outputs for them."""

    moves: Moves
    goals: list[Values]


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of `size` training images at most, and what the teacher gives for each image where that is known.

    `teacher`: None where every step runs it on images that are augmented anew. Else images have `views` in turn.
    `cutmix`: whether some images get a rectangle of another one, and have no label then.
    """

    data: Data
    size: int
    seed: int
    teacher: Evaluator | None = None
    views: int = VIEWS
    cutmix: bool = False
    known: dict[int, View] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Data, size: int, seed: int, teacher: Evaluator, cutmix: bool = False) -> Batches:
        """Batches with the teacher's outputs for as many views as memory has the room for."""
        each = sum(int(np.prod([n or np.inf for n in head.shape])) for head in teacher.heads.values() if head.shape)
        views = 1 if data.augment == "none" else VIEWS
        fits = views * 4 * each * len(data.train) <= KEPT_BYTES
        return cls(data, min(size, len(data.train)), seed, teacher if fits else None, views, cutmix)

    def epoch(self, epoch: int, steps: int, progress: Progress = SILENT) -> Iterator[Batch]:
        """`steps` whole batches, the same for the same seed and epoch."""
        view = self.view(epoch % self.views, progress) if self.teacher else None
        moves = view.moves if view else None
        rngs = (np.random.default_rng([self.seed, epoch + 1, turn]) for turn in count())
        turns = (self.data.batches(self.size, rng, moves, self.cutmix) for rng in rngs)
        whole = (batch for turn in turns for batch in turn if len(batch[0]) == self.size)
        for index, x, y in islice(whole, steps):
            yield x, y, [goal[index] for goal in view.goals] if view else None

    def view(self, number: int, progress: Progress = SILENT) -> View:
        """One view of all training images, for which the teacher runs when it is first asked for."""
        if number not in self.known:
            moves = self.data.moves(np.random.default_rng([self.seed, 0, number]), cutmix=self.cutmix)
            self.known[number] = View(moves, self.goals(moves, progress))
        return self.known[number]

    def goals(self, moves: Moves, progress: Progress = SILENT) -> list[Values]:
        """The teacher's outputs for all training images, moved, in their order."""
        assert self.teacher
        found, count = [], len(self.data.train)
        with progress.task("outputs of the original", count) as step:
            for start in range(0, count, PASS_BATCH):
                part = slice(start, min(start + PASS_BATCH, count))
                found.append(self.teacher.outputs(moves.take(part).apply(self.data.train.take(part).pixels)))
                step(part.stop - start)
        return [np.concatenate(parts) for parts in zip(*(one.values() for one in found), strict=True)]
