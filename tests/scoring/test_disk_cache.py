"""What is kept on disk gives back exactly what was worked out, and is never needed."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from test_architecture import MODULES, imports

from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.decompositions.svd import MatrixSVD
from lrf_optuna.files import digest
from lrf_optuna.fitting.second_moment import MomentAccumulator
from lrf_optuna.models.weights import weights_digest
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.runtimes.time_cache import KeptTimes
from lrf_optuna.scoring import build_table, disk_cache
from lrf_optuna.scoring.disk_cache import (
    FITTING_FOLDERS,
    SUFFIX,
    DiskCache,
    NetworkFolder,
    cache_folder,
    code_digest,
)
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import search_front

Array = np.ndarray[Any, Any]
KEEPS = (0.2, 0.5)
METHODS = ("svd", "tucker2", "cp3")
KEY = "0123456789abcdef"


@pytest.fixture
def made(net: Any, images: Array, tmp_path: Path) -> Callable[..., Proxy]:
    """Makes proxies of one network with a cache in the test's folder."""
    return lambda **options: Proxy(net, images, **{"methods": METHODS, "cache": tmp_path / "kept"} | options)


def files(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in sorted(folder.rglob(f"*{SUFFIX}"))}


def gathered(proxy: Proxy) -> bool:
    """Whether the moments were gathered."""
    return "moments" in vars(proxy)


def costs(proxy: Proxy, table: Any) -> list[dict[str, float]]:
    found = search_front(proxy, table, trials=20, population=8)
    return [dict(candidate.costs) for candidate in found]


def test_a_second_proxy_has_the_same_table_and_kernels_and_search_and_fits_nothing(made: Callable[..., Proxy]) -> None:
    cold, warm = made(), made()
    table = cold.table(KEEPS)
    assert gathered(cold)
    again = warm.table(KEEPS)
    assert again == table
    for site, options in table.items():
        for option in options:
            for a, b in zip(
                cold.kernels.stages(site, option.choice), warm.kernels.stages(site, option.choice), strict=True
            ):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
    assert costs(warm, again) == costs(cold, table)
    assert not gathered(warm)


def test_a_choice_beyond_the_table_is_fitted_when_it_is_asked_for(made: Callable[..., Proxy]) -> None:
    made().table(KEEPS)
    warm, plain = made(), made(cache=None)
    warm.table(KEEPS)
    choice = warm.choice("deep", "tucker2", 0.7)
    assert not gathered(warm)
    for a, b in zip(warm.kernels.stages("deep", choice), plain.kernels.stages("deep", choice), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gathered(warm)


def test_other_keeps_and_similarities_take_what_they_share(made: Callable[..., Proxy], monkeypatch: Any) -> None:
    made().table(KEEPS)
    for options, keeps in (({}, KEEPS[:1]), ({"similarity": "cka"}, KEEPS)):
        fresh, other = made(cache=None, **options).table(keeps), made(**options)
        monkeypatch.setattr(other.kernels, "fit", None)  # whoever fits now fails
        if options:
            assert other.table(keeps) == fresh
        else:
            assert [o.choice for o in other.table(keeps)["deep"]] == [o.choice for o in fresh["deep"]]


@pytest.mark.parametrize("ends", [KeyboardInterrupt, MemoryError])
def test_a_gathering_that_is_interrupted_is_repeated_and_nothing_without_data_is_stored(
    made: Callable[..., Proxy], tmp_path: Path, monkeypatch: Any, ends: type[BaseException]
) -> None:
    whole, proxy = made(cache=None), made()
    add, calls = MomentAccumulator.add, iter(range(10**6))

    def interrupted(accumulator: MomentAccumulator, maps: Array) -> None:
        if next(calls) == 3:
            raise ends
        add(accumulator, maps)

    with monkeypatch.context() as patch:
        patch.setattr(MomentAccumulator, "add", interrupted)
        with pytest.raises(ends):
            proxy.table(KEEPS)
    assert not files(tmp_path)
    assert proxy.table(KEEPS) == whole.table(KEEPS)
    assert made().table(KEEPS) == whole.table(KEEPS)


def test_a_site_without_moments_is_never_fitted_without_data(made: Callable[..., Proxy], tmp_path: Path) -> None:
    proxy = made()
    del proxy.moments["deep"]
    with pytest.raises(KeyError):
        proxy.table(KEEPS)
    assert not list(tmp_path.rglob(f"{digest('deep')}-*"))
    assert not proxy.kernels.record("deep").errors


class Stopped(Exception):
    """Stands for Ctrl-C."""


def test_a_table_that_was_interrupted_goes_on_where_it_stopped(
    made: Callable[..., Proxy], tmp_path: Path, monkeypatch: Any
) -> None:
    first, whole = made(), made(cache=None).table(KEEPS)
    own, sites = build_table.site_options, list(first.sites)

    def options(proxy: Proxy, name: str, *args: Any) -> Any:
        found = own(proxy, name, *args)
        if name == sites[2]:
            raise Stopped
        return found

    with monkeypatch.context() as patch:
        patch.setattr(build_table, "site_options", options)
        with pytest.raises(Stopped):
            first.table(KEEPS)
    before = files(tmp_path)
    assert len(before) == 2
    assert not list(tmp_path.rglob(".part-*"))
    second = made()
    fitted = set[str]()
    fit = second.kernels.fit
    monkeypatch.setattr(second.kernels, "fit", lambda site, choice: (fitted.add(site), fit(site, choice))[1])
    assert second.table(KEEPS) == whole
    assert fitted == set(sites[2:])
    assert {file: data for file, data in files(tmp_path).items() if file in before} == before
    assert len(files(tmp_path)) == len(sites)


def test_kernels_that_are_gone_are_fitted_again(made: Callable[..., Proxy], tmp_path: Path) -> None:
    cold, warm = made(), made()
    table = cold.table(KEEPS)
    assert warm.table(KEEPS) == table
    DiskCache(tmp_path / "kept").clear()
    choice = next(option.choice for option in table["deep"] if option.choice != INTACT)
    for a, b in zip(cold.kernels.stages("deep", choice), warm.kernels.stages("deep", choice), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gathered(warm)


def rewritten(file: Path, change: Callable[[Any], Any]) -> None:
    """The same arrays with another description, and its digest."""
    with safe_open(file, "numpy") as whole:
        arrays = {name: whole.get_tensor(name) for name in whole.keys()}  # noqa: SIM118
        description = json.loads(whole.metadata()["description"])
    text = json.dumps(change(description))
    file.write_bytes(save(arrays, {"description": text, "digest": digest(text)}))


def flipped(data: bytes) -> bytes:
    """The same bytes but for one within the description."""
    at = data.index(b"fingerprint") + 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "text": lambda file: file.write_text("hello"),
    "a bit": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "a list": lambda file: rewritten(file, lambda description: [1, 2]),
    "no fits": lambda file: rewritten(file, lambda description: {**description, "fits": None}),
    "other fits": lambda file: rewritten(file, lambda description: {**description, "fits": [["svd"]]}),
    "another network": lambda file: rewritten(
        file, lambda description: {**description, "fingerprint": description["fingerprint"][::-1]}
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_made_again(made: Callable[..., Proxy], tmp_path: Path, how: str) -> None:
    table = made().table(KEEPS)
    before = files(tmp_path)
    victim = next(iter(before))
    BROKEN[how](victim)
    again = made()
    assert again.table(KEEPS) == table
    assert gathered(again)
    with safe_open(victim, "numpy") as one:
        description = json.loads(one.metadata()["description"])
    assert description["fingerprint"] == again.scored.fingerprint.tolist()
    last = made()
    assert last.table(KEEPS) == table
    assert not gathered(last)


def test_a_broken_kernel_is_fitted_again(made: Callable[..., Proxy], tmp_path: Path) -> None:
    cold, warm = made(), made()
    table = cold.table(KEEPS)
    warm.table(KEEPS)
    choice = next(option.choice for option in table["deep"] if option.choice.method == "cp3")
    kernels = cold.kernels.stages("deep", choice)
    file = warm.kernels.record("deep").files[choice][0]
    data = file.read_bytes()
    at = data.index(kernels[0].tobytes())
    file.write_bytes(data[:at] + b"\x7f" + data[at + 1 :])
    for a, b in zip(warm.kernels.stages("deep", choice), kernels, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not file.exists()


def test_another_network_or_other_images_or_code_have_a_key_of_their_own(
    net: Any, images: Array, fresh_net: Callable[..., Any], made: Callable[..., Proxy], monkeypatch: Any
) -> None:
    other = fresh_net(seed=1)
    changed = images.copy()
    changed[-1] += 1
    twice = images.repeat(2, axis=0)
    proxies = [made(), made(refit=False), Proxy(other, images), Proxy(net, changed), Proxy(net, twice)]
    keys = [p.key(x) for p, x in zip(proxies, (images, images, images, changed, twice), strict=True)]
    monkeypatch.setattr("lrf_optuna.scoring.proxy.code_digest", lambda: "later")
    keys.append(made().key(images))
    assert len(set(keys)) == len(keys)
    monkeypatch.undo()
    assert made().key(images.copy()) == keys[0]


def test_the_code_that_fits_depend_on_is_all_that_the_proxy_is_made_of() -> None:
    """But for modules that only show, store or name things, and those of images, which are in the key themselves."""
    reached, waiting = set[str](), {"scoring.proxy"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        own = {i.removeprefix("lrf_optuna.") for i in imports(MODULES[name], True) if i.startswith("lrf_optuna.")}
        waiting |= (own & set(MODULES)) - reached
    whole = {name.partition(".")[0] for name in reached}
    without = {"config", "data", "errors", "files", "processes", "progress"}
    without |= {"input_sections", "sections", "setting_fields"}
    assert whole - without == set(FITTING_FOLDERS)


def test_a_digest_is_of_bytes_and_another_version_is_other_code(monkeypatch: Any) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest("a", array) == digest("a", array.copy()) != digest("a", array + 1)
    assert digest(array.T) == digest(np.ascontiguousarray(array.T)) != digest(array)
    assert digest(np.float32(1)) != digest(np.zeros((0, 3)))
    before = code_digest()
    code_digest.cache_clear()
    monkeypatch.setattr(disk_cache, "installed_version", lambda name: "0")
    assert code_digest() != before
    code_digest.cache_clear()


def network_cache(folder: Path, **options: Any) -> NetworkFolder:
    return DiskCache(folder, **options).network(KEY, np.arange(3.0))


def put(files: NetworkFolder, name: str, value: float = 0.0) -> Path:
    file = files.path(name, "key")
    files.write(file, {"name": name, "value": value}, {"a": np.full(1000, float(value))})
    return file


def test_the_budget_is_kept_by_removing_what_was_not_used_for_the_longest_time(tmp_path: Path) -> None:
    files = network_cache(tmp_path)
    made = [put(files, f"layer {i}") for i in range(5)]
    for age, file in zip((50, 40, 30, 20, 10), made, strict=True):
        os.utime(file, (time.time() - age,) * 2)
    assert files.descriptions("layer 0")[0][1]["name"] == "layer 0"  # used just now
    one = made[0].stat().st_size
    small = DiskCache(tmp_path, budget=3 * one)
    small.trim()
    assert [file.exists() for file in made] == [True, False, False, True, True]
    assert small.size == 3 * one
    DiskCache(tmp_path, budget=0).trim()
    assert not small.files()
    assert files.descriptions("layer 0") == []


def test_half_a_file_of_a_dead_process_is_removed_and_one_that_is_being_written_is_not(tmp_path: Path) -> None:
    files = network_cache(tmp_path)
    put(files, "whole")
    old, new = files.folder / f".part-1-x{SUFFIX}", files.folder / f".part-2-x{SUFFIX}"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * disk_cache.STALE,) * 2)
    files.cache.trim()
    assert (old.exists(), new.exists()) == (False, True)


def test_two_that_write_the_same_file_leave_a_whole_one(tmp_path: Path) -> None:
    one, other = network_cache(tmp_path), network_cache(tmp_path)
    threads = [Thread(target=put, args=(files, "layer", value)) for value, files in enumerate((one, other), 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((file, description),) = one.descriptions("layer")
    wanted = np.full(1000, float(description["value"]))
    np.testing.assert_array_equal(one.read(file, "a", digest(wanted)), wanted)
    assert not list(tmp_path.rglob(".part-*"))


def test_a_table_whose_kernels_are_too_large_for_the_memory_keeps_its_errors(made: Callable[..., Proxy]) -> None:
    table = made(memory=0).table(KEEPS)
    warm = made()
    assert warm.table(KEEPS) == table
    assert not gathered(warm)
    choice = table["deep"][1].choice
    assert warm.costs(Plan.of({"deep": choice})) == made(cache=None).costs(Plan.of({"deep": choice}))
    assert gathered(warm)


class Told:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_full_disk_is_said_once_and_the_work_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    told = Told()
    files = network_cache(tmp_path, progress=told)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    put(files, "one")
    put(files, "two")
    assert told.lines == [f"nothing more is kept in {tmp_path}: {os.strerror(errno.ENOSPC)}"]
    assert not files.cache.files()


def test_a_cache_that_cannot_be_made_changes_nothing(made: Callable[..., Proxy], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    assert made().table(KEEPS) == made(cache=None).table(KEEPS)
    assert (tmp_path / "kept").read_text() == "a file"


def test_clearing_leaves_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "x.zip").write_text("years of work")
    put(network_cache(tmp_path), "layer")
    assert DiskCache(tmp_path).clear() == 1
    assert not DiskCache(tmp_path).files()
    assert {path.name for path in tmp_path.iterdir()} == {"thesis", "CACHEDIR.TAG"}


def test_milliseconds_of_layers_count_and_are_cleared_with_the_kernels(tmp_path: Path) -> None:
    kept = KeptTimes.read(tmp_path, "a place")
    kept.add({"a": 1.5, "b": None}, {"b": "no op"})
    assert KeptTimes.read(tmp_path, "a place").times == {"a": 1.5, "b": None}
    cache = DiskCache(tmp_path)
    assert kept.file
    assert (list(cache.files()), cache.size) == ([kept.file], kept.file.stat().st_size)
    put(network_cache(tmp_path), "layer")
    assert cache.clear() == 2
    assert KeptTimes.read(tmp_path, "a place").times == {}


def test_the_place_is_what_was_asked_for_else_the_environments_else_the_users(
    tmp_path: Path, monkeypatch: Any, own_cache: Path
) -> None:
    assert cache_folder(False) is None
    assert cache_folder(str(tmp_path)) == tmp_path
    assert cache_folder() == own_cache
    monkeypatch.delenv("LRF_OPTUNA_CACHE")
    assert cache_folder().name == "lrf_optuna"  # type: ignore[union-attr]


def test_a_users_own_method_is_not_kept_as_it_may_change_under_its_name(
    made: Callable[..., Proxy], monkeypatch: Any
) -> None:
    monkeypatch.setitem(DECOMPOSITIONS, "mine", MatrixSVD("mine", pointwise=False))
    first, again = (made(methods=("svd", "tucker2", "mine")) for _ in range(2))
    table = first.table(KEEPS)
    fitted = set[str]()
    fit = again.kernels.fit
    monkeypatch.setattr(again.kernels, "fit", lambda site, choice: (fitted.add(choice.method), fit(site, choice))[1])
    assert again.table(KEEPS) == table
    assert fitted == {"mine"}
    assert any(choice.method == "tucker2" for choice in again.kernels.record("deep").files)
    assert {choice.method for choice in made().kernels.record("deep").errors} == {"tucker2"}


def test_without_a_cache_nothing_is_written(made: Callable[..., Proxy], tmp_path: Path, own_cache: Path) -> None:
    before = files(own_cache)
    made(cache=None).table(KEEPS)
    assert not files(tmp_path)
    assert files(own_cache) == before


def test_the_digest_of_weights_is_of_their_values_before_and_after_they_change(fresh_net: Callable[..., Any]) -> None:
    model = fresh_net()
    first = weights_digest(model)
    assert first == digest(*model.get_weights())
    model.get_layer("deep").bias.assign_add(np.ones(model.get_layer("deep").bias.shape, np.float32))
    assert weights_digest(model) == digest(*model.get_weights()) != first
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 8, 8, 3), np.float32), np.ones((4, 5)), verbose=0)
    assert weights_digest(model) == digest(*model.get_weights())
