"""EinsumDense layers of Keras that are one matrix at every position: operation, kernel layout, and stages as layers.

An equation `input,kernel->output` is such a matrix where the input has the axes of the positions and then the axes
that are summed over, and the output has the same positions and then the new axes. The operation has the window (1,);
its map is one axis of all positions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any

import keras
import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.errors import LrfError
from lrf_optuna.models.conv_layers import stage_config
from lrf_optuna.models.model_inputs import Shape


@dataclass(frozen=True, slots=True)
class Equation:
    """The letters of `kept summed,kernel->kept new`; `kept` are the batch and the positions, perhaps with `...`."""

    kept: str
    summed: str
    new: str
    kernel: str

    @classmethod
    def of(cls, layer: Any) -> Equation:
        """The equation of an EinsumDense layer. Raises LrfError where it is no matrix at every position, and why."""
        inputs, kernel, outputs = equation_parts(layer.equation)
        summed = "".join(letter for letter in inputs if letter not in outputs)
        new = "".join(letter for letter in outputs if letter not in inputs)
        kept = inputs.removesuffix(summed)
        reasons = {
            "repeats an axis": any(len(set(p)) < len(p) for p in (inputs.replace("...", ""), kernel)),
            "has a kernel with axes of the batch or the positions": bool(set(kernel) & set(inputs) & set(outputs)),
            "does not sum over the last axes of its input": not kept or not inputs.endswith(summed),
            "sums over axes that its kernel does not have": not set(summed) <= set(kernel),
            "does not end in the axes that it makes": not outputs.endswith(new),
            "moves axes that it keeps": outputs.removesuffix(new) != kept,
        }
        for reason, holds in reasons.items():
            if holds:
                raise LrfError(f"an EinsumDense layer that {reason}")
        return cls(kept, summed, new, kernel)

    def stage(self, first: bool, last: bool) -> str:
        """The equation of a stage of the chain: from the input or a rank, to the output or another rank."""
        free = [letter for letter in ascii_letters if letter not in self.kept + self.summed + self.new]
        before, after = self.summed if first else free[0], self.new if last else free[1]
        return f"{self.kept}{before},{before}{after}->{self.kept}{after}"


def equation_parts(equation: str) -> list[str]:
    """The letters of the input, the kernel and the output."""
    return re.split(",|->", equation.strip())


def read_einsum(layer: Any) -> Conv:
    """The operation of an EinsumDense layer: a matrix at every position."""
    equation = Equation.of(layer)
    sizes = kernel_sizes(layer)
    cin, cout = (prod(sizes[letter] for letter in letters) for letters in (equation.summed, equation.new))
    return Conv((1,), cin, cout, (1,), (1,))


def kernel_sizes(layer: Any) -> dict[str, int]:
    """Letter -> size of every axis of the kernel."""
    return dict(zip(equation_parts(layer.equation)[1], layer.kernel.shape, strict=True))


def axis_order(equation: Equation) -> list[int]:
    """The kernel's axes in the order of the operation's: those summed over as in the input, then the new ones."""
    return [equation.kernel.index(letter) for letter in equation.summed + equation.new]


def from_einsum_kernel(kernel: Array, layer: Any) -> Array:
    """The layer's kernel with its axes in the order of the operation's."""
    return kernel.transpose(axis_order(Equation.of(layer)))


def to_einsum_kernel(kernel: Array, layer: Any) -> Array:
    """A kernel `(1, cin, cout)` as the layer lays it out; the kernel of a contraction, a matrix, stays as it is."""
    if kernel.ndim == 2:
        return kernel
    equation, sizes = Equation.of(layer), kernel_sizes(layer)
    shape = [sizes[letter] for letter in equation.summed + equation.new]
    return kernel.reshape(shape).transpose(np.argsort(axis_order(equation)))


def position_map(layer: Any, shape: Shape) -> Shape:
    """The map of an input of some shape (without the batch): all positions on one axis."""
    return (prod(shape[: len(shape) - len(Equation.of(layer).summed)]),)


def fixed_positions(layer: Any) -> OpenShape:
    """The sizes of the last axes of positions, as far as the layer's output shape gives them; None for any size."""
    sizes: OpenShape = layer.partial_output_shape
    return sizes[: len(sizes) - len(Equation.of(layer).new)]


def any_size(layer: Any, shape: OpenShape) -> OpenShape:
    """The input shape (without the batch) of any size that the layer can take, given the `shape` it was built with."""
    positions, fixed = len(shape) - len(Equation.of(layer).summed), fixed_positions(layer)
    return (*(None,) * (positions - len(fixed)), *fixed, *shape[positions:])


def write_einsum(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of an EinsumDense layer's chain."""
    config = stage_config(layer, name, last)
    config.pop("use_bias", None)
    config |= {
        "equation": Equation.of(layer).stage(first, last),
        "output_shape": layer.partial_output_shape if last else (*fixed_positions(layer), stage.cout),
        "bias_axes": layer.bias_axes if last else None,
        "kernel_initializer": without_axes(config["kernel_initializer"]),
    }
    return [keras.layers.EinsumDense.from_config(config)]


def without_axes(initializer: Any) -> Any:
    """A serialized initializer that does not say which axes of a kernel are its inputs and outputs."""
    if not isinstance(initializer, dict):
        return initializer
    config = {key: value for key, value in initializer["config"].items() if not key.endswith("_axes")}
    return initializer | {"config": config}


def einsum_macs(layer: Any, before: Shape, after: Shape) -> int:
    """Multiply-accumulates for one input of shape `before` (without the batch): the product of all axes' sizes."""
    inputs = equation_parts(layer.equation)[0]
    return prod(before) * prod(size for letter, size in kernel_sizes(layer).items() if letter not in inputs)
