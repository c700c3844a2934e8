"""A small head that is sharp enough to show where it is, and what is measured of it while it moves."""

import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose as Moment
from pellucid.degradation.kspace import rigid_motion
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.poses import Pose

SHAPE = (48, 60, 40)
SPACING = (1.0, 1.0, 1.2)
FIRST = torch.tensor([1.5, -1.0, 2.0, 1.0, -1.2, 0.6])
LAST = torch.tensor([-1.0, 1.0, -2.0, -1.4, 0.8, 0.9])


def blobs() -> Tensor:
    """Blobs of all sizes, brighter than nothing everywhere, in air."""
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3))
    blobs = torch.zeros_like(noise)
    for width in (1, 2, 4):
        blobs += width**1.5 * gaussian_blur(noise.roll(7 * width, 1), sigma=(float(width),) * 3)
    places = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    inside = (places.square().sum(0) < 0.6).float()[None]
    return gaussian_blur((1 + 0.5 * blobs).clamp_min(0.2) * inside, sigma=(0.6, 0.6, 0.6))


def jumped(head: Tensor, first: Pose, middle: Pose, last: Pose, *, back_at: float | None = None) -> Tensor:
    """The same, from a head that jumped before and after the centre of k-space, and perhaps back to the first pose."""
    starts = [(0.0, first), (0.4, middle), (0.6, last)]
    if back_at is not None:
        starts.append((back_at, first))
    poses = []
    for start, pose in starts:
        a, b, c, x, y, z = pose.tolist()
        poses.append(Moment(start, (a, b, c), (x, y, z)))
    return rigid_motion(head, poses=poses, phase_axis=1, spacing=SPACING)
