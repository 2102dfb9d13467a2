"""Several processes fit just what one does, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.scoring import build_table
from lrf_optuna.scoring.parallel import SiteFits, fit_in_processes
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.screening import screened_choices

KEEPS = (0.1, 0.2, 0.3, 0.5, 0.8)
Array = np.ndarray[Any, Any]


@pytest.fixture
def made(net: Any, images: Array, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proxy]:
    """Makes proxies of one network, with two processors to use."""
    monkeypatch.setattr(build_table, "cores", lambda: 2)
    return lambda **options: Proxy(net, images, **options)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many processes each table asks for."""
    asked: list[int] = []
    monkeypatch.setattr(
        build_table, "fit_in_processes", lambda works, count: (asked.append(count), fit_in_processes(works, count))[1]
    )
    return asked


def test_two_processes_fit_the_same_table_and_kernels(
    made: Callable[..., Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = made()
    monkeypatch.setattr(build_table, "PARALLEL_FITS", 10**9)
    expected = alone.table(KEEPS)
    monkeypatch.setattr(build_table, "PARALLEL_FITS", 0)
    asked, together = counted(monkeypatch), made(cache=tmp_path)
    assert together.table(KEEPS) == expected
    assert asked == [2]
    again = made(cache=tmp_path)
    assert again.table(KEEPS) == expected
    assert asked == [2], "all of it is on disk"
    for site, options in expected.items():
        for choice in [option.choice for option in options if option.choice != INTACT][::7]:
            for proxy in (together, again):
                pairs = zip(alone.kernels.stages(site, choice), proxy.kernels.stages(site, choice), strict=True)
                assert all(np.array_equal(a, b) for a, b in pairs)


def test_what_is_known_is_not_fitted_again(proxy: Proxy) -> None:
    name = "deep"
    methods = proxy.methods_of(name)
    first = SiteFits(proxy.sites[name], proxy.kernels.fitter(name), methods, KEEPS, {}).run()
    known = {choice: error for choice, (_, error) in first.items()}
    rest = dict(list(known.items())[::2])
    again = SiteFits(proxy.sites[name], proxy.kernels.fitter(name), methods, KEEPS, rest).run()
    assert again.keys() == first.keys() - rest.keys()
    assert {choice: error for choice, (_, error) in again.items()}.items() <= known.items()


def test_a_process_fits_every_screened_choice_so_that_none_is_left_for_its_parent(proxy: Proxy) -> None:
    site, methods = proxy.sites["deep"], proxy.methods_of("deep")
    fits = SiteFits(site, proxy.kernels.fitter("deep"), methods, KEEPS, {}).run()
    screened = screened_choices(site, methods, KEEPS, lambda choice: fits[choice][1])
    assert screened.keys() - {INTACT} <= fits.keys()


def test_few_fits_and_methods_of_a_user_stay_in_this_process(
    made: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    made().table((0.3,))
    monkeypatch.setattr(build_table, "PARALLEL_FITS", 0)
    monkeypatch.setitem(DECOMPOSITIONS, "tt", type(DECOMPOSITIONS["tt"])())
    made().table((0.3,))
    assert not asked


class Dying(SiteFits):
    """Stands for a process that the system kills."""

    def run(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def work_of(proxy: Proxy, name: str, kind: type[SiteFits] = SiteFits) -> SiteFits:
    """The work on a site at one keep."""
    given = proxy.sites[name], proxy.kernels.fitter(name), proxy.methods_of(name)
    return kind(*given, (0.3,), {})


def test_where_a_process_dies_what_is_left_is_fitted_here(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SiteFits, "run", Dying.run)
    assert not list(fit_in_processes([work_of(proxy, name) for name in proxy.sites], 2))
    assert "goes on in one process" in caplog.text


def test_where_there_can_be_no_processes_all_is_fitted_here(
    proxy: Proxy, table: Any, images: Array, net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("loky.ProcessPoolExecutor", none)
    monkeypatch.setattr(build_table, "cores", lambda: 2)
    monkeypatch.setattr(build_table, "PARALLEL_FITS", 0)
    keeps = tuple(sorted({option.keep for options in table.values() for option in options}))
    assert Proxy(net, images).table(keeps) == table


SCRIPT = """
import sys, time
import numpy as np
from lrf_optuna.scoring.parallel import SiteFits, fit_in_processes
from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import Site
from lrf_optuna.fitting.layer_fit import LayerFitter

print("the script", flush=True)  # once: the processes do not run it again
op = Conv((3, 3), 96, 96, (1, 1), (1, 1), "same")
kernel = np.random.default_rng(0).standard_normal(op.kernel_shape).astype(np.float32)
keeps = tuple(np.linspace(0.05, 0.9, 60).tolist())
fitter = LayerFitter(op, kernel)
works = [SiteFits(Site(str(i), op, ((8, 8),)), fitter, ("intact", "cp", "cp3"), keeps, {}) for i in range(8)]
for name, found in fit_in_processes(works, 2):
    print(name, len(found), flush=True)
"""


def children(parent: int) -> set[int]:
    """The processes that a process has started, and theirs."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[1]) in {parent, *found}:
                found.add(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_script_that_is_stopped_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == "the script\n"
            until = time.monotonic() + 60
            while len(there := children(running.pid)) < 2 and time.monotonic() < until:
                time.sleep(0.1)
            assert len(there) >= 2
            time.sleep(0.5)
            there = children(running.pid)
            running.send_signal(how)
            running.wait(30)
            until = time.monotonic() + 30
            while any(alive(pid) for pid in there) and time.monotonic() < until:
                time.sleep(0.1)
            assert not [pid for pid in there if alive(pid)]
            assert "the script" not in running.stdout.read()
        finally:
            for pid in {running.pid, *children(running.pid)}:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process is there, and is not only waiting to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
