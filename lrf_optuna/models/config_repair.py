"""Configurations of Keras 1 and 2 as Keras 3 takes them.

A model file holds the layers as JSON. Keras 3 refuses many old files although nothing in them is lost: an option that
has no effect, an old module path, another form of the same graph. `repair_config` writes them in today's form. It drops
an option only where its value changes nothing; what it does not know stays, so that Keras refuses it by name.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras

from lrf_optuna.models.graph_repair import repair_graph
from lrf_optuna.models.keras1_config import entry_from_keras1

Config = dict[str, Any]

OLD_MODULE = re.compile(r"(tf_keras|tensorflow|tensorflow_core|keras\.(src\.)?(engine|layers|models)|keras$)(\.|$)")
"""Modules that classes of Keras have in files of Keras 2; `keras.layers` is today's too."""
MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras", "Model": "keras.src.models.functional"}
"""Class of a model -> the module that Keras 3 writes for it."""
RENAMED = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
"""Layers of Keras 2 that Keras 3 has under another name; `old_weights` converts their kernels."""
HARMLESS: dict[str, Callable[[Any], bool]] = {
    "groups": lambda value: value == 1,
    **dict.fromkeys(("time_major", "causal", "softmax_robust_masking", "dynamic"), lambda value: not value),
    **dict.fromkeys(("ragged", "sparse", "renorm"), lambda value: not value),
    **dict.fromkeys(("implementation", "rng_type", "fused", "trainable"), lambda value: True),
    **dict.fromkeys(("batch_input_shape", "batch_shape", "input_shape"), lambda value: True),
    **dict.fromkeys(("input_dtype", "input_length", "input_dim"), lambda value: True),
    **dict.fromkeys(("query_shape", "key_shape", "value_shape"), lambda value: True),
}
"""Options of Keras 2 that some layers of Keras 3 do not take -> whether a value means what these layers do anyway."""
ALWAYS_TAKEN = {"name", "trainable", "dtype", "activity_regularizer", "autocast"}
"""Options that every layer takes whose constructor takes any keyword."""


@dataclass
class RepairedConfig:
    """A configuration that Keras 3 can read.

    `notes`: what was changed -> in how many places. `unknown`: classes that are not of Keras. `old_hard_sigmoid`:
    whether `hard_sigmoid` is the one of Keras 1 and 2 there.
    """

    config: Config
    notes: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    old_hard_sigmoid: bool = False


def repair_config(config: Config, version: int) -> RepairedConfig:
    """The configuration of a whole model, as a file of the Keras of the major number `version` has it, for Keras 3."""
    repaired = RepairedConfig(config)
    repaired.config = repair_entry(plain_lists(config), repaired, version)
    if version < 3 and not repaired.config.get("compile_config", True):
        repaired.config.pop("compile_config")
    return repaired


def plain_lists(value: Any) -> Any:
    """The same value with wrapped lists (`__tuple__`, `TensorShape`, `ListWrapper`) as lists."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__tuple__", "TensorShape", "ListWrapper", "_DictWrapper"):
            return plain_lists(value.get("items", value.get("config")))
        return {key: plain_lists(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_lists(inner) for inner in value]
    if isinstance(value, str) and (wrapped := re.fullmatch(r"ListWrapper\(\[([-\d, ]*)\]\)", value)):
        return [int(number) for number in wrapped[1].split(",") if number.strip()]
    return value


def repair_entry(entry: Config, repaired: RepairedConfig, version: int) -> Config:
    """One layer or model, `{class_name, config, ...}`, and all layers inside it."""
    entry, name = dict(entry), str(entry.get("class_name"))
    if version < 2:
        entry = entry_from_keras1(entry, repaired.notes)
        name = entry["class_name"]
    if name == "ThresholdedReLU":  # they differ where an input is the threshold itself: 0 there, and the input here
        repaired.notes["ThresholdedReLU read as ReLU"] += 1
        config = {key: value for key, value in entry["config"].items() if key != "theta"}
        entry |= {"class_name": "ReLU", "config": config | {"threshold": entry["config"]["theta"]}}
        name = "ReLU"
    if name in RENAMED:
        repaired.notes[f"{name} read as {RENAMED[name]}"] += 1
        name = entry["class_name"] = RENAMED[name]
    if is_model(entry):
        return repair_model(entry, repaired, version)
    if not is_keras_entry(entry):
        if name not in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer") and is_layer(entry):
            repaired.unknown.append(name.rpartition(">")[2])
        return entry
    entry["config"] = repair_options(entry, repaired, version)
    if version < 3 and name == "MultiHeadAttention":
        entry.pop("build_config", None)  # one shape in Keras 2, two or three in Keras 3
    set_module(entry, "keras.layers", repaired.notes)
    return replaced(entry, repaired, version)


def repair_model(entry: Config, repaired: RepairedConfig, version: int) -> Config:
    """A Sequential or functional model, with its layers."""
    name, config = entry["class_name"], entry["config"]
    if isinstance(config, list):
        repaired.notes["a Sequential configuration that is a list"] += 1
        config = {"name": "sequential", "layers": config}
    config = dict(config)
    sequential = "input_layers" not in config
    config.setdefault("name", "sequential" if sequential else "model")
    layers = [dict(layer) for layer in config["layers"]]
    if sequential:
        layers = with_input_layer(layers, repaired.notes)
    config["layers"] = [repair_entry(layer, repaired, version) for layer in layers]
    if not sequential:
        config = repair_graph(config, repaired.notes, version)
    entry["config"] = config
    if name in MODELS:
        entry["class_name"] = "Sequential" if sequential else "Functional"
        set_module(entry, MODELS[entry["class_name"]], repaired.notes)
    return entry


def with_input_layer(layers: list[Config], notes: Counter[str]) -> list[Config]:
    """The layers of a Sequential model, the first of which is an InputLayer if the file knows the input's shape."""
    if not layers or layers[0]["class_name"] == "InputLayer":
        return layers
    shape = input_shape(layers[0])
    if shape is None:
        return layers
    first = layers[0]["config"]
    name = first["name"] if isinstance(first, dict) and "name" in first else "model"
    dtype = first.get("input_dtype") if isinstance(first, dict) else None
    notes["an input layer from batch_input_shape"] += 1
    config = {"batch_shape": shape, "dtype": dtype or "float32", "name": f"{name}_input"}
    return [{"class_name": "InputLayer", "module": "keras.layers", "registered_name": None, "config": config}, *layers]


def input_shape(entry: Config) -> list[int | None] | None:
    """The shape of the batches that a first layer says it takes; None where it does not say."""
    config = entry["config"]
    if is_model(entry):
        layers = config if isinstance(config, list) else config["layers"]
        inputs = config.get("input_layers") if isinstance(config, dict) else None
        if inputs and len(inputs) != 1:
            return None
        return input_shape(layers[0]) if layers else None
    for key in ("batch_input_shape", "batch_shape"):
        if config.get(key):
            return list(config[key])
    if config.get("input_shape"):
        return [None, *config["input_shape"]]
    if entry["class_name"] == "Embedding":
        return [None, config.get("input_length")]
    return [None, config["input_dim"]] if entry["class_name"] == "Dense" and config.get("input_dim") else None


def repair_options(entry: Config, repaired: RepairedConfig, version: int) -> Config:
    """The options of one layer of Keras, with those of the layers inside it."""
    name, config, notes = entry["class_name"], dict(entry["config"]), repaired.notes
    drop_options(name, config, notes)
    for key, value in config.items():
        if isinstance(value, dict) and is_layer(value):
            config[key] = repair_entry(value, repaired, version)
        elif isinstance(value, list) and value and all(isinstance(part, dict) and is_layer(part) for part in value):
            config[key] = [repair_entry(part, repaired, version) for part in value]
    if isinstance(policy := config.get("dtype"), dict) and policy.get("class_name") in ("Policy", "PolicyV1"):
        config["dtype"] = policy["config"]["name"]
        notes["a dtype policy of Keras 2"] += 1
    if name == "BatchNormalization" and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
        notes["an axis in a list"] += "module" in entry  # Keras 3 reads it in files of HDF5
    if isinstance(config.get("noise_shape"), int):
        config["noise_shape"] = None  # the shape of dropout's noise has no part in the outputs of a trained network
        notes["noise_shape that is a number"] += 1
    if "module" not in entry and config.get("score_mode") == "dot":  # Keras 3 takes it for its function of that name
        notes["score_mode of attention"] += 1
    if version < 3:
        repair_activations(name, config, repaired)
    return config


def drop_options(name: str, config: Config, notes: Counter[str]) -> None:
    """Take out of `config` what the layer of Keras 3 does not take, where that changes nothing."""
    for key in [key for key in config if key not in options_of(getattr(keras.layers, name))]:
        value = config[key]
        if value is None or key.endswith("_initializer") or HARMLESS.get(key, lambda value: False)(value):
            if name == "InputLayer" and key == "batch_input_shape":
                config["batch_shape"] = value
            if key not in ("batch_input_shape", "input_shape"):  # the input layer says it already
                notes[f"{key} of {name}"] += 1
            del config[key]


def repair_activations(name: str, config: Config, repaired: RepairedConfig) -> None:
    """Give a layer of Keras 1 or 2 the defaults of its time, and remember a `hard_sigmoid`, which was another one."""
    if name == "GRU" and "reset_after" not in config:
        config["reset_after"] = False  # the only form there was before Keras 2.1
        repaired.notes["reset_after of GRU"] += 1
    if "hard_sigmoid" in (config.get("activation"), config.get("recurrent_activation")):
        repaired.old_hard_sigmoid = True
        repaired.notes["the hard_sigmoid of Keras 2"] += 1


def replaced(entry: Config, repaired: RepairedConfig, version: int) -> Config:
    """The entry of a layer of Keras 2 as the plain layers of Keras 3 that compute the same."""
    config = entry["config"]
    if version < 3 and entry["class_name"] == "Activation" and config.get("activation") == "hard_sigmoid":
        inner = [
            {"class_name": "Rescaling", "config": {"scale": 0.2, "offset": 0.5, "name": f"{config['name']}_line"}},
            {"class_name": "ReLU", "config": {"max_value": 1.0, "name": f"{config['name']}_clip"}},
        ]
        layers = [{"module": "keras.layers", "registered_name": None, **part} for part in inner]
        model = {"module": "keras", "class_name": "Sequential", "registered_name": None}
        return entry | model | {"config": {"name": config["name"], "layers": layers}, "build_config": None}
    return entry


def set_module(entry: Config, module: str, notes: Counter[str]) -> None:
    """Write today's module into an entry. Files of HDF5 have none, and Keras takes such entries for old ones."""
    old = entry.get("module")
    if old and old != module and not (old.startswith("keras.src.models") or old in ("keras", "keras.layers")):
        notes["old module paths"] += 1
    entry["module"] = module
    entry["registered_name"] = entry["class_name"] if module in MODELS.values() and module != "keras" else None


def is_model(entry: Config) -> bool:
    """Whether an entry is a model with layers."""
    config = entry.get("config")
    if isinstance(config, list):
        return bool(entry["class_name"] == "Sequential")
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def is_layer(entry: Config) -> bool:
    """Whether a dictionary is the entry of a layer, of Keras or another one."""
    if not isinstance(entry.get("config"), dict | list) or "class_name" not in entry:
        return False
    return is_model(entry) or is_keras_entry(entry) or "trainable" in entry["config"]


def is_keras_entry(entry: Config) -> bool:
    """Whether an entry is a layer of Keras 3: by its name, and by its module and registered name if it has them."""
    name, module, registered = entry.get("class_name"), entry.get("module"), entry.get("registered_name")
    known = isinstance(getattr(keras.layers, str(name), None), type)
    foreign = bool(registered and registered != name)
    of_keras = module is None or OLD_MODULE.match(str(module)) is not None
    return known and not foreign and of_keras


@cache
def options_of(layer_class: type) -> frozenset[str]:
    """The options that the constructor of a class takes, with those of its parents where it passes them on."""
    taken: set[str] = set()
    for parent in layer_class.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        taken |= {parameter.name for parameter in parameters}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return frozenset(taken)
        if parent is keras.layers.Layer:
            return frozenset(taken | ALWAYS_TAKEN)
    return frozenset(taken)


def describe(notes: Counter[str]) -> str:
    """The notes in one line."""
    return ", ".join(f"{note} ({times} times)" if times > 1 else note for note, times in notes.items() if times)
