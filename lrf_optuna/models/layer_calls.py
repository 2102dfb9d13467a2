"""Layers whose calls are replaced or recorded while a model runs.

Keras has no hooks around a layer's call. A model that also outputs the layers' maps would be another way, but it exists
for functional models alone, and not for layers inside nested models. So `call` is replaced on the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

LayerCall = Callable[..., Any]
Calls = dict[str, list[tuple[Any, Any]]]


@contextmanager
def replaced_calls(layers: Iterable[tuple[Any, Callable[[LayerCall], LayerCall]]]) -> Iterator[None]:
    """While the block runs, each layer's `call` is what its function makes of the call.

    However the block ends, every layer gets back the call that it had, also where a replacement fails midway.
    """
    with ExitStack() as stack:
        for layer, replacement in layers:
            call, old = replacement(layer.call), vars(layer).get("call")
            layer.call = call
            stack.callback(*((setattr, layer, "call", old) if old else (delattr, layer, "call")))
        yield


@contextmanager
def recording_calls(layers: Mapping[str, Any]) -> Iterator[Calls]:
    """While the block runs, every call of a layer adds its `(inputs, outputs)` under the layer's name."""
    calls: Calls = {name: [] for name in layers}

    def record(name: str, call: LayerCall, *args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        calls[name].append((next(iter((*args, *kwargs.values())), None), outputs))
        return outputs

    with replaced_calls((layer, partial(partial, record, name)) for name, layer in layers.items()):
        yield calls
