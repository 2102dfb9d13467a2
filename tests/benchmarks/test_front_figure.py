"""The picture of the README is drawn from the tables that are committed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.lib.tables import RESULTS
from benchmarks.pages.front_figure import LINES, Line, original_of, percent, picture, points_of, tuned_point

TABLE = (RESULTS / "compare.md").read_text()


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_line_has_the_points_of_its_column(line: Line) -> None:
    found = points_of(TABLE, line.head)
    assert len(found) >= 5
    assert all(0 < params <= 100 and 0 < accuracy <= original_of(TABLE) + 1 for params, accuracy in found)


def test_the_committed_picture_is_that_of_the_committed_tables() -> None:
    headline = RESULTS / "headline.md"
    tuned = tuned_point(headline.read_text()) if headline.exists() else None
    drawn = (RESULTS / "front.svg").read_text(encoding="utf-8")
    assert drawn == picture(TABLE, tuned)
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_the_tuned_network_is_that_of_the_headline() -> None:
    row = "| vgg6 | cifar10 | -87.1% | -65.0% | 87.96% | 81.00% | 85.00% | 87.50% | -0.46 | 9 |"
    assert tuned_point(row) == pytest.approx((12.9, 87.5))
    assert tuned_point(row.replace("87.50%", "–")) is None
    assert percent("**-0.46**") == -0.46
