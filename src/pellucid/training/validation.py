"""Judging a network while it trains: fixed corruptions of held-back scans, figures and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pellucid import degradation, metrics
from pellucid.degradation.presets import PRESETS
from pellucid.errors import PellucidError, did_you_mean, wrong
from pellucid.models import Enhancement
from pellucid.ops.labels import bounding_box
from pellucid.synthesis import TISSUES, Subject, load_table
from pellucid.training.pack import unpack


@dataclass(frozen=True)
class ValidationConfig:
    """What is judged, and how often."""

    packed: str | None = None
    """Dataset of scans that are never trained on; without one, nothing is judged."""
    every: int = 500
    """Steps between judgements."""
    patch: int = 96
    """Side of the central patch that is judged."""
    corruptions: tuple[str, ...] = (
        "clean",
        "motion-moderate",
        "slices-5mm",
        "rician-0.05",
        "rician-0.10",
        "blur-1.2",
    )
    """Presets of `pellucid degrade`, and "clean"."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.patch < 16:
            raise wrong("validation", need="every >= 1 and patch >= 16", got=f"{self.every} and {self.patch}")
        for name in self.corruptions:
            if name not in ("clean", *PRESETS):
                raise PellucidError(
                    f"validation.corruptions: unknown name {name!r}. {did_you_mean(name, PRESETS)}"
                )


def held_back(config: ValidationConfig) -> list[Subject]:
    """Read the scans that are judged.

    Args:
        config: Where they are.

    Returns:
        Subjects with scans; none if nothing is to be judged.

    Raises:
        PellucidError: If the dataset is missing, is not one, or has no scans.
    """
    if not config.packed:
        return []
    scans = [subject for subject in unpack(config.packed) if subject.images]
    if not scans:
        raise wrong(config.packed, need="scans to validate with", got="label maps only")
    return scans


@torch.inference_mode()
def validate(
    model: nn.Module, subjects: Sequence[Subject], config: ValidationConfig, device: torch.device
) -> tuple[dict[str, float], list[list[Tensor]]]:
    """Corrupt, enhance and compare the central patch of every scan.

    Args:
        model: A two-stage enhancer.
        subjects: Validation subjects with scans.
        config: What to judge.
        device: Where to compute.

    Returns:
        Means of in-brain PSNR (dB) and SSIM of the input and the output per corruption, the tissue Dice where
        labels exist, and rows of slices for a picture: input, output, truth, tissue.
    """
    sums: dict[str, list[float]] = {}
    rows: list[list[Tensor]] = []
    for subject in subjects:
        box = _central_box(subject, config.patch)
        for contrast in sorted(subject.images):
            clean = subject.images[contrast][(slice(None), *box)].to(device)
            # All corruptions of a scan as one batch.
            inputs = torch.stack([_corrupt(clean, name, subject) for name in config.corruptions])
            out: Enhancement = model(inputs)
            for index, name in enumerate(config.corruptions):
                _judge(sums, name, inputs[index], out.same[index].float(), clean)
                if len(rows) < 3 * len(config.corruptions):
                    rows.append(_slices(inputs[index], out, index, clean))
            if subject.labels is not None:
                truth = load_table(subject.table).tissue_map(subject.labels[box].to(device))
                for index, name in enumerate(config.corruptions):
                    _judge_tissue(sums, name, out.tissue[index].argmax(0), truth)
    return {name: sum(values) / len(values) for name, values in sums.items()}, rows


def _corrupt(clean: Tensor, name: str, subject: Subject) -> Tensor:
    steps = [] if name == "clean" else degradation.preset(name, spacing=subject.spacing, seed=7)
    return degradation.apply(clean, steps, spacing=subject.spacing)


def _judge_tissue(sums: dict[str, list[float]], name: str, predicted: Tensor, truth: Tensor) -> None:
    for tissue in (1, 2, 3):
        dice = metrics.dice(predicted[None, None], truth[None, None], labels=[tissue])
        sums.setdefault(f"val/{name}/dice_{TISSUES[tissue]}", []).append(float(dice))


def _judge(sums: dict[str, list[float]], name: str, corrupted: Tensor, out: Tensor, clean: Tensor) -> None:
    mask = (clean > 0.05)[None]
    for who, image in (("input", corrupted), ("output", out)):
        if who == "input" and name == "clean":
            continue
        psnr = metrics.METRICS["psnr"].function(image[None], clean[None], mask=mask)
        ssim = metrics.METRICS["ssim"].function(image[None], clean[None], mask=mask)
        sums.setdefault(f"val/{name}/psnr_{who}", []).append(float(psnr))
        sums.setdefault(f"val/{name}/ssim_{who}", []).append(float(ssim))


def _central_box(subject: Subject, side: int) -> tuple[slice, slice, slice]:
    """A box of at most `side` voxels around the middle of the head."""
    image = next(iter(subject.images.values()))[0]
    boxes = []
    for span, size in zip(bounding_box(image > 0.05), image.shape, strict=True):
        start = max(0, min((span.start + span.stop - side) // 2, size - side))
        boxes.append(slice(start, min(size, start + side)))
    return boxes[0], boxes[1], boxes[2]


def _slices(corrupted: Tensor, out: Enhancement, index: int, clean: Tensor) -> list[Tensor]:
    """Coronal middle slices, as they would hang on a wall."""
    tissue = out.tissue[index].argmax(0, keepdim=True).float() / 3
    volumes = (corrupted, out.same[index].float(), clean, tissue, *out.t1w[index].float()[:, None])
    return [v[0, :, v.shape[2] // 2].flip(1).T.cpu() for v in volumes]


def save_picture(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write rows of slices (input, output, truth, tissue, T1w) as one PNG."""
    import matplotlib.image

    sheet = [torch.cat([_fit(s) for s in row], dim=1) for row in rows]
    matplotlib.image.imsave(path, torch.cat(sheet, dim=0).numpy(), cmap="gray", vmin=0.0, vmax=1.1)


def _fit(picture: Tensor, side: int = 96) -> Tensor:
    """Pad or cut a slice to a square."""
    canvas = torch.zeros(side, side)
    x, y = min(side, picture.shape[0]), min(side, picture.shape[1])
    canvas[:x, :y] = picture[:x, :y]
    return canvas
