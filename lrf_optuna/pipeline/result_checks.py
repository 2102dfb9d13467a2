"""What is strange about the network of a result: classes that it never predicts, a metric far above the original's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lrf_optuna.data.metrics import standard_error
from lrf_optuna.plans.result import Result
from lrf_optuna.scoring.latency import LATENCY
from lrf_optuna.training.decisions import FORGOTTEN

MISSED = 1.1
"""Times of the target that milliseconds may be: predictions are within a tenth of measurements."""
STRANGE_GAIN = 0.1
"""By how much a smaller network's metric may be above the original's until that is said to be strange."""


KNOWN_BY_HEART = 0.05
"""By how much the original's metric on validation images may be above that on test images until that is said. resnet8,
ResNet-20 and vgg6 of CIFAR-10 have 5.2, 8.1 and 12.0 points more on images that they were trained on."""


def result_warnings(result: Result, validation_images: int) -> Iterator[str]:
    """One sentence for everything that is strange about the last network of a result."""
    yield from lost_classes(result.final.never_predicted)
    yield from strange_gain(result.original.test_metric, result.final.test_metric, result.metric)
    yield from worse_than_built(result, validation_images)
    yield from known_validation_images(result.original.val_metric, result.original.test_metric, result.metric)


def worse_than_built(result: Result, images: int) -> Iterator[str]:
    """A sentence where the last network is clearly worse than the built one, on so many validation images.

    It is by more than a point and by more than two standard errors of the built one's metric.
    """
    built, last = result.built, result.final
    if built is None:
        return
    if built.val_metric - last.val_metric > max(FORGOTTEN, 2 * standard_error(built.val_metric, images)):
        yield (
            f"the {result.final_state} network has {last.val_metric:.2%} {result.metric} on validation images, and the "
            f"built one {built.val_metric:.2%}: --no-tune with --no-calibrate keeps that one"
        )


def missed_latency(result: Result, targets: Mapping[str, float], runtime: str) -> Iterator[str]:
    """A sentence where the last network takes clearly more milliseconds than the target allows."""
    before, after = (one.milliseconds.get(runtime) for one in (result.original, result.final))
    most = targets.get(LATENCY)
    if before and after and most and after > MISSED * most * before:
        yield (
            f"the network takes {after / before:.0%} of the milliseconds in {runtime}, where the target was "
            f"{most:.0%}: was the machine busy?"
        )


def lost_classes(never_predicted: Mapping[str, list[int]]) -> Iterator[str]:
    """A sentence for every output of which a network never predicts some classes that the original predicts."""
    for name, classes in never_predicted.items():
        many = "class" if len(classes) == 1 else "classes"
        shown = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
        yield f"the network never predicts the {many} {shown} on the test images, which the original does ({name})"


def strange_gain(original: float, last: float, name: str) -> Iterator[str]:
    """A sentence where the smaller network is much better than the original."""
    if last - original > STRANGE_GAIN:
        gain = 100 * (last - original)
        yield f"the smaller network is {gain:.1f} points of {name} better than the original: is the set-up right?"


def known_validation_images(validation: float, test: float, name: str) -> Iterator[str]:
    """A sentence where the original was probably trained on the validation images."""
    if validation - test > KNOWN_BY_HEART:
        yield (
            f"the original has {validation:.1%} {name} on validation and {test:.1%} on test images: it probably knows "
            "the former from its training, and choices by them are optimistic"
        )
