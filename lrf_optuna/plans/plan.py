"""What a search chooses: for every site a method and its ranks. Immutable, hashable, JSON both ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lrf_optuna.errors import LrfError


@dataclass(frozen=True, slots=True)
class Choice:
    """One layer's decomposition method and exact ranks."""

    method: str
    ranks: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.method}({', '.join(map(str, self.ranks))})" if self.ranks else self.method


INTACT = Choice("intact")


@dataclass(frozen=True, slots=True)
class Plan:
    """A choice for every site, in the order of the sites. A site without a choice stays intact."""

    choices: tuple[tuple[str, Choice], ...]

    @classmethod
    def of(cls, choices: Mapping[str, Choice]) -> Plan:
        """The plan with these choices."""
        return cls(tuple(choices.items()))

    def __iter__(self) -> Iterator[tuple[str, Choice]]:
        return iter(self.choices)

    def __getitem__(self, site: str) -> Choice:
        return dict(self.choices).get(site, INTACT)

    @property
    def changed(self) -> dict[str, Choice]:
        """The sites that do not stay intact, with their choices."""
        return {site: choice for site, choice in self.choices if choice != INTACT}

    @property
    def methods(self) -> str:
        """How many layers each method has, the most used first and `intact` last."""
        counts = Counter(choice.method for _, choice in self)
        ordered = sorted(counts.items(), key=lambda item: (item[0] == INTACT.method, -item[1], item[0]))
        return ", ".join(f"{count} {method}" for method, count in ordered)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """`{site: {"method": name, "ranks": [..]}}`, ready for JSON."""
        return {site: {"method": choice.method, "ranks": list(choice.ranks)} for site, choice in self.choices}

    def to_json(self) -> str:
        """The plan as one line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, table: Mapping[str, Mapping[str, object]]) -> Plan:
        """The plan of `to_dict`. Raises LrfError where an entry has another shape."""
        try:
            pairs = [(site, Choice(str(row["method"]), tuple(map(int, row["ranks"])))) for site, row in table.items()]  # type: ignore[call-overload]
        except (KeyError, TypeError, ValueError, AttributeError) as reason:
            raise LrfError(
                f"not a plan: every layer needs a method and a list of ranks ({reason!r} in {table!r:.80})"
            ) from None
        return cls(tuple(pairs))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan of `to_json`. Raises LrfError where the text is not one."""
        try:
            table = json.loads(text)
        except json.JSONDecodeError as reason:
            raise LrfError(f"not a plan: the text is not JSON ({reason})") from None
        return cls.from_dict(table)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished trial: its number, its plan and its costs (objective name -> cost, lower is better)."""

    trial: int
    plan: Plan
    costs: Mapping[str, float]
