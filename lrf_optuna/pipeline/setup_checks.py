"""What cannot be right about a set-up, said before the work: an original at chance level, one class, odd pixels.

Nothing is refused here, because a strange set-up may be meant; but no run should end as a success without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrf_optuna.data.arrays import Values, input_list, map_inputs
from lrf_optuna.data.class_names import TEXTS
from lrf_optuna.data.dataset import Data, LabeledImages, by_output
from lrf_optuna.data.overlap import known_images
from lrf_optuna.data.tasks import Task, metric_name
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.models.outputs import OutputHead
from lrf_optuna.selection.validation import Validation

HALF = 0.5
"""Share of the labels from which on a class is the frequent one."""
TRIED_FACTORS = (255, 16, 1 / 16, 1 / 255)
"""Factors between inputs and those of the training that are tried: of pixels of 0..255, and of the digits' 0..16."""
SCALING_LAYERS = ("Rescaling", "Normalization", "BatchNormalization", "LayerNormalization", "GroupNormalization")
"""Layers of Keras that bring inputs of any range to that of the layers after them."""


@dataclass(frozen=True, slots=True)
class SetupLimits:
    """From where on a set-up is worth a word."""

    above_chance: float = 0.1
    """Share of the way from chance to perfect that an original should have gone. Ten classes: 19 % of accuracy."""
    overconfident: float = 0.3
    """By how much the mean largest probability may be above the accuracy. Networks that fit their data too well reach
    0.1 to 0.2 (Guo et al. 2017); images of another preprocessing reach more."""
    few_images: int = 100
    """Training images below which kernels are fitted to chance; validation and test images are counted by tenths."""
    standard_deviations: float = 4.0
    """Median distance of a first BatchNorm layer's inputs from its moving mean, in its moving standard deviations."""
    variance_ratio: float = 30.0
    """Median factor between the variance of these inputs and the moving one."""
    largest_input: float = 20.0
    """Size of inputs that a network without a layer that scales them was hardly trained on: pixels of 0 to 255."""
    tried_images: int = 200
    """Validation images on which other ranges of pixels are tried: the standard error of an accuracy is 3 points."""
    better_inputs: float = 0.15
    """Gain of the metric, five standard errors, from which on another range is said to fit better."""
    known_images: float = 0.05
    """Share of validation or test images that are training images as well, from which on that is said. CIFAR-10 and
    MNIST have less than a hundredth."""
    smallest_spread: float = 0.01
    """Standard deviation of every channel of images below which their pixels were probably divided twice."""


class MetricOddity(NamedTuple):
    """What is odd about the original's metric, and the likely `reasons`, where the images may be one of them."""

    text: str
    reasons: tuple[str, ...] = ()

    def sentence(self, pixels: str) -> str:
        """The warning; odd `pixels`, in words, are one more reason where there are some."""
        reasons = [*self.reasons, pixels] if self.reasons and pixels else self.reasons
        return f"{self.text}; likely reasons: {'; '.join(reasons)}" if reasons else self.text


def setup_warnings(
    model: Any, data: Data, validation: Validation, limits: SetupLimits = SetupLimits()
) -> Iterator[str]:
    """One sentence for everything that is odd about a model and its data, with the likely reasons."""
    yield from count_warnings(data, limits)
    yield from overlap_warnings(data, limits)
    pixels = pixel_warning(model, data, validation.proxy.network, limits)
    other = better_inputs(validation, limits)
    found = [metric_oddity(validation, name, limits) for name, task in data.tasks.items() if task.labeled]
    if other:
        yield f"{other}: the pixels are probably not as in training (--divide, --mean, --std, --preprocess)"
    elif pixels and not any(found):
        yield f"{pixels[0].upper()}{pixels[1:]}"
    yield from (oddity.sentence(pixels) for oddity in found if oddity)


def count_warnings(data: Data, limits: SetupLimits) -> Iterator[str]:
    """Too few images, and labels of one class alone."""
    parts = {"training": (data.train, limits.few_images)}
    parts |= {name: (part, limits.few_images // 10) for name, part in (("validation", data.val), ("test", data.test))}
    for name, (part, least) in parts.items():
        if len(part) < least:
            given = f"{len(part)} {name} images are" if len(part) != 1 else f"1 {name} image is"
            yield f"{given} too few to tell anything: give {least} or more"
    for name, task in data.tasks.items():
        if task.kind in ("classes", "binary") and task.labeled:
            occur = {int(one) for part in (data.train, data.val, data.test) for one in classes_in(part, name, data)}
            if len(occur) == 1:
                yield f"All labels{of_output(name, data)} are {occur.pop()}: every network is right about them"
                continue
            trained = classes_in(data.train, name, data)
            if len(trained) == 1:
                yield (
                    f"All training labels{of_output(name, data)} are {int(trained[0])}, and others are not: "
                    "a fine-tune unlearns the other classes"
                )


def overlap_warnings(data: Data, limits: SetupLimits) -> Iterator[str]:
    """Validation or test images that are training images as well."""
    of_parts = {"val": ("validation", "choices by them are"), "test": ("test", "their figures are")}
    for part, (count, compared) in known_images(data).items():
        name, what = of_parts[part]
        if count > limits.known_images * compared:
            yield f"{count:,} of {compared:,} {name} images are training images as well: {what} optimistic"


def classes_in(part: LabeledImages, output: str, data: Data) -> Values:
    """The classes of an output that occur in a part."""
    return np.unique(by_output(part.labels, data.tasks).get(output, np.zeros(0)))


def of_output(name: str, data: Data) -> str:
    """Which output is meant, where there are several."""
    return f" of {name}" if len(data.tasks) > 1 else ""


def metric_oddity(validation: Validation, name: str, limits: SetupLimits) -> MetricOddity | None:
    """What is odd about the original's metric of an output: it is at chance level, or below its own confidence."""
    data, labels = validation.data, validation.labels[name]
    task, head = data.tasks[name], validation.proxy.network.heads[name]
    outputs = head.outputs(validation.original_logits[name])
    judged = task.judged(outputs)
    metric, chance = task.metric_of(labels, judged), chance_of(task, labels, judged)
    what = f"The original's {data.compared_metric(task.metric_name + of_output(name, data))} is {metric:.1%}"
    if task.kind in ("classes", "binary") and len(np.unique(labels)) == 1:
        return None  # said already
    if task.kind in ("classes", "binary") and (rare := frequent_class_alone(task, labels, outputs)):
        return MetricOddity(f"{what}, but {rare}: {task.metric_name} tells nothing here")
    if metric < chance + limits.above_chance * (1 - chance):
        return MetricOddity(f"{what}, where chance has {chance:.1%}", tuple(reasons_for_chance(data, name)))
    confidence = mean_confidence(task, outputs, head.activation)
    if task.kind == "classes" and task.metric.name == "accuracy" and confidence - metric > limits.overconfident:
        return MetricOddity(
            f"{what}, though it is {confidence:.0%} sure of its answers", tuple(reasons_for_chance(data, name))
        )
    return None


def frequent_class_alone(task: Task, labels: Values, outputs: Values) -> str:
    """Whether a network answers the most frequent class for all images, in words; empty where not."""
    decided = np.unique(task.decisions(outputs))
    share = float(np.mean(labels == decided[0]))
    if len(decided) > 1 or share < HALF:
        return ""
    better = "auc" if task.kind == "binary" else "balanced_accuracy"
    return f"it answers {decided[0]} for all images, as {share:.1%} of the labels are (give --metric {better})"


def chance_of(task: Task, labels: Values, judged: Values) -> float:
    """The metric that says nothing: that of labels in random order, or of the mean or the most frequent class."""
    mixed = task.metric_of(np.random.default_rng(0).permutation(labels), judged)
    if task.metric.name == "accuracy" and task.kind in ("classes", "binary"):
        return max(mixed, float(np.bincount(labels).max() / len(labels)))
    return max(mixed, 0.0)


def reasons_for_chance(data: Data, name: str) -> Iterator[str]:
    """Why an original may be at chance level."""
    task, labels = data.tasks[name], by_output(data.train.labels, data.tasks).get(name)
    if task.kind == "classes" and labels is not None and labels.max() + 1 < task.units:
        yield f"the model has {task.units} outputs and the labels are 0 to {labels.max()}: is its last layer missing?"
    if any(TEXTS in note for note in data.notes):
        yield "the texts of the labels were numbered in sorted order, which is not that of the training"
    yield "the inputs are preprocessed in another way than in training (divide, mean, std, BGR)"
    yield "labels of another quantity" if task.kind == "numbers" else "labels in another order"
    yield "a network that is not trained"


def better_inputs(validation: Validation, limits: SetupLimits) -> str:
    """Whether the original is much better on images of another range or order of channels, in words; empty if not."""
    images, data = validation.images.take(slice(limits.tried_images)), validation.data
    x = data.preprocess(images.pixels)
    if not isinstance(x, np.ndarray) or x.ndim != 4 or not all(task.labeled for task in data.tasks.values()):
        return ""
    tried = {f"times {factor:g}": x * np.float32(factor) for factor in TRIED_FACTORS}
    tried |= {"taken from 0..1 to -1..1": 2 * x - 1} | ({"in the order BGR": x[..., ::-1]} if x.shape[-1] == 3 else {})
    network, found = validation.proxy.network, {}
    for words, inputs in {"as they are": x, **tried}.items():
        logits = network.run(network.as_tensors(np.ascontiguousarray(inputs)), {})
        found[words] = validation.measured(logits).metric
    best = max(found, key=found.__getitem__)
    if found[best] - found["as they are"] <= limits.better_inputs:
        return ""
    name = metric_name(data.tasks)
    return f"On images {best} the original's {name} would be {found[best]:.1%} instead of {found['as they are']:.1%}"


def mean_confidence(task: Task, outputs: Values, activation: str) -> float:
    """The mean largest probability of outputs; 0 for outputs that are no logits or probabilities of classes."""
    if task.kind != "classes" or activation == "sigmoid":
        return 0.0
    if not activation:
        outputs = OutputHead("", "softmax", task.shape).outputs(outputs)
    return float(np.mean(outputs.max(axis=-1)))


def pixel_warning(model: Any, data: Data, network: ForwardPass, limits: SetupLimits) -> str:
    """Whether preprocessed inputs are far from the range that the first layers saw, in words; empty where not."""
    inputs = data.preprocess(map_inputs(data.train.pixels, lambda array: array[: limits.few_images]))
    arrays = input_list(inputs)
    least, most = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    given = f"after preprocessing the inputs are {least:.3g} to {most:.3g}"
    spread = max(float(a.reshape(-1, a.shape[-1]).std(axis=0).max()) for a in arrays)
    if arrays[0].ndim == 4 and 0 < spread < limits.smallest_spread:
        return f"{given}, as if they were divided twice (--divide)"
    if network.norms:
        return f"{given}, far from what the first BatchNorm layer saw" if is_far(network, inputs, limits) else ""
    scaled = any(type(layer).__name__ in SCALING_LAYERS for _, layer in walk_layers(model))
    if arrays[0].ndim == 4 and not scaled and max(abs(least), abs(most)) > limits.largest_input:
        return f"{given}, and most networks take -1 to 1 or 0 to 1 (--divide, --mean, --std)"
    return ""


def is_far(network: ForwardPass, inputs: Any, limits: SetupLimits) -> bool:
    """Whether the statistics of the first BatchNorm layer's inputs are far from its moving ones."""
    mean, variance = (tensor.numpy() for tensor in network.statistics(inputs)[:2])
    old_mean, old_variance = (tensor.numpy() for tensor in network.original_statistics[:2])
    deviation = np.sqrt(old_variance + network.norms[0].epsilon)
    ratio = (variance + network.norms[0].epsilon) / (old_variance + network.norms[0].epsilon)
    apart = float(np.median(np.abs(mean - old_mean) / deviation))
    factor = float(np.exp(np.median(np.abs(np.log(ratio)))))
    return apart > limits.standard_deviations or factor > limits.variance_ratio
