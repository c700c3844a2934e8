"""A finer grid along several axes: what the voxels of a scan are means of, by a network and by patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.inference.planes import change
from pellucid.inference.predictor import Precision
from pellucid.models import SliceFiller
from pellucid.ops.alike import nonlocal_means
from pellucid.ops.resize import apply_along, box_matrix, interpolation_matrix
from pellucid.ops.slices import smooth_inverse

LEARNT = 1.6
"""Smallest number of new voxels per voxel that the filler has seen."""

STRENGTH = 0.3
"""Filter of the first round over patches, as a share of the tissue's standard deviation. Chosen on four scans held
back from training: 0.2 to 0.4 differ by 0.2 dB in adults, and fetuses lose by 0.4."""

ROUNDS = 2
"""Each with half the filter of the one before."""


@dataclass(frozen=True)
class Axis:
    """How the voxels of a scan along one axis are made of finer ones: means over boxes side by side."""

    centers: Float[Tensor, " coarse"]
    """Middle of each voxel of the scan, in finer voxels."""
    ratio: float
    """Finer voxels per voxel of the scan; 1 means that nothing changes."""
    size: int
    """Finer voxels along the axis."""

    @property
    def finer(self) -> bool:
        """Whether anything changes along this axis."""
        return self.ratio > 1

    @property
    def by_network(self) -> bool:
        """Whether the ratio is one that the filler has learnt; else the smoothest answer is taken."""
        return self.ratio >= LEARNT

    def means(self) -> Float[Tensor, "coarse fine"]:
        """Each voxel of the scan as a mean of finer ones."""
        return box_matrix(self.size, self.centers, width=self.ratio)

    def cubic(self) -> Float[Tensor, "fine coarse"]:
        """Cubic B-spline interpolation, for what nobody looks at."""
        at = (torch.arange(self.size, dtype=torch.float64) - self.centers[0]) / self.ratio
        return interpolation_matrix(len(self.centers), at, order=3)


class Finer:
    """Infers a finer image whose means are the voxels of a scan.

    The smoothest such image is changed by the filler along every axis in turn, the coarsest first, on planes that have
    the finer spacing both ways, and then drawn together by patches that look alike (Manjón et al. 2010); after
    each step the means are put right by the smooth inverse along all axes at once.

    Args:
        axes: Of the scan, in the order of the image's.
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        self.axes = tuple(axes)
        self.means = {place: axis.means() for place, axis in enumerate(axes, start=1) if axis.finer}
        self.back = {place: smooth_inverse(means) for place, means in self.means.items()}

    def smooth(self, scan: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 i j k"]:
        """The smoothest finer image with about these means."""
        for place, matrix in self.back.items():
            scan = apply_along(scan, matrix, place)
        return scan

    def error(
        self, fine: Float[Tensor, "1 i j k"], scan: Float[Tensor, "1 x y z"]
    ) -> Float[Tensor, "1 x y z"]:
        """What is missing in the means of a finer image."""
        for place, matrix in self.means.items():
            fine = apply_along(fine, matrix, place)
        return scan - fine

    @torch.no_grad()
    def __call__(
        self, scan: Float[Tensor, "1 x y z"], network: SliceFiller, *, precision: Precision = "auto"
    ) -> Float[Tensor, "1 i j k"]:
        """Infer the finer image.

        Memory: about three times the answer, and a few hundred MB for the planes in the network.

        Args:
            scan: Air 0, bright tissue 1, little noise.
            network: A trained filler.
            precision: Arithmetic of the network; all else is float32.

        Returns:
            An image of the finer grid.
        """
        made = self.smooth(scan)
        for place in sorted(self.means, key=lambda place: -self.axes[place - 1].ratio):
            axis = self.axes[place - 1]
            if axis.by_network:
                made += change(
                    network, made, axis.centers, ratio=axis.ratio, axis=place - 1, precision=precision
                )
                made += self.smooth(self.error(made, scan))
        tissue = scan[scan > 0.1]
        std = STRENGTH * float(tissue.std()) if tissue.numel() > 1 else 0.0
        for _ in range(ROUNDS if self.means else 0):
            made = nonlocal_means(made, std=std)
            made += self.smooth(self.error(made, scan))
            std /= 2
        return made
