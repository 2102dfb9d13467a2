"""Layers as frozen graphs: constants in the place of variables, so that a child process can convert and run them.

A frozen graph of one layer is made in some hundredths of a second, a SavedModel takes ten times that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from lrf_optuna.models.model_inputs import Shape
from lrf_optuna.runtimes.saved_model import inlined

INPUT = "x"
"""The name of a graph's only input."""


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A frozen graph in a file: its input's shape with the batch axis and its type, and the name of its output."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    output: str

    def to_dict(self) -> dict[str, Any]:
        """The description as a job of a child process has it."""
        return asdict(self)


def write_graph(function: Callable[[Any], Any], shape: Shape, dtype: str, batch: int, path: Path) -> GraphFile:
    """Write the frozen graph of a function of one array, such as a layer, for inputs `(batch, *shape)`."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((batch, *shape), dtype, INPUT)
    with inlined():
        traced = tf.function(lambda x: function(x), autograph=False).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
    return GraphFile(str(path), (batch, *shape), dtype, frozen.outputs[0].name)


def graph_function(graph: GraphFile) -> Any:
    """The concrete function of a graph in a file."""
    definition = tf.compat.v1.GraphDef.FromString(Path(graph.path).read_bytes())

    def call(x: Any) -> Any:
        return tf.graph_util.import_graph_def(
            definition, input_map={f"{INPUT}:0": x}, return_elements=[graph.output], name=""
        )[0]

    return tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec(graph.shape, graph.dtype, INPUT))
