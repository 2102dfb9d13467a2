"""Every kind of layer with every method, as a table: the share of the weights that it keeps, or why it cannot.

    python benchmarks/coverage/kinds.py [NAME...]

Writes benchmarks/results/kinds.md. Nothing in the table is copied from a list: every share is of a layer that was read,
fitted to random inputs, built as plain Keras layers, found equal to the layer with the composed kernel, trained for a
step, saved and loaded; a reason is found by asking the method about the same layer with one thing changed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.lib.tables import publish
from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, choice_of, compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import MomentAccumulator, SecondMoments
from lrf_optuna.models.inventory import LayerRow, find_sites, plan_counts
from lrf_optuna.models.layer_calls import recording_calls
from lrf_optuna.models.layer_kinds import assign_kernel, read_kernel, walk_layers
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Plan

KEEP = 0.5
IMAGES = 24
AGREES = 1e-4
"""The largest difference of outputs, relative to their spread."""
L = keras.layers
LINE, MAP, VOLUME = (24, 16), (9, 8, 16), (6, 5, 6, 12)
"""Inputs of one, two and three dimensions, with channels."""
CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Dense": (lambda: L.Dense(48, activation="relu"), (64,)),
    "EinsumDense": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 48), bias_axes="d"), (24, 64)),
    "EinsumDense, to heads": (lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 4, 12)), (24, 64)),
    "Conv1D": (lambda: L.Conv1D(24, 5, activation="relu"), LINE),
    "Conv1D, causal": (lambda: L.Conv1D(24, 3, padding="causal", dilation_rate=2), LINE),
    "Conv2D": (lambda: L.Conv2D(24, 3, strides=2, padding="same", activation="relu"), MAP),
    "Conv2D, 1 x 1": (lambda: L.Conv2D(24, 1), MAP),
    "Conv2D, 2 groups": (lambda: L.Conv2D(24, 3, groups=2, activation="relu"), MAP),
    "Conv3D": (lambda: L.Conv3D(16, 3, padding="same"), VOLUME),
    "Conv3D, 2 groups": (lambda: L.Conv3D(16, 3, groups=2), VOLUME),
    "DepthwiseConv1D": (lambda: L.DepthwiseConv1D(9, padding="same", depth_multiplier=4), LINE),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(5, padding="same"), MAP),
    "DepthwiseConv2D, 4 a channel": (lambda: L.DepthwiseConv2D(5, padding="same", depth_multiplier=4), MAP),
    "SeparableConv1D": (lambda: L.SeparableConv1D(24, 9, padding="same", depth_multiplier=4), LINE),
    "SeparableConv2D": (lambda: L.SeparableConv2D(24, 5, padding="same", activation="relu"), MAP),
    "Conv1DTranspose": (lambda: L.Conv1DTranspose(16, 5, strides=2, padding="same"), LINE),
    "Conv2DTranspose": (lambda: L.Conv2DTranspose(16, 4, strides=2, padding="same", activation="relu"), MAP),
    "Conv3DTranspose": (lambda: L.Conv3DTranspose(12, 3, strides=2), VOLUME),
    "MultiHeadAttention": (lambda: L.MultiHeadAttention(4, 8, use_bias=False), LINE),
    "SimpleRNN": (lambda: L.SimpleRNN(24), LINE),
    "GRU": (lambda: L.GRU(24), LINE),
    "LSTM": (lambda: L.LSTM(24, return_sequences=True), LINE),
    "Bidirectional LSTM": (lambda: L.Bidirectional(L.LSTM(24)), LINE),
    "TimeDistributed Dense": (lambda: L.TimeDistributed(L.Dense(48)), LINE),
    "ConvLSTM1D": (lambda: L.ConvLSTM1D(8, 3), (5, *LINE)),
    "Embedding": (lambda: L.Embedding(100, 24), (10,)),
    "BatchNormalization": (lambda: L.BatchNormalization(), MAP),
}


def windowed(op: Conv, *window: int) -> Conv:
    """The operation with another window, and without strides and dilation."""
    ones = (1,) * len(window)
    return replace(op, window=window, strides=ones, dilation=ones, padding="valid")


CHANGES: dict[str, tuple[str, Callable[[Conv], Conv]]] = {
    "transposed": ("the method is not for transposed convolutions", lambda op: replace(op, transposed=False)),
    "strides": (
        "the method is for convolutions without strides; Keras has only slow layers for its stages otherwise",
        lambda op: replace(op, strides=tuple(1 for _ in op.strides)),
    ),
    "one point": (
        "the window is a single point (as a Dense layer's is); the method is for wider ones",
        lambda op: windowed(op, *(3 for _ in op.window or "xy")),
    ),
    "one axis": (
        "the window is wide along one axis only; the method is for two or more",
        lambda op: windowed(op, 3, 3),
    ),
    "window": (
        "the window is more than a single point; the method is for Dense layers and 1 x 1 convolutions",
        lambda op: windowed(op, *(1 for _ in op.window)),
    ),
    "no factors": (
        "the number of inputs or outputs is no product of as many factors as the method has",
        lambda op: replace(op, cin=64, cout=64),
    ),
    "not Dense": ("the method is for Dense layers only", lambda op: windowed(replace(op, cin=64, cout=64))),
}
"""Why a method does not apply -> the same in words, and the change with which it would."""
OTHERS = {
    "no saving": "even at rank 1 the chain has no fewer weights than the layer",
    "does not apply": "the method does not apply, whichever one thing is changed",
}


def main() -> None:
    """Try the layers and write the table; the exit code is 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {'; '.join(CASES)}")
    names = parser.parse_args().names
    if unknown := set(names) - set(CASES):
        parser.error(f"no such layer: {', '.join(sorted(unknown))}; there are: {'; '.join(CASES)}")
    rows = []
    for name in names or CASES:
        for line in lines(name):
            print(line, flush=True)
            rows.append(line)
    text = "\n".join([*head(), *rows, "", *legend(rows)]) + "\n"
    if not names:
        publish("kinds", text)
    if "FAILED" in text:
        sys.exit("something failed")


def methods() -> tuple[str, ...]:
    """All methods but the one that leaves a layer as it is."""
    return tuple(name for name in DECOMPOSITIONS if name != INTACT.method)


def head() -> tuple[str, str]:
    """The head of the table."""
    columns = ("layer", "kernel", *methods(), "why not")
    return f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)


def lines(name: str) -> Iterator[str]:
    """The table's lines of a case: of the layer, or of the layers that it is split into."""
    whole = modelled(name)
    model = split_separable(whole)
    if model is not whole:
        yield line(name, find_sites(whole).rows[-1], {})
    for row in find_sites(model).rows:
        if row.params:
            cells = {method: cell(name, row.site, method) for method in methods()} if row.site else {}
            part = row.kind if model is not whole else row.path.partition("/")[2]
            yield line(f"{name}: its {part}" if part else name, row, cells)


def line(name: str, row: LayerRow, cells: dict[str, str]) -> str:
    """One line of the table."""
    kernel = " x ".join(map(str, row.site.op.kernel_shape)) if row.site else "–"
    return f"| {' | '.join([name, kernel, *(cells.get(method, '–') for method in methods()), row.reason])} |"


def legend(rows: list[str]) -> list[str]:
    """What the cells and the columns mean."""
    words = {word: text for word, (text, _) in CHANGES.items()} | OTHERS
    used = [f"- *{word}*: {text}." for word, text in words.items() if any(f"| {word} |" in row for row in rows)]
    about = [f"- `{name}`: {(type(DECOMPOSITIONS[name]).__doc__ or '').strip().splitlines()[0]}" for name in methods()]
    works = (
        f"A percentage is what a chain for at most {KEEP:.0%} of the kernel's weights keeps of them (more where even "
        f"rank 1 has more). The built layer agreed to {AGREES:g} of the outputs' spread with the layer of the composed "
        "kernel, was trained for a step, saved and loaded."
    )
    return [works, "", *used, "", "The methods:", "", *about]


def cell(name: str, site: Site, method: str) -> str:
    """The share that is kept, the reason why there is none, or the error."""
    if found := reason(site.op, method):
        return found
    try:
        return f"{passed(name, site.name, method):.0%}"
    except Exception as error:  # whatever breaks is the result
        return f"**FAILED** {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".replace("|", "/")


def reason(op: Conv, method: str) -> str:
    """Why a method is not for an operation; empty where it is."""
    applies = DECOMPOSITIONS[method].applies
    if applies(op.part):
        return "" if choice_of(op, method, KEEP) != INTACT else "no saving"
    return next((word for word, (_, changed) in CHANGES.items() if applies(changed(op.part))), "does not apply")


def passed(name: str, path: str, method: str) -> float:
    """The share of the weights that a method keeps in a layer of a case; AssertionError where a check fails."""
    model, x = split_separable(modelled(name)), inputs_for(name)
    inventory, layer = find_sites(model), dict(walk_layers(model))[path]
    site = next(site for site in inventory.sites if site.name == path)
    choice = choice_of(site.op, method, KEEP)
    stages = LayerFitter(site.op, read_kernel(layer), moments(model, layer, site, x)).fit(choice)
    plan = Plan.of({path: choice})
    built = materialize(model, plan, {path: stages})
    params, macs = plan_counts(inventory, plan)
    found = built.count_params(), find_sites(built).macs
    if found != (params, macs):
        raise AssertionError(f"built with {found} parameters and MACs, but counted {params, macs}")
    assign_kernel(layer, compose(site.op, choice, stages))
    agree("the composed kernel", built(x), model(x))
    train(built, x)
    agree("the file", reloaded(built)(x), built(x))
    return 1 - (inventory.params - params) / site.op.params


def modelled(name: str) -> Any:
    """A model of one layer with random weights, and with the same name each time: sites go by names."""
    make, shape = CASES[name]
    drawn, inputs = make(), keras.Input(shape)
    layer = type(drawn).from_config(drawn.get_config() | {"name": "layer"})
    twice = {"value": inputs} if isinstance(layer, L.MultiHeadAttention) else {}
    model = keras.Model(inputs, layer(inputs, **twice))
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape) / 3)
    return model


def inputs_for(name: str) -> Any:
    """Random inputs of a case."""
    return np.random.default_rng(1).standard_normal((IMAGES, *CASES[name][1])).astype(np.float32)


def moments(model: Any, layer: Any, site: Site, x: Any) -> SecondMoments:
    """The second moments of a layer's inputs when the model runs on `x`."""
    with recording_calls({site.name: layer}) as calls:
        model(x, training=False)
    gathering = MomentAccumulator(site.op, 10**6)
    for maps, _ in calls[site.name]:
        gathering.add(np.asarray(maps))
    return gathering.moments()


def train(model: Any, x: Any) -> None:
    """One step towards random targets; AssertionError where the loss is no number or a weight stays as it was."""
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.01), "mse")
    target = np.random.default_rng(2).standard_normal(model(x).shape)
    if not np.isfinite(model.train_on_batch(x, target)):
        raise AssertionError("the loss of a training step is not finite")
    for old, variable in zip(before, model.trainable_variables, strict=True):
        if np.array_equal(old, variable.numpy()):
            raise AssertionError(f"a training step left {variable.path} as it was")


def reloaded(model: Any) -> Any:
    """The model from its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "built.keras"
        model.save(path)
        return keras.models.load_model(path)


def agree(what: str, found: Any, expected: Any) -> None:
    """Raises AssertionError where outputs differ by more than `AGREES` of their spread."""
    expected = np.asarray(expected)
    apart = float(np.abs(np.asarray(found) - expected).max() / expected.std())
    if not apart <= AGREES:
        raise AssertionError(f"{what}: outputs differ by {apart:.1e} of their spread")


if __name__ == "__main__":
    main()
