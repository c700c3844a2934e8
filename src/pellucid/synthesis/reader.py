"""A subject's volumes on the patch of a record."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.ops.warp import sample, sample_labels
from pellucid.synthesis.aging import shift
from pellucid.synthesis.deformation import deformed_positions, source_axes
from pellucid.synthesis.subject import Subject
from pellucid.synthesis.tables import load_table


class Reader:
    """Reads volumes of a subject on the patch of a record.

    Without a deformation the patch is a box of the scan's own voxels, so that nothing is interpolated.

    Args:
        subject: Whom to read.
        record: Where the patch lies.
        device: Where to compute.
    """

    def __init__(self, subject: Subject, record: dict[str, Any], device: torch.device | str) -> None:
        self.record, self.device = record, device
        patch = tuple(record["patch"])
        self.patch = (patch[0], patch[1], patch[2])
        self.positions: Tensor | None = None
        if record["deformation"]:
            self.positions = deformed_positions(
                record["deformation"],
                patch=self.patch,
                center=tuple(record["center"]),
                source_spacing=subject.spacing,
                spacing=record["spacing"],
                device=device,
            )
            if record.get("aging") and subject.labels is not None:
                before = sample_labels(subject.labels.to(device), self.positions)
                table, spacing = load_table(subject.table), record["spacing"]
                moved = shift(before, record["aging"], table=table, spacing=spacing)
                to_source = source_axes(record["deformation"], subject.spacing).to(device)
                self.positions = self.positions + (to_source @ moved.flatten(1)).view(moved.shape)

    def image(self, image: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 u v w"]:
        """Intensities by linear interpolation, 0 outside the volume; a new tensor."""
        image = image.to(self.device)
        return self._box(image) if self.positions is None else sample(image, self.positions)

    def labels(self, labels: Int[Tensor, "x y z"]) -> Int[Tensor, "u v w"]:
        """Nearest labels, 0 outside the volume; a new tensor."""
        labels = labels.to(self.device)
        return self._box(labels[None])[0] if self.positions is None else sample_labels(labels, self.positions)

    def _box(self, volume: Tensor) -> Tensor:
        out = volume.new_zeros(volume.shape[0], *self.patch)
        source, target = [slice(None)], [slice(None)]
        for axis, (center, size) in enumerate(zip(self.record["center"], self.patch, strict=True)):
            start = round(center - (size - 1) / 2)
            low, high = max(0, start), max(0, min(volume.shape[axis + 1], start + size))
            source.append(slice(min(low, high), high))
            target.append(slice(min(low, high) - start, high - start) if high > low else slice(0, 0))
        out[tuple(target)] = volume[tuple(source)]
        return out.flip(1) if self.record["flip"] else out
