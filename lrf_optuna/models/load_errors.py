"""Why a model file cannot be loaded: the innermost cause that Keras gives, in one line, with a way through."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lrf_optuna.errors import LrfError

LOAD_IN_A_FUNCTION = "load it in a function and give package.module:function as the model"
BUILD_IN_A_FUNCTION = "build the model in a function, load the weights there, and give package.module:function"
"""The ways through for what cannot be read from a file."""
MESSAGE_LENGTH = 300
"""Letters of a message of Keras that are shown at most: a longer line is a layer's whole configuration."""
GONE = ("LocallyConnected1D", "LocallyConnected2D", "MaxoutDense", "Highway", "TimeDistributedDense", "Merge")
"""Layers of Keras 1 and 2 that Keras 3 does not have."""
TELLING = (TypeError, ValueError, NotImplementedError, RuntimeError, LrfError)
"""Errors of Keras that say what is wrong; other ones, such as KeyError, are details of how it reads a file."""


def why(error: BaseException, unknown: Sequence[str] = ()) -> str:
    """Why a file cannot be loaded, in one line: the innermost cause that says something.

    `unknown`: classes in its configuration that Keras does not know.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    if isinstance(error, LrfError):
        return str(error)
    telling = [cause for cause in chain if isinstance(cause, TELLING) and str(cause).strip()]
    reason = reason_of(str((telling or chain)[-1]))
    if len(set(unknown)) > 1 and "custom layer" in reason:
        return f"it uses the custom layers {', '.join(map(repr, dict.fromkeys(unknown)))}; {LOAD_IN_A_FUNCTION}"
    return reason


def reason_of(message: str) -> str:
    """The reason in a message of Keras, in one line: a known one in our words, else its last part."""
    if custom := re.search(r"(?:Could not locate class|Unknown layer:) '(?:[^']*>)?([^']+)'", message):
        return (
            gone_layer(custom[1])
            if custom[1] in GONE
            else f"it uses the custom layer {custom[1]!r}; {LOAD_IN_A_FUNCTION}"
        )
    if gone := re.search(r"Could not deserialize 'keras\.layers\.([^']+)'", message):
        return gone_layer(gone[1])
    if function := re.search(r"Could not locate function '([^']+)'", message):
        return f"it uses the custom function {function[1]!r}; {LOAD_IN_A_FUNCTION}"
    if re.search("`Lambda` layer|Python lambda|passed to Lambda", message):
        return f"it has a Lambda layer, which is code that Keras does not run from a file; {LOAD_IN_A_FUNCTION}"
    if "Model expected 0 layers" in message:
        return f"it does not say the shape of its input; {BUILD_IN_A_FUNCTION}"
    message = message.rpartition("Exception encountered: ")[2]
    if found := re.search(r"Example error message for object[^\n]*\n+([^\n]+)", message):
        message = found[1]
    reason = " ".join(message.split()) or "the file is broken"
    reason = re.split(r" Full object config: |\. Make sure custom classes", reason)[0].removesuffix(".")
    return reason if len(reason) <= MESSAGE_LENGTH else f"{reason[:MESSAGE_LENGTH]} ..."


def gone_layer(name: str) -> str:
    """Why a file with a layer that Keras 3 does not have any more cannot be loaded."""
    return f"it uses the layer {name!r}, which Keras 3 does not have any more; {LOAD_IN_A_FUNCTION}"
