"""The least shares of the original's parameters and MACs that any plan can have, known before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from lrf_optuna.decompositions.registry import chain_of, choice_within_limits, methods_within_limits
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import Inventory
from lrf_optuna.scoring.option_table import COUNTED, Shares
from lrf_optuna.scoring.screening import keep_grid_for

REST = {
    "params": "those of layers and recurrent kernels that are not factorized, of biases and of the smallest chains",
    "macs": "those of layers and recurrent kernels that are not factorized, and of the smallest chains",
}
"""Cost -> what is left of it where every layer has its smallest chain."""


def least_shares(inventory: Inventory, methods: Sequence[str], keeps: Sequence[float]) -> Shares:
    """The shares that are left where every site has its smallest chain under these methods and keeps."""
    params, macs = inventory.params, inventory.macs
    for site in inventory.sites:
        names = methods_within_limits(site, methods)
        grid = keep_grid_for(keeps, site.op.params / max(inventory.params, 1), site.limits)
        chains = [chain_of(site.op, choice_within_limits(site, name, keep)) for name in names for keep in grid]
        own = site.op.params, sum(site.op.macs(shape) for shape in site.maps)
        params += min((chain.params - own[0] for chain in chains), default=0)
        macs += min((site.macs(chain) - own[1] for chain in chains), default=0)
    return Shares(params / max(inventory.params, 1), macs / max(inventory.macs, 1))


def known(least: Shares) -> dict[str, float]:
    """The shares that are known before anything is measured, by cost."""
    return {cost: getattr(least, cost) for cost in COUNTED}


def check_targets(targets: Mapping[str, float], least: Shares) -> None:
    """Raises LrfError for a target of the parameters or the MACs that no plan can meet."""
    for cost, share in known(least).items():
        if targets.get(cost, 1.0) < share:
            least_target = ceil(1e4 * share) / 1e4
            raise LrfError(
                f"the target {cost}={targets[cost]:g} is out of reach: no plan has less than {share:.2%} "
                f"({REST[cost]}); give {cost}={least_target:g} or more, or smaller --keep values"
            )


def reach_text(targets: Mapping[str, float], least: Shares, uncounted: Sequence[str]) -> str:
    """What share of each limited cost the plans can reach; empty without a limit."""
    names = {"params": "the parameters", "macs": "the MACs that are counted" if uncounted else "the MACs"}
    shares = [f"{share:.1%} of {names[cost]}" for cost, share in known(least).items() if cost in targets]
    return f"plans can go down to {' and '.join(shares)}" if shares else ""
