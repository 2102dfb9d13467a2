"""Every method on every layer at a few keeps, one layer at a time: `layers --all-methods`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_optuna.baselines.compare import DATA_FREE_BYTES
from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array
from lrf_optuna.chains.site import Site
from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import load_data
from lrf_optuna.decompositions.registry import applicable_methods, chain_of, choice_of
from lrf_optuna.models.inventory import Inventory
from lrf_optuna.models.layer_kinds import read_kernel, walk_layers
from lrf_optuna.models.load import describe_input, load_model
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.zoo import ZOO
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_store import KernelStore
from lrf_optuna.scoring.proxy import Proxy

KEEPS = (0.2, 0.4, 0.6)
"""Keeps of the rows where none are given: small, medium and large chains."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One layer under one method at one keep: ranks, parameters and MACs of the chain, also as shares of the layer's.

    `error`: the relative squared error of the layer's outputs on images, or of its weights without images. Where no
    chain of the method is smaller than the layer, `saves` is false, and the row is that of the intact layer.
    """

    layer: str
    method: str
    keep: float
    saves: bool
    ranks: tuple[int, ...]
    params: int
    params_share: float
    macs: int
    macs_share: float
    error: float


def survey(
    model: Any,
    inventory: Inventory,
    *,
    keeps: Sequence[float] = KEEPS,
    images: Array | None = None,
    progress: Progress = SILENT,
) -> list[MethodRow]:
    """Every site of `inventory` with every method that applies to it, at every keep, in this order.

    With preprocessed `images` `(n, H, W, C)`, kernels are fitted to them as in a search, and `error` is of the
    layer's outputs. Raises LrfError where nothing in the model can be factorized and there are images.
    """
    if images is None:
        layers, sites = dict(walk_layers(model)), {site.name: site for site in inventory.sites}
        store = KernelStore(sites, {name: read_kernel(layers[name]) for name in sites}, None, DATA_FREE_BYTES)
    else:
        store = Proxy(model, images, inventory=inventory, progress=progress).kernels
    rows: list[MethodRow] = []
    with progress.task("methods", len(inventory.sites)) as step:
        for site in inventory.sites:
            rows += rows_of_site(site, store, keeps)
            step(1)
    return rows


def rows_of_site(site: Site, store: KernelStore, keeps: Sequence[float]) -> Iterator[MethodRow]:
    """The rows of one layer."""
    original_macs = site.macs(Chain((site.op,)))
    for method in applicable_methods(site.op)[1:]:
        for keep in keeps:
            choice = choice_of(site.op, method, keep)
            chain = chain_of(site.op, choice)
            yield MethodRow(
                layer=site.name,
                method=method,
                keep=keep,
                saves=choice != INTACT,
                ranks=choice.ranks,
                params=chain.params,
                params_share=chain.params / site.op.params,
                macs=site.macs(chain),
                macs_share=site.macs(chain) / max(original_macs, 1),
                error=0.0 if choice == INTACT else store.error(site.name, choice),
            )


def load_for_survey(path: str) -> tuple[Any, bool]:
    """The model that `path` means, and whether it is an untrained network of the zoo. Raises LrfError."""
    untrained = path.startswith("zoo:") and path[4:] in ZOO
    model: Any = ZOO[path[4:]]() if untrained else load_model(path)  # type: ignore[call-arg]
    return split_separable(model), untrained


def calibration_images(spec: StudySpec, model: Any) -> Array:
    """The images that a search of `spec` would fit the layers of `model` to, preprocessed. Raises LrfError."""
    shape, classes = describe_input(model)
    data = load_data(spec.data, spec.search.seed, shape, classes)
    return data.preprocess(data.calibration(spec.search.calibration, spec.search.seed).pixels)
