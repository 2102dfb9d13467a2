"""Small networks and images that several tests share. Whoever changes a shared one must clone it first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data
    from lrf_optuna.scoring.proxy import Proxy

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job of a shell: tests of Ctrl-C need it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
seldom = [HealthCheck.filter_too_much]  # some methods apply to few of all operations
settings.register_profile("lrf", deadline=None, derandomize=True, max_examples=60, suppress_health_check=seldom)
settings.load_profile("lrf")
SHARED = Path(__file__).parents[1].parent / "shared"
KEEPS = (0.2, 0.35, 0.5, 0.7)


def residual_net(channels: int = 8, seed: int = 0) -> Any:
    """8 x 8 x 3 -> 5 logits: convolutions of several shapes, BatchNorm, a residual, Dense layers."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name="stem")(x)
    x = start = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(2 * channels, 3, padding="same", strides=2, activation="relu", name="down")(x)
    x = layers.Conv2D(2 * channels, 3, padding="same", name="deep")(x)
    x = layers.Add()([x, layers.Conv2D(2 * channels, 1, strides=2, name="short")(start)])
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(16, activation="tanh", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(5, name="top")(x))
    rng = np.random.default_rng(seed)
    for name in ("stem_norm", "norm"):
        layer = model.get_layer(name)
        shape = layer.gamma.shape
        layer.set_weights([rng.uniform(0.5, 1.5, shape), rng.normal(size=shape), *layer.get_weights()[2:]])
    return model


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Tests run in several processes at once, whose BLAS threads would wait for each other's cores."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests keep for the next run is kept in a folder of theirs, in processes that they start as well."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("LRF_OPTUNA_CACHE", str(folder))
        yield folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def images() -> np.ndarray[Any, Any]:
    """64 smooth random images of 8 x 8 x 3: neighbours are alike, as in photographs."""
    coarse = np.random.default_rng(1).standard_normal((64, 4, 4, 3))
    return np.kron(coarse, np.ones((1, 2, 2, 1))).astype(np.float32)


@pytest.fixture(scope="session")
def net() -> Any:
    """A residual network that no test may change."""
    return residual_net()


@pytest.fixture
def fresh_net() -> Callable[..., Any]:
    """Makes residual networks that a test may change."""
    return residual_net


@pytest.fixture(scope="session")
def keeps() -> tuple[float, ...]:
    return KEEPS


@pytest.fixture(scope="session")
def proxy(net: Any, images: np.ndarray[Any, Any]) -> Proxy:
    from lrf_optuna.scoring.proxy import Proxy

    return Proxy(net, images)


@pytest.fixture(scope="session")
def table(proxy: Proxy) -> Any:
    return proxy.table(KEEPS)


@pytest.fixture(scope="session")
def digits() -> Data:
    from lrf_optuna.data.load_data import load_data
    from lrf_optuna.input_sections import DataSpec

    return load_data(DataSpec(path="digits", divide=16), 0, (8, 8, 1), 10)


@pytest.fixture(scope="session")
def digits_net(digits: Data) -> Any:
    """A small network that knows the digits (about 97 % on validation); no test may change it."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(12, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Conv2D(16, 3, padding="same", strides=2, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, name="top"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.learning_rate = 3e-3
    model.fit(digits.preprocess(digits.train.pixels), digits.train.labels, epochs=8, batch_size=64, verbose=0)
    return model


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Any]:
    """Loads a real trained network by name, or skips where the networks are not there."""

    def load(name: str) -> Any:
        import keras

        path = SHARED / "models" / f"{name}.keras"
        if not path.exists():
            pytest.skip(f"the trained network {name} is not beside this repository")
        return keras.models.load_model(path, compile=False)

    return load


@pytest.fixture(scope="session")
def real_images() -> Callable[[str, int], tuple[Any, Any]]:
    """The first test images (uint8) and labels of a real data set, or skips where it is not there."""

    def load(name: str, count: int) -> tuple[Any, Any]:
        path = SHARED / "data" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"the data set {name} is not beside this repository")
        with np.load(path) as arrays:
            return arrays["x_test"][:count], arrays["y_test"][:count]

    return load
