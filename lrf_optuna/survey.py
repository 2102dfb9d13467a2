"""What every method makes of every layer at a few keeps, one layer at a time: `layers --all-methods`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data import load_data
from lrf_optuna.decompositions import applicable, chain_of, choice_of, compose
from lrf_optuna.layers import Inventory, own_kernel, walk
from lrf_optuna.moments import Moments
from lrf_optuna.plan import INTACT, Choice
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.proxy import Proxy
from lrf_optuna.refit import Fitter
from lrf_optuna.stages import Array, Chain, Site
from lrf_optuna.zoo import describe_input

KEEPS = (0.2, 0.4, 0.6)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One layer under one method at one keep: the chain's ranks, weights, MACs, and what they are of the layer's.

    `error`: relative squared error, of the layer's outputs on images, else of its weights. Where no chain of the
    method is smaller than the layer, `saves` is false and it stays as it is: no ranks, no error.
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
) -> list[Surveyed]:
    """Every site of `inventory` with every method that applies to it, at every keep, in this order.

    With preprocessed `images` `(n, H, W, C)`, kernels are fitted to them as in a search, and errors are those of the
    layer's outputs. Raises LrfError where nothing in the model can be factorized and there are images.
    """
    layers = dict(walk(model))
    proxy = None if images is None else Proxy(model, images, inventory=inventory, progress=progress)
    known = proxy.moments if proxy else {}
    rows: list[Surveyed] = []
    with progress.task("every method", len(inventory.sites)) as step:
        for site in inventory.sites:
            moments = known.get(site.name)
            rows += of_site(site, own_kernel(layers[site.name]), moments, keeps)
            step(1)
    return rows


def of_site(site: Site, kernel: Array, moments: Moments | None, keeps: Sequence[float]) -> Iterator[Surveyed]:
    """The rows of one layer; what several keeps come to is fitted once."""
    whole = site.macs(Chain((site.op,)))
    errors: dict[Choice, float] = {INTACT: 0.0}
    fitter = Fitter(site.op, kernel, moments)
    for method in applicable(site.op)[1:]:
        for keep in keeps:
            choice = choice_of(site.op, method, keep)
            chain = chain_of(site.op, choice)
            if choice not in errors:
                errors[choice] = fitter.error(compose(site.op, choice, fitter.fit(choice)))
            yield Surveyed(
                layer=site.name,
                method=method,
                keep=keep,
                saves=choice != INTACT,
                ranks=choice.ranks,
                params=chain.params,
                params_share=chain.params / site.op.params,
                macs=site.macs(chain),
                macs_share=site.macs(chain) / max(whole, 1),
                error=errors[choice],
            )


def calibration_images(spec: StudySpec, model: Any) -> Array:
    """The images that a search of `spec` would fit the layers of `model` to, preprocessed. Raises LrfError."""
    shape, classes = describe_input(model)
    data = load_data(spec.data, spec.search.seed, shape, classes)
    return data.preprocess(data.calibration(spec.search.calibration, spec.search.seed).pixels)
