"""From a SavedModel to LiteRT and ONNX: runs in a child process, and names the operation that cannot be converted."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

OPSET = 17
"""The operations of ONNX that files have: version 17, of 2022, is in every runtime that is maintained."""
AT_OPERATION = re.compile(r"'(tf\.\w+)' op|fused\[\"(\w+):\", \"([^\"@]+)|Tensorflow op \[([^:\]]+): (\w+)\]")
"""The places of a converter's message that have an operation and the layer that it is of."""
PROTECTED = 300
"""Letters of a converter's message that are kept: its rest is locations inside TensorFlow."""


def convert_all(job: dict[str, Any]) -> dict[str, Any]:
    """Convert a SavedModel for every file of a job; the answer has for each an empty text, or the problem.

    `job`: `saved_model`, `calibration` (an .npz of arrays named as the inputs, or empty), and `files`: dicts with
    `format`, `path`, `signature`, `precision`.
    """
    problems = []
    for file in job["files"]:
        part = Path(file["path"]).with_name(f".part-{os.getpid()}-{Path(file['path']).name}")
        try:
            CONVERTERS[file["format"]](job, file, part)
            part.replace(file["path"])
            problems.append("")
        except Exception as error:  # converters raise whatever broke inside
            problems.append(problem_of(str(error)))
        finally:
            part.unlink(missing_ok=True)
    return {"problems": problems}


def convert_models(job: dict[str, Any]) -> dict[str, Any]:
    """Convert several SavedModels, each as in `convert_all`; the answer has a list of problems for each."""
    return {"problems": [convert_all(own)["problems"] for own in job["models"]]}


def problem_of(message: str) -> str:
    """One line about what could not be converted: the operation and the layer where the message has them."""
    found = AT_OPERATION.findall(message)
    operation = next((one or two or five for one, two, _, _, five in found if one or two or five), "")
    layer = next((three or four for _, _, three, four, _ in found if three or four), "")
    where = f"{operation or 'an operation'} of {layer}: " if layer else f"{operation}: " if operation else ""
    lines = [line for line in message.splitlines() if line.strip()] or ["no reason is given"]
    reason = re.sub(r"loc\(.*?\)\)*:? *|<unknown>:0: *", "", lines[0]).strip() or lines[0]
    return (where + reason)[:PROTECTED]


def calibration_batches(job: dict[str, Any], batch: int) -> Iterator[dict[str, Any]]:
    """Calibration inputs by name, in batches of one size."""
    with np.load(job["calibration"]) as file:
        arrays = {name: file[name] for name in file.files}
    count = min(map(len, arrays.values()))
    for start in range(0, count - batch + 1, batch):
        yield {name: array[start : start + batch] for name, array in arrays.items()}


def to_litert(job: dict[str, Any], file: dict[str, Any], path: Path) -> None:
    """Write a LiteRT file of LiteRT's own operations alone."""
    key, precision = file["signature"], file["precision"]
    converter = tf.lite.TFLiteConverter.from_saved_model(job["saved_model"], signature_keys=[key])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: ((key, one) for one in calibration_batches(job, file["batch"] or 1))
    path.write_bytes(converter.convert())


def to_onnx(job: dict[str, Any], file: dict[str, Any], path: Path) -> None:
    """Write an ONNX file. Raises ValueError for an operation that ONNX lacks, which tf2onnx only logs."""
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()  # tf2onnx 1.17 is not ready for NumPy 2
    loaded = tf.saved_model.load(job["saved_model"])  # the variables live as long as this
    signature = loaded.signatures[file["signature"]]
    specs = signature.structured_input_signature[1]
    names = [name for name in file["inputs"] if name in specs]
    arguments = [tf.TensorSpec(specs[name].shape, specs[name].dtype, name) for name in names]
    function = tf.function(lambda *xs: signature(**dict(zip(names, xs, strict=True))))
    errors = ErrorLines()
    logging.getLogger("tf2onnx").addHandler(errors)
    logging.getLogger("tf2onnx.tfonnx").addHandler(errors)
    tf2onnx.convert.from_function(function, input_signature=arguments, opset=OPSET, output_path=str(path))
    if lacking := [line for line in errors.lines if "not supported" in line]:
        raise ValueError(lacking[0])
    if file["precision"] == "fp16":
        halve_onnx(path)
    elif file["precision"] == "int8":
        quantize_onnx(path, calibration_batches(job, file["batch"] or 1))


class ErrorLines(logging.Handler):
    """Keeps the errors that a logger writes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())


def halve_onnx(path: Path) -> None:
    """Give an ONNX file half precision inside; its inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def quantize_onnx(path: Path, batches: Iterator[dict[str, Any]]) -> None:
    """Quantize an ONNX file to integers of 8 bits, weights channel by channel; inputs and outputs stay float32."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(batches, None)

    prepared = path.with_name(path.name + ".prepared")
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
        )
    finally:
        prepared.unlink(missing_ok=True)


CONVERTERS: dict[str, Callable[[dict[str, Any], dict[str, Any], Path], None]] = {"litert": to_litert, "onnx": to_onnx}
"""Format -> what writes a file of it."""
