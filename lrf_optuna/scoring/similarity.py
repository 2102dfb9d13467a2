"""How similar two sets of feature maps are: 1 when equal. Each similarity is one function and one row.

The functions are for finite maps; `similarity_of_finite` applies them to maps that may not be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.tasks import KINDS, Task
from lrf_optuna.errors import LrfError, lookup

Similarity = Callable[[Array, Array], float]
AUTO = "auto"
"""The similarity that fits each output's task."""
SMALLEST_NORM = 1e-12
"""Norms below this count as zero."""
SMALLEST_VARIANCE_SHARE = 1e-3
"""Share of the mean variance of all units that a unit's variance counts as at least: constant units say nothing."""
UNITS_OF_DIRECTIONS = 3
"""Units of centered logits, at least, whose direction says more than a sign: two classes have one free number."""


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
    """The explained share of the variance over the images (and positions), the mean over the units of the last axis.

    It is not below 0. A unit that hardly varies counts by a small share of the mean variance.
    """
    a, b = (values.reshape(-1, values.shape[-1]).astype(np.float64) for values in (reference, maps))
    variance = a.var(axis=0)
    scale = np.maximum(variance, SMALLEST_VARIANCE_SHARE * variance.mean()) + SMALLEST_NORM
    return max(0.0, 1.0 - float(np.mean(((a - b) ** 2).mean(axis=0) / scale)))


def agreement(reference: Array, maps: Array) -> float:
    """The share of images whose largest feature has the same index: on logits, the share of equal labels."""
    return float(np.mean(np.argmax(flat(reference), axis=1) == np.argmax(flat(maps), axis=1)))


SIMILARITIES: dict[str, Similarity] = {
    "cosine": cosine,
    "cka": cka,
    "explained": explained,
    "agreement": agreement,
}


@dataclass(frozen=True)
class OutputSimilarity:
    """How similar all outputs are to the original's: each output by its own similarity, the mean by weight.

    `functions`: output -> similarity; `centered`: outputs whose units are classes, which a common shift does not
    change; `weights`: of the outputs.
    """

    functions: Mapping[str, Similarity]
    centered: Set[str]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, tasks: Mapping[str, Task], name: str = AUTO) -> OutputSimilarity:
        """The similarities of tasks: each task's own, or the named one for all outputs.

        Raises LrfError for an unknown name, and for one that sees only the sign of an output's one number.
        """
        functions = {output: similarity_for(output, task, name) for output, task in tasks.items()}
        centered = {output for output, task in tasks.items() if task.one_hot and task.units > 1}
        return cls(functions, centered, {output: task.weight for output, task in tasks.items()})

    def each(self, reference: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, float]:
        """Output -> similarity of values before the activation `(images, ...)`."""
        pairs = {name: (self.compared(name, reference[name]), self.compared(name, found[name])) for name in found}
        return {name: similarity_of_finite(self.functions[name], *pair) for name, pair in pairs.items()}

    def overall(self, reference: Mapping[str, Array], found: Mapping[str, Array]) -> float:
        """The mean similarity of all outputs, by weight."""
        return weighted_mean(self.each(reference, found), self.weights)

    def compared(self, name: str, logits: Array) -> Array:
        """The values of an output that are compared: logits of classes are centered for each image."""
        return logits - logits.mean(axis=-1, keepdims=True) if name in self.centered else logits


def similarity_for(output: str, task: Task, name: str) -> Similarity:
    """The similarity of one output. Raises LrfError for an unknown name, and for one that sees a sign alone."""
    directions = task.units - int(task.one_hot) >= UNITS_OF_DIRECTIONS - 1
    if name == AUTO:
        own = KINDS[task.kind].similarity
        return SIMILARITIES["explained" if own == "cosine" and not directions else own]
    if name in ("cosine", "agreement") and not directions and len(task.shape) == 1:
        raise LrfError(f"the similarity {name!r} sees only the sign of the output {output!r}: give explained")
    return lookup(SIMILARITIES, name, "similarity")


def weighted_mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The mean of named values by weight; a name without a weight counts 1."""
    each = {name: weights.get(name, 1.0) for name in values}
    return sum(each[name] * value for name, value in values.items()) / sum(each.values())


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
