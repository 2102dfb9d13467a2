"""What goes into layers one after the other, while the kernels of those before them change: no pass begins anew.

Where all that later layers see goes through the input of one layer, its maps are kept, and passes go on from there. In
a network that is a chain a pass is then of one layer, in a residual network of one block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import keras
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, count_of, input_list
from lrf_optuna.models.forward import ForwardPass

log = logging.getLogger(__name__)
ROOM = 2**30
"""Bytes of maps that are kept at most."""


class ResumedForward:
    """What goes into layers of `network` for `batches` of images, in the `order` in which their kernels change.

    `graph`: of the network, as `traced` gives it; without one every pass begins at the images. When a layer is asked
    for, the kernels of those before it in the order have their last values.
    """

    def __init__(
        self, network: ForwardPass, graph: TracedPass | None, order: Iterable[str], batches: Sequence[Images] = ()
    ) -> None:
        self.network, self.graph, self.order, self.batches = network, graph, tuple(order), batches
        self.begin: list[Any] = graph.images if graph else []
        self.held = [[tf.constant(leaf) for leaf in input_list(x)] for x in batches]

    def inputs(self, name: str, kernels: Mapping[str, Array]) -> Iterator[list[Array]]:
        """Batch by batch what goes into a layer, call by call, with `kernels` in the named layers.

        Once all batches were taken, passes for the layers after it go on from there, if they can.
        """
        if self.graph is None:
            yield from (self.network.inputs(x, kernels, [name])[name] for x in self.batches)
            return
        wanted, own = self.graph.layer_inputs[name], self.network.original_kernels
        function, names = self.graph.part(self.begin, wanted)
        taken = [tf.convert_to_tensor(kernels.get(name, own[name])) for name in names]
        kept: list[list[Any]] = []
        stays = self.joins(name)
        for parts in self.held:
            found = function(*parts, *taken)
            if stays:
                kept.append(found)
            yield [maps.numpy() for maps in found]
        if stays:
            self.begin, self.held = wanted, kept

    def joins(self, name: str) -> bool:
        """Whether the maps that go into a layer are kept: all that the layers after it see goes through them."""
        assert self.graph
        (maps, *_) = self.graph.layer_inputs[name]
        return name in self.meets and 4 * prod(maps.shape[1:]) * sum(map(count_of, self.batches)) <= ROOM

    @cached_property
    def meets(self) -> set[str]:
        """The layers through whose inputs, which no longer change then, the ones after them see all that they see."""
        return {name for name in self.order if self.graph and self.meeting(self.graph, name)}

    def meeting(self, graph: TracedPass, name: str) -> bool:
        """Whether a layer is one of these."""
        place, maps = self.order.index(name), graph.layer_inputs[name]
        later = {graph.kernels[other].name for other in self.order[place:]}
        after = [tensor for other in self.order[place + 1 :] for tensor in graph.layer_inputs[other]]
        if not after or len(maps) != 1 or later & graph.sources(maps):
            return False
        return not graph.sources(after, maps[0]) & {image.name for image in graph.images}

    def work(self, macs: Mapping[str, int]) -> int:
        """About how many of the MACs of layers, in their order, all passes make for one image."""
        names, begin, made = list(macs), 0, 0
        for name in self.order:
            place = names.index(name) if self.graph else len(names)
            made += sum(macs[other] for other in names[begin:place])
            begin = place if name in self.meets else begin
        return made


class TracedPass:
    """A forward pass as a graph; parts of it can be run alone.

    `images`: the placeholders of the model's inputs; `kernels`: layer name -> the placeholder of its kernel;
    `layer_inputs`: layer name -> its input tensors, call by call.
    """

    def __init__(self, network: ForwardPass, x: Images) -> None:
        leaves = input_list(x)
        self.layer_inputs: dict[str, list[Any]] = {}

        def passed(*given: Any) -> Any:
            images = keras.tree.pack_sequence_as(x, list(given[: len(leaves)]))
            self.layer_inputs = network.record_inputs(list(given[len(leaves) :]), images)
            return self.layer_inputs

        specs = [tf.TensorSpec((None, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        specs += [tf.TensorSpec(kernel.shape, tf.float32) for kernel in network.original_kernels.values()]
        self.function = tf.compat.v1.wrap_function(passed, specs)
        taken = self.function.inputs[: len(specs)]
        self.images: list[Any] = taken[: len(leaves)]
        self.kernels = dict(zip(network.original_kernels, taken[len(leaves) :], strict=True))
        self.parts: dict[tuple[str, ...], tuple[Any, list[str]]] = {}
        """The parts that were cut so far, by the names of their first and last tensors."""

    def part(self, begin: Sequence[Any], wanted: Sequence[Any]) -> tuple[Any, list[str]]:
        """A function of the values of the tensors `begin` and of some kernels that gives the `wanted` tensors; and the
        names of the layers whose kernels it takes, in order.
        """
        key = (*(tensor.name for tensor in begin), "to", *(tensor.name for tensor in wanted))
        if key not in self.parts:
            self.parts[key] = self.cut(begin, wanted)
        return self.parts[key]

    def cut(self, begin: Sequence[Any], wanted: Sequence[Any]) -> tuple[Any, list[str]]:
        """A part of the graph as a function, which takes up to a second to make."""
        needed = self.sources(wanted, begin[0])
        names = [name for name, kernel in self.kernels.items() if kernel.name in needed]
        given = [*begin, *(self.kernels[name] for name in names)]
        specs = tuple(tf.TensorSpec(tensor.shape, tensor.dtype, f"given_{i}") for i, tensor in enumerate(given))
        return self.function.prune(given, list(wanted), input_signature=(specs, {})), names

    @cached_property
    def before(self) -> dict[str, list[str]]:
        """Operation -> its input tensors, and the outputs of the operations that it waits for."""
        return {
            op.name: [*(t.name for t in op.inputs), *(t.name for other in op.control_inputs for t in other.outputs)]
            for op in self.function.graph.get_operations()
        }

    def sources(self, tensors: Iterable[Any], through: Any = None) -> set[str]:
        """The names of the graph's own inputs that tensors depend on, other than `through` another tensor."""
        stack, end = [tensor.name for tensor in tensors], through.name if through is not None else ""
        visited: set[str] = set()
        inputs: set[str] = set()
        while stack:
            name = stack.pop()
            op = name.partition(":")[0]
            if name == end or op in visited:
                continue
            visited.add(op)
            stack += self.before[op]
            if not self.before[op]:
                inputs.add(name)
        return inputs


def traced(network: ForwardPass, x: Images) -> TracedPass | None:
    """The graph of a pass; None where a layer is no graph, such as one that asks Python what to do."""
    try:
        return TracedPass(network, x)
    except (AttributeError, TypeError, ValueError, NotImplementedError, tf.errors.OpError) as reason:
        log.warning("passes begin anew for every layer: %r", reason)
        return None
