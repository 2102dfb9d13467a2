"""TensorFlow functions that Keras 2 keeps as layers of a graph, as operations of keras.ops that compute the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrf_optuna.errors import LrfError

Config = dict[str, Any]
Arguments = tuple[list[Any], Config]

CONSTANT = "_CONSTANT_VALUE"
"""The name that stands for a constant where Keras 2 has the name of a layer."""
OP_LAYERS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
"""Classes of Keras 2 whose layers are one TensorFlow function."""
NUMPY, NN, CORE, IMAGE = (f"keras.src.ops.{part}" for part in ("numpy", "nn", "core", "image"))
"""The modules that files of Keras 3 have for operations."""
REQUIRED = object()
"""The default of an option that has none."""


@dataclass(frozen=True, slots=True)
class Form:
    """The operation of keras.ops that computes the same as a TensorFlow function.

    `options`: option of the operation -> (option of the function, its default). `fixed`: option of the function -> the
    one value that has a form here.
    """

    module: str
    name: str
    options: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


BINARY = {
    **{"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "truediv": "TrueDivide", "divide": "TrueDivide"},
    **{"maximum": "Maximum", "minimum": "Minimum", "pow": "Power", "floordiv": "FloorDivide"},
}
"""Function of two values, `x` and `y` -> operation."""
NODES = {
    **{"Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv", "Pow": "pow"},
    **{name: name.lower() for name in ("Maximum", "Minimum", "Relu", "Relu6", "Sigmoid", "Tanh", "Exp", "Square")},
}
"""Operation of a node of a graph -> function."""
REDUCED = {"axis": ("axis", None), "keepdims": ("keepdims", False)}
"""Options of a function that reduces axes."""
OPERATION_FORMS: dict[str, Form] = {
    **{
        name: Form(NUMPY, name.capitalize()) for name in ("exp", "log", "log1p", "sqrt", "square", "tanh", "sin", "cos")
    },
    **{"abs": Form(NUMPY, "Absolute"), "negative": Form(NUMPY, "Negative"), "reciprocal": Form(NUMPY, "Reciprocal")},
    **{name: Form(NN, name.capitalize()) for name in ("relu", "relu6", "sigmoid", "softplus", "softsign")},
    **{name: Form(NN, name.capitalize()) for name in ("elu", "selu")},
    **dict.fromkeys(("silu", "swish"), Form(NN, "Silu", fixed={"beta": 1.0})),
    "leaky_relu": Form(NN, "LeakyRelu", {"negative_slope": ("alpha", 0.2)}),
    "gelu": Form(NN, "Gelu", {"approximate": ("approximate", False)}),
    "softmax": Form(NN, "Softmax", {"axis": ("axis", -1)}),
    **{f"reduce_{name.lower()}": Form(NUMPY, name, REDUCED) for name in ("Mean", "Max", "Min", "Sum", "Prod")},
    "reshape": Form(NUMPY, "Reshape", {"newshape": ("shape", REQUIRED)}),
    "transpose": Form(NUMPY, "Transpose", {"axes": ("perm", REQUIRED)}, fixed={"conjugate": False}),
    "concat": Form(NUMPY, "Concatenate", {"axis": ("axis", REQUIRED)}),
    "stack": Form(NUMPY, "Stack", {"axis": ("axis", 0)}),
    "expand_dims": Form(NUMPY, "ExpandDims", {"axis": ("axis", REQUIRED)}),
    "squeeze": Form(NUMPY, "Squeeze", {"axis": ("axis", REQUIRED)}),
    "clip_by_value": Form(NUMPY, "Clip", {f"x_{end}": (f"clip_value_{end}", REQUIRED) for end in ("min", "max")}),
    "pad": Form(NUMPY, "Pad", {"pad_width": ("paddings", REQUIRED)}, fixed={"mode": "CONSTANT", "constant_values": 0}),
    "cast": Form(CORE, "Cast", {"dtype": ("dtype", REQUIRED)}),
    "resize": Form(IMAGE, "Resize", {"size": ("size", REQUIRED)}, fixed={"method": "bilinear", "antialias": False}),
}
"""Function of one value, or of a list of values -> operation."""


def operation_of(layer: Config, calls: list[Arguments]) -> Config:
    """The entry of the operation for one TensorFlow function in a graph. Raises LrfError where Keras has none for it.

    All calls of such a layer are the same function with the same options: each is a layer of its own in Keras 2.
    """
    function = str(layer["config"].get("function"))
    if layer["class_name"] == "TensorFlowOpLayer":
        function, calls = from_node(layer["config"], calls)
    short = function.removeprefix("compat.v1.").rpartition(".")[2]
    try:
        converted = [keras_operation(short, *call) for call in calls]
    except (KeyError, IndexError, TypeError, ValueError):
        raise LrfError(
            f"it calls the TensorFlow function tf.{function} as a layer, which has no exact form in Keras 3; "
            "build the model in a function with keras.ops and load the weights there"
        ) from None
    module, name, options, _ = converted[0]
    return {
        "module": module,
        "class_name": name,
        "config": {"name": layer["name"], **options},
        "registered_name": name,
        "name": layer["name"],
        "inbound_nodes": [{"args": args, "kwargs": {}} for *_, args in converted],
    }


def from_node(config: Config, calls: list[Arguments]) -> tuple[str, list[Arguments]]:
    """The function and the calls of a node of a graph, which TensorFlow 2.0 to 2.3 has in the place of a function."""
    node = config["node_def"]
    node = json.loads(node) if isinstance(node, str) else node
    constants = {int(place): value for place, value in (config.get("constants") or {}).items()}

    def call(args: list[Any]) -> Arguments:
        tensors = list(args[0]) if args and isinstance(args[0], list) else list(args)
        for place, value in sorted(constants.items()):
            tensors.insert(place, value)
        return (tensors[:1], {"y": tensors[1]}) if len(tensors) == 2 else (tensors, {})

    name = str(node["op"])
    return NODES.get(name, name), [call(args) for args, _ in calls]


def keras_operation(name: str, args: list[Any], kwargs: Config) -> tuple[str, str, Config, list[Any]]:
    """(module, class, options, arguments) of the operation. Raises KeyError for what is not known to be the same."""
    given = {key: value for key, value in kwargs.items() if value is not None and key != "name"}
    if name in BINARY:
        first = args[0] if args else given.pop("x")
        form, args = Form(NUMPY, BINARY[name]), [constant(first), constant(given.pop("y"))]
    elif name == "getitem":
        spec = given.pop("slice_spec")
        parts = spec if isinstance(spec, list) else [spec]
        form, args = Form(NUMPY, "GetItem"), [*args, [slice_of(part) for part in parts]]
    else:
        form = OPERATION_FORMS[name]
    given = {"keepdims" if key == "keep_dims" else key: value for key, value in given.items()}
    options = {new: given.pop(old, default) for new, (old, default) in form.options.items()}
    missing = any(value is REQUIRED or refers_to_tensor(value) for value in options.values())
    if missing or any(key not in form.fixed or value != form.fixed[key] for key, value in given.items()):
        raise KeyError(name)
    return form.module, form.name, options, args


def refers_to_tensor(value: Any) -> bool:
    """Whether an option has a tensor in it, which an operation of Keras takes as an argument alone."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(refers_to_tensor, value)))


def constant(value: Any) -> Any:
    """A list of numbers as an array; a tensor or a single number stays as it is."""
    if not isinstance(value, list):
        return value
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}


def slice_of(part: Any) -> Any:
    """A slice in the form of Keras 3; a single index stays as it is."""
    if not isinstance(part, dict):
        if isinstance(part, int):
            return part
        raise KeyError("slice_spec")
    if part.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    if not all(bound is None or isinstance(bound, int) for bound in part.values()):
        raise KeyError("slice_spec")
    return {"class_name": "__slice__", "config": part}
