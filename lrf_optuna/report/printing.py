"""Printing what the `layers` and `compare` commands list, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from lrf_optuna.report.tables import comparison_table, inventory_table, survey_table

if TYPE_CHECKING:
    from lrf_optuna.models.inventory import Inventory
    from lrf_optuna.pipeline.survey import MethodRow
    from lrf_optuna.plans.comparison import Comparison


def print_layers(found: Inventory, as_json: bool) -> None:
    """Every layer of a model, as a table or JSON."""
    from lrf_optuna.models.inventory import inventory_rows

    rows = inventory_rows(found)
    if as_json:
        print(json.dumps({"params": found.params, "macs": found.macs, "layers": rows}, indent=2))
        return
    shown = Console()
    shown.print(inventory_table(rows))
    held = sum(row.params for row in found.rows if row.site) / max(found.params, 1)
    text = f"{len(found.sites)} of {len(found.rows)} layers can be factorized: they hold {held:.1%} of"
    shown.print(f"\n{text} {found.params:,} parameters; {found.macs:,} MACs an image", highlight=False)


def print_survey(rows: Sequence[MethodRow], images: int, untrained: bool, as_json: bool) -> None:
    """Every layer under every method, as a table or JSON; with what the errors are of."""
    of = "outputs" if images else "weights"
    if as_json:
        plain = [asdict(row) for row in rows]
        print(json.dumps({"error_of": of, "images": images, "trained": not untrained, "layers": plain}, indent=2))
        return
    how = f"outputs, with {images} calibration images" if images else "weights (give --data for that of its outputs)"
    title = f"error: relative squared error of the layer's {how}" + "; the network is untrained" * untrained
    Console().print(survey_table(rows, title))


def print_comparison(found: Comparison, as_json: bool) -> None:
    """A table for every budget, what dominates our front, and what a fair reader should know; or JSON."""
    if as_json:
        print(found.to_json(), end="")
        return
    shown = Console()
    for block in found.blocks:
        shown.print("", comparison_table(found, block), sep="\n")
    shown.print(f"\n{found.verdict}", style="bold", highlight=False)
    shown.print(*found.notes, sep="\n", style="dim", highlight=False)
