"""What a user takes out of the search space by hand: layers, methods, shares of parameters, ranks.

The limits go into the inventory before anything is fitted: a layer that is left out is no site any more, and every
other site bears the limits of its choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from lrf_optuna.chains.site import ChoiceLimits
from lrf_optuna.config import LayerSections, StudySpec
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, load_plugins, methods_within_limits, saving_methods
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.inventory import Inventory, LayerRow
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.sections import LayerSpec

NEAR, SIMILAR = 3, 0.5
"""Names that are shown where a pattern fits none: the most similar ones, at least as similar (`difflib`'s ratio)."""


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """What a user takes out of the search space.

    Layers are named by patterns of their paths in the model: `*` stands for any characters, `?` for one. Layers that
    fit `exclude` stay as they are, and so do all that do not fit `only`, if that is given. `layers`: pattern -> limits
    of the layers that fit; where several fit, each key counts as the last one says. Ranks are multiples of
    `rank_multiple`, where a rank can be as large.
    """

    exclude: Sequence[str] = ()
    only: Sequence[str] = ()
    layers: Mapping[str, LayerSpec | Mapping[str, Any]] = field(default_factory=dict)
    rank_multiple: int = 1

    @classmethod
    def of(cls, spec: StudySpec, rank_multiple: int) -> SpaceLimits:
        """The limits of a study; `rank_multiple`: the number that its "auto" stands for."""
        own = spec.search.rank_multiple
        return cls(spec.search.exclude, spec.search.only, spec.layers, rank_multiple if own == "auto" else own)

    def apply(self, inventory: Inventory) -> Inventory:
        """The inventory within these limits.

        Raises LrfError for a pattern that fits no layer, a method that does not exist and a multiple below 1.
        """
        if self.rank_multiple < 1:
            raise LrfError(f"rank_multiple should be 1 or more, but got {self.rank_multiple}")
        self.check_patterns(inventory)
        layers = LayerSections.of(self.layers)
        load_plugins()
        for method in (method for limits in layers.values() for method in limits.methods or ()):
            lookup(DECOMPOSITIONS, method, "method")
        return replace(inventory, rows=tuple(self.limited(row, layers) for row in inventory.rows))

    def check_patterns(self, inventory: Inventory) -> None:
        """Raises LrfError for a pattern that fits no layer, or limits no layer that can be factorized."""
        names = [row.path for row in inventory.rows]
        sites = [row.path for row in inventory.rows if row.site]
        for patterns, source, wanted, what in (
            (self.exclude, "--exclude {!r}", names, "layer"),
            (self.only, "--only {!r}", sites, "layer that can be factorized"),
            (self.layers, "[layers.{!r}]", sites, "layer that can be factorized"),
        ):
            if isinstance(patterns, str):
                raise LrfError(f"{source.format(patterns)} should be a list of patterns, but got a text")
            for pattern in patterns:
                if not any(fits(pattern, name) for name in wanted):
                    raise LrfError(f"{source.format(pattern)} fits no {what}; {near_names(pattern, wanted)}")

    def limited(self, row: LayerRow, layers: Mapping[str, LayerSpec]) -> LayerRow:
        """A row of the inventory within the limits: its site bears them, or is left out for a reason."""
        if not row.site:
            return row
        reason = self.left_out(row.path)
        site = replace(row.site, limits=self.limits_of(row.path, layers))
        limits = site.limits
        if not reason and limits.rank_multiple > 1 and not saving_methods(site.op, limits.rank_multiple):
            reason = f"too small: no chain with ranks in multiples of {limits.rank_multiple} has fewer parameters"
        if not reason and limits.methods and methods_within_limits(site) == (INTACT.method,):
            reason = f"left out by [layers]: no chain of {', '.join(limits.methods)} has fewer parameters"
        if not reason and limits.least == 1:
            reason = "left out by [layers]: it keeps all parameters"
        return replace(row, site=None, reason=reason) if reason else replace(row, site=site)

    def left_out(self, path: str) -> str:
        """Why the layer of a path is left out; empty where it is not."""
        if any(fits(pattern, path) for pattern in self.exclude):
            return "left out by --exclude"
        return "left out by --only" if self.only and not any(fits(pattern, path) for pattern in self.only) else ""

    def limits_of(self, path: str, layers: Mapping[str, LayerSpec]) -> ChoiceLimits:
        """The limits of the layer of a path: of all patterns that fit it, each key as the last one says."""
        found = ChoiceLimits(rank_multiple=self.rank_multiple)
        for pattern, layer in layers.items():
            if fits(pattern, path):
                least, most = layer.keep or (found.least, found.most)
                found = replace(found, least=least, most=most, methods=layer.methods or found.methods)
        return found


def fits(pattern: str, name: str) -> bool:
    """Whether a layer's path is the pattern or fits it; `*` stands for slashes, too."""
    return pattern == name or fnmatchcase(name, pattern)


def near_names(pattern: str, names: Iterable[str]) -> str:
    """The names most like a pattern, or the first ones where none is like it."""
    every = list(names)
    near = get_close_matches(pattern.strip("*?"), every, NEAR, SIMILAR)
    if near:
        return f"near it: {', '.join(near)}"
    return f"there is: {', '.join(every[:NEAR])}{', ..' if len(every) > NEAR else ''}" if every else "there is none"
