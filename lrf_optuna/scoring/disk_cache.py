"""Fitted kernels on disk: a folder for each network and its images, a safetensors file for each layer.

A file is whole or not there, and none is needed: what is missing, broken or removed is made again. Nothing in a file is
ever executed, and digests in its metadata are checked when it is read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lrf_optuna.chains.conv import Array
from lrf_optuna.files import digest, write_whole
from lrf_optuna.progress import SILENT, Progress

log = logging.getLogger(__name__)
FITTING_FOLDERS = ("chains", "decompositions", "fitting", "models", "plans", "scoring")
"""The folders whose code decides what a fit and its error are."""
LIBRARIES = ("lrf-optuna", "numpy", "scipy", "keras", "tensorflow")
BUDGET = 4 * 2**30
"""Bytes of the whole cache, where the least recently used files are removed first: room for some dozens of networks."""
VARIABLE = "LRF_OPTUNA_CACHE"
NETWORK_FOLDER = re.compile(r"[0-9a-f]{16}")
SUFFIX, PART = ".safetensors", ".part-"
LATENCY_FOLDER = "latency"
"""The folder of the milliseconds of layers, which are a file for each runtime and machine."""
STALE = 24 * 3600
"""Seconds after which a partly written file belongs to no living process."""
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by lrf_optuna; see https://bford.info/cachedir/\n"
SAME_NETWORK = 1e-3
"""Share of the largest value in a fingerprint by which the same network's may differ from one run to the next."""


@cache
def code_digest() -> str:
    """A digest of the code of fitting and of the versions of its libraries: other code, other fits."""
    root = Path(__file__).parents[1]
    files = [file for folder in FITTING_FOLDERS for file in sorted((root / folder).glob("*.py"))]
    return digest(*(file.read_text(encoding="utf-8") for file in files), *map(installed_version, LIBRARIES))


def installed_version(name: str) -> str:
    """The version of an installed package; nothing where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cache_folder(place: str | bool = True) -> Path | None:
    """The folder of the cache: the given one, that of the environment, or the user's; None for False."""
    if isinstance(place, str):
        return Path(place).expanduser()
    if not place:
        return None
    import platformdirs

    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("lrf_optuna", appauthor=False))


class DiskCache:
    """The folder of all networks' files, with at most `budget` bytes after `trim`.

    `progress` is told, once, where nothing can be stored.
    """

    def __init__(self, folder: Path, budget: int = BUDGET, progress: Progress = SILENT) -> None:
        self.folder, self.budget, self.progress = folder, budget, progress
        self.works = True

    def network(self, key: str, fingerprint: Array) -> NetworkFolder:
        """The files of a network by its key, which is a digest, and its fingerprint."""
        return NetworkFolder(self, self.folder / key, fingerprint)

    def files(self) -> dict[Path, os.stat_result]:
        """Every file of this cache, also the partly written ones, and its state."""
        kernels = (file for file in self.folder.glob(f"*/*{SUFFIX}") if NETWORK_FOLDER.fullmatch(file.parent.name))
        found = {}
        for file in (*kernels, *self.folder.glob(f"{LATENCY_FOLDER}/*.json")):
            with suppress(OSError):  # another process may have removed it
                found[file] = file.stat()
        return found

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(stat.st_size for stat in self.files().values())

    def trim(self) -> None:
        """Remove the least recently used files until the rest is within the budget, and stale partly written ones."""
        total = self.size
        for file, stat in sorted(self.files().items(), key=lambda item: item[1].st_mtime):
            partly_written = file.name.startswith(PART)
            if time.time() - stat.st_mtime > STALE if partly_written else total > self.budget:
                remove(file)
                total -= stat.st_size

    def clear(self) -> int:
        """Remove every file of this cache, and nothing else; the number of files."""
        files = self.files()
        for file in files:
            remove(file)
        return len(files)

    def give_up(self, reason: OSError) -> None:
        """Say once that nothing more is stored, and why."""
        if self.works:
            self.works = False
            text = f"nothing more is kept in {self.folder}: {reason.strerror or reason}"
            log.warning("%s", text)
            self.progress.say(text)


class NetworkFolder:
    """The files of one network: any number for each layer, each with a description in JSON and named arrays.

    `fingerprint`: values of the network's outputs. Files with another fingerprint are of another network whose weights
    and images are the same, and are not read.
    """

    def __init__(self, cache: DiskCache, folder: Path, fingerprint: Array) -> None:
        self.cache, self.folder, self.fingerprint = cache, folder, fingerprint

    def descriptions(self, site: str) -> list[tuple[Path, dict[str, Any]]]:
        """The files about a layer and their descriptions; from now on the files count as just used."""
        found = []
        for file in sorted(self.folder.glob(f"{digest(site)}-*{SUFFIX}")):
            with suppress(OSError):
                os.utime(file)
            with removed_if_broken(file), safe_open(file, "numpy") as stored:
                metadata = stored.metadata()
                if digest(metadata["description"]) != metadata["digest"]:
                    raise ValueError("its description was changed")
                description = json.loads(metadata["description"])
                if self.is_of_this_network(description["fingerprint"]):
                    found.append((file, description))
        return found

    def is_of_this_network(self, fingerprint: list[float]) -> bool:
        """Whether a fingerprint in a file is that of this network."""
        found, own = np.asarray(fingerprint, np.float64), self.fingerprint
        most = SAME_NETWORK * np.abs(own).max(initial=0)
        return found.shape == own.shape and np.allclose(found, own, rtol=0, atol=most)

    def read(self, file: Path, name: str, expected_digest: str) -> Array | None:
        """An array of a file; None where it is not there, or is broken, which removes the file."""
        found: Array | None = None
        with removed_if_broken(file), safe_open(file, "numpy") as stored:
            array = stored.get_tensor(name)
            if digest(array) != expected_digest:
                raise ValueError(f"the array {name} was changed")
            found = array
        return found

    def path(self, site: str, key: str) -> Path:
        """The file of a key about a layer."""
        return self.folder / f"{digest(site)}-{digest(key)}{SUFFIX}"

    def write(self, file: Path, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
        """Write a whole file, or none where the disk fails; whether it was written."""
        text = json.dumps({**description, "fingerprint": self.fingerprint.tolist()})
        data = save(dict(arrays), {"description": text, "digest": digest(text)})
        try:
            if not self.cache.works:
                return False
            write_whole(file, lambda part: part.write_bytes(data))
            (self.cache.folder / "CACHEDIR.TAG").write_text(TAG)
        except OSError as reason:
            self.cache.give_up(reason)
            return False
        return True


@contextmanager
def removed_if_broken(file: Path) -> Iterator[None]:
    """A block that reads a file of the cache, which may not be there; what cannot be read is removed."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as reason:
        log.warning("%s is broken (%r): it is made again", file, reason)
        remove(file)


def remove(file: Path) -> None:
    """Remove a file that may not be there, or may be in use; and its folder if it was the last."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        file.parent.rmdir()
