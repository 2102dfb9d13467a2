"""The table of decompositions, and the ranks, chains and composed kernels of their choices.

A new decomposition is a file here and a name in `DECOMPOSITIONS`; its laws are then tested. A user's own joins by
`register`, or as an entry point of its package, and its laws are checked at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import entry_points

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, join_groups, split_groups
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions import laws
from lrf_optuna.decompositions.base import Decomposition
from lrf_optuna.decompositions.cp import CP
from lrf_optuna.decompositions.intact import Intact
from lrf_optuna.decompositions.qr import QR
from lrf_optuna.decompositions.ranks import HALVINGS, ranks_in_multiples
from lrf_optuna.decompositions.svd import MatrixSVD, SpatialSVD
from lrf_optuna.decompositions.tt import TT
from lrf_optuna.decompositions.tt_matrix import TTMatrix
from lrf_optuna.decompositions.tucker import Tucker2
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.plans.plan import INTACT, Choice

CACHED = 2**16
"""Operations with a keep or a choice whose results are remembered."""
PLUGINS = "lrf_optuna.decompositions"
"""The group of the entry points; each is a decomposition, or a class that makes one without arguments."""


DECOMPOSITIONS: dict[str, Decomposition] = {
    d.name: d
    for d in (
        Intact(),
        MatrixSVD("svd", pointwise=True),
        QR(),
        TTMatrix(),
        TTMatrix("kronecker", cores=2),
        MatrixSVD("channel_svd", pointwise=False),
        SpatialSVD(),
        Tucker2(),
        CP("cp", by_axis=True),
        CP("cp3", by_axis=False),
        TT(),
    )
}
"""Name -> decomposition: all methods that a search tries, with those that were registered."""

BUILT_IN = dict(DECOMPOSITIONS)
"""The decompositions of this package: their code does not change under their names."""


def register(decomposition: Decomposition) -> None:
    """Put a user's own decomposition into the table, for this process: the search then tries it like any other.

    The same class again takes its own place, as when a notebook's cell is run twice. Raises LrfError where the name is
    taken, or naming the law that is broken.
    """
    laws.check_form(decomposition)
    registered = DECOMPOSITIONS.get(decomposition.name)
    if registered is not None and origin_of(registered) != origin_of(decomposition):
        raise LrfError(f"there is a decomposition {decomposition.name!r} already: give yours another name")
    laws.check(decomposition)
    DECOMPOSITIONS[decomposition.name] = decomposition
    choice_of.cache_clear()
    choice_within_limits.cache_clear()
    chain_of.cache_clear()


def is_built_in(name: str) -> bool:
    """Whether a decomposition is one of this package."""
    return DECOMPOSITIONS.get(name) is BUILT_IN.get(name) is not None


def origin_of(decomposition: Decomposition) -> tuple[str, str]:
    """Where a decomposition's class was written."""
    return type(decomposition).__module__, type(decomposition).__qualname__


@cache
def load_plugins() -> None:
    """Register, once, the entry points of installed packages. Raises LrfError that names the plug-in."""
    for entry in sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name):
        try:
            found = entry.load()
            register(found() if isinstance(found, type) else found)
        except LrfError as reason:
            raise LrfError(f"plug-in {entry.name} ({entry.value}): {reason}") from reason
        except Exception as reason:  # whatever a stranger's module raises when it is loaded
            text = " ".join(repr(reason).split())
            raise LrfError(f"plug-in {entry.name} ({entry.value}) cannot be loaded: {text}") from reason


def applicable_methods(op: Conv) -> tuple[str, ...]:
    """The names of the decompositions that apply to an operation, group by group; `intact` is the first."""
    load_plugins()
    return tuple(name for name, method in DECOMPOSITIONS.items() if method.applies(op.part))


def saving_methods(op: Conv, multiple: int = 1) -> tuple[str, ...]:
    """The names of the decompositions with some chain that has fewer weights than the operation."""
    return tuple(name for name in applicable_methods(op) if choice_of(op, name, 0.0, multiple) != INTACT)


def methods_within_limits(site: Site, methods: Sequence[str] | None = None) -> tuple[str, ...]:
    """The methods that a site may have within its limits, `intact` first where the layer may stay as it is.

    `methods`: those of the study, by default all; the site's own take their place.
    """
    limits = site.limits
    wanted = limits.methods or methods or tuple(DECOMPOSITIONS)
    saving = [name for name in saving_methods(site.op, limits.rank_multiple) if name in wanted]
    found = [name for name in saving if choice_within_limits(site, name, limits.least) != INTACT]
    return (*[INTACT.method] * (limits.most == 1), *found)


@lru_cache(CACHED)
def choice_of(op: Conv, method: str, keep: float, multiple: int = 1) -> Choice:
    """The choice of (method, keep) for `op`: exact ranks, or intact where the chain has no fewer parameters.

    `multiple`: what ranks are multiples of (`ranks_in_multiples`).
    """
    load_plugins()
    found = lookup(DECOMPOSITIONS, method, "method")
    ranks = found.ranks(op.part, keep) if multiple == 1 else ranks_in_multiples(found, op.part, keep, multiple)
    choice = Choice(method, ranks)
    return choice if chain_of(op, choice).params < op.params else INTACT


@lru_cache(CACHED)
def choice_within_limits(site: Site, method: str, keep: float) -> Choice:
    """The choice of (method, keep) for a site, within its limits; intact where the method has none there.

    Where the largest chain within `keep` is smaller than the limits allow, the next larger one takes its place.
    """
    op, limits = site.op, site.limits
    low, high = min(keep, limits.most), 1.0

    def share(kept: float) -> float:
        return chain_of(op, choice_of(op, method, kept, limits.rank_multiple)).params / op.params

    if share(low) < limits.least <= share(high):
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if share(middle) < limits.least else (low, middle)
        low = high
    choice = choice_of(op, method, low, limits.rank_multiple)
    return choice if limits.least <= share(low) <= limits.most else INTACT


@lru_cache(CACHED)
def chain_of(op: Conv, choice: Choice) -> Chain:
    """The chain that a choice puts in the place of `op`: one group's chain, for every group."""
    load_plugins()
    method = lookup(DECOMPOSITIONS, choice.method, "method")
    if len(choice.ranks) != len(method.ranks(op.part, 0.5)) or not all(rank > 0 for rank in choice.ranks):
        raise LrfError(f"not a plan: {choice.method!r} does not have the ranks {list(choice.ranks)} here")
    chain = method.chain(op.part, choice.ranks)
    return Chain(tuple(stage.times(op.groups) for stage in chain.stages))


def compose(op: Conv, choice: Choice, kernels: tuple[Array, ...]) -> Array:
    """The kernel `op.kernel_shape` that the stage kernels of a choice stand for."""
    chain = DECOMPOSITIONS[choice.method].chain(op.part, choice.ranks)
    parts = zip(*(split_groups(kernel, op.groups) for kernel in kernels), strict=True)
    return join_groups([chain.compose(part) for part in parts])
