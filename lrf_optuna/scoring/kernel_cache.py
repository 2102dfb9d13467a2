"""What was worked out once about a network, on disk: a folder a network and its images, a file a layer.

A file is whole or not there, and none is needed: what is missing, broken or removed is made again. It is a zip of
`head.json` and raw arrays, so nothing in it is ever executed, and every part is checked when it is read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.files import digest
from lrf_optuna.progress import SILENT, Progress

FITTING = ("chains", "decompositions", "fitting", "models", "plans", "scoring")
"""The folders whose code decides what a fit and its error are."""
LIBRARIES = ("lrf-optuna", "numpy", "scipy", "keras", "tensorflow")


@cache
def code() -> str:
    """A digest of the code of fitting and of the versions of what it uses: other code, other fits."""
    root = Path(__file__).parents[1]
    files = [file for folder in FITTING for file in sorted((root / folder).glob("*.py"))]
    return digest(*(file.read_text(encoding="utf-8") for file in files), *map(known_version, LIBRARIES))


def known_version(name: str) -> str:
    """The version of an installed package; nothing where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


log = logging.getLogger(__name__)
BUDGET = 4 * 2**30
"""Bytes of the whole cache: the files that were not used for the longest time are removed first."""
FILE_BUDGET = 2**30
"""Bytes of the arrays of one file."""
VARIABLE = "LRF_OPTUNA_CACHE"
HEAD = "head.json"
SHELF = re.compile(r"[0-9a-f]{16}")
STALE = 24 * 3600
"""Seconds after which a file that is still being written belongs to nobody."""
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by lrf_optuna; see https://bford.info/cachedir/\n"


def cache_folder(asked: str | bool = True) -> Path | None:
    """Where the cache is: the folder that was asked for, that of the environment, or the user's; None for False."""
    if isinstance(asked, str):
        return Path(asked).expanduser()
    if not asked:
        return None
    import platformdirs

    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("lrf_optuna", appauthor=False))


class KernelCache:
    """The folder of all shelves, with at most `budget` bytes after `trim`.

    `progress` is told, once, where nothing can be kept.
    """

    def __init__(self, folder: Path, budget: int = BUDGET, progress: Progress = SILENT) -> None:
        self.folder, self.budget, self.progress = folder, budget, progress
        self.works = True

    def shelf(self, key: str) -> NetworkCache:
        """The shelf of a key, which is a digest."""
        return NetworkCache(self, self.folder / key)

    def files(self) -> list[Path]:
        """Every file of ours, also those that are being written."""
        with suppress(OSError):
            shelves = [found for found in self.folder.iterdir() if SHELF.fullmatch(found.name)]
            return [file for shelf in shelves for file in (*shelf.glob("*.zip"), *shelf.glob(".*.part"))]
        return []

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(stat.st_size for file in self.files() if (stat := stat_of(file)))

    def trim(self) -> None:
        """Remove what was not used for the longest time until the rest is within the budget, and what was left half."""
        found = [(stat.st_mtime, stat.st_size, file) for file in self.files() if (stat := stat_of(file))]
        there = sum(size for _, size, _ in found)
        for used, size, file in sorted(found):
            half = file.suffix == ".part"
            if there > self.budget if not half else time.time() - used > STALE:
                removed(file)
                there -= size

    def clear(self) -> int:
        """Remove everything of ours, and nothing else; the number of files."""
        files = self.files()
        for file in files:
            removed(file)
        return len(files)

    def give_up(self, reason: OSError) -> None:
        """Say once that nothing more is kept, and why."""
        if self.works:
            self.works = False
            text = f"nothing more is kept in {self.folder}: {reason.strerror or reason}"
            log.warning("%s", text)
            self.progress.say(text)


class NetworkCache:
    """What is kept of one network: any number of files a layer, each with a head in JSON and named arrays."""

    def __init__(self, cache: KernelCache, folder: Path) -> None:
        self.cache, self.folder = cache, folder

    def heads(self, name: str) -> list[tuple[Path, dict[str, Any]]]:
        """The files about a layer, and what their heads say; from now on they count as just used."""
        found = []
        for file in sorted(self.folder.glob(f"{digest(name)}-*.zip")):
            text = self.read(file, HEAD)
            with suppress(OSError):
                os.utime(file)
            if text is not None:
                found.append((file, json.loads(text)))
        return found

    def read(self, file: Path, member: str) -> bytes | None:
        """A part of a file; None where it is not there, or is broken, which removes the file."""
        try:
            with zipfile.ZipFile(file) as whole:
                return whole.read(member)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as reason:
            log.warning("%s is broken (%s): it is made again", file, reason)
            removed(file)
            return None

    @contextmanager
    def writing(self, name: str, words: str) -> Iterator[Writing]:
        """A file about a layer, in the place of one of the same `words`; nothing is left where the block fails."""
        file = self.folder / f"{digest(name)}-{digest(words)}.zip"
        made = Writing(file, self.cache)
        try:
            yield made
            made.finish()
        finally:
            made.drop()


class Writing:
    """A file that is being written, under another name until it is whole. Where the disk fails, nothing happens."""

    def __init__(self, file: Path, cache: KernelCache) -> None:
        self.file, self.cache, self.size = file, cache, 0
        self.part = file.with_name(f".{file.stem}-{os.getpid()}-{time.time_ns():x}.part")
        self.whole: zipfile.ZipFile | None = None
        self.attempt(self.begin)

    def begin(self) -> None:
        """Make the folders and an empty file."""
        folder = self.file.parent.parent
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if not (folder / "CACHEDIR.TAG").exists():
            (folder / "CACHEDIR.TAG").write_text(TAG)
        self.whole = zipfile.ZipFile(self.part, "w")

    def add(self, member: str, array: Array) -> bool:
        """Write an array, if there is room for it in a file; whether it was written."""
        whole, data = self.whole, np.ascontiguousarray(array)
        if whole is None or self.size + data.nbytes > FILE_BUDGET:
            return False
        self.size += data.nbytes
        return self.attempt(lambda: whole.writestr(member, data.reshape(-1).view(np.uint8).data))

    def head(self, head: dict[str, Any]) -> None:
        """Write what is said of the arrays."""
        if self.whole is not None:
            whole = self.whole
            self.attempt(lambda: whole.writestr(HEAD, json.dumps(head)))

    def finish(self) -> None:
        """Put the whole file in its place."""
        if self.whole is not None:
            self.attempt(self.whole.close)
        if self.whole is not None:
            self.attempt(lambda: self.part.replace(self.file))
            self.whole = None

    def drop(self) -> None:
        """Remove what is left of a file that was not finished."""
        whole, self.whole = self.whole, None
        if whole is not None:
            with suppress(OSError, ValueError):
                whole.close()
        removed(self.part)

    def attempt(self, work: Callable[[], Any]) -> bool:
        """Do something on the disk; whether it could be done."""
        if not self.cache.works:
            return False
        try:
            work()
        except OSError as reason:
            self.cache.give_up(reason)
            self.drop()
            return False
        return True


def stat_of(file: Path) -> os.stat_result | None:
    """What the system says of a file that another process may have removed."""
    with suppress(OSError):
        return file.stat()
    return None


def removed(file: Path) -> None:
    """Remove a file that may not be there, or may be in use; and its folder if it was the last."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        file.parent.rmdir()
