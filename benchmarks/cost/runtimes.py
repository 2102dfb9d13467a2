"""Milliseconds of an original and of its compressed networks in every runtime, and the sizes of their files.

Networks: cnn_fashion and ResNet-20; methods: all, and `spatial_svd` with `svd` alone. One image a call, one thread,
the least of interleaved rounds, untuned. Writes results/runtimes.md. Arguments: the folder of models, the folder of
data (.npz files with x_train, y_train, x_test, y_test), and the number of rounds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
NETWORKS = {
    "cnn_fashion": ("fashion_mnist_train10000.npz", {"divide": 255}, {"params": 0.15}),
    "resnet20_cifar10": (
        "cifar10_train10000.npz",
        {"divide": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"params": 0.3},
    ),
}
"""Network -> its data, their preprocessing, and the target of the choice."""
METHODS = {"all": None, "spatial_svd, svd": ("spatial_svd", "svd")}
"""Name of a set of methods -> the methods."""
TRIALS = 60


def main(models: Path, data: Path, rounds: int = 40) -> None:
    """Compress every network with every set of methods, time all of them in turns, write the table."""
    import lrf_optuna
    from lrf_optuna.models.load import load_model
    from lrf_optuna.runtimes.formats import installed_runtimes
    from lrf_optuna.runtimes.latency import Place, model_latencies

    runtimes = installed_runtimes()
    lines = [
        "| network | methods | params left | MACs left | test | .keras / weights |"
        + "".join(f" {r} |" for r in runtimes),
        "|---" * (6 + len(runtimes)) + "|",
    ]
    versions: dict[str, None] = {}
    for network, (file, preprocess, target) in NETWORKS.items():
        original = load_model(str(models / f"{network}.keras"))
        nets, results = {"original": original}, {}
        with TemporaryDirectory() as folder:
            for name, methods in METHODS.items():
                given = {"methods": methods} if methods else {}
                nets[name], results[name] = lrf_optuna.compress(
                    original,
                    data / file,
                    trials=TRIALS,
                    target=target,
                    by="loss",
                    tune=False,
                    preprocess=preprocess,
                    out=Path(folder, network, name.replace(", ", "_")),
                    **given,
                )
        rows = model_latencies(nets, [Place(runtime, 1, 1) for runtime in runtimes], rounds=rounds)
        versions |= dict.fromkeys(row.version for row in rows)
        for name, result in results.items():
            built, whole = result.built, result.original
            times = [(row.timings["original"].least, row.timings[name].least) for row in rows]
            cells = [f"{a:.3g} → {b:.3g} ({a / b:.2f})" for a, b in times]
            shares = f"{built.params / whole.params:.1%} | {built.macs / whole.macs:.1%}"
            sizes = f"{built.file_bytes / (4 * built.params):.2f}"
            accuracy = f"{whole.test_metric:.2%} → {built.test_metric:.2%}"
            lines.append(" | ".join([f"| {network}", name, shares, accuracy, sizes, *cells]) + " |")
            print(lines[-1], flush=True)
    measured = f"Milliseconds, one image, one thread, least of {rounds} interleaved rounds (times faster)"
    note = f"{measured}. {', '.join(versions)}."
    (ROOT / "benchmarks" / "results" / "runtimes.md").write_text("\n".join([*lines, "", note, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
