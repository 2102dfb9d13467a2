"""Image files of every mode and size as pixels of 0..255."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lrf_optuna.data import image_files
from lrf_optuna.data.image_files import most_frequent, read_images
from lrf_optuna.errors import LrfError
from tests.support.data_files import GREY, color, write_image, write_images


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_images_of_16_bits_keep_their_values_in_0_to_255(tmp_path: Path, suffix: str, channels: int) -> None:
    file = write_image(tmp_path / f"wide{suffix}", GREY.astype("uint16") * 257)
    stack = read_images([file], (12, 20, channels))
    np.testing.assert_array_equal(stack.pixels[0, :, :, 0], GREY)
    np.testing.assert_array_equal(stack.pixels[0, :, :, min(channels, 3) - 1], GREY)
    assert stack.notes == ("1 of 1 images have 16 bits; their values are scaled to 0..255.",)


def test_fractions_of_16_bits_are_kept(tmp_path: Path) -> None:
    values = np.arange(240, dtype="uint16").reshape(12, 20) * 100
    stack = read_images([write_image(tmp_path / "a.png", values), write_image(tmp_path / "b.png", GREY)], (12, 20, 1))
    np.testing.assert_allclose(stack.pixels[0, :, :, 0], values / 257, rtol=1e-6)
    np.testing.assert_array_equal(stack.pixels[1, :, :, 0], GREY)


def test_big_endian_tiff_files_keep_their_values(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (20, 12), (GREY.astype(">u2") * 257).tobytes())
    image.save(tmp_path / "wide.tif")
    np.testing.assert_array_equal(read_images([tmp_path / "wide.tif"], (12, 20, 1)).pixels[0, :, :, 0], GREY)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_of_32_bits_are_refused_because_their_range_is_unknown(tmp_path: Path, dtype: Any) -> None:
    file = write_image(tmp_path / "a.tif", GREY.astype(dtype) * (1 if dtype is np.float32 else 100_000))
    with pytest.raises(LrfError, match="32-bit values have no known range; save 8 or 16 bits"):
        read_images([file], (12, 20, 1))


def of_mode(mode: str, path: Path) -> Path:
    image = Image.fromarray(color(0))
    (image.quantize(255) if mode == "P" else image.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_every_mode_come_in_the_channels_of_the_model(tmp_path: Path, mode: str, channels: int) -> None:
    file = of_mode(mode, tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    stack = read_images([file], (12, 20, channels))
    with Image.open(file) as image:
        wanted = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(12, 20, channels)
    assert stack.pixels.dtype == np.uint8
    np.testing.assert_allclose(stack.pixels[0].astype(float), wanted.astype(float), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_by_exif_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = write_image(tmp_path / "a.png", color(1), exif=exif)
    turned = {1: 0, 3: 2, 6: -1, 8: 1}
    stack = read_images([file], None)
    assert stack.pixels.shape[1:3] == ((12, 20) if orientation < 5 else (20, 12))
    if orientation in turned:
        np.testing.assert_array_equal(stack.pixels[0], np.rot90(color(1), turned[orientation]))


def test_the_most_frequent_size_is_taken_for_a_model_of_any_size_and_said(tmp_path: Path) -> None:
    files = [write_image(tmp_path / "a_icon.png", color(0, (9, 7))), *write_images(tmp_path, 3)]
    stack = read_images(files, (None, None, 3))
    assert stack.pixels.shape == (4, 12, 20, 3)
    assert stack.notes == (
        "The images have 2 sizes; the most frequent, 12 x 20 (75% of the images), is taken for all, "
        "because the model takes any size.",
    )


def test_of_sizes_that_are_as_frequent_the_middle_one_is_taken() -> None:
    assert most_frequent(image_files.Counter({(9, 7): 1, (400, 300): 1, (300, 400): 1, (4000, 9000): 1})) == (300, 400)


def test_images_of_one_size_and_a_model_of_one_size_need_no_note(tmp_path: Path) -> None:
    files = write_images(tmp_path, 3)
    assert read_images(files, (None, None, 3)).notes == ()
    assert read_images([*files, *write_images(tmp_path / "b", 1, (5, 5))], (10, 10, 3)).notes == ()


def test_a_model_that_leaves_one_side_open_gets_the_other_side_as_it_wants(tmp_path: Path) -> None:
    assert read_images(write_images(tmp_path, 2), (32, None, 3)).pixels.shape == (2, 32, 20, 3)


def test_a_few_unreadable_files_are_left_out_and_counted(tmp_path: Path) -> None:
    files = write_images(tmp_path, 200)
    files[3].write_text("not an image", encoding="utf-8")
    files[7].write_bytes(files[8].read_bytes()[:300])  # cut off
    stack = read_images(files, None)
    assert len(stack.pixels) == 198
    assert stack.kept.tolist() == [i for i in range(200) if i not in (3, 7)]
    np.testing.assert_array_equal(stack.pixels[-1], color(199))
    what = "cannot be read and were left out, such as 003.png (cannot identify image file)."
    assert stack.notes == (f"2 of 200 image files {what}",)


def test_more_than_one_percent_of_unreadable_files_are_refused(tmp_path: Path) -> None:
    files = write_images(tmp_path, 150)
    for file in files[:2]:
        file.write_text("not an image", encoding="utf-8")
    with pytest.raises(
        LrfError, match=r"cannot read the image .*000\.png: .*; 2 of 150 files cannot be read, more than 1%"
    ):
        read_images(files, None)


@pytest.mark.parametrize("shape", [(300, 6), (8, 8, 8, 1), (784,), (8, 8, 5), (3, 32, 32)])
def test_a_model_that_takes_no_images_is_told_so(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        LrfError, match=r"image files are for models that take \(H, W, 1, 3, 4 channels\), but it takes"
    ):
        read_images(write_images(tmp_path, 1), shape)


def test_more_images_than_memory_has_room_for_are_kept_in_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_images(tmp_path, 4)
    in_memory = read_images(files, None).pixels
    monkeypatch.setattr(image_files, "IMAGE_BYTES", 100)
    in_file = read_images(files, None).pixels
    assert isinstance(in_file, np.memmap)
    np.testing.assert_array_equal(in_file, in_memory)
