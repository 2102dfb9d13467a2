"""What runs measure the accuracy of plans on: validation images, of every class its share; of large networks fewer.

And how many plans: of small networks more.
"""

from __future__ import annotations

import numpy as np

from lrf_optuna.accuracy import EACH, Accuracy
from lrf_optuna.build import shown
from lrf_optuna.choosing import DOZEN, GLANCED
from lrf_optuna.corrections import Corrections
from lrf_optuna.data import FEW, Data
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.proxy import Proxy
from lrf_optuna.sources import Array as Pixels

JUDGED = 5000
"""Images at most on which points of the front are compared."""
MOST_MACS = 5e12
"""Multiply-accumulates of one measurement at most, about a minute: of networks as large as VGG16 fewer images."""
CHEAP_MACS = 2.5e12
"""Multiply-accumulates of all measurements of a choice, up to which more than a dozen are made, at most `MANY`."""
MANY = 60


def judge_of(proxy: Proxy, data: Data, unscored: Pixels, seed: int, progress: Progress = SILENT) -> Accuracy:
    """Plan -> its accuracy on validation images; `unscored`: the raw images that BatchNorm is re-estimated on."""
    count = int(np.clip(MOST_MACS / max(1, proxy.inventory.macs), FEW, JUDGED))
    images = data.judged(count, seed)
    if data.few:
        progress.say(f"{len(data.val)} validation images are few: points are compared on training images as well")
    return Accuracy(proxy, images.pixels, images.labels, data.preprocess, lambda: shown(data, unscored, seed))


def considered(judge: Accuracy) -> int:
    """How many points of a front are measured: a dozen, more where all of them cost little."""
    return affordable(judge, len(judge.labels), MANY)


def glanced(judge: Accuracy) -> int:
    """Up to how many are glanced at where all those lose much: several dozen, fewer where that costs much."""
    return affordable(judge, len(judge.labels[::EACH]), GLANCED)


def affordable(judge: Accuracy, images: int, most: int) -> int:
    """How many plans are measured on so many images: at least a dozen, and at `most` so many."""
    return int(np.clip(CHEAP_MACS / max(1, judge.proxy.inventory.macs * images), DOZEN, most))


def corrections_of(judge: Accuracy, data: Data, unscored: Pixels, progress: Progress = SILENT) -> Corrections:
    """Plan -> its accuracy as it would be built; chains are refitted to the raw images `unscored`."""
    return Corrections(judge, lambda: data.preprocess(unscored), progress, seen=bool(data.few))
