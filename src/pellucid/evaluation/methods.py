"""Methods that a protocol compares: ours, classical ones from well-kept libraries, and any shell command.

A method takes a volume and returns another one on the same grid. Strengths follow the noise that is measured in
the image, so one setting serves every scan; the constants (`FACTORS`) are first settings, not tuned yet.
"""

import importlib
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.errors import did_you_mean, wrong
from pellucid.io import nifti
from pellucid.io.volume import Volume
from pellucid.ops.filters import gaussian_blur, noise_std, nonlocal_means
from pellucid.ops.intensity import robust_range
from pellucid.types import Image

Function = Callable[[Volume], Volume]

FACTORS: Mapping[str, float] = {
    "nlm": 0.8,
    "nlm-ours": 1.0,
    "tv": 1.0,
    "wavelet": 1.0,
    "gaussian": 4.0,
    "unsharp": 0.5,
}
"""Factor on each method's strength."""
QUIET = 1e-3
"""Noise below this share of the 99.5th percentile is none: denoisers return the image."""


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    function: Function
    title: str
    reference: str
    """Library and paper."""
    package: str = ""
    """Module that must be installed; "" for what pellucid needs anyway."""


def _scaled(function: Callable[[Image], Image]) -> Function:
    """Run a function of images scaled to about 0..1, 0 the background."""

    def run(volume: Volume) -> Volume:
        levels = robust_range(volume.data)
        return volume.with_data(levels.unscale(function(levels.scale(volume.data))))

    return run


def _denoiser(function: Callable[[NDArray[np.float32], float], NDArray[np.float32]]) -> Function:
    """Run a numpy denoiser with the noise that is in the image; nothing to do for an image without noise."""

    def run(image: Image) -> Image:
        std = noise_std(image)
        if std < QUIET:
            return image.clone()
        clean = function(image[0].numpy(), std)
        return torch.from_numpy(np.ascontiguousarray(clean, dtype=np.float32))[None]

    return _scaled(run)


def _skimage() -> Any:
    return importlib.import_module("skimage.restoration")


def _nlm(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
    strength = FACTORS["nlm"] * std
    return _skimage().denoise_nl_means(
        image, patch_size=3, patch_distance=3, h=strength, sigma=std, fast_mode=True
    )


def _total_variation(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
    return _skimage().denoise_tv_chambolle(image, weight=FACTORS["tv"] * std)


def _wavelet(image: NDArray[np.float32], std: float) -> NDArray[np.float32]:
    return _skimage().denoise_wavelet(
        image, sigma=FACTORS["wavelet"] * std, method="BayesShrink", rescale_sigma=False
    )


def _gaussian(image: Image) -> Image:
    """The width at which a Gaussian leaves about a third of white noise, less for less noise."""
    sigma = min(1.5, FACTORS["gaussian"] * noise_std(image) ** 0.5 * 0.6)
    return gaussian_blur(image, sigma=(sigma, sigma, sigma))


def _own_nlm(image: Image) -> Image:
    return nonlocal_means(image, std=noise_std(image), strength=FACTORS["nlm-ours"])


def _unsharp(image: Image) -> Image:
    return (image + FACTORS["unsharp"] * (image - gaussian_blur(image, sigma=(1.0, 1.0, 1.0)))).clamp_min(0)


def _n4(volume: Volume) -> Volume:
    """N4 on a grid shrunk by four, its field applied on the full one, as its authors do."""
    sitk: Any = importlib.import_module("SimpleITK")
    image = sitk.GetImageFromArray(volume.data[0].clamp_min(0).numpy())
    image.SetSpacing([float(s) for s in volume.grid.spacing[::-1]])
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    shrink = [max(1, min(4, n // 16)) for n in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(head, shrink))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    return volume.with_data(volume.data / torch.from_numpy(field).float().exp()[None])


def _ants(volume: Volume) -> Volume:
    ants: Any = importlib.import_module("ants")
    image = ants.from_numpy(volume.data[0].numpy(), spacing=tuple(map(float, volume.grid.spacing)))
    clean = ants.denoise_image(image, noise_model="Rician").numpy()
    return volume.with_data(torch.from_numpy(np.ascontiguousarray(clean, dtype=np.float32))[None])


METHODS: dict[str, Method] = {
    "input": Method(lambda v: v, "the input", "nothing done; thick slices are cubic B-spline interpolations"),
    "gaussian": Method(_scaled(_gaussian), "Gaussian filter", "as wide as the noise asks for"),
    "nlm": Method(
        _denoiser(_nlm), "non-local means", "scikit-image; Coupé et al. 2008, IEEE TMI 27:425", "skimage"
    ),
    "nlm-ours": Method(
        _scaled(_own_nlm), "blockwise non-local means", "pellucid.ops.filters; Buades et al. 2005"
    ),
    "tv": Method(
        _denoiser(_total_variation),
        "total variation",
        "scikit-image; Chambolle 2004, J Math Imaging Vis 20:89",
        "skimage",
    ),
    "wavelet": Method(
        _denoiser(_wavelet),
        "wavelet shrinkage",
        "scikit-image, PyWavelets; Chang et al. 2000, IEEE TIP 9:1532",
        "pywt",
    ),
    "ants": Method(_ants, "ANTs DenoiseImage", "antspyx; Manjón et al. 2010, JMRI 31:192", "ants"),
    "n4": Method(_n4, "N4", "SimpleITK; Tustison et al. 2010, IEEE TMI 29:1310", "SimpleITK"),
    "unsharp": Method(_scaled(_unsharp), "unsharp mask", "Gaussian of 1 voxel"),
}
"""Classical methods by name; pellucid itself joins in the protocol, where its weights are loaded."""


def find(names: Sequence[str], commands: Mapping[str, str] | None = None) -> dict[str, Function]:
    """Methods by name, and shell commands of other tools.

    Args:
        names: Keys of `METHODS`.
        commands: Name -> command with `{in}` and `{out}`, both NIfTI files, for instance
            "mri_tool --i {in} --o {out}".

    Returns:
        Name -> function, in the order given.

    Raises:
        PellucidError: If a name is unknown, its package is missing, or a command lacks a placeholder.
    """
    found: dict[str, Function] = {}
    for name in names:
        if name not in METHODS:
            raise wrong("method", need="a method", got=repr(name), fix=did_you_mean(name, METHODS))
        package = METHODS[name].package
        if package and not _installed(package):
            fix = "Get it with: pip install 'pellucid[evaluate]'."
            if package == "ants":
                fix = "Get it with: pip install antspyx."
            raise wrong(f"method {name}", need=f"the package {package}", got="no such package", fix=fix)
        found[name] = METHODS[name].function
    for name, command in (commands or {}).items():
        if "{in}" not in command or "{out}" not in command:
            raise wrong(f"method {name}", need="a command with {in} and {out}", got=repr(command))
        if name in found or name in METHODS:
            raise wrong(f"method {name}", need="a name that is free", got="that of another method")
        found[name] = shell(name, command)
    return found


def shell(name: str, command: str) -> Function:
    """A method that runs another tool: scan to a file, command, file to scan.

    Args:
        name: What to call it in errors.
        command: With `{in}` and `{out}`; it is split into words as a shell does, but not run by one.

    Returns:
        The method.
    """

    def run(volume: Volume) -> Volume:
        with tempfile.TemporaryDirectory(prefix="pellucid-") as folder:
            source, target = Path(folder) / "in.nii.gz", Path(folder) / "out.nii.gz"
            nifti.save(volume, source)
            words = [
                word.replace("{in}", str(source)).replace("{out}", str(target))
                for word in shlex.split(command)
            ]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except OSError as error:
                raise wrong(
                    f"method {name}", need="a program", got=f"{words[0]}: {error.strerror}"
                ) from error
            if done.returncode or not target.is_file():
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
                got = f"exit code {done.returncode}, {last[0]!r}"
                raise wrong(f"method {name}", need="a file at {out}", got=got)
            made = nifti.load(target)
        if made.grid.distance_mm(volume.grid) > 0.1:
            raise wrong(f"method {name}", need="an output on the grid of its input", got="another grid")
        return volume.with_data(made.data)

    return run


def _installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True
