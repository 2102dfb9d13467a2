"""Every architecture through the package: its sites, a random plan, the built model and its file, as a table.

    python benchmarks/coverage/architectures.py [NAME...] [--models DIR] [--size PIXELS] [--seed SEED] [--work DIR]

Takes keras.applications without weights, the nets of the zoo and of classics.py untrained, and the .keras files
(../shared/models); writes benchmarks/results/architectures.md. A network passes where its totals are `count_params()`,
every layer is a site or has a reason, and the model built from a random plan has the counted parameters and MACs,
the outputs of the original with the composed kernels, and the same outputs once saved and loaded by plain Keras: to
1e-4 of their spread over the images, or to ten times what rounding the kernels to single precision does to them.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.coverage.classics import CLASSICS
from benchmarks.lib.beside import SHARED
from benchmarks.lib.tables import publish
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.decompositions.registry import applicable_methods, choice_of, compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.inventory import Inventory, find_sites, plan_counts
from lrf_optuna.models.layer_kinds import read_kernel, to_keras_kernel, walk_layers
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import materialize
from lrf_optuna.models.zoo import ZOO
from lrf_optuna.plans.plan import INTACT, Plan

SIZE = 64
"""Pixels of an input's side: small, and still more than one position in the last maps of most."""
LEAST = {"Xception": 71, "InceptionV3": 75}
"""The smallest size that a network takes, where that is more."""
APPLICATIONS = (
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "NASNetMobile",
    "DenseNet121",
    "Xception",
    "InceptionV3",
    "ResNet50",
    "ResNet50V2",
    "ConvNeXtTiny",
    "ResNet101",
    "VGG16",
    "VGG19",
)
CLASSES = 10
ULP = np.float32(2**-23)
IMAGES = 8
KEEPS = 0.35, 0.65
AGREES = 1e-4
"""The largest difference of outputs, relative to their spread over the images, that needs no explanation."""
ROUNDING = 10
"""Times what rounding the kernels does to the outputs: the largest difference that rounding explains."""
HEAD = (
    "| network | input | layers | sites | parameters in sites | methods | parameters | MACs | built vs scored "
    "| rounding | left out | result |",
    "|" + "---|" * 12,
)


def main() -> None:
    """Run the networks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help=f"of: {', '.join([*APPLICATIONS, *CLASSICS, *ZOO])}, and the files' names"
    )
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "architectures")
    args = parser.parse_args()
    known = networks(args.models, args.size)
    unknown = set(args.names) - set(known)
    if unknown:
        parser.error(f"no such network: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.names or known:
        start = time.perf_counter()
        found = tried(known[name], args.seed)
        (args.work / f"{name}.json").write_text(json.dumps(found))
        print(f"{row(name, found)} {time.perf_counter() - start:.0f} s", flush=True)
        keras.backend.clear_session()
        gc.collect()
    files = {name: args.work / f"{name}.json" for name in known}
    rows = [row(name, json.loads(file.read_text())) for name, file in files.items() if file.exists()]
    publish("architectures", "\n".join([*HEAD, *rows]) + "\n")


def networks(models: Path, size: int) -> dict[str, Callable[[], Any]]:
    """Name -> what makes the network: applications, classics, the zoo, and the files of a folder."""
    made = {name: lambda name=name: application(name, size) for name in APPLICATIONS}
    made |= {name: lambda make=make, name=name: make(0, name) for name, make in (CLASSICS | ZOO).items()}
    files = sorted(models.glob("*.keras"))
    return made | {
        file.stem: lambda file=file: keras.models.load_model(file, compile=False)
        for file in files
        if file.stem not in made
    }


def application(name: str, size: int, **options: Any) -> Any:
    """A network of keras.applications with random weights whose outputs vary with the image."""
    keras.utils.set_random_seed(0)
    shape = (max(size, LEAST.get(name, 0)),) * 2
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(*shape, 3), classes=CLASSES, classifier_activation=None, **options)
    return stirred(model)


def stirred(model: Any) -> Any:
    """The model with random scales and biases, and BatchNorm statistics of random images: as if it were trained.

    Without BatchNorm, kernels are scaled as He et al. (2015) do, or the outputs of deep networks are constant.
    """
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.path.rpartition("/")[2] in ("gamma", "beta", "bias"):
            middle = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(rng.normal(middle, 0.1, variable.shape))
    norms = [layer for _, layer in walk_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model(images_for(model, 4 * IMAGES, seed=1), training=True)
    for variable in [] if norms else model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(variable * np.sqrt(2))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def images_for(model: Any, count: int, seed: int) -> Any:
    """Random pixels of 0 to 255, as the applications with a preprocessing of their own take them."""
    return np.random.default_rng(seed).uniform(0, 255, (count, *model.input_shape[1:])).astype(np.float32)


def tried(make: Callable[[], Any], seed: int) -> dict[str, Any]:
    """What a network's way through the package says, or the error that ended it."""
    found: dict[str, Any] = {"result": "ok"}
    try:
        passed(make(), seed, found)
    except Exception as error:  # whatever breaks is the result
        found["result"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return found


def passed(original: Any, seed: int, found: dict[str, Any]) -> None:
    """Takes a network through the package and adds the facts to `found`, until a check fails."""
    model, x = split_separable(original), images_for(original, IMAGES, seed)
    expected = np.asarray(original(x, training=False))
    agree("unseparated", np.asarray(model(x, training=False)), expected)
    inventory = find_sites(model)
    found |= described(inventory, model)
    check("the rows' parameters", sum(row.params for row in inventory.rows), inventory.params)
    check("the total", inventory.params, original.count_params())
    unexplained = [row.path for row in inventory.rows if not row.site and not row.reason]
    check("layers without a reason", unexplained, [])
    layers = dict(walk_layers(model))
    plan = random_plan(inventory, seed)
    kernels = {
        site.name: LayerFitter(site.op, read_kernel(layers[site.name])).fit(plan[site.name])
        for site in inventory.sites
        if plan[site.name] != INTACT
    }
    built = materialize(model, plan, kernels)
    params, macs = plan_counts(inventory, plan)
    found |= {"methods": dict(Counter(choice.method for _, choice in plan)), "after": {"params": params, "macs": macs}}
    check("parameters of the built model", built.count_params(), params)
    check("MACs of the built model", sum(row.macs for row in find_sites(built).rows), macs)
    outputs = np.asarray(built(x, training=False))
    scored, rounded, reference = scores(model, inventory, plan, kernels, built, x)
    found["rounding"] = difference(rounded, scored)
    found["difference"] = agree("built and scored", reference, scored, found["rounding"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "built.keras"
        built.save(path)
        reloaded = np.asarray(keras.models.load_model(path)(x, training=False))
        agree("saved and reloaded", reloaded, outputs, found["rounding"])


def scores(model: Any, inventory: Inventory, plan: Plan, kernels: Any, built: Any, x: Any) -> tuple[Any, Any, Any]:
    """Outputs of the original with the composed kernels in it, with these rounded, and of the built model."""
    layers = dict(walk_layers(model))
    sites = {site.name: layers[site.name] for site in inventory.sites}
    ops = {site.name: site.op for site in inventory.sites}
    network = ForwardPass(model, sites)
    swaps = {
        name: to_keras_kernel(sites[name], compose(ops[name], plan[name], stages)) for name, stages in kernels.items()
    }
    rng, held = np.random.default_rng(0), network.as_tensors(x)
    rounded = {name: np.asarray(swaps.get(name, own)) for name, own in network.original_kernels.items()}
    rounded = {name: own * (1 + ULP * rng.standard_normal(own.shape, np.float32)) for name, own in rounded.items()}
    return network.run(held, swaps)[OUTPUT], network.run(held, rounded)[OUTPUT], network.logits_of_model(built, x)


def random_plan(inventory: Inventory, seed: int) -> Plan:
    """A random method and share for every site, among the methods that save there."""
    rng = np.random.default_rng(seed)
    choices = {}
    for site in inventory.sites:
        keep = rng.uniform(*KEEPS)
        methods = applicable_methods(site.op)[1:]
        saving = [choice for name in methods if (choice := choice_of(site.op, name, keep)) != INTACT]
        choices[site.name] = saving[rng.integers(len(saving))] if saving else INTACT
    return Plan.of(choices)


def described(inventory: Inventory, model: Any) -> dict[str, Any]:
    """What the inventory says of a network."""
    reasons: dict[str, Counter[str]] = {}
    for one in inventory.rows:
        if not one.site and one.params:
            reasons.setdefault(one.reason, Counter())[one.kind] += 1
    inside = sum(one.params for one in inventory.rows if one.site)
    return {
        "input": list(model.input_shape[1:]),
        "layers": len(inventory.rows),
        "sites": len(inventory.sites),
        "share": inside / max(inventory.params, 1),
        "before": {"params": inventory.params, "macs": inventory.macs},
        "left_out": reasons,
    }


def check(what: str, found: Any, expected: Any) -> None:
    """Raises AssertionError where the two are not the same."""
    if found != expected:
        raise AssertionError(f"{what}: {found}, but expected {expected}")


def difference(found: Any, expected: Any) -> float:
    """The largest difference relative to the outputs' spread over the images."""
    return float(np.abs(found - expected).max() / max((expected - expected.mean(0)).std(), 1e-30))


def agree(what: str, found: Any, expected: Any, rounding: float = 0.0) -> float:
    """The difference; AssertionError where it is too large, and `rounding` does not explain it."""
    apart = difference(found, expected)
    if not apart <= max(AGREES, ROUNDING * rounding):
        raise AssertionError(f"{what}: outputs differ by {apart:.1e} of their spread, rounding by {rounding:.1e}")
    return apart


def row(name: str, found: dict[str, Any]) -> str:
    """A network's line of the table."""
    if "before" not in found:
        return f"| {name} |" + " – |" * 10 + f" {found['result']} |"
    shape = " x ".join(map(str, found["input"]))
    methods = ", ".join(f"{method} {count}" for method, count in sorted(found.get("methods", {}).items()))
    before, after = found["before"], found.get("after", {})
    costs = " | ".join(
        f"{before[cost]:,} → {after[cost]:,}" if after else f"{before[cost]:,}" for cost in ("params", "macs")
    )
    apart = " | ".join(f"{found[key]:.0e}" if key in found else "–" for key in ("difference", "rounding"))
    left = "; ".join(
        f"{reason}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        for reason, kinds in found["left_out"].items()
    )
    sites = f"{found['layers']} | {found['sites']} | {found['share']:.1%}"
    return f"| {name} | {shape} | {sites} | {methods} | {costs} | {apart} | {left} | {found['result']} |"


if __name__ == "__main__":
    main()
