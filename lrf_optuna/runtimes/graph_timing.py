"""Converting and timing many small graphs in one child process, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lrf_optuna.processes import cores
from lrf_optuna.runtimes.child import in_child
from lrf_optuna.runtimes.convert import OPSET, problem_of
from lrf_optuna.runtimes.graphs import INPUT, GraphFile, graph_function
from lrf_optuna.runtimes.sessions import Call, litert_interpreter, onnx_call
from lrf_optuna.runtimes.timing import TimingSettings, time_in_turns


def time_graphs(
    graphs: Sequence[GraphFile], runtime: str, settings: TimingSettings
) -> tuple[list[float | None], list[str]]:
    """The least milliseconds of a call of every graph in a runtime, and the problems of those that it cannot run.

    A graph with a problem has None, the others have an empty text.
    """
    job = {"runtime": runtime, **asdict(settings), "graphs": [graph.to_dict() for graph in graphs]}
    answer = in_child("lrf_optuna.runtimes.graph_timing:graph_timing_job", job)
    return answer["milliseconds"], answer["problems"]


def graph_timing_job(job: dict[str, Any]) -> dict[str, Any]:
    """What the child does: open a session of every graph, and call them in turns."""
    threads = job["threads"] or cores()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng, calls, problems = np.random.default_rng(0), {}, []
    for i, described in enumerate(job["graphs"]):
        graph = GraphFile(**{**described, "shape": tuple(described["shape"])})
        arrays = [rng.random(graph.shape, np.float32).astype(graph.dtype)]
        try:
            call = GRAPH_CALLS[job["runtime"]](graph, threads)
            call(arrays)
            calls[i] = call, arrays
            problems.append("")
        except Exception as error:  # converters and runtimes raise whatever broke inside
            problems.append(problem_of(str(error)))
    found: list[float | None] = [None] * len(problems)
    for i, timing in zip(calls, time_in_turns(list(calls.values()), job["rounds"]), strict=True):
        found[i] = timing.least
    return {"milliseconds": found, "problems": problems}


def litert_graph_call(graph: GraphFile, threads: int) -> Call:
    """A session of LiteRT for a graph."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph_function(graph)])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert_interpreter()(model_content=converter.convert(), num_threads=threads)
    interpreter.allocate_tensors()
    given, taken = (found[0]["index"] for found in (interpreter.get_input_details(), interpreter.get_output_details()))

    def call(arrays: Sequence[Any]) -> list[Any]:
        interpreter.set_tensor(given, arrays[0])
        interpreter.invoke()
        return [interpreter.get_tensor(taken)]

    return call


def onnx_graph_call(graph: GraphFile, threads: int) -> Call:
    """A session of ONNX Runtime for a graph; its file is beside the graph's."""
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()  # tf2onnx 1.17 is not ready for NumPy 2
    path = Path(graph.path).with_suffix(".onnx")
    definition = tf.compat.v1.GraphDef.FromString(Path(graph.path).read_bytes())
    names = {"input_names": [f"{INPUT}:0"], "output_names": [graph.output]}
    tf2onnx.convert.from_graph_def(definition, **names, opset=OPSET, output_path=str(path))
    return onnx_call(path, "", [f"{INPUT}:0"], [graph.output], threads)


def keras_graph_call(graph: GraphFile, threads: int) -> Call:
    """A session of TensorFlow for a graph; threads are set once for the process."""
    function = graph_function(graph)

    def call(arrays: Sequence[Any]) -> list[Any]:
        return [function(tf.constant(arrays[0])).numpy()]

    return call


GRAPH_CALLS: dict[str, Callable[[GraphFile, int], Call]] = {
    "keras": keras_graph_call,
    "litert": litert_graph_call,
    "onnx": onnx_graph_call,
}
"""Runtime -> what opens a session of a graph."""
