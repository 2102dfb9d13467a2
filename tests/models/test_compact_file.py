from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.models.compact_file import save_compact

CANNOT_IMPORT = """
import sys
sys.modules["lrf_optuna"] = None
import keras, numpy
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[2], model(numpy.load(sys.argv[3]), training=False))
"""


@pytest.fixture
def chained() -> Any:
    """A network of many small stages, in which HDF5 and the configuration take more than the weights."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 16))
    for i in range(12):
        stages = [keras.layers.Conv2D(6, 1, use_bias=False), keras.layers.DepthwiseConv2D(3, padding="same")]
        x = keras.Sequential([keras.Input((8, 8, 16)), *stages, keras.layers.Conv2D(16, 1)], name=f"layer_{i}")(x)
        x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, x)


def test_a_network_of_small_stages_is_a_fifth_of_the_plain_file_and_loads_without_this_package(
    chained: Any, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    save_compact(chained, tmp_path / "model.keras")
    chained.save(tmp_path / "plain.keras")
    whole, plain = ((tmp_path / name).stat().st_size for name in ("model.keras", "plain.keras"))
    assert whole < 0.2 * plain
    paths = [str(tmp_path / name) for name in ("model.keras", "y.npy", "x.npy")]
    subprocess.run([sys.executable, "-c", CANNOT_IMPORT, *paths], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), chained(x, training=False))


def test_the_file_of_a_resnet_is_at_most_1_3_times_its_weights(trained: Callable[[str], Any], tmp_path: Path) -> None:
    network = trained("resnet20_cifar10")
    save_compact(network, tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size <= 1.3 * 4 * network.count_params()


def test_the_optimizer_of_a_compiled_network_is_left_out(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(10)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    model.fit(x, np.zeros((32, 10)), verbose=0)
    save_compact(model, tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 1.3 * 4 * model.count_params()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(x), model(x))
    assert model.compiled
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert archive.testzip() is None
