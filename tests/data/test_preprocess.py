"""Preprocessing by Keras' own functions beside plain numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from lrf_optuna.config import StudySpec
from lrf_optuna.data.preprocess import (
    KerasPreprocess,
    Preprocess,
    module_of_network,
    preprocess_functions,
    preprocess_of,
)
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("module", sorted(preprocess_functions()))
def test_pixels_are_what_keras_makes_of_them(module: str) -> None:
    preprocess = preprocess_of(DataSpec(path="arrays", preprocess=f"keras:{module}"), 3)
    before = PIXELS.copy()
    got = preprocess(PIXELS)
    wanted = getattr(keras.applications, module).preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(PIXELS, before)


def test_the_pixels_of_vgg16_are_bgr() -> None:
    got = KerasPreprocess("vgg16")(PIXELS)
    np.testing.assert_allclose(got, PIXELS[..., ::-1] - np.array([103.939, 116.779, 123.68]), atol=1e-4)


def test_floats_are_left_untouched() -> None:
    pixels = PIXELS.astype(np.float32)
    KerasPreprocess("resnet50")(pixels)
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize(
    ("network", "module"),
    [("VGG16", "vgg16"), ("ResNet50", "resnet"), ("MobileNetV2", "mobilenet_v2"), ("MobileNetV3Small", "mobilenet_v3"),
     ("EfficientNetV2B0", "efficientnet_v2"), ("ResNet50V2", "resnet_v2"), ("Nothing", None), ("resnet", None)],
)  # fmt: skip
def test_a_network_of_keras_knows_its_module(network: str, module: str | None) -> None:
    assert module_of_network(network) == module


def test_every_network_of_keras_has_a_module() -> None:
    networks = [name for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)]
    assert len(networks) > 30
    assert all(map(module_of_network, networks))


def test_an_unknown_module_lists_those_there_are() -> None:
    with pytest.raises(LrfError, match=r"unknown module of keras.applications .* 'mobilenetv2' \(did you mean"):
        preprocess_of(DataSpec(path="arrays", preprocess="keras:mobilenetv2"), 3)


def test_gray_images_do_not_fit_a_function_for_colors() -> None:
    with pytest.raises(LrfError, match=r"preprocess keras:vgg16 is for images \(N, H, W, 3\), but got \(2, 5, 4, 1\)"):
        KerasPreprocess("vgg16")(PIXELS[..., :1])
    with pytest.raises(LrfError, match="is for images of three channels, but the inputs have 1 channels"):
        preprocess_of(DataSpec(path="arrays", preprocess="keras:vgg16"), 1)


def test_none_means_pixels_as_they_are() -> None:
    assert preprocess_of(DataSpec(path="arrays", preprocess="none"), 3) == Preprocess()


def study(**data: object) -> StudySpec:
    return StudySpec.model_validate(
        {"name": "x", "model": {"path": "keras:VGG16"}, "data": {"path": "digits"}}
    ).override({f"data.{key}": value for key, value in data.items()})


def test_numbers_and_a_function_together_are_refused() -> None:
    with pytest.raises(LrfError) as caught:
        study(divide=255, preprocess="keras:vgg16")
    assert str(caught.value) == "--preprocess goes with no divide: give one or the other, but got 'keras:vgg16'"
    with pytest.raises(
        LrfError, match="--preprocess should be keras:MODULE, such as keras:mobilenet_v2, or none, but got"
    ):
        study(preprocess="vgg16")
