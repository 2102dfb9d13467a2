"""Milliseconds of plans: the sum of what their layers take, measured once for a network in one runtime.

All networks of a study have the same layers around the chains, so the time of a plan is that of the original, and for
every site the difference between its chain and the layer as it is. Each was exported and timed alone, with the same
inputs and outputs, so that what a call itself costs cancels.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Choice, Plan

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

LATENCY = "latency"
"""The name of the objective."""
HEADER = ("layer", "method", "ranks", "milliseconds")
"""The columns of a file of latencies."""
PLACE, MULTIPLE = "# place:", "# rank multiple:"
"""The lines before the columns: where the milliseconds were measured, and what ranks should be multiples of."""
NETWORK = "network"
"""The method in the row of the whole original, whose layer is empty."""
MOST_OF_ORIGINAL = 2.0
"""Times of the whole network that one layer may take alone: a call costs something, and layers run at other speeds."""
LEAST_SHARE = 0.01
"""Share of the original's milliseconds below which a sum of differences says nothing more."""
LayerTimes = dict[Choice, float]
"""Choice -> milliseconds of a layer's chain; the intact layer is among them."""


class LayerTimer(Protocol):
    """Gives the milliseconds of layers and of whole networks in one runtime on one machine."""

    @property
    def place(self) -> str:
        """The runtime with its version, its threads, the images of a call, and the machine, in words."""

    def rank_multiple(self) -> int:
        """What ranks should be multiples of there."""

    def check(self, sites: Iterable[Site]) -> None:
        """Raises LrfError where it is known before any measurement that a site lacks its milliseconds."""

    def layers(self, proxy: Proxy, wanted: Mapping[str, Collection[Choice]]) -> dict[str, LayerTimes]:
        """The milliseconds of the wanted choices of every site and of its intact layer.

        A choice that the runtime cannot run is left out.
        """

    def networks(self, proxy: Proxy, plans: Sequence[Plan]) -> list[float]:
        """The milliseconds of whole networks, measured together; of the first one alone where no other is known."""


@dataclass(frozen=True)
class LatencyTable:
    """The milliseconds of the original, and of every layer under the choices that were measured.

    `place`: where they were measured, in words. `error`: the median relative error on whole networks that were
    measured for comparison; None where none were. `rank_multiple`: what ranks should be multiples of there.
    """

    place: str
    original: float
    layers: Mapping[str, LayerTimes]
    error: float | None = None
    rank_multiple: int = 1

    def milliseconds(self, site: Site, choice: Choice) -> float:
        """The milliseconds of a site's chain; between the choices of its method that were measured, by its MACs.

        Beyond the largest or smallest one they are proportional to the MACs. Raises LrfError for a method without any.
        """
        times = self.layers.get(site.name, {})
        if choice in times:
            return times[choice]
        known = sorted((site.macs(chain_of(site.op, c)), t) for c, t in times.items() if c.method == choice.method)
        if not known:
            raise LrfError(
                f"the latencies have no row of {choice.method} at {site.name}: add rows, or leave the method out"
            )
        macs, sizes = site.macs(chain_of(site.op, choice)), np.array(known)
        inside = float(np.clip(macs, sizes[0, 0], sizes[-1, 0]))
        return float(np.interp(inside, sizes[:, 0], sizes[:, 1])) * macs / max(inside, 1.0)

    def share(self, site: Site, choice: Choice) -> float:
        """The milliseconds of a site's chain as a share of the original's."""
        return self.milliseconds(site, choice) / self.original

    def plan_share(self, sites: Mapping[str, Site], plan: Plan) -> float:
        """The milliseconds of a plan's network as a share of the original's."""
        saved = sum(self.share(sites[name], INTACT) - self.share(sites[name], choice) for name, choice in plan)
        return max(LEAST_SHARE, 1 - saved)

    def has_method(self, site: str, method: str) -> bool:
        """Whether any choice of a method was measured at a site."""
        return any(choice.method == method for choice in self.layers.get(site, {}))

    def to_csv(self) -> str:
        """The table as text: a row for every choice, and one of the method `network` without a layer."""
        text = io.StringIO()
        text.write(f"{PLACE} {self.place}\n{MULTIPLE} {self.rank_multiple}\n")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(HEADER)
        rows.writerow(("", NETWORK, "", f"{self.original:.6g}"))
        for site, times in self.layers.items():
            for choice, time in times.items():
                rows.writerow((site, choice.method, " ".join(map(str, choice.ranks)), f"{time:.6g}"))
        return text.getvalue()


def read_latencies(path: Path) -> LatencyTable:
    """The table of a file as `LatencyTable.to_csv` writes it, of this or another device.

    Raises LrfError where it cannot be read, with the line, and where the row of the whole network is missing.
    """
    try:
        return latencies_of(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise LrfError(f"cannot read the latencies {path}: {reason}") from None


def latencies_of(text: str, name: str) -> LatencyTable:
    """The table of a text; `name` stands for it in errors."""
    lines = text.splitlines()
    remarks = list(takewhile(lambda line: line.startswith("#"), lines))
    rows = csv.reader(lines[len(remarks) :])
    if tuple(next(rows, ())) != HEADER:
        raise LrfError(f"{name} should begin with the line {','.join(HEADER)}")
    layers: dict[str, LayerTimes] = {}
    original = 0.0
    for number, row in enumerate(rows, start=2 + len(remarks)):
        if not row:
            continue
        try:
            layer, method, ranks, milliseconds = row
            time, choice = float(milliseconds), Choice(method, tuple(map(int, ranks.split())))
            if not 0 < time < float("inf") or min(choice.ranks, default=1) < 1:
                raise ValueError
        except (ValueError, TypeError):
            raise LrfError(f"{name}, line {number}: give {','.join(HEADER)}, as in conv1,svd,8,0.021") from None
        if layer:
            layers.setdefault(layer, {})[choice] = time
        elif method == NETWORK:
            original = time
    if not original:
        raise LrfError(f"{name} lacks the row of the whole original network: ,{NETWORK},,MILLISECONDS")
    said = {
        key: line.removeprefix(key).strip() for key in (PLACE, MULTIPLE) for line in remarks if line.startswith(key)
    }
    multiple = said.get(MULTIPLE, "1")
    if not multiple.isdigit() or int(multiple) < 1:
        raise LrfError(f"{name}: the rank multiple should be 1 or more, but is {multiple!r}")
    return LatencyTable(said.get(PLACE, name), original, layers, rank_multiple=int(multiple))


def check_layers(table: LatencyTable, sites: Iterable[Site]) -> None:
    """Raises LrfError where a table lacks the intact layer of a site, with which its chains would be compared.

    So does a row of a site whose method there is not, or has other ranks.
    """
    for site in sites:
        times = table.layers.get(site.name, {})
        if INTACT not in times:
            raise LrfError(
                f"the latencies of {table.place} have no row of the intact layer {site.name}: "
                f"add {site.name},{INTACT.method},,MILLISECONDS"
            )
        if times[INTACT] > MOST_OF_ORIGINAL * table.original:
            raise LrfError(
                f"the latencies of {table.place} cannot be right: {site.name} takes {times[INTACT]:g} ms, "
                f"and the whole network {table.original:g} ms"
            )
        for choice in times:
            try:
                chain_of(site.op, choice)
            except LrfError as reason:
                raise LrfError(f"the latencies of {table.place}, at {site.name}: {reason}") from None


@dataclass(frozen=True)
class FileTimer:
    """The latencies of a file, in the place of measurements."""

    table: LatencyTable

    @property
    def place(self) -> str:
        """Where the milliseconds were measured, as the file says."""
        return self.table.place

    def rank_multiple(self) -> int:
        """What ranks should be multiples of there, as the file says."""
        return self.table.rank_multiple

    def check(self, sites: Iterable[Site]) -> None:
        """Raises LrfError where the file lacks the intact layer of a site, as `check_layers` does."""
        check_layers(self.table, sites)

    def layers(self, proxy: Proxy, wanted: Mapping[str, Collection[Choice]]) -> dict[str, LayerTimes]:
        """The rows of the file, interpolated between them; methods without rows are left out."""
        self.check([proxy.sites[site] for site in wanted])
        return {
            site: {
                choice: self.table.milliseconds(proxy.sites[site], choice)
                for choice in dict.fromkeys((INTACT, *choices))
                if self.table.has_method(site, choice.method)
            }
            for site, choices in wanted.items()
        }

    def networks(self, proxy: Proxy, plans: Sequence[Plan]) -> list[float]:
        """The original's milliseconds, for the first plan, which is the empty one: a file has no other network."""
        return [self.table.original]


def scaled_table(
    timer: LayerTimer, proxy: Proxy, layers: Mapping[str, LayerTimes], plans: Sequence[Plan]
) -> LatencyTable:
    """The table of layers, scaled so that whole networks take what was measured.

    Chains in a network run at other speeds than alone: by a common factor, which is fitted to the relative errors of
    `plans` that the timer knows. Without any, layers keep their milliseconds.
    """
    original, *measured = timer.networks(proxy, [Plan(()), *plans])
    plans = plans[: len(measured)]
    plain = LatencyTable(timer.place, original, layers)
    shares = np.array([plain.plan_share(proxy.sites, plan) for plan in plans])
    found = np.array(measured) / original
    changes, weights = shares - 1, 1 / found
    scale = float((weights**2 * changes * (found - 1)).sum() / max((weights**2 * changes**2).sum(), 1e-12))
    scale = scale if scale > 0 else 1.0
    error = float(np.median(abs(1 + scale * changes - found) / found)) if len(plans) else None
    scaled = {site: {choice: time * scale for choice, time in own.items()} for site, own in layers.items()}
    return LatencyTable(timer.place, original, scaled, error, timer.rank_multiple())
