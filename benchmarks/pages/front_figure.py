"""The picture of the README: the front of ResNet-20 on CIFAR-10 with its accuracy, before any training.

    python benchmarks/pages/front_figure.py [--measure] [--trials N] [--models DIR] [--data DIR] [--work DIR]

Draws benchmarks/results/front.svg from the table front.md beside it, and the tuned network from headline.md where that
has it. With --measure the table is made first: the study is searched, and for each share of the parameters the point
with the least loss within it is built and measured on all test images.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lib.beside import SHARED, described, unpacked
from benchmarks.lib.tables import RESULTS, publish

NETWORK = "resnet20_cifar10"
SHARES = (0.8, 0.65, 0.5, 0.4, 0.33, 0.27, 0.22, 0.18, 0.14, 0.1)
"""Shares of the parameters whose best points are measured: close where the accuracy falls."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 64, 24, 44, 52
"""Pixels of the picture, and of its margins."""
LEAST, MOST = 0.6, 0.95
"""The accuracies at the bottom and at the top."""
ROW = re.compile(r"^\| ([\d.]+)% \| ([\d.]+)% \| [\d.]+ \| ([\d.]+)% \|$", re.MULTILINE)
"""A row of front.md: parameters, MACs, loss, test accuracy."""


def main() -> None:
    """Measure where that is asked for, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "front")
    args = parser.parse_args()
    if args.measure:
        publish("front", measured(args))
    path = RESULTS / "front.svg"
    path.write_text(picture((RESULTS / "front.md").read_text(), tuned_point(RESULTS / "headline.md")))
    print(path)


def measured(args: argparse.Namespace) -> str:
    """The table of points along the front, with the original first."""
    from lrf_optuna.config import StudySpec
    from lrf_optuna.models.evaluation import Evaluator
    from lrf_optuna.pipeline.build import build
    from lrf_optuna.pipeline.run import Run
    from lrf_optuna.plans.front import pareto_front

    _, data = described(NETWORK, args.models)
    study = StudySpec.from_toml(RESULTS.parents[1] / "studies" / f"{NETWORK}.toml")
    paths = {
        "model.path": str(args.models / f"{NETWORK}.keras"),
        "data.path": str(unpacked(data, args.data, args.work)),
    }
    run = Run.open(study.override({**paths, "search.trials": args.trials, "tune.epochs": 0}), args.work)
    points = pareto_front(run.search())
    lines = ["| parameters | MACs | loss | test accuracy, as built |", "|---|---|---|---|"]

    def add(model: object, params: float, macs: float, loss: float) -> None:
        accuracy = Evaluator(model, run.data.preprocess).metric(run.data, run.data.test)
        lines.append(f"| {params:.1%} | {macs:.1%} | {loss:.4f} | {accuracy:.2%} |")
        print(lines[-1], flush=True)

    add(run.model, 1.0, 1.0, 0.0)
    for share in SHARES:
        within = [point for point in points if point.costs["params"] <= share]
        if within:
            best = min(within, key=lambda point: point.costs["loss"])
            model = build(run.model, best.plan, run.proxy, run.refits.result(best.plan))
            add(model, *(best.costs[name] for name in ("params", "macs", "loss")))
    return "\n".join([*dict.fromkeys(lines), "", ABOUT, ""])


def tuned_point(path: Path) -> tuple[float, float] | None:
    """The parameters and the test accuracy of the tuned network of the headline; None where there is none."""
    name, _, data = NETWORK.partition("_")
    if not path.exists():
        return None
    row = next((row for row in path.read_text().splitlines() if row.startswith(f"| {name} | {data} |")), "")
    cells = [cell.strip() for cell in row.split("|")]
    if len(cells) < 9 or not cells[8].endswith("%"):
        return None
    return 1 + float(cells[3].rstrip("%")) / 100, float(cells[8].rstrip("%")) / 100


def picture(table: str, tuned: tuple[float, float] | None) -> str:
    """The picture as SVG."""
    rows = [(float(params) / 100, float(accuracy) / 100) for params, _, accuracy in ROW.findall(table)]
    (_, original), *points = rows
    shown = sorted(point for point in points if point[1] >= LEAST)
    parts = [*axes(), *dotted(original)]
    line = " ".join(f"{x(params):.1f},{y(accuracy):.1f}" for params, accuracy in shown)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#5b7fd0" stroke-width="2.5"/>')
    for params, accuracy in shown:
        parts.append(dot(params, accuracy, "#5b7fd0", 4.5, f"{params:.1%} of the parameters: {accuracy:.2%}"))
    if tuned:
        words = f"tuned once: {tuned[1]:.1%} with {tuned[0]:.0%} of the parameters"
        parts.append(dot(*tuned, "#e8542f", 6.5, words))
        parts.append(text(x(tuned[0]) + 12, y(tuned[1]) + 22, words, color="#c8431f"))
    title = text(LEFT, 24, "ResNet-20 on CIFAR-10: accuracy along the front, before any training", size=16, weight=600)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    look = 'role="img" font-family="system-ui, sans-serif" font-size="13">'
    said = "<title>Test accuracy of ResNet-20 against the share of its parameters</title>"
    return "\n".join([head + look, said, '<rect width="100%" height="100%" fill="#fff"/>', title, *parts, "</svg>", ""])


def x(params: float) -> float:
    """The place of a share of the parameters."""
    return LEFT + params * (WIDTH - LEFT - RIGHT)


def y(accuracy: float) -> float:
    """The place of an accuracy."""
    return TOP + (MOST - accuracy) / (MOST - LEAST) * (HEIGHT - TOP - BOTTOM)


def axes() -> Iterator[str]:
    """The grid with its numbers, and the names of the axes."""
    for percent in range(round(100 * LEAST), round(100 * MOST) + 1, 5):
        level = y(percent / 100)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="#e3e6eb"/>'
        yield text(LEFT - 8, level + 4, f"{percent}%", anchor="end")
    for percent in range(0, 101, 20):
        yield text(x(percent / 100), HEIGHT - BOTTOM + 20, f"{percent}%", anchor="middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "parameters that are left", anchor="middle")
    yield text(LEFT - 56, TOP - 4, "test accuracy")


def dotted(original: float) -> Iterator[str]:
    """The line of the original."""
    level = y(original)
    ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"'
    yield f'<line {ends} stroke="#667080" stroke-dasharray="3 4"/>'
    yield text(WIDTH - RIGHT, level - 7, f"original {original:.2%}", anchor="end")


def dot(params: float, accuracy: float, color: str, radius: float, words: str) -> str:
    """A point with the text beside the mouse."""
    place = f'cx="{x(params):.1f}" cy="{y(accuracy):.1f}" r="{radius}"'
    return f'<circle {place} fill="{color}"><title>{words}</title></circle>'


def text(at_x: float, at_y: float, words: str, *, anchor: str = "start", color: str = "#444c58", **more: object) -> str:
    """A line of text."""
    names = {"size": "font-size", "weight": "font-weight"}
    look = "".join(f' {names[name]}="{value}"' for name, value in more.items())
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{color}"{look}>{words}</text>'


ABOUT = """ResNet-20 on CIFAR-10: for each share of the parameters the point of the front with the least loss within it,
as it is built, without any training. Accuracies are of all 10,000 test images, by which nothing was chosen."""


if __name__ == "__main__":
    main()
