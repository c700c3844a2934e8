"""How one linear layer learns from features and targets of one scan after another."""

import logging
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import wrong
from pellucid.ops.regression import Linear, Ridge, logistic
from pellucid.pipelines.feature_map import Features
from pellucid.pipelines.feature_options import AdaptOptions

logger = logging.getLogger(__name__)

LEAST_STD = 0.1
"""Features have units such that they vary by about 1. One that hardly does in the scans learnt from says nothing of
them, and would be all the louder in others."""

FEW = 100
"""Voxels of a label below which it can hardly be learnt."""


class Sample(NamedTuple):
    """What a scan teaches."""

    features: Features
    target: Float[Tensor, "x y z"]
    """On the grid of the features."""
    source: dict[str, Any]
    """Names and hashes of both files."""


def _inputs(options: AdaptOptions, values: Float[Tensor, "c x y z"]) -> Float[Tensor, "seen x y z"]:
    """What the layer sees: the image is the last channel."""
    return values if options.image else values[:-1]


class LabelLearner:
    """Collects voxels of every label, then fits logits.

    Args:
        options: How many voxels, and the penalty.
        scans: How many scans they come from.
    """

    def __init__(self, options: AdaptOptions, scans: int) -> None:
        self.options, self.share = options, options.samples // scans
        self.x: list[Tensor] = []
        self.y: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.dice = torch.Generator().manual_seed(0)

    def add(self, sample: Sample) -> None:
        """Take in a scan.

        Args:
            sample: Its features and labels.
        """
        near = sample.features.near.flatten().nonzero()[:, 0]
        truth = sample.target.flatten()[near]
        numbers, counts = torch.unique(truth, return_counts=True)
        seen = _inputs(self.options, sample.features.values).flatten(1)
        most = max(1, self.share // len(numbers))
        for number, count in zip(numbers, counts.tolist(), strict=True):
            places = near[truth == number]
            if count > most:
                places = places[torch.randperm(count, generator=self.dice)[:most]]
            elif count < FEW:
                file = sample.source["target"]["file"]
                logger.warning("%s: label %d has only %d voxels", file, number, count)
            self.x.append(seen[:, places].T.clone())
            self.y.append(torch.full((len(places),), int(number)))
            # Each scan counts the same; within it, each label by its size.
            self.weights.append(torch.full((len(places),), count / len(places) / len(near)))

    def solve(self) -> Linear:
        """Fit.

        Returns:
            Weights and bias of the logits.

        Raises:
            PellucidError: If there is only one label.
        """
        numbers, y = torch.unique(torch.cat(self.y), return_inverse=True)
        if len(numbers) < 2:
            raise wrong(
                "adapt", need="at least two labels near the brain, 0 among them", got=f"{len(numbers)}"
            )
        self.numbers = numbers.tolist()
        return logistic(
            torch.cat(self.x),
            y,
            classes=len(numbers),
            weights=torch.cat(self.weights),
            penalty=self.options.penalty,
            least_std=LEAST_STD,
        )

    def facts(self) -> dict[str, Any]:
        """What to tell of it.

        Returns:
            The numbers of the labels.
        """
        return {"labels": self.numbers}


class ValueLearner:
    """Sums products of features and values over scans, then solves.

    Args:
        options: The penalty.
    """

    def __init__(self, options: AdaptOptions) -> None:
        self.options = options
        self.sums: Ridge | None = None

    def add(self, sample: Sample) -> None:
        """Take in a scan.

        Args:
            sample: Its features and values.
        """
        near = sample.features.near
        x = _inputs(self.options, sample.features.values)[:, near].T
        self.sums = self.sums or Ridge(x.shape[1], 1)
        self.sums.add(x, sample.target[near][:, None], weight=1 / len(x))

    def solve(self) -> Linear:
        """Fit.

        Returns:
            Weights and bias.

        Raises:
            PellucidError: If nothing was taken in.
        """
        if self.sums is None:
            raise wrong("adapt", need="at least one pair", got="none")
        return self.sums.solve(penalty=self.options.penalty, least_std=LEAST_STD)

    def facts(self) -> dict[str, Any]:
        """What to tell of it.

        Returns:
            The unit.
        """
        scaled = self.options.target == "image"
        return {"unit": "1 is the 99.5th percentile of an image's foreground" if scaled else "of the targets"}
