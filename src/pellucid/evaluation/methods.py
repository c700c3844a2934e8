"""Methods that a protocol compares: classical ones from well-kept libraries, and any shell command.

Ours joins in the protocol, where its weights are loaded.
"""

import importlib
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.errors import did_you_mean, missing, wrong
from pellucid.evaluation import classical
from pellucid.evaluation.classical import Function
from pellucid.io import nifti, resample
from pellucid.io.volume import Grid, Volume

HISTOGRAM = "histogram"
"""The method that needs a reference scan."""


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    function: Function
    title: str
    reference: str
    """Library and paper."""
    packages: tuple[str, ...] = ()
    """Modules that must be installed beside what pellucid needs anyway."""


METHODS: dict[str, Method] = {
    "input": Method(
        classical.cubic, "the input", "cubic B-spline interpolation where grids differ, else nothing"
    ),
    "sinc": Method(classical.sinc, "windowed sinc", "SimpleITK; Lanczos window", ("SimpleITK",)),
    "nlup": Method(
        classical.nonlocal_upsampling,
        "non-local upsampling",
        "ours, after Manjón et al. 2010, Med Image Anal 14:784",
    ),
    "gaussian": Method(classical.gaussian, "Gaussian filter", "as wide as the noise asks for"),
    "nlm": Method(
        classical.nlm, "non-local means", "scikit-image; Coupé et al. 2008, IEEE TMI 27:425", ("skimage",)
    ),
    "nlm-ours": Method(
        classical.own_nlm, "blockwise non-local means", "pellucid.ops.alike; Buades et al. 2005"
    ),
    "prinlm": Method(
        classical.prefiltered_nlm,
        "prefiltered rotation-invariant non-local means",
        "pellucid.ops.denoise; Manjón et al. 2012, Med Image Anal 16:18",
    ),
    "ascm": Method(
        classical.multiresolution_nlm,
        "multi-resolution non-local means",
        "DIPY; Coupé et al. 2012, IET Image Process 6:558",
        ("dipy",),
    ),
    "tv": Method(
        classical.total_variation,
        "total variation",
        "scikit-image; Chambolle 2004, J Math Imaging Vis 20:89",
        ("skimage",),
    ),
    "wavelet": Method(
        classical.wavelet,
        "wavelet shrinkage",
        "scikit-image, PyWavelets; Chang et al. 2000, IEEE TIP 9:1532",
        ("skimage", "pywt"),
    ),
    "ants": Method(
        classical.ants, "ANTs DenoiseImage", "antspyx; Manjón et al. 2010, JMRI 31:192", ("ants",)
    ),
    "n4": Method(classical.n4, "N4", "SimpleITK; Tustison et al. 2010, IEEE TMI 29:1310", ("SimpleITK",)),
    "unsharp": Method(classical.unsharp, "unsharp mask", "Gaussian of 1 voxel"),
    HISTOGRAM: Method(
        classical.cubic,  # replaced by `find`, which has the reference
        "histogram matching",
        "SimpleITK; Nyúl et al. 2000, IEEE TMI 19:143",
        ("SimpleITK",),
    ),
}
"""Classical methods by name."""


def find(
    names: Sequence[str], commands: Mapping[str, str] | None = None, reference: Path | None = None
) -> dict[str, Function]:
    """Methods by name, and shell commands of other tools.

    Args:
        names: Keys of `METHODS`.
        commands: Name -> command with `{in}` and `{out}`, both NIfTI files, for instance
            "mri_tool --i {in} --o {out}".
        reference: Scan whose histogram the method "histogram" matches.

    Returns:
        Name -> function, in the order given.

    Raises:
        PellucidError: If a name is unknown, its package or its reference is missing, or a command lacks a
            placeholder.
    """
    found: dict[str, Function] = {}
    for name in names:
        if name not in METHODS:
            raise wrong("method", need="a method", got=repr(name), fix=did_you_mean(name, METHODS))
        require(*METHODS[name].packages)
        found[name] = METHODS[name].function
        if name == HISTOGRAM:
            if reference is None:
                fix = "Give one with --reference FILE."
                raise wrong(f"method {name}", need="a scan to match", got="none", fix=fix)
            found[name] = classical.histogram_matching(nifti.load(reference))
    for name, command in (commands or {}).items():
        if "{in}" not in command or "{out}" not in command:
            raise wrong(f"method {name}", need="a command with {in} and {out}", got=repr(command))
        if name in found or name in METHODS:
            raise wrong(f"method {name}", need="a name that is free", got="that of another method")
        found[name] = shell(name, command)
    return found


def require(*packages: str) -> None:
    """Refuse to begin without packages that the work needs later.

    Args:
        packages: Modules.

    Raises:
        PellucidError: At the first that cannot be imported.
    """
    for package in packages:
        if not _installed(package):
            raise missing(package, install="antspyx" if package == "ants" else "pellucid[evaluate]")


def shell(name: str, command: str, *, order: int = 3) -> Function:
    """A method that runs another tool: scan to a file, command, file to scan.

    The tool is given the scan as it was acquired, thick slices and all. Its output may lie on any grid; it is
    interpolated onto the grid of the comparison.

    Args:
        name: What to call it in errors.
        command: With `{in}` and `{out}`; it is split into words as a shell does, but not run by one.
        order: Of the interpolation: 3 cubic, 0 nearest for labels.

    Returns:
        The method.

    Raises:
        PellucidError: If the command cannot be split into words.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise wrong(f"method {name}", need="a command", got=f"{command!r} ({error})") from error

    def run(volume: Volume, grid: Grid) -> Volume:
        with tempfile.TemporaryDirectory(prefix="pellucid-") as folder:
            source, target = Path(folder) / "in.nii.gz", Path(folder) / "out.nii.gz"
            nifti.save(volume, source)
            words = [part.replace("{in}", str(source)).replace("{out}", str(target)) for part in parts]
            try:
                done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
            except OSError as error:
                raise wrong(
                    f"method {name}", need="a program", got=f"{words[0]}: {error.strerror}"
                ) from error
            if done.returncode or not target.is_file():
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
                got = f"exit code {done.returncode}, {last[0]!r}"
                raise wrong(f"method {name}", need="a file at {out}", got=got)
            made = nifti.load(target)
        away = float(np.linalg.norm(made.grid.corners().mean(0) - grid.corners().mean(0)))
        if away > min(grid.extent_mm) / 2:
            got = f"one whose middle is {away:.0f} mm away"
            raise wrong(f"method {name}", need="an output where its input is", got=got)
        return volume.with_data(resample.to_grid(made, grid, order=order).data, grid)

    return run


def _installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True
