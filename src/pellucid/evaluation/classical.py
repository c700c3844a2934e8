"""Classical methods for `methods.METHODS`: well-kept libraries where there is one, few lines of ours elsewhere.

Each takes the scan as it was acquired and the grid of the comparison, and returns the repaired scan on that grid.
Denoisers work on the acquired voxels, where noise is white; what sharpens works after interpolation. Strengths
follow the noise that is measured in the image, so one setting serves every scan.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.alike import nonlocal_means
from pellucid.ops.denoise import prinlm
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.intensity import robust_range
from pellucid.ops.noise import noise_std
from pellucid.pipelines import slices
from pellucid.types import Image

Function = Callable[[Volume, Grid], Volume]

FACTORS: Mapping[str, float] = {
    "nlm": 0.4,
    "nlm-ours": 0.7,
    "tv": 0.5,
    "prinlm": 1.0,
    "ascm": 1.0,
    "wavelet": 0.7,
    "gaussian": 2.0,
    "unsharp": 1.0,
    "nlup": 0.8,
}
"""Factor on each method's strength: the best of `benchmarks/tune_methods.py` on four training scans (two contrasts
of one adult, another adult, a fetal atlas): whole for Gaussian, total variation and wavelets, which see the air too,
boxes of 72 voxels for the others; docs/results/robustness.md has the commands."""
QUIET = 1e-3
"""Noise below this share of the 99.5th percentile is none: denoisers return the image."""


def cubic(volume: Volume, grid: Grid) -> Volume:
    """Cubic B-spline interpolation; nothing at all on the scan's own grid."""
    return resample.to_grid(volume, grid, order=3)


def sinc(volume: Volume, grid: Grid) -> Volume:
    """Windowed sinc interpolation (Lanczos, five samples on each side); edges repeat."""
    if grid == volume.grid:
        return volume
    sitk: Any = importlib.import_module("SimpleITK")
    target = _itk(Volume(torch.zeros(1, *grid.shape), grid))
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(target)
    filter_.SetInterpolator(sitk.sitkLanczosWindowedSinc)
    filter_.UseNearestNeighborExtrapolatorOn()
    return volume.with_data(_from_itk(sitk, filter_.Execute(_itk(volume))), grid)


def nlm(volume: Volume, grid: Grid) -> Volume:
    """Non-local means (scikit-image), its strength a multiple of the measured noise."""

    def clean(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
        strength = FACTORS["nlm"] * std
        return _skimage().denoise_nl_means(
            image, patch_size=3, patch_distance=3, h=strength, sigma=std, fast_mode=True
        )

    return cubic(_scaled(_denoiser(clean))(volume), grid)


def multiresolution_nlm(volume: Volume, grid: Grid) -> Volume:
    """Non-local means of small and of large blocks, mixed by wavelet band (DIPY, adaptive soft matching).

    Reference:
        Coupé et al. 2012, IET Image Process 6:558, doi:10.1049/iet-ipr.2011.0161.
    """

    def clean(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
        means: Any = importlib.import_module("dipy.denoise.nlmeans")
        mixing: Any = importlib.import_module("dipy.denoise.adaptive_soft_matching")
        sigma = FACTORS["ascm"] * std
        few = {"num_threads": torch.get_num_threads(), "block_radius": 2, "rician": True}
        small, large = (means.nlmeans(image, sigma, patch_radius=radius, **few) for radius in (1, 2))
        return mixing.adaptive_soft_matching(image, small, large, sigma)

    return cubic(_scaled(_denoiser(clean))(volume), grid)


def total_variation(volume: Volume, grid: Grid) -> Volume:
    """Total variation (scikit-image), weighted by a multiple of the measured noise."""

    def clean(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
        return _skimage().denoise_tv_chambolle(image, weight=FACTORS["tv"] * std)

    return cubic(_scaled(_denoiser(clean))(volume), grid)


def wavelet(volume: Volume, grid: Grid) -> Volume:
    """BayesShrink on wavelets (scikit-image), told a multiple of the measured noise."""

    def clean(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
        sigma = FACTORS["wavelet"] * std
        return _skimage().denoise_wavelet(image, sigma=sigma, method="BayesShrink", rescale_sigma=False)

    return cubic(_scaled(_denoiser(clean))(volume), grid)


def gaussian(volume: Volume, grid: Grid) -> Volume:
    """Gaussian whose width, in voxels, grows with the square root of the measured noise."""

    def clean(image: Image) -> Image:
        sigma = min(1.5, FACTORS["gaussian"] * noise_std(image) ** 0.5)
        return gaussian_blur(image, sigma=(sigma, sigma, sigma))

    return cubic(_scaled(clean)(volume), grid)


def own_nlm(volume: Volume, grid: Grid) -> Volume:
    """Blockwise non-local means (`ops.alike`)."""

    def clean(image: Image) -> Image:
        return nonlocal_means(image, std=noise_std(image), strength=FACTORS["nlm-ours"])

    return cubic(_scaled(clean)(volume), grid)


def prefiltered_nlm(volume: Volume, grid: Grid) -> Volume:
    """PRI-NLM3D (`ops.denoise`), told a multiple of the measured noise: the first step of `pellucid enhance`."""

    def clean(image: Image) -> Image:
        return prinlm(image, std=FACTORS["prinlm"] * noise_std(image))

    return cubic(_scaled(clean)(volume), grid)


def ants(volume: Volume, grid: Grid) -> Volume:
    """ANTs DenoiseImage with its Rician model and otherwise its defaults."""
    library: Any = importlib.import_module("ants")
    image = library.from_numpy(volume.data[0].numpy(), spacing=tuple(map(float, volume.grid.spacing)))
    clean = library.denoise_image(image, noise_model="Rician").numpy()
    return cubic(volume.with_data(_image(clean)), grid)


def n4(volume: Volume, grid: Grid) -> Volume:
    """N4 on voxels shrunk by four, its field applied to all of them, as its authors do."""
    sitk: Any = importlib.import_module("SimpleITK")
    image = sitk.GetImageFromArray(volume.data[0].clamp_min(0).numpy())
    image.SetSpacing([float(s) for s in volume.grid.spacing[::-1]])
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    shrink = [max(1, min(4, n // 16)) for n in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(head, shrink))
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    return cubic(volume.with_data(volume.data / torch.from_numpy(field).float().exp()[None]), grid)


def unsharp(volume: Volume, grid: Grid) -> Volume:
    """Unsharp mask with a Gaussian of one voxel, after interpolation."""

    def sharpen(image: Image) -> Image:
        soft = gaussian_blur(image, sigma=(1.0, 1.0, 1.0))
        return (image + FACTORS["unsharp"] * (image - soft)).clamp_min(0)

    return _scaled(sharpen)(cubic(volume, grid))


def nonlocal_upsampling(volume: Volume, grid: Grid) -> Volume:
    """Non-local upsampling between thick slices (`pipelines.slices`), which `pellucid enhance` has too."""
    return slices.to_grid(volume, grid, strength=FACTORS["nlup"])


def histogram_matching(reference: Volume) -> Function:
    """Match the histogram of what is brighter than the mean (SimpleITK), the harmonization of old.

    Args:
        reference: A scan as all others are to look; any grid.

    Returns:
        The method.

    Reference:
        Nyúl et al. 2000, IEEE TMI 19:143, doi:10.1109/42.836373.
    """

    def match(volume: Volume, grid: Grid) -> Volume:
        sitk: Any = importlib.import_module("SimpleITK")
        made = sitk.HistogramMatching(
            _itk(volume),
            _itk(reference),
            numberOfHistogramLevels=1024,
            numberOfMatchPoints=32,
            thresholdAtMeanIntensity=True,
        )
        return cubic(volume.with_data(_from_itk(sitk, made)), grid)

    return match


def _scaled(function: Callable[[Image], Image]) -> Callable[[Volume], Volume]:
    """Run a function of images scaled to about 0..1, 0 the background."""

    def run(volume: Volume) -> Volume:
        levels = robust_range(volume.data)
        return volume.with_data(levels.unscale(function(levels.scale(volume.data))))

    return run


def _denoiser(
    function: Callable[[NDArray[np.float32], float], NDArray[np.float32]],
) -> Callable[[Image], Image]:
    """Run a numpy denoiser with the noise that is in the image; nothing to do for an image without noise."""

    def run(image: Image) -> Image:
        std = noise_std(image)
        if std < QUIET:
            return image.clone()
        return _image(function(image[0].numpy(), std))

    return run


def _skimage() -> Any:
    return importlib.import_module("skimage.restoration")


def _itk(volume: Volume) -> Any:
    """A volume as a SimpleITK image, whose world is left-posterior-superior and whose arrays are z, y, x."""
    sitk: Any = importlib.import_module("SimpleITK")
    image = sitk.GetImageFromArray(volume.data[0].permute(2, 1, 0).contiguous().numpy())
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine
    spacing = np.asarray(volume.grid.spacing)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        fix = "Resample it onto a grid without shear first."
        raise wrong(volume.name, need="axes at right angles for SimpleITK", got="a sheared grid", fix=fix)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(direction.flatten().tolist())
    return image


def _from_itk(sitk: Any, image: Any) -> Image:
    return _image(sitk.GetArrayFromImage(image).transpose(2, 1, 0))


def _image(array: NDArray[Any]) -> Image:
    """A library's array (x, y, z) as an image of ours."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
