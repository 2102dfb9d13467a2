"""The picture of the README: accuracies along the front of vgg6 on CIFAR-10, beside other rules and filter pruning.

    python benchmarks/pages/front_figure.py

Draws benchmarks/results/front.svg from the table compare.md beside it, and the tuned network from headline.md where
that has it. Both tables are measured by the scripts in benchmarks/quality/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.lib.tables import RESULTS

NETWORK, TITLE = "vgg6_cifar10", "vgg6 on CIFAR-10: accuracy without any training"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 60, 24, 56, 56
"""Pixels of the picture, and of its margins."""
LEAST, MOST = 50, 93
"""The accuracies at the bottom and at the top in percent. A line that falls further leaves the picture."""


class Line(NamedTuple):
    """A column of the table as a line of the picture: its head there, its name here, its color, where its name is."""

    head: str
    name: str
    color: str
    place: tuple[float, float]


LINES = (
    Line("l1 filters", "filter pruning (L1 norm)", "#8a92a0", (48, 63.5)),
    Line("best baseline, as published", "best other rule for ranks, as published", "#d9902f", (17.5, 78.6)),
    Line("ours, as built", "lrf_optuna", "#2f63c8", (22, 89.6)),
)


def main() -> None:
    """Draw the picture."""
    headline = RESULTS / "headline.md"
    tuned = tuned_point(headline.read_text()) if headline.exists() else None
    path = RESULTS / "front.svg"
    path.write_text(picture((RESULTS / "compare.md").read_text(), tuned), encoding="utf-8")
    print(path)


def points_of(table: str, head: str) -> list[tuple[float, float]]:
    """Percent of the parameters that are left, and percent of the test images that are right, of a column."""
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("|")]
    heads = next(row for row in rows if head in row)
    return [
        (percent(row[1]), percent(row[heads.index(head)].partition("/")[2]))
        for row in rows
        if row[0] == NETWORK and len(row) == len(heads) and "/" in row[heads.index(head)]
    ]


def original_of(table: str) -> float:
    """The test accuracy of the original in percent."""
    found = re.search(rf"^\| {NETWORK} \| [\d.]+% / ([\d.]+)% \| \d+ \|", table, re.MULTILINE)
    if not found:
        raise ValueError(f"compare.md has no row of {NETWORK} with the original's accuracy")
    return float(found[1])


def tuned_point(headline: str) -> tuple[float, float] | None:
    """Parameters and test accuracy of the tuned network of the headline in percent; None where it has none."""
    name, _, data = NETWORK.partition("_")
    row = next((row for row in headline.splitlines() if row.startswith(f"| {name} | {data} |")), "")
    cells = [cell.strip() for cell in row.split("|")]
    return (100 + percent(cells[3]), percent(cells[8])) if len(cells) > 8 and cells[8].endswith("%") else None


def percent(text: str) -> float:
    """The first number of a text."""
    found = re.search(r"[-+]?[\d.]+", text)
    return float(found[0]) if found else float("nan")


def picture(table: str, tuned: tuple[float, float] | None) -> str:
    """The picture as SVG."""
    frame = f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/>'
    parts = [f'<clipPath id="frame">{frame}</clipPath>', *axes(), *dotted(original_of(table))]
    for line in LINES:
        found = sorted(points_of(table, line.head))
        places = " ".join(f"{x(params):.1f},{y(accuracy):.1f}" for params, accuracy in found)
        look = f'fill="none" stroke="{line.color}" stroke-width="2.5" clip-path="url(#frame)"'
        parts.append(f'<polyline points="{places}" {look}/>')
        parts += [
            dot(*point, line.color, 4.5, f"{line.name}: {point[1]:.2f}% with {point[0]:g}%")
            for point in found
            if point[1] >= LEAST
        ]
        parts.append(text(x(line.place[0]), y(line.place[1]), line.name, color=line.color, weight=600))
    if tuned:
        words = f"tuned once: {tuned[1]:.1f}% with {tuned[0]:.0f}% of the parameters"
        parts.append(dot(*tuned, "#e8542f", 6, words))
    title = text(LEFT, 24, TITLE, size=17, weight=600)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    look = 'role="img" font-family="system-ui, sans-serif" font-size="13">'
    said = f"<title>{TITLE}, against the share of its parameters</title>"
    return "\n".join([head + look, said, '<rect width="100%" height="100%" fill="#fff"/>', title, *parts, "</svg>", ""])


def x(params: float) -> float:
    """The place of a percentage of the parameters."""
    return LEFT + params / 100 * (WIDTH - LEFT - RIGHT)


def y(accuracy: float) -> float:
    """The place of an accuracy."""
    return TOP + (MOST - accuracy) / (MOST - LEAST) * (HEIGHT - TOP - BOTTOM)


def axes() -> Iterator[str]:
    """The grid with its numbers, and the names of the axes."""
    for value in range(LEAST, MOST, 10):
        level = y(value)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="#e3e6eb"/>'
        yield text(LEFT - 8, level + 4, f"{value}%", anchor="end")
    for value in range(0, 101, 10):
        yield text(x(value), HEIGHT - BOTTOM + 20, f"{value}%", anchor="middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "parameters that are left", anchor="middle")
    yield text(12, TOP - 10, "test accuracy")


def dotted(original: float) -> Iterator[str]:
    """The line of the original."""
    ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(original):.1f}" y2="{y(original):.1f}"'
    yield f'<line {ends} stroke="#667080" stroke-dasharray="3 4"/>'
    yield text(WIDTH - RIGHT, y(original) - 7, f"original {original:.2f}%", anchor="end")


def dot(params: float, accuracy: float, color: str, radius: float, words: str) -> str:
    """A point with the text beside the mouse."""
    place = f'cx="{x(params):.1f}" cy="{y(accuracy):.1f}" r="{radius}"'
    return f'<circle {place} fill="{color}"><title>{words}</title></circle>'


def text(at_x: float, at_y: float, words: str, *, anchor: str = "start", color: str = "#444c58", **more: object) -> str:
    """A line of text."""
    names = {"size": "font-size", "weight": "font-weight"}
    look = "".join(f' {names[name]}="{value}"' for name, value in more.items())
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{color}"{look}>{words}</text>'


if __name__ == "__main__":
    main()
