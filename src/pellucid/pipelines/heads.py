"""A head: one linear layer over features, with what it finds and whose features it was fitted on."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid import weights
from pellucid.errors import wrong
from pellucid.io import disk
from pellucid.models import LinearHead, checkpoint
from pellucid.ops.regression import Linear

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """A layer and what is known of it."""

    network: LinearHead
    """Takes the features, and the image if `facts` say so."""
    facts: dict[str, Any]
    """Plain data: target, name, labels, features, what it was fitted on, scores."""
    digest: str | None = None
    """SHA-256 of its file; none if it was never written."""

    @property
    def kind(self) -> str:
        """BIDS's suffix of what it finds: "dseg" for labels, else "map"."""
        return "dseg" if self.facts["target"] == "labels" else "map"

    @property
    def labels(self) -> tuple[int, ...]:
        """Numbers of its classes, 0 (none of them) among them; empty for images."""
        return tuple(self.facts.get("labels", ()))

    def answer(self, values: Float[Tensor, "c x y z"]) -> Float[Tensor, "k x y z"]:
        """What it makes of the features of a scan.

        Args:
            values: Features and, as the last channel, the image.

        Returns:
            Probability of every label, or the values of one image, on the same grid.

        Raises:
            PellucidError: If there are more or fewer features than it was fitted on.
        """
        seen = values if self.facts["image"] else values[:-1]
        known = self.network.config.in_channels
        if len(seen) != known:
            raise wrong(f"head {self.facts['name']}", need=f"{known} features", got=str(len(seen)))
        with torch.inference_mode():
            said = self.network(seen[None])[0]
            said = said.softmax(0) if self.kind == "dseg" else said
        return said.clone()

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Write it, whole or not at all.

        Args:
            path: A name ending in .safetensors.
            force: Replace a file that exists.

        Returns:
            The path.

        Raises:
            PellucidError: If the name is another one, or the file exists and `force` is off.
        """
        path = Path(path)
        check_name(path)
        disk.check_writable(path, force)
        return checkpoint.save(self.network, path, metadata=self.facts)


def check_name(path: Path) -> None:
    """Refuse a name that is not one of a file of weights.

    Args:
        path: Where a head is to be written.

    Raises:
        PellucidError: If it has another ending.
    """
    if path.suffix != weights.SUFFIX:
        raise wrong(str(path), need=f"a name ending in {weights.SUFFIX}", got=f"'{path.suffix}'")


def layer(found: Linear) -> LinearHead:
    """Make a network of a layer that was fitted.

    Args:
        found: Its numbers.

    Returns:
        The network.
    """
    out, inputs = found.weight.shape
    config = checkpoint.MODELS["linear_head"].config(in_channels=inputs, out_channels=out)
    network = LinearHead(config)
    state = {"layer.weight": found.weight[:, :, None, None, None], "layer.bias": found.bias}
    network.load_state_dict(state)
    return network.eval()


def load_head(path: str | Path, features: dict[str, Any]) -> Head:
    """Read a head that `pellucid adapt` wrote.

    Args:
        path: The file.
        features: Whose features it will be given: `features.identity`.

    Returns:
        The head.

    Raises:
        PellucidError: If the file is none of a head, or of one fitted on the features of other weights.
    """
    network, facts = weights.load(str(path), kind="linear_head")
    if not {"target", "name", "image", "features"} <= set(facts):
        raise wrong(f"head {path}", need="a file that pellucid adapt made", got="one that says too little")
    if facts["features"] != features:
        raise wrong(
            f"head {path}",
            need="the features it was fitted on",
            got="those of other weights, or of another version of pellucid",
            fix="Fit it again with pellucid adapt, or give the same --weights and --anatomy-weights.",
        )
    return Head(cast(LinearHead, network), facts, weights.file_digest(weights.path(str(path))))


def as_labels(
    chances: Iterable[Float[Tensor, "1 x y z"]], labels: tuple[int, ...], shape: tuple[int, int, int]
) -> Float[Tensor, "1 x y z"]:
    """The likeliest label of every voxel.

    Args:
        chances: Probability of each label, one after another.
        labels: Their numbers.
        shape: Of the image.

    Returns:
        Numbers of labels.
    """
    best, out = torch.full((1, *shape), -1.0), torch.zeros(1, *shape)
    for number, chance in zip(labels, chances, strict=True):
        better = chance > best
        best = torch.maximum(best, chance)
        out.masked_fill_(better, number)
    return out
