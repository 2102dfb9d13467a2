"""Milliseconds of layers in the cache: a file for each runtime, machine, number of threads and images of a call.

Other code of this package may build other chains, and has files of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lrf_optuna.files import digest, write_text
from lrf_optuna.scoring.disk_cache import LATENCY_FOLDER, code_digest


@dataclass
class KeptTimes:
    """Times by key, None for what a runtime cannot run, and why it cannot, in a file of the cache."""

    file: Path | None = None
    times: dict[str, float | None] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, cache: Path | None, place: str) -> KeptTimes:
        """The times of a place in a cache; none where the file is not there or broken."""
        if cache is None:
            return cls()
        file = cache / LATENCY_FOLDER / f"{digest(place, code_digest())}.json"
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            stored = json.loads(file.read_text(encoding="utf-8"))
            times = {str(key): time and float(time) for key, time in stored["times"].items()}
            return cls(file, times, dict(stored.get("problems", {})))
        return cls(file)

    def add(self, times: Mapping[str, float | None], problems: Mapping[str, str]) -> None:
        """Take in times and problems, and write the file, where it can be written."""
        self.times |= times
        self.problems |= problems
        if self.file is not None:
            with suppress(OSError):
                write_text(self.file, json.dumps({"times": self.times, "problems": self.problems}))
