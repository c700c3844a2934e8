"""From what is known of a scan, or of several of one head, to an image of a wanted contrast."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid import runtime
from pellucid.inference.predictor import fitting, predict
from pellucid.io.volume import Grid, Volume
from pellucid.models import Synthesizer
from pellucid.pipelines.calibration import SYNTHESIS
from pellucid.pipelines.fusion import Made, together
from pellucid.pipelines.look import Look, Networks, follow_scan, look, seen_as
from pellucid.pipelines.means import apart, weighted
from pellucid.pipelines.options import SynthesizeOptions
from pellucid.pipelines.volumes import of_lesions
from pellucid.types import Batch, Group

WHITE_LEVEL = 110.0
"""Median of white matter in a T1w image, on the 0 to 255 scale FreeSurfer uses."""

LESION_DEPTH = 0.2
"""By how much lesions are darker than the white matter around them in T1w images: that of the patient with multiple
sclerosis in training (of another one it is 0.36)."""

APART = 0.5
"""Share of the images of each scan by its own anatomy in one of several: they err elsewhere than those by the anatomy
of all. Chosen on a patient in training, for two contrasts and for thick slices (docs/results/synthesis.md)."""

USUAL_BYTES, HELD_BYTES, LEAST_AT_ONCE = 2_200_000_000, 84, 2_000_000
"""What the network and what stands beside it, so much for each voxel of the image, may take where no limit is asked
for: a head of 256 voxels cubed then stays below 3 GB. And the voxels that it is shown at once however large that is."""


def make(
    volume: Volume,
    networks: Networks,
    options: SynthesizeOptions,
    target: Grid,
    *,
    lesions: Volume | None = None,
    keep: bool = False,
) -> Made:
    """Synthesize one scan, on a grid of its own.

    Args:
        volume: The scan in its stored orientation, one channel; a CT is cut to its window.
        networks: All of them.
        options: Device, precision, flip and lesions.
        target: Where it will be wanted: in canonical orientation, with the axes of the scan.
        lesions: A mask of them in the scan's space, instead of what a network says.
        keep: Whether the scan and its anatomy are needed again.

    Returns:
        The image around the head.

    Raises:
        PellucidError: If the scan has several channels or is constant.
    """
    seen = look(volume, networks, options, target, lesions=lesions, keep=keep)
    image, error = _image(networks.synthesizer, seen, options)
    given = lesions is not None
    return _finished(image, error, seen, options, looked=given or networks.lesions is not None, given=given)


def make_together(
    made: Sequence[Made],
    counts: Float[Tensor, " c"],
    networks: Networks,
    options: SynthesizeOptions,
    target: Grid,
) -> Made:
    """One image of several scans of one head: by the anatomy that all of them show, and by that of each.

    Args:
        made: Images with their sources, in the space of the first.
        counts: How much each scan counts (`fusion.standing`).
        networks: All of them.
        options: Device, precision, flip and lesions.
        target: Where it will be wanted, along the axes of the first.

    Returns:
        The image around the head.
    """
    known, scans, shown, grid = together(made, counts, target)
    weights = shown * counts.view(-1, 1, 1, 1)
    rows = networks.synthesizer.guide_weights()
    all_seen = seen_as(rows, known, scans, grid, shown.amax(0) > 0.5, weights=shown)
    seen = all_seen.seen
    images, errors = [], []
    for scan in scans:
        x, y, z = grid.shape
        seen[0, :x, :y, :z] = scan
        follow_scan(seen, grid)
        image, error = _image(networks.synthesizer, all_seen, options)
        images.append(image)
        errors.append(error)
    mean, error = weighted(images, errors, weights)
    del images, errors
    out = _finished(mean, error, all_seen, options, looked=networks.lesions is not None)
    alone, doubt = apart(made, grid, weights)
    return out._replace(image=out.image.lerp_(alone, APART), error=out.error.lerp_(doubt, APART))


class _Answers(nn.Module):
    """The network with its answers in one tensor: T1w, scale of the error, probability of white matter."""

    def __init__(self, network: Synthesizer, *, flip: bool) -> None:
        super().__init__()
        self.network, self.flip = network, flip

    def forward(self, batch: Batch) -> Float[Tensor, "b 3 x y z"]:
        out = self._answers(batch)
        if not self.flip:
            return out
        mirrored = self._answers(batch.flip(2)).flip(2)
        return out.add_(mirrored).mul_(0.5)

    def _answers(self, batch: Batch) -> Float[Tensor, "b 3 x y z"]:
        answer = self.network(batch)
        white = answer.groups.float().softmax(1)[:, Group.WHITE : Group.WHITE + 1]
        return torch.cat([answer.t1w, answer.log_scale.clamp(-7, 1).exp(), white], dim=1).float()


def _image(
    network: Synthesizer, seen: Look, options: SynthesizeOptions
) -> tuple[Float[Tensor, "1 x y z"], Float[Tensor, "1 x y z"]]:
    """The T1w image and the error to be expected of it, white matter at its level."""
    answers = _Answers(network, flip=options.flip).eval()
    shape = seen.seen.shape[1:]
    cost = network.bytes_per_voxel
    default = max(LEAST_AT_ONCE, (USUAL_BYTES - HELD_BYTES * math.prod(shape)) // cost)
    most = fitting(shape, voxel_bytes=cost, memory=options.memory_bytes, default=default)
    where, (x, y, z) = runtime.device(options.device), seen.grid.shape
    with runtime.reusing_memory():
        made = predict(answers, seen.seen, most=most, device=where, precision=options.precision)
    answer = made[:, :x, :y, :z]
    white = answer[:1][(answer[2:] > 0.9) & seen.brain]
    factor = WHITE_LEVEL / max(float(white.median()) if white.numel() >= 100 else 0.9, 1e-3)
    return (answer[:1] * factor).clamp_(0, 255), answer[1:2] * (factor * SYNTHESIS.weights[0])


def _finished(
    image: Float[Tensor, "1 x y z"],
    error: Float[Tensor, "1 x y z"],
    seen: Look,
    options: SynthesizeOptions,
    *,
    looked: bool,
    given: bool = False,
) -> Made:
    """Lesions drawn or doubted, and what is known of the image."""
    if seen.lesion is not None:
        # What was there differs from what is put there by as much as lesions usually do.
        depth = LESION_DEPTH * seen.lesion * image
        error.add_(depth)
        if options.lesions == "keep":
            image.sub_(depth)
    brain = seen.brain[None].float()
    size = of_lesions(seen.lesion, brain, seen.grid, given=given) if looked else None
    shown = seen.shown[None].float()
    return Made(image, error, brain, shown, seen.grid, seen.certainty, size, seen.source, seen.lesion)
