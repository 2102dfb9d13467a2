"""Runtimes as one kind of session: arrays in the order of a network's inputs -> arrays in that of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[Sequence[Any]], list[Any]]
"""A session's call: float32 arrays of one batch, in the order of the inputs -> float32 arrays of the outputs."""


def litert_call(path: Path, key: str, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Call:
    """A session of LiteRT. Inputs and outputs of full integer files are scaled here, as a device's program would."""
    interpreter = litert_interpreter()(model_path=str(path), num_threads=threads)
    runner = interpreter.get_signature_runner(key)
    ins, outs = runner.get_input_details(), runner.get_output_details()

    if key != "serve":
        return fixed_litert_call(interpreter, ins, outs, inputs, outputs)

    def call_any(arrays: Sequence[Any]) -> list[Any]:
        found = runner(**{name: quantized(x, ins[name]) for name, x in zip(inputs, arrays, strict=True) if name in ins})
        return [scaled(found[name], outs[name]) for name in outputs]

    return call_any


def fixed_litert_call(
    interpreter: Any, ins: dict[str, Any], outs: dict[str, Any], inputs: Sequence[str], outputs: Sequence[str]
) -> Call:
    """A session of a fixed batch, without the signature's runner: it costs some microseconds a call."""
    given = [(place, ins[name]) for place, name in enumerate(inputs) if name in ins]
    taken = [outs[name] for name in outputs]
    is_ready = False

    def call(arrays: Sequence[Any]) -> list[Any]:
        nonlocal is_ready
        if not is_ready:  # when the runner is gone: the interpreter takes it for a user of its memory
            interpreter.allocate_tensors()
            is_ready = True
        for place, detail in given:
            interpreter.set_tensor(detail["index"], quantized(arrays[place], detail))
        interpreter.invoke()
        return [scaled(interpreter.get_tensor(detail["index"]), detail) for detail in taken]

    return call


def litert_interpreter() -> Any:
    """The class of LiteRT's interpreter: of ai-edge-litert, else TensorFlow's own."""
    if find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    return tf.lite.Interpreter


def quantized(array: Any, detail: dict[str, Any]) -> Any:
    """An array in the type of an input: integers of 8 bits by its scale and zero point."""
    scale, zero = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if not scale or dtype.kind != "i":
        return np.asarray(array, dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(np.asarray(array) / scale) + zero, limits.min, limits.max).astype(dtype)


def scaled(array: Any, detail: dict[str, Any]) -> Any:
    """An output as float32."""
    scale, zero = detail["quantization"]
    return np.float32((array.astype(np.float32) - zero) * scale) if scale else np.asarray(array, np.float32)


def onnx_call(path: Path, key: str, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Call:
    """A session of ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {given.name: NUMPY_TYPES.get(given.type, np.float32) for given in session.get_inputs()}

    def call(arrays: Sequence[Any]) -> list[Any]:
        given: dict[str, Any] = {
            name: np.asarray(x, wanted[name]) for name, x in zip(inputs, arrays, strict=True) if name in wanted
        }
        return list(session.run(list(outputs), given))

    return call


NUMPY_TYPES = {
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
"""Type of an ONNX input -> that of its array; all others are float32."""


def keras_call(path: Path, key: str, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Call:
    """A session of the compiled Keras model, as its SavedModel has it; threads are set once for the process."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures[key]
    types = {name: spec.dtype for name, spec in function.structured_input_signature[1].items()}

    def call(arrays: Sequence[Any]) -> list[Any]:
        _ = loaded  # its variables live as long as this function
        given = {name: tf.cast(x, types[name]) for name, x in zip(inputs, arrays, strict=True) if name in types}
        found = function(**given)
        return [found[name].numpy() for name in outputs]

    return call


CALLS = {"litert": litert_call, "onnx": onnx_call, "savedmodel": keras_call, "keras": keras_call}
"""Format or runtime -> what opens a session of a file."""


def runtime_version(name: str) -> str:
    """The runtime and its version in words."""
    if name == "onnx":
        return f"ONNX Runtime {version('onnxruntime')}"
    if name == "litert" and find_spec("ai_edge_litert"):
        return f"LiteRT {version('ai-edge-litert')}"
    words = {"litert": "TensorFlow Lite", "savedmodel": "TensorFlow"}.get(name)
    tensorflow = version("tensorflow")
    return f"{words} {tensorflow}" if words else f"Keras {version('keras')}, TensorFlow {tensorflow}"


def outputs_of(call: Call, arrays: Sequence[Any], batch: int | None, most: int = 64) -> list[Any]:
    """The outputs for any number of images: in calls of the session's batch, or of at most `most`.

    The last call of a fixed batch is filled up with the last image.
    """
    size, count, parts = batch or most, len(arrays[0]), []
    for start in range(0, count, size):
        part = [np.asarray(array[start : start + size]) for array in arrays]
        short = size - len(part[0]) if batch else 0
        filled = [np.concatenate([x, np.repeat(x[-1:], short, axis=0)]) if short else x for x in part]
        parts.append([y[: len(part[0])] for y in call(filled)])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
