"""Equations of EinsumDense layers: which are one matrix at every position, and what stages of a chain are written as.

`taken,kernel->given`: a matrix at every position where `taken` is the positions' axes and then those summed over, and
`given` the same positions and then the new ones. Its operation has the window (1,), and its map is one axis, of all
positions. It reads layers, but no Keras.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.errors import LrfError
from lrf_optuna.models.images import Shape

REST = "..."


@dataclass(frozen=True, slots=True)
class Equation:
    """`kept summed,kernel->kept made`, as letters; `kept` are the batch and the positions, perhaps with `...`."""

    kept: str
    summed: str
    made: str
    kernel: str

    @classmethod
    def of(cls, layer: Any) -> Equation:
        """That of an EinsumDense layer. Raises LrfError with the reason why it is no matrix at every position."""
        taken, kernel, given = parts(layer.equation)
        summed = "".join(letter for letter in taken if letter not in given)
        made = "".join(letter for letter in given if letter not in taken)
        kept = taken.removesuffix(summed)
        reasons = {
            "repeats an axis": any(len(set(p)) < len(p) for p in (taken.replace(REST, ""), kernel)),
            "has a kernel with axes of the batch or the positions": bool(set(kernel) & set(taken) & set(given)),
            "does not sum over the last axes of its input": not kept or not taken.endswith(summed),
            "sums over axes that its kernel does not have": not set(summed) <= set(kernel),
            "does not end in the axes that it makes": not given.endswith(made),
            "moves axes that it keeps": given.removesuffix(made) != kept,
        }
        for reason, holds in reasons.items():
            if holds:
                raise LrfError(f"an EinsumDense layer that {reason}")
        return cls(kept, summed, made, kernel)

    def stage(self, first: bool, last: bool) -> str:
        """The equation of a stage in this one's place: from the input or a rank, to the output or another rank."""
        free = [letter for letter in ascii_letters if letter not in self.kept + self.summed + self.made]
        taken, made = self.summed if first else free[0], self.made if last else free[1]
        return f"{self.kept}{taken},{taken}{made}->{self.kept}{made}"


def parts(equation: str) -> list[str]:
    """The letters of the input, the kernel and the output."""
    return re.split(",|->", equation.strip())


def read_einsum(layer: Any) -> Conv:
    """The operation of an EinsumDense layer: a matrix at every position."""
    equation = Equation.of(layer)
    sizes = kernel_sizes(layer)
    cin, cout = (prod(sizes[letter] for letter in letters) for letters in (equation.summed, equation.made))
    return Conv((1,), cin, cout, (1,), (1,))


def kernel_sizes(layer: Any) -> dict[str, int]:
    """Letter -> size of every axis of the kernel."""
    return dict(zip(parts(layer.equation)[1], layer.kernel.shape, strict=True))


def order(equation: Equation) -> list[int]:
    """Where the kernel has the axes summed over, as the input orders them, and then the new ones."""
    return [equation.kernel.index(letter) for letter in equation.summed + equation.made]


def from_einsum_kernel(kernel: Array, layer: Any) -> Array:
    """The layer's kernel as `(1, cin, cout)`."""
    return kernel.transpose(order(Equation.of(layer))).reshape(read_einsum(layer).kernel_shape)


def to_einsum_kernel(kernel: Array, layer: Any) -> Array:
    """A kernel `(1, cin, cout)` as the layer lays it out; that of a contraction, a matrix, stands as it is."""
    if kernel.ndim == 2:
        return kernel
    equation, sizes = Equation.of(layer), kernel_sizes(layer)
    shape = [sizes[letter] for letter in equation.summed + equation.made]
    return kernel.reshape(shape).transpose(np.argsort(order(equation)))


def position_map(layer: Any, shape: Shape) -> Shape:
    """The map of an input of `shape` (without the batch): all positions on one axis."""
    return (prod(shape[: len(shape) - len(Equation.of(layer).summed)]),)


def fixed_positions(layer: Any) -> OpenShape:
    """Sizes of the positions' axes that the layer was told, the last of them; None for any."""
    sizes: OpenShape = layer.partial_output_shape
    return sizes[: len(sizes) - len(Equation.of(layer).made)]


def any_size(layer: Any, shape: OpenShape) -> OpenShape:
    """The input shape (without the batch) of any size that the layer can take, given the `shape` it was built with."""
    positions, told = len(shape) - len(Equation.of(layer).summed), fixed_positions(layer)
    return (*(None,) * (positions - len(told)), *told, *shape[positions:])


def einsum_stage_config(layer: Any, stage: Conv, first: bool, last: bool) -> dict[str, Any]:
    """What is particular to a stage in the layer's place: its equation, its output shape and the axes of its bias."""
    return {
        "equation": Equation.of(layer).stage(first, last),
        "output_shape": layer.partial_output_shape if last else (*fixed_positions(layer), stage.cout),
        "bias_axes": layer.bias_axes if last else None,
    }


def without_axes(initializer: Any) -> Any:
    """A serialized initializer that does not say which axes of a kernel are its inputs and outputs."""
    if not isinstance(initializer, dict):
        return initializer
    kept = {key: value for key, value in initializer["config"].items() if not key.endswith("_axes")}
    return initializer | {"config": kept}


def einsum_macs(layer: Any, taken: Shape, given: Shape) -> int:
    """Multiply-accumulates for one input of shape `taken` (without the batch): the product of all axes' sizes."""
    letters = parts(layer.equation)[0]
    before, rest, after = letters.partition(REST)
    hidden = [REST + str(i) for i in range(1 + len(taken) - len(before) - len(after))] if rest else []
    axes = [*before, *hidden, *after]
    sizes = dict(zip(axes, (1, *taken), strict=True)) | kernel_sizes(layer) | {axes[0]: 1}
    return prod(sizes.values())
