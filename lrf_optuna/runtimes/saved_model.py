"""The SavedModel of a network: one signature a batch size, from which all other formats are made.

It is traced in the process that has the model, so that a child needs no class of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.data.preprocess import AnyPreprocess, KerasPreprocess, NoPreprocess, preprocess_functions
from lrf_optuna.errors import LrfError
from lrf_optuna.models.model_inputs import input_shapes
from lrf_optuna.models.outputs import output_heads


@dataclass(frozen=True, slots=True)
class Interface:
    """The names of a model's inputs and outputs in exported files, in the model's order, and its own names of inputs.

    `keys`: as the model has them; `inputs` and `outputs`: the same as plain identifiers.
    """

    keys: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: Any) -> Interface:
        """The interface of a model."""
        keys = tuple(input_shapes(model))
        return cls(keys, identifiers(keys), identifiers(tuple(output_heads(model))))

    def arrays(self, inputs: Any) -> list[Any]:
        """The arrays of a model's inputs in the order of the names."""
        if isinstance(inputs, Mapping):
            return [inputs[key] for key in self.keys]
        return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def identifiers(names: Sequence[str]) -> tuple[str, ...]:
    """Names as identifiers, each once: TensorFlow takes them as names of arguments."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"x{plain}"
        found.append(f"{plain}_{len(found)}" if plain in found else plain)
    return tuple(found)


def signature(batch: int | None) -> str:
    """The name of the signature for a batch size; None is any."""
    return "serve" if batch is None else f"batch_{batch}"


def save_signatures(
    model: Any, folder: Path, batches: Sequence[int | None], sample: Any, preprocess: AnyPreprocess | None = None
) -> None:
    """Write a SavedModel with a signature for each batch size.

    `sample`: inputs whose shapes a signature of a fixed batch has. `preprocess` becomes part of the network, which then
    takes raw values as float32.
    """
    interface, tensors = Interface.of(model), input_tensors(model)
    arrays = interface.arrays(sample)
    archive = keras.export.ExportArchive()
    archive.track(model)

    def serve(*given: Any) -> dict[str, Any]:
        prepared = [prepared_tensor(x, preprocess) for x in given] if preprocess else given
        typed = [tf.cast(x, tensor.dtype) for x, tensor in zip(prepared, tensors, strict=True)]
        inputs = dict(zip(interface.keys, typed, strict=True)) if takes_names(model) else typed[0]
        with inlined():
            outputs = [tf.cast(y, tf.float32) for y in keras.tree.flatten(model(inputs, training=False))]
        return dict(zip(interface.outputs, outputs, strict=True))

    for batch in batches:
        shapes = [
            tensor.shape[1:] if batch is None else np.shape(x)[1:] for tensor, x in zip(tensors, arrays, strict=True)
        ]
        types = ["float32" if preprocess else tensor.dtype for tensor in tensors]
        specs = [
            tf.TensorSpec((batch, *shape), dtype, name)
            for shape, dtype, name in zip(shapes, types, interface.inputs, strict=True)
        ]
        archive.add_endpoint(signature(batch), serve, input_signature=specs)
    archive.write_out(str(folder), verbose=False)


@contextmanager
def inlined() -> Iterator[None]:
    """A block in which functions inside layers become part of the graph around them.

    Keras compiles some convolutions with XLA, as functions of their own, which tf2onnx cannot convert.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def input_tensors(model: Any) -> list[Any]:
    """The symbolic inputs of a model in the order of their names."""
    given = getattr(model, "input", None) if takes_names(model) else None
    return [given[key] for key in input_shapes(model)] if isinstance(given, dict) else list(model.inputs)


def takes_names(model: Any) -> bool:
    """Whether a model is called with a dict of its inputs: it has several, or takes a dict of one."""
    return len(model.inputs) > 1 or (not isinstance(model, keras.Sequential) and isinstance(model.input, dict))


def prepared_tensor(raw: Any, preprocess: AnyPreprocess) -> Any:
    """What a preprocessing makes of raw values inside a graph."""
    if isinstance(preprocess, NoPreprocess):
        return raw
    if isinstance(preprocess, KerasPreprocess):
        return preprocess_functions()[preprocess.module](raw)
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    if len(raw.shape) < 2 and len(mean) > 1:
        raise LrfError("mean and std of several channels are for inputs with channels: export without preprocessing")
    return raw * (1 / (preprocess.divide * std)) - mean / std
