"""Whole runs on one small trained network of every kind of output: what half of the parameters keep of the metric.

    python benchmarks/coverage/heads.py [NAME...] [--models DIR] [--data DIR] [--work DIR]

The networks are trained here, on MNIST and Fashion-MNIST beside the project; the camvid U-Net and the watch network
are real ones from there. Each is searched within half of the parameters, built, and tuned once for two passes. For
outputs of one number, the losses of plans are also compared with their true errors (Kendall's tau).
Writes benchmarks/results/heads.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.beside import SHARED, unpacked
from benchmarks.lib.tables import publish
from lrf_optuna.pipeline.compress import compress

TRAINED, TESTED = 12_000, 2_000
"""Images that the networks are trained on, and tested on."""
EPOCHS, TUNED_EPOCHS = 6, 2
TARGET = {"params": 0.5}
TAU_PLANS = 40
"""Plans whose losses are compared with their errors on test images."""
Arrays = dict[str, Any]
HEAD = (
    "| network | task | metric | parameters | MACs | before | built | tuned | built keeps | tau |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Case:
    """A network of one kind of output: its arrays, its layers, the loss that it is trained with."""

    task: str
    arrays: Callable[[Arrays, np.random.Generator], Arrays]
    model: Callable[[], Any]
    loss: Any
    data: str = "mnist"
    options: dict[str, Any] | None = None


def convolutions(x: Any) -> Any:
    """Three convolutions with pooling, then 64 features."""
    from keras import layers

    for channels in (16, 32, 48):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


def network(head: Callable[[Any], Any], shape: tuple[int, ...] = (28, 28, 1)) -> Any:
    """An image, convolutions, and a head."""
    import keras

    image = keras.Input(shape)
    return keras.Model(image, head(convolutions(image)))


def dense(units: int, activation: str | None = None, name: str | None = None) -> Callable[[Any], Any]:
    """A Dense layer as a head."""
    from keras import layers

    return layers.Dense(units, activation=activation, name=name)


def two_outputs(x: Any) -> Any:
    """The digit, and whether it is even."""
    return {"digit": dense(10, "softmax", "digit")(x), "even": dense(1, "sigmoid", "even")(x)}


def u_net() -> Any:
    """A small U-Net with a sigmoid for every pixel."""
    import keras
    from keras import layers

    x = image = keras.Input((28, 28, 1))
    x = wide = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.Concatenate()([x, wide]))
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


def autoencoder() -> Any:
    """A convolutional denoising autoencoder."""
    import keras
    from keras import layers

    x = image = keras.Input((28, 28, 1))
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(24, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x))


def recurrent() -> Any:
    """An LSTM over the rows of an image."""
    import keras
    from keras import layers

    x = rows = keras.Input((28, 28))
    x = layers.LSTM(64)(layers.LSTM(64, return_sequences=True)(x))
    return keras.Model(rows, layers.Dense(10, activation="softmax")(x))


def as_they_are(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """The digits and their classes."""
    return arrays


def rows_of(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Images as sequences of rows."""
    return {name: a[..., 0] if name[0] == "x" else a for name, a in arrays.items()}


def even(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Whether a digit is even."""
    return {name: a if name[0] == "x" else 1 - a % 2 for name, a in arrays.items()}


def digit_and_even(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """A digit, and whether it is even."""
    labels = {f"y_{part}.digit": arrays[f"y_{part}"] for part in ("train", "test")}
    labels |= {f"y_{part}.even": 1 - arrays[f"y_{part}"] % 2 for part in ("train", "test")}
    return {name: a for name, a in arrays.items() if name[0] == "x"} | labels


def several(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Two digits over each other, and which digits there are."""
    found = {}
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        other = rng.permutation(len(x))
        found[f"x_{part}"] = np.maximum(np.roll(x, -5, axis=2), np.roll(x[other], 5, axis=2))
        found[f"y_{part}"] = np.maximum(np.eye(10, dtype=int)[y], np.eye(10, dtype=int)[y[other]])
    return found


def rotated(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Digits turned by up to 45 degrees, and the angle."""
    from scipy.ndimage import rotate

    found = {}
    for part in ("train", "test"):
        angles = rng.uniform(-45, 45, len(arrays[f"x_{part}"])).astype(np.float32)
        turned = [rotate(x, a, reshape=False, order=1) for x, a in zip(arrays[f"x_{part}"], angles, strict=True)]
        found |= {f"x_{part}": np.stack(turned), f"y_{part}": angles}
    return found


def masked(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Digits under noise, and where they are."""
    found = {}
    for part in ("train", "test"):
        x = arrays[f"x_{part}"]
        noisy = np.clip(x * 0.6 + rng.normal(60, 40, x.shape), 0, 255)
        found |= {f"x_{part}": noisy.astype(np.uint8), f"y_{part}": (x > 100).astype(np.uint8)}
    return found


def noisy(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Images under noise, and the images."""
    found = {}
    for part in ("train", "test"):
        x = arrays[f"x_{part}"]
        found |= {f"x_{part}": np.clip(x + rng.normal(0, 50, x.shape), 0, 255).astype(np.uint8), f"y_{part}": x}
    return found


def without_labels(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """The images alone."""
    return {name: a for name, a in arrays.items() if name[0] == "x"}


CROSS_ENTROPY = "sparse_categorical_crossentropy"
CASES = {
    "digits": Case("classes", as_they_are, lambda: network(dense(10, "softmax")), CROSS_ENTROPY),
    "digits, no labels": Case("classes", as_they_are, lambda: network(dense(10, "softmax")), CROSS_ENTROPY),
    "even or odd": Case("binary", even, lambda: network(dense(1, "sigmoid")), "binary_crossentropy"),
    "two digits at once": Case("labels", several, lambda: network(dense(10, "sigmoid")), "binary_crossentropy"),
    "angle": Case("numbers", rotated, lambda: network(dense(1)), "mse"),
    "digit and even": Case(
        "classes, binary", digit_and_even, lambda: network(two_outputs), [CROSS_ENTROPY, "binary_crossentropy"]
    ),
    "mask": Case("map", masked, u_net, "binary_crossentropy"),
    "denoising": Case("copy", noisy, autoencoder, "binary_crossentropy", "fashion_mnist"),
    "LSTM on rows": Case("classes", rows_of, recurrent, CROSS_ENTROPY, options={"target": {"params": 0.65}}),
}
REAL = {
    "unet_camvid": ("camvid", {"ignore": 11}),
    "cnn1d_watch": ("watch", {}),
}
"""Networks beside the project -> their data set, and options."""


def main() -> None:
    """Run the cases that are missing, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*CASES, *REAL], metavar="NAME")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "heads")
    parser.add_argument("--trials", type=int, default=150)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.cases:
        file = args.work / f"{name.replace(' ', '-').replace(',', '')}.json"
        if not file.exists():
            found = real(name, args) if name in REAL else trained(name, args)
            file.write_text(json.dumps(found))
        write(args.work)


def arrays_of(case: Case, args: argparse.Namespace) -> Arrays:
    """The arrays of a case."""
    with np.load(unpacked(case.data, args.data, args.work)) as file:
        counts = {"train": TRAINED, "test": TESTED}
        arrays = {f"{kind}_{part}": file[f"{kind}_{part}"][:n] for part, n in counts.items() for kind in "xy"}
    arrays = {name: a[..., None] if name[0] == "x" and a.ndim == 3 else a for name, a in arrays.items()}
    return case.arrays(arrays, np.random.default_rng(0))


def trained(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train the network of a case, compress it, and say what came of it."""
    import keras

    case = CASES[name]
    arrays, file = arrays_of(case, args), args.work / f"{name.replace(' ', '-')}.keras"
    if file.exists():
        model = keras.models.load_model(file)
    else:
        keras.utils.set_random_seed(0)
        model = case.model()
        model.compile(keras.optimizers.Adam(2e-3), case.loss)
        y = {key.partition(".")[2]: a for key, a in arrays.items() if key.startswith("y_train.")}
        target = y or (arrays["y_train"] / (255 if case.task == "copy" else 1))
        model.fit(arrays["x_train"] / 255.0, target, epochs=EPOCHS, batch_size=64, verbose=0)
        model.save(file)
    given = without_labels(arrays, np.random.default_rng(0)) if name.endswith("no labels") else arrays
    preprocess = {"divide": 255.0}
    return compressed(name, case.task, model, given, preprocess, args, **(case.options or {}))


def real(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The same for a network that stands beside the project."""
    import keras

    data, options = REAL[name]
    known = json.loads((args.models / "models.json").read_text())[name]
    with np.load(unpacked(data, args.data, args.work)) as file:
        arrays = dict(file)
    model = keras.models.load_model(args.models / f"{name}.keras", compile=False)
    preprocess = {"divide": known["divide_by"], "mean": known["mean"], "std": known["std"]}
    return compressed(name, "map" if data == "camvid" else "classes", model, arrays, preprocess, args, **options)


def compressed(
    name: str, task: str, model: Any, arrays: Arrays, preprocess: dict[str, Any], args: argparse.Namespace, **more: Any
) -> dict[str, Any]:
    """One whole run."""
    folder = args.work / f"run-{name.replace(' ', '-').replace(',', '')}"
    options = {"trials": args.trials, "target": TARGET, "tune": TUNED_EPOCHS, "preprocess": preprocess, **more}
    _, result = compress(model, arrays, name=folder.name, out=folder, force=True, **options)
    assert result.built is not None
    assert result.tuned is not None
    found = {"name": name, "task": task, "metric": result.metric}
    for state in ("original", "built", "tuned"):
        found[state] = getattr(result, state).test_metric
    found["params"] = result.built.params / result.original.params
    found["macs"] = result.built.macs / result.original.macs if result.original.macs else None
    found["by_output"] = [getattr(result, state).by_output for state in ("original", "built", "tuned")]
    if task == "numbers":
        found["tau"] = tau(model, arrays, preprocess)
    print(found, flush=True)
    return found


def tau(model: Any, arrays: Arrays, preprocess: dict[str, Any]) -> float:
    """Kendall's tau between the loss of random plans and their mean squared error on test images."""
    from scipy.stats import kendalltau

    from lrf_optuna.plans.plan import Plan
    from lrf_optuna.scoring.proxy import Proxy

    rng = np.random.default_rng(0)
    x, y = arrays["x_train"][:1024] / preprocess["divide"], arrays["y_test"]
    proxy = Proxy(model, x.astype(np.float32))
    test = (arrays["x_test"] / preprocess["divide"]).astype(np.float32)
    losses, errors = [], []
    for _ in range(TAU_PLANS):
        choices = {
            site: proxy.choice(site, rng.choice(proxy.methods_of(site)), rng.uniform(0.1, 0.9)) for site in proxy.sites
        }
        plan = Plan.of(choices)
        losses.append(proxy.costs(plan)["loss"])
        errors.append(float(np.mean((proxy.logits(plan, test)[:, 0] - y) ** 2)))
    return float(kendalltau(losses, errors).statistic)


def write(work: Path) -> None:
    """The table of all cases that have been run."""
    files = [work / f"{name.replace(' ', '-').replace(',', '')}.json" for name in (*CASES, *REAL)]
    rows = [json.loads(file.read_text()) for file in files if file.exists()]
    publish("heads", "\n".join([*HEAD, *map(row, rows)]) + "\n")


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    macs = f"{found['macs']:.1%}" if found["macs"] else "not counted"
    states = [f"{found[state]:.2%}" for state in ("original", "built", "tuned")]
    keeps = f"{found['built'] / found['original']:.1%}"
    agreed = f"{found['tau']:.2f}" if "tau" in found else ""
    cells = found["name"], found["task"], found["metric"], f"{found['params']:.1%}", macs, *states, keeps, agreed
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
