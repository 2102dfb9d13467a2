"""Where a search's time goes, measured from outside: parts of its main thread, and the unit in between.

Functions of the package are wrapped while the stopwatch runs; a wrapped call costs about two microseconds.
"""

from __future__ import annotations

import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.progress import Silent, Step

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy
    from lrf_optuna.storage.background_writer import BackgroundWriter

PARTS = {
    "opening": ("storage.study:StudyStore.open", "storage.study:StudyStore.read"),
    "initial plans": ("search.loop:Search.first_generation",),
    "optuna": ("optuna:Study.ask", "optuna:Study.tell", "optuna:Study.enqueue_trial", "optuna:Trial.relative_params"),
    "children": ("search.loop:Search.child_parameters", "search.children:Observations.add"),
    "composing": ("scoring.proxy:Proxy.dense_kernels",),
    "passing": ("models.forward:ForwardPass.run",),
    "similarity": ("scoring.similarity:OutputSimilarity.each",),
    "front": ("plans.front:Front.add",),
    "recording": (
        "storage.background_writer:BackgroundWriter.put",
        "storage.background_writer:BackgroundWriter.news",
        "storage.background_writer:BackgroundWriter.__exit__",
        "storage.study:StudyStore.candidates",
    ),
}
"""What the main thread does -> functions; time outside all of them is the rest."""
PASSING = "passing"
"""The part that waits for forward passes."""
HOMES = {"optuna": "optuna"}
"""Modules that are not the package's own."""
REST, UNIT, RECORDER = "rest", "unit", "recorder"
EVERY, TIMES = 100, 3
"""Trials from one measurement of the unit to the next, and passes of each."""


class Stopwatch:
    """Wall and CPU seconds of the thread that made it, part by part; a part within another counts for itself only."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.thread, self.parts = get_ident(), [REST]
        self.last = time.perf_counter(), time.thread_time()
        self.recorder: BackgroundWriter | None = None

    def turn(self) -> None:
        """The time since the last turn goes to the part that is on top."""
        now, part = (time.perf_counter(), time.thread_time()), self.parts[-1]
        self.wall[part] += now[0] - self.last[0]
        self.cpu[part] += now[1] - self.last[1]
        self.last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While the block runs, its time goes to this part."""
        self.turn()
        self.parts.append(name)
        try:
            yield
        finally:
            self.turn()
            self.parts.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the time of its calls in this thread going to a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if get_ident() != self.thread:
                return function(*args, **kwargs)
            with self.part(name):
                return function(*args, **kwargs)

        return call

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs, the package's functions are timed."""
        from lrf_optuna.storage.background_writer import BackgroundWriter

        with ExitStack() as stack:
            for name, places in PARTS.items():
                for place in places:
                    stack.enter_context(replaced(*found(place), lambda call, name=name: self.timed(name, call)))
            stack.enter_context(replaced(BackgroundWriter, "run", self.recording))
            self.last = time.perf_counter(), time.thread_time()
            yield
            self.turn()

    def recording(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The function that the writer's thread runs, with the thread's CPU time counted."""

        def run(recorder: BackgroundWriter) -> None:
            self.recorder, start = recorder, time.thread_time()
            try:
                call(recorder)
            finally:
                self.cpu[RECORDER] += time.thread_time() - start

        return run

    def settle(self) -> None:
        """Wait until all finished trials are recorded."""
        if self.recorder:
            with self.part("recording"):
                self.recorder.flush()


def found(place: str) -> tuple[Any, str]:
    """The owner and the name of a function, from `module:Class.function` or `module:function`."""
    home, _, path = place.partition(":")
    owner: Any = importlib.import_module(HOMES.get(home, f"lrf_optuna.{home}"))
    *outer, name = path.split(".")
    for one in outer:
        owner = getattr(owner, one)
    return owner, name


@contextmanager
def replaced(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """While the block runs, a function, method, class method or property is wrapped."""
    there = vars(owner)[name]
    if isinstance(there, property):
        new: Any = property(wrap(there.fget))
    elif isinstance(there, classmethod):
        new = classmethod(wrap(there.__func__))
    else:
        new = wrap(there)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, there)


class Unit:
    """One pass of the original network over the scored images: compiled, in batches as large as those of the search."""

    def __init__(self, proxy: Proxy) -> None:
        import tensorflow as tf

        from lrf_optuna.data.arrays import batches_of

        model = proxy.network.model
        self.compiled = tf.function(lambda images: model(images, training=False))
        self.parts = batches_of(proxy.scored.tensors, proxy.network.batch_size)
        self.wall: list[float] = []
        self.cpu: list[float] = []
        for _ in range(TIMES):
            self.run()

    def run(self) -> None:
        """A pass, and its outputs as arrays."""
        import keras

        for part in self.parts:
            for output in keras.tree.flatten(self.compiled(part)):
                np.asarray(output)

    def measure(self, times: int = TIMES) -> None:
        """Time some passes: seconds on the clock, and of all of this process's threads."""
        for _ in range(times):
            wall, cpu = time.perf_counter(), time.process_time()
            self.run()
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)


class Between(Silent):
    """The progress of a search, not shown: the time of every trial, and the unit measured every `every` trials."""

    def __init__(self, watch: Stopwatch, unit: Unit | None = None, every: int = EVERY) -> None:
        self.watch, self.unit, self.every = watch, unit, every
        self.came: list[tuple[float, float, float]] = []
        """Seconds by the end of every trial, without the unit's passes: on the clock, in passes, on the processor."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        """The only task of a search."""
        yield self.step

    def step(self, n: int, note: str = "") -> None:
        """After each step of the search."""
        before = len(self.came)
        self.watch.turn()
        wall, cpu = (
            sum(seconds for part, seconds in list(spent.items()) if part not in (UNIT, RECORDER))
            for spent in (self.watch.wall, self.watch.cpu)
        )
        self.came += [(wall, self.watch.wall[PASSING], cpu)] * n
        if self.unit and len(self.came) // self.every > before // self.every:
            self.watch.settle()
            with self.watch.part(UNIT):
                self.unit.measure()
