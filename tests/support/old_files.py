"""Model files as Keras 1 and 2 wrote them: files of Keras 3 whose configuration is written in the old way."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from lrf_optuna.models.load import load_model
from lrf_optuna.progress import Silent

Config = dict[str, Any]


class Said(Silent):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def entries(config: Any) -> Iterator[Config]:
    """Every layer and model in a configuration, from the outside in."""
    if isinstance(config, dict):
        if "class_name" in config and "config" in config:
            yield config
        for value in list(config.values()):
            yield from entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from entries(value)


def of_class(config: Config, *names: str) -> list[Config]:
    """The configurations of all layers of some classes."""
    return [entry["config"] for entry in entries(config) if entry["class_name"] in names]


def old_calls(config: Config) -> None:
    """Write the calls in the graphs of a configuration as Keras 2 did: as lists, nested models counted from 1."""
    for model in [entry for entry in entries(config) if "input_layers" in entry["config"]]:
        layers = model["config"]["layers"]
        nests = {layer["name"] for layer in layers if "layers" in layer["config"]}

        def tensor(value: Config, nests: set[str] = nests) -> list[Any]:
            name, node, index = value["config"]["keras_history"]
            return [name, node + (name in nests), index]

        def option(value: Any) -> Any:
            known = isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"
            return tensor(value) if known else value

        for layer in layers:
            calls = []
            for node in layer["inbound_nodes"]:
                first, *others = node["args"]
                names = ("value", "key")
                kwargs = {key: option(value) for key, value in node["kwargs"].items() if value is not None}
                kwargs |= {key: option(value) for key, value in zip(names, others, strict=False)}
                states = node["kwargs"].get("initial_state")
                parts = first if isinstance(first, list) else [first]
                if states:
                    parts = [*parts, *states]
                    del kwargs["initial_state"]
                calls.append([[*tensor(part), kwargs if i == 0 else {}] for i, part in enumerate(parts)])
            layer["inbound_nodes"] = calls
        for key in ("input_layers", "output_layers"):
            ends = model["config"][key]
            model["config"][key] = [ends] if isinstance(ends[0], str) else ends


def write_old(path: Path, model: Any, change: Callable[[Config], Config | None], version: str = "2.15.0") -> Path:
    """Save a model and change its configuration; `change` may return another one. Both kinds of files, by suffix."""
    model.save(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as whole:
            parts = {name: whole.read(name) for name in whole.namelist()}
        config = json.loads(parts["config.json"])
        parts["config.json"] = json.dumps(change(config) or config).encode()
        parts["metadata.json"] = json.dumps({"keras_version": version}).encode()
        with zipfile.ZipFile(path, "w") as whole:
            for name, part in parts.items():
                whole.writestr(name, part)
        return path
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(change(config) or config)
        file.attrs["keras_version"] = version
    return path


def write_hdf5(
    path: Path, config: Config, layers: dict[str, list[np.ndarray[Any, Any]]], version: str = "", backend: str = ""
) -> Path:
    """A file of HDF5 with a configuration and the weights of the layers, as Keras 1 wrote it, or Keras `version`."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for key, value in (("keras_version", version), ("backend", backend)):
            if value:
                file.attrs[key] = value.encode()
        for name, values in layers.items():
            inner = group.create_group(name)
            names = [f"{name}_W{i}" for i in range(len(values))]
            inner.attrs["weight_names"] = np.array([one.encode() for one in names], dtype="S64")
            for one, value in zip(names, values, strict=True):
                inner[one] = value
    return path


def rename_weights(path: Path, rename: Callable[[str], str]) -> None:
    """Give the arrays in a .keras file other paths."""
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    new = io.BytesIO()
    with h5py.File(io.BytesIO(parts["model.weights.h5"])) as old, h5py.File(new, "w") as file:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                file[rename(name)] = item[...]

        old.visititems(copy)
    parts["model.weights.h5"] = new.getvalue()
    with zipfile.ZipFile(path, "w") as whole:
        for name, part in parts.items():
            whole.writestr(name, part)


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with random weights, positive where they are variances."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.normal(size=variable.shape) * 0.4
        variable.assign(np.abs(values) if "variance" in variable.path else values)
    return model


def random_inputs(model: Any, seed: int = 1) -> Any:
    """Four random arrays for every input of a model."""
    rng = np.random.default_rng(seed)
    arrays = [rng.random((4, *x.shape[1:]), np.float32) for x in model.inputs]
    return arrays if len(arrays) > 1 else arrays[0]


def check_read(path: Path, model: Any, tolerance: float = 1e-6) -> list[str]:
    """The lines said while a file is read, which has to give a model with the outputs of `model`."""
    said = Said()
    read = load_model(str(path), progress=said)
    inputs = random_inputs(model)
    pairs = zip(keras.tree.flatten(model(inputs)), keras.tree.flatten(read(inputs)), strict=True)
    for wanted, given in pairs:
        wanted = np.asarray(wanted, np.float32)
        np.testing.assert_allclose(np.asarray(given, np.float32), wanted, atol=tolerance * max(1, np.abs(wanted).max()))
    assert read.count_params() == model.count_params()
    return said.lines
