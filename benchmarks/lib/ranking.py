"""How well measures rank plans, as the page that proxy.py writes: Kendall tau with the true accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrf_optuna.scoring.similarity import SIMILARITIES

NETWORKS = ("resnet20_cifar10", "vgg6_cifar10", "cnn_fashion", "mobilenetv1_025_128_imagenet")
COUNTS = (16, 32, 64, 128, 256, 512, 2048)
"""Images that plans are scored on, where it is asked how many suffice."""
DEFAULT = "cosine, logits"
COUNTED = ("cosine, mean over taps", "cosine, logits")
"""The measures that are ranked by the number of images."""
SEVERAL = 128
KINDS = ("random", "sweep", "front")
USABLE = 0.7
"""Share of the original's accuracy above which a plan is of any use."""
NEAR = 0.05
"""Most by which plans of about one size differ in it: the mean of the shares of parameters and MACs left."""
GROUPS = {"all": "all", "usable": f"above {USABLE:.0%}", "alike": f"above {USABLE:.0%}, alike in size"}
DRAWS = 400
Found = dict[str, Any]
Rows = list[Found]
Floats = NDArray[np.float64]


def page(found: dict[str, Found]) -> str:
    """The whole page, of networks by name."""
    parts = [summary(found), *(detail(name, one) for name, one in found.items()), images(found)]
    parts += [after(name, one) for name, one in found.items() if len(tuned(one["rows"])) > 1]
    return "\n\n".join([*parts, ABOUT, ending(found)]) + "\n"


def summary(found: dict[str, Found]) -> str:
    """A line a measure: tau by network and the means, the best over usable plans first."""
    means = " | ".join(f"mean, {title}" for title in GROUPS.values())
    head = f"| measure | {' | '.join(found)} | {means} | networks where better − worse than the default |"
    return table(head, (line(measure, found) for measure in ordered(found)))


def line(measure: str, found: dict[str, Found]) -> str:
    """A measure's line of the summary."""
    cells = [" / ".join(shown(ranked(one, measure, which)) for which in GROUPS) for one in found.values()]
    means = [shown(mean(found, measure, which)) for which in GROUPS]
    sides = " / ".join("{} − {}".format(*against(found, measure, which)) for which in GROUPS)
    title, sides = (f"**{measure}**", "–") if measure == DEFAULT else (measure, sides)
    return f"| {title} | {' | '.join([*cells, *means])} | {sides} |"


def ordered(found: dict[str, Found]) -> list[str]:
    """The measures, from the highest mean tau over usable plans to the lowest."""
    first = next(iter(found.values()))["rows"][0]
    return sorted(first["values"], key=lambda measure: -mean(found, measure, "usable"))


def mean(found: dict[str, Found], measure: str, which: str) -> float:
    """The mean over the networks of a measure's tau."""
    return float(np.nanmean([ranked(one, measure, which) for one in found.values()]))


def ranked(one: Found, measure: str, which: str) -> float:
    """Tau of a measure over some of a network's plans."""
    rows = chosen(one, which)
    return float(tau(column(rows, measure), accuracies(rows), pairs=pairs_of(rows, which)))


def chosen(one: Found, which: str) -> Rows:
    """All plans of a network, the plans of a kind, or the usable ones."""
    rows: Rows = one["rows"]
    if which in ("usable", "alike"):
        return [row for row in rows if row["accuracy"] > USABLE * one["original"]]
    return [row for row in rows if which in ("all", row["kind"])]


def pairs_of(rows: Rows, which: str) -> Floats:
    """1 for the pairs of plans that are compared: all, or those alike in size, where size alone says nothing."""
    sizes = (column(rows, "parameters left") + column(rows, "MACs left")) / 2
    apart = np.abs(np.subtract.outer(sizes, sizes))
    return (apart <= (NEAR if which == "alike" else np.inf)).astype(float)


def column(rows: Rows, measure: str) -> Floats:
    """What a measure says of the plans: more is better."""
    return np.array([row["values"][measure] for row in rows])


def accuracies(rows: Rows) -> Floats:
    """The plans' true accuracies."""
    return np.array([row["accuracy"] for row in rows])


def tau(x: ArrayLike, y: ArrayLike, weights: Floats | None = None, pairs: ArrayLike = 1.0) -> Any:
    """Kendall's tau-b of two columns of n plans over some pairs; nan where one column is constant.

    The sum of sign(xi - xj) sign(yi - yj) by the geometric mean of the pairs untied in x and in y. With `weights`
    `(..., n)` plans count as often as that, and there is a tau for each row.
    """
    a, b = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x, float), np.asarray(y, float)))
    w = np.ones(len(a)) if weights is None else weights
    both, in_x, in_y = (np.sum(w @ (signs * pairs) * w, axis=-1) for signs in (a * b, a * a, b * b))
    with np.errstate(invalid="ignore"):
        return both / np.sqrt(in_x * in_y)


def against(found: dict[str, Found], measure: str, which: str) -> tuple[int, int]:
    """On how many networks a measure is better, and worse, than the default, beyond chance."""
    gaps = [gap(chosen(one, which), measure, which) for one in found.values()]
    return sum(low > 0 for low, _ in gaps), sum(high < 0 for _, high in gaps)


def gap(rows: Rows, measure: str, which: str) -> tuple[float, float]:
    """Tau of a measure minus the default's: the middle 95 % over plans drawn again with replacement."""
    drawn = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), DRAWS).astype(float)
    true, pairs = accuracies(rows), pairs_of(rows, which)
    one, other = (tau(column(rows, name), true, drawn, pairs) for name in (measure, DEFAULT))
    low, high = np.nanpercentile(one - other, (2.5, 97.5))
    return float(low), float(high)


def detail(name: str, one: Found) -> str:
    """A network's table: tau by kind of plan."""
    titles = {"all": "all"} | {kind: kind for kind in KINDS} | GROUPS
    head = "| measure | " + " | ".join(f"{title} ({size(one, which)})" for which, title in titles.items()) + " |"
    cells = {m: [shown(ranked(one, m, which)) for which in titles] for m in ordered({name: one})}
    cells["*true accuracy, by the other half of the images*"] = [shown(repeated(one, which)) for which in titles]
    lines = (f"| {measure} | {' | '.join(values)} |" for measure, values in cells.items())
    return f"**{name}**, {one['original']:.2%} of {one['test']:,} test images:\n\n{table(head, lines)}"


def size(one: Found, which: str) -> str:
    """How many plans there are, or pairs of plans alike in size."""
    rows = chosen(one, which)
    return f"{int(np.triu(pairs_of(rows, which), 1).sum())} pairs" if which == "alike" else str(len(rows))


def repeated(one: Found, which: str) -> float:
    """Tau of the accuracy on one half of the test images with that on the other: what sampling leaves of a tau."""
    rows = chosen(one, which)
    return float(tau(*np.array([row["halves"] for row in rows]).T, pairs=pairs_of(rows, which)))


def images(found: dict[str, Found]) -> str:
    """By how many images plans are scored on: tau with the accuracy, and with the same measure over the most images."""
    lines = [
        f"| {measure} | {count:,} | {' | '.join(suffice(one, measure, count) for one in found.values())} |"
        for measure in COUNTED
        for count in COUNTS
    ]
    return table(f"| measure | images | {' | '.join(found)} |", lines)


def suffice(one: Found, measure: str, count: int) -> str:
    """Tau of a measure over some images: all plans, usable plans, and usable ones against the most images."""
    if count > most(one):
        return "–"
    cells = [tau(counted(rows, measure, count), accuracies(rows)) for rows in (one["rows"], chosen(one, "usable"))]
    return " / ".join(map(shown, (*cells, settled(one, measure, count))))


def settled(one: Found, measure: str, count: int) -> float:
    """Tau of a measure over some images with itself over the most, among usable plans."""
    rows = chosen(one, "usable")
    return float(tau(counted(rows, measure, count), counted(rows, measure, most(one))))


def most(one: Found) -> int:
    """The most images that plans were scored on."""
    return max(map(int, one["rows"][0]["counts"][COUNTED[0]]))


def counted(rows: Rows, measure: str, count: int) -> Floats:
    """A measure over a number of images."""
    return np.array([row["counts"][measure][str(count)] for row in rows])


def tuned(rows: Rows) -> Rows:
    """The plans that were fine-tuned, the worst first."""
    return sorted((row for row in rows if "tuned" in row), key=lambda row: float(row["accuracy"]))


def after(name: str, one: Found) -> str:
    """Tau with the accuracy before and after a short fine-tune."""
    rows = tuned(one["rows"])
    before, later = accuracies(rows), np.array([row["tuned"] for row in rows])
    columns = {measure: column(rows, measure) for measure in ordered({name: one})} | {"*true accuracy before*": before}
    cells = {m: " | ".join(shown(tau(values, true)) for true in (before, later)) for m, values in columns.items()}
    head = f"| {len(rows)} plans of {name} | before a fine-tune | after |"
    ends = ", ".join(f"{row['accuracy']:.1%} → {row['tuned']:.1%}" for row in rows)
    return f"{table(head, (f'| {m} | {cell} |' for m, cell in cells.items()))}\n\nAccuracy before and after: {ends}."


def table(head: str, lines: Iterable[str]) -> str:
    """A table of Markdown."""
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])


def shown(value: float) -> str:
    """A tau; a dash where there is none."""
    return f"{value:z.3f}" if np.isfinite(value) else "–"


def ending(found: dict[str, Found]) -> str:
    """What the tables show, in words, and the default that follows."""
    best, *_ = measures = ordered(found)
    blind = next(measure for measure in measures if measure.split(",")[0] not in SIMILARITIES)
    own, first, nearest = (shown(mean(found, measure, "usable")) for measure in (DEFAULT, best, blind))
    highest = "the highest of all" if best == DEFAULT else f"the highest is {first}, *{best}*"
    text = (
        f"Over plans above {USABLE:.0%} the default, *{DEFAULT}*, has a mean tau of {own} ({highest}); of what needs no"
    )
    sentence = f"{text} pass of the network, *{blind}* comes nearest with {nearest}."
    return " ".join([sentence, verdict(found), *enough(found)])


def verdict(found: dict[str, Found]) -> str:
    """Whether the default stays: until a measure is better on most networks and, over no group of plans, worse."""
    judged = {m: [against(found, m, which) for which in GROUPS] for m in ordered(found) if m != DEFAULT}
    clear = [f"*{m}*" for m, sides in judged.items() if 2 * sides[1][0] > len(found) and not any(d for _, d in sides)]
    worse = sum(sides[1][1] > sides[1][0] for sides in judged.values())
    count = f"{worse} of the {len(judged)} others are worse on more networks than they are better on"
    if clear:
        better = f"Better than it beyond chance on most networks, and worse on none: {' and '.join(clear)}; {count}"
        return f"{better}: the default should be {clear[0]}."
    return f"No other is better beyond chance on most networks without being worse somewhere, and {count}: it stays."


def enough(found: dict[str, Found]) -> list[str]:
    """What several images are worth against the most, where there are more."""
    larger = [one for one in found.values() if most(one) > SEVERAL]
    if not larger:
        return []
    least = " and ".join(f"{shown(min(settled(one, m, SEVERAL) for one in larger))} (*{m}*)" for m in COUNTED)
    return [f"Over {SEVERAL} images a measure has at least this tau with itself over {most(larger[0]):,}: {least}."]


ABOUT = f"""Kendall's tau-b between a measure and the accuracy of the whole compressed network on 2,000 test images \
(ImageNet: 1,000), nothing trained. Three figures in a cell: over all plans, over those with more than {USABLE:.0%} of \
the original's accuracy, and over the pairs of these whose size (mean share of parameters and MACs) differs by at most \
{NEAR:g}; how many there are stands in each network's table (of MobileNet few are above {USABLE:.0%}), whose last line \
is what half of the test images say of the other half: how noisy the accuracy itself is. Better and worse: where the \
difference to the default's tau has one sign in 95% of {DRAWS} bootstrap samples of the plans; for the same three. \
Similarities: of the maps of one pass over 128 training images that no kernel was fitted to, at the last \
spatial map, at the vector that goes into the last layer, at the logits, and the mean of these. Random plans draw any \
option of every layer, with a share of intact layers and a least keep of their own; the *sweep* is the \
Lagrangian plans from large to small; *front* plans are on the front of a search of 200 trials and not in the sweep. \
By number of images: all plans / above {USABLE:.0%} / above {USABLE:.0%}, tau with the same measure over the most \
images. The fine-tune: 100 steps of 128 images, AdamW at 3e-4, the package's loss; the weights from before it stay \
where they are better on 512 validation images. Weight errors: |W - W'| / |W|, 0 for an intact layer."""
