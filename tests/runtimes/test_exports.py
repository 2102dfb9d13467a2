from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna import LrfError, export
from lrf_optuna.data.preprocess import Preprocess
from lrf_optuna.runtimes.child import in_child
from lrf_optuna.runtimes.convert import problem_of
from lrf_optuna.runtimes.exports import Exporter, Samples, file_paths, random_samples
from lrf_optuna.runtimes.formats import ExportSettings, check_formats, format_of

ONNX = pytest.mark.skipif(not all(map(find_spec, ("onnx", "tf2onnx", "onnxruntime"))), reason="ONNX is not installed")
HAS_ONNX = all(map(find_spec, ("onnx", "tf2onnx", "onnxruntime")))
QUANTIZED = ["litert", *(["onnx"] if HAS_ONNX else [])]
FORMATS = [*QUANTIZED, "savedmodel"]
"""The formats that can be written here; those of one network are written in one call, as each call is some seconds."""
CLOSE = 1e-4
"""Difference of outputs up to about 10 between runtimes in single precision, at most."""


def rows_of(
    model: Any, names: list[str], tmp_path: Path, samples: Samples | None = None, **settings: Any
) -> dict[str, Any]:
    wanted = ExportSettings(**settings)
    paths = file_paths(tmp_path / "net", names, wanted.precision)
    return {row.format: row for row in Exporter(model, samples or random_samples(model, 5), wanted).export(paths)}


def sequence_net() -> Any:
    stack = [keras.Input((12, 4)), layers.LSTM(6, return_sequences=True), layers.Bidirectional(layers.GRU(3))]
    return keras.Sequential([*stack, layers.Dense(5)])


def two_sided_net() -> Any:
    """Two inputs and two outputs, whose names are in no order and no identifiers."""
    image, numbers = keras.Input((8, 8, 3), name="z image"), keras.Input((4,), name="a-numbers")
    x = layers.Concatenate()([layers.Flatten()(layers.Conv2D(4, 3)(image)), numbers])
    return keras.Model([image, numbers], [layers.Dense(3, name="z")(x), layers.Dense(2, name="a")(x)])


@pytest.mark.skipif(not HAS_ONNX, reason="onnx, tf2onnx and onnxruntime are not installed")
def test_onnx_is_among_the_formats() -> None:
    assert "onnx" in FORMATS


def test_a_file_gives_what_the_keras_model_gives(net: Any, tmp_path: Path) -> None:
    rows = rows_of(net, FORMATS, tmp_path)
    assert list(rows) == FORMATS
    for row in rows.values():
        assert not row.problem
        assert row.difference < CLOSE * max(1, row.largest_output)
        assert row.file_bytes > 3 * net.count_params()
        assert row.milliseconds > 0 < row.keras_milliseconds
        assert (row.metric, row.real_images) == (None, False)


@pytest.mark.parametrize("make", [sequence_net, two_sided_net])
def test_sequences_and_several_inputs_and_outputs_are_exported(make: Callable[[], Any], tmp_path: Path) -> None:
    for row in rows_of(make(), FORMATS, tmp_path).values():
        assert not row.problem
        assert row.difference < CLOSE


@pytest.mark.parametrize("batch", ["4", "any"])
def test_the_batch_may_be_fixed_or_any(net: Any, batch: str, tmp_path: Path) -> None:
    for row in rows_of(net, QUANTIZED, tmp_path, batch=batch).values():
        assert (row.problem, row.batch) == ("", batch)
        assert row.difference < CLOSE


def test_a_recurrent_layer_of_any_batch_is_named_as_the_problem(tmp_path: Path) -> None:
    row = rows_of(sequence_net(), ["litert"], tmp_path, batch="any")["litert"]
    assert "TensorListReserve" in row.problem
    assert "\n" not in row.problem
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_keep_the_metric(digits: Any, digits_net: Any, precision: str, tmp_path: Path) -> None:
    def accuracy(outputs: Any) -> float:
        return float((next(iter(outputs.values())).argmax(1) == digits.test.labels[:200]).mean())

    samples = Samples(digits.test.pixels[:200], digits.train.pixels[:64], digits.preprocess, accuracy)
    for row in rows_of(digits_net, QUANTIZED, tmp_path, samples, precision=precision).values():
        assert not row.problem
        assert row.metric > row.keras_metric - 0.03
        assert row.difference > 0
        assert row.file.rpartition(".")[0].endswith(f"net_{precision}")


def test_integers_need_real_inputs(net: Any, tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="int8 needs real inputs to calibrate with: give --data"):
        rows_of(net, ["litert"], tmp_path, precision="int8")


def test_the_preprocessing_may_be_in_the_file(net: Any, images: Any, tmp_path: Path) -> None:
    raw = np.uint8(127 + 40 * images[:6].clip(-3, 3))
    samples = Samples(raw, preprocess=Preprocess(255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    for row in rows_of(net, FORMATS, tmp_path, samples, with_preprocessing=True).values():
        assert not row.problem
        assert row.difference < CLOSE * max(1, row.largest_output)


def test_a_converters_message_becomes_one_line_with_layer_and_operation() -> None:
    message = """<unknown>:0: error: loc(callsite(fused["Conv3D:", "net/deep/convolution@x"] at "y")): 'tf.Conv3D' op is
    neither a custom op nor a flex op
    more"""
    found = problem_of(message)
    assert found.startswith("tf.Conv3D of net/deep/convolution: ") or found.startswith(
        "Conv3D of net/deep/convolution: "
    )
    assert "\n" not in found
    assert problem_of("Tensorflow op [net/deep/Foo: Foo] is not supported").startswith("Foo of net/deep/Foo: ")


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["tflit"], {}, "unknown format 'tflit'.*litert"),
        (["savedmodel"], {"precision": "int8"}, "savedmodel has no int8: export to litert, onnx"),
        (["litert"], {"batch": "0"}, "--batch should be 1 or more, or any, but got '0'"),
        ([], {}, "no format is given: give some of litert, onnx, savedmodel"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(names: list[str], settings: Any, message: str) -> None:
    with pytest.raises(LrfError, match=message):
        check_formats(names, ExportSettings(**settings))


def test_a_missing_runtime_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf_optuna.runtimes.formats.find_spec", lambda name: None)
    with pytest.raises(LrfError, match=r"onnx needs onnx and .*: pip install 'lrf-optuna\[onnx\]'"):
        check_formats(["onnx"], ExportSettings())


def test_the_suffix_says_the_format() -> None:
    assert [format_of(path) for path in ("a/b.tflite", "a.b/c.onnx", "a.b/saved")] == ["litert", "onnx", "savedmodel"]
    with pytest.raises(LrfError, match="has no suffix of a format"):
        format_of("net.pb")


def test_one_call_in_python_writes_one_file(net: Any, tmp_path: Path) -> None:
    row = export(net, tmp_path / "net.tflite")
    assert row.file_bytes == (tmp_path / "net.tflite").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]


def test_a_saved_model_takes_the_place_of_no_other_folder(net: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(LrfError, match="is no SavedModel"):
        export(net, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_a_child_that_dies_is_said_with_its_last_words() -> None:
    with pytest.raises(LrfError, match=r"ended without an answer.*no_such_function"):
        in_child("lrf_optuna.runtimes.convert:no_such_function", {})


def test_a_model_file_is_exported_by_the_command_line(net: Any, tmp_path: Path) -> None:
    net.save(tmp_path / "net.keras")
    command = [sys.executable, "-m", "lrf_optuna", "export", "net.keras", "--to", "litert"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "net.tflite").exists()
    assert "random inputs, as no data are given" in " ".join(done.stdout.split())


def test_convolutions_that_keras_compiles_as_functions_of_their_own_are_exported(tmp_path: Path) -> None:
    stack = [layers.Conv2D(8, 3, groups=2), layers.DepthwiseConv2D((3, 1), strides=2), layers.Conv2D(4, 1)]
    for row in rows_of(keras.Sequential([keras.Input((12, 12, 4)), *stack]), FORMATS, tmp_path).values():
        assert not row.problem
        assert row.difference < CLOSE
