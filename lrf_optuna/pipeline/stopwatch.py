"""The seconds of a run, phase by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PHASES = ("load", "prepare", "search", "pick", "build", "calibrate", "measure", "tune", "latency", "report")
"""The phases of a run, in order, by the names that result.json has for their seconds."""


@dataclass
class Stopwatch:
    """Phase -> seconds that it took so far; their sum is about the time of the whole run."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    current: str = ""
    """The phase that runs now, the inner one of two; empty between two phases."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to a phase; the seconds of a phase inside the block count for that phase alone."""
        start, before, around = time.perf_counter(), sum(self.seconds.values()), self.current
        self.current = phase
        try:
            yield
        finally:
            self.current = around
            inside = sum(self.seconds.values()) - before
            self.seconds[phase] += time.perf_counter() - start - inside
