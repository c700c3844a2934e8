"""BME-X as its release runs it, and with the faults of that mended.

The release takes the axes of a file for left-right, back-front, bottom-top whatever its header says, does not know the
fetal template's finer grid, and keeps whole numbers only. Mended: axes by the header, 0.75 mm for fetal weights,
numbers as they are. Either way the brain comes from the user's mask or from our own network, since the release's skull
stripper is another network with files of its own.
"""

import importlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Volume
from pellucid.pipelines.official.brainmask import given_mask, own_mask
from pellucid.pipelines.official.made import Made, Task
from pellucid.pipelines.record import read
from pellucid.types import Tissue

logger = logging.getLogger(__name__)

WINDOW_PERCENT = (0.001, 99.999)
WINDOW_TOP = 1000.0
N4_ITERATIONS = [50, 50, 30, 20]
SPACING_MM, FETAL_MM = 0.8, 0.75
PATCH, STEP, MARGIN = 40, 18, 5
"""Side of a patch, distance of patches, and what is left out at each face of a patch, in voxels."""


def run(task: Task) -> Made:
    """Enhance the brain of a scan.

    Args:
        task: A T1w or T2w scan, BME-X's network for its age, options with the template.

    Returns:
        The image on the scan's grid, in the template's intensities (in the scan's, with the option `skull`), and
        tissue labels.

    Raises:
        PellucidError: If there is no template, no brain, or an option is not BME-X's.
    """
    options = task.options
    options.only("BME-X", "mask", "template", "skull", "save")
    if options.template is None:
        fix = "It comes with the release: Template-Month24-T1w.nii.gz and so on, for the age of the weights."
        raise wrong("template", need="the template of the age", got="none", fix=fix)
    template = read(options.template)
    others: tuple[Volume, ...] = (template,)
    if options.mask is None:
        logger.warning("%s: BME-X is given the brain that our own network finds", task.volume.name)
        mask = own_mask(task)
    else:
        mask, given = given_mask(task)
        others = (template, given)
    scan, inside = task.volume, task.volume.with_data(mask)
    if not options.faithful:
        scan, inside = resample.to_canonical(scan), resample.to_canonical(inside)
    done = enhanced(task, scan, inside, template)
    task.notes["quality_index"] = done.quality
    image = done.with_skull if options.skull else done.brain
    if options.faithful:
        image = np.trunc(image)
    if float(done.labels.max()) == 0:
        logger.warning("%s: no tissue is found in it; the image is of little use", task.volume.name)
    tissue = scan.with_data(torch.from_numpy(done.labels).float()[None])
    tissue = resample.back_to(tissue, task.volume) if not options.faithful else tissue
    out = scan.with_data(torch.from_numpy(image).float()[None])
    out = resample.back_to(out, task.volume) if not options.faithful else out
    return Made(out, Volume(tissue.data, tissue.grid, undisplayed(tissue.header), tissue.path), others)


@dataclass(frozen=True)
class Enhanced:
    """What the release computes on the grid of the scan."""

    brain: NDArray[Any]
    """In the template's intensities."""
    with_skull: NDArray[Any]
    """In the scan's, after N4 and windowing, with what lies around the brain."""
    labels: NDArray[Any]
    """0 background, 1 CSF, 2 GM, 3 WM."""
    quality: float | None
    """Contrast of gray and white matter of the scan over that of the image; none if there is no gray or white."""


def enhanced(task: Task, scan: Volume, mask: Volume, template: Volume) -> Enhanced:
    """All steps of the release but skull-stripping.

    Args:
        task: Network and options.
        scan: Axes left-right, back-front, bottom-top.
        mask: Brain, on the same grid.
        template: Its intensities are the ones that the network knows.

    Returns:
        The results, axes as in `scan`.
    """
    sitk: Any = importlib.import_module("SimpleITK")
    # Where the release says RAI: the first two axes are turned round.
    values = _turned(scan.data[0].numpy().astype(np.float32))
    inside = _turned(mask.data[0].numpy().astype(np.float32))
    frame = Frame.of(scan)
    reference = _image(sitk, template.data[0].numpy(), Frame.of(template))
    head = _n4(sitk, _windowed(sitk, values, frame))
    masked = _image(sitk, _values(sitk, head) * inside, frame)
    side = FETAL_MM if not task.options.faithful and task.version.startswith("fetal") else SPACING_MM
    fine = _resampled(sitk, _n4(sitk, masked), side)
    clear, tissue = patches(task, _values(sitk, _matched(sitk, fine, reference)))
    maps = [_back(sitk, one, side, head) for one in (clear, *tissue)]
    recon, labels = maps[0], np.argmax(maps[1:], axis=0)
    whole = _image(sitk, np.trunc(recon) if task.options.faithful else recon, frame)
    matched = _values(sitk, _matched(sitk, whole, masked))
    with_skull = _values(sitk, head) * (1 - inside) + matched
    quality = _quality(_values(sitk, _matched(sitk, head, reference)), recon, labels)
    return Enhanced(_turned(recon), _turned(with_skull), _turned(labels), quality)


def patches(task: Task, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Image and class maps from overlapping patches, each without its faces.

    Args:
        task: The network.
        values: On the network's grid, axes x, y, z; the network is shown them as z, x, y.

    Returns:
        The image `(x, y, z)` and what speaks for each class `(4, x, y, z)`.
    """
    shown = np.pad(values.transpose(2, 0, 1), PATCH)
    total = np.zeros((5, *shown.shape))
    visits = np.full(shown.shape, 1e-5)
    starts = [_starts(shown, axis) for axis in range(3)]
    network = task.network.to(task.device)
    for first in ((i, j, k) for i in starts[0] for j in starts[1] for k in starts[2]):
        patch = shown[tuple(slice(start, start + PATCH) for start in first)]
        with torch.inference_mode():
            tissue, clear = network(torch.from_numpy(patch).float()[None, None].to(task.device))
        answer = torch.cat([clear, tissue], dim=1)[0].cpu().numpy()
        middle = slice(MARGIN, PATCH - MARGIN)
        place = tuple(slice(start + MARGIN, start + PATCH - MARGIN) for start in first)
        total[(slice(None), *place)] += answer[:, middle, middle, middle]
        visits[place] += 1
    kept = slice(PATCH, -PATCH)
    made = (total / visits)[:, kept, kept, kept].transpose(0, 2, 3, 1)
    return made[0], made[1:]


def _starts(shown: NDArray[Any], axis: int) -> range:
    """Where patches begin along an axis: from a margin before what is not empty to one after its end."""
    filled = np.flatnonzero(shown.sum(axis=tuple(other for other in range(3) if other != axis)) > 0)
    if not len(filled):
        return range(0)
    last = min(int(filled[-1]), shown.shape[axis] - PATCH - MARGIN)
    return range(int(filled[0]) - MARGIN, last + MARGIN, STEP)


def _quality(before: NDArray[Any], after: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The release's quality index of the scan."""
    if not (labels == Tissue.GRAY).any() or not (labels == Tissue.WHITE).any():
        return None
    scores = []
    for image in (before, after):
        gray, white = image[labels == Tissue.GRAY], image[labels == Tissue.WHITE]
        scores.append(abs(gray.mean() - white.mean()) / max(np.hypot(gray.std(), white.std()), 1e-12))
    return round(float(scores[0] / scores[1]), 4) if scores[1] > 0 else None


def _turned(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values[::-1, ::-1])


@dataclass(frozen=True)
class Frame:
    """Where the release places an image: where its file says that it begins, and along the axes of the world."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]

    @classmethod
    def of(cls, volume: Volume) -> "Frame":
        """The frame of a scan.

        Args:
            volume: Any.

        Returns:
            Spacing, and the place of the first voxel with ITK's signs (left, back, top).
        """
        right, front, top = (float(mm) for mm in volume.grid.affine[:3, 3])
        return cls(volume.grid.spacing, (-right, -front, top))


def _image(sitk: Any, values: NDArray[Any], frame: Frame) -> Any:
    """A SimpleITK image of an array (x, y, z)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T.astype(np.float32)))
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    return image


def _values(sitk: Any, image: Any) -> NDArray[Any]:
    return np.asarray(sitk.GetArrayFromImage(image).T)


def _windowed(sitk: Any, values: NDArray[Any], frame: Frame) -> Any:
    """From 0 to 1000, but for the most extreme voxels.

    SimpleITK's own filter and not our arithmetic: N4 makes tenths of the last digits in which they differ.
    """
    low, high = (float(value) for value in np.percentile(values[values != 0], WINDOW_PERCENT))
    if high <= low:
        raise wrong("BME-X", need="a scan with content", got="the same value everywhere")
    return sitk.IntensityWindowing(
        _image(sitk, values, frame),
        windowMinimum=low,
        windowMaximum=high,
        outputMinimum=0.0,
        outputMaximum=WINDOW_TOP,
    )


def _n4(sitk: Any, image: Any) -> Any:
    """Take the bias field out, as SimpleITK does when it is told nothing but the iterations."""
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(N4_ITERATIONS)
    try:
        return corrector.Execute(image)
    except RuntimeError as problem:
        reason = str(problem).splitlines()[-1].strip()
        raise wrong("N4", need="a scan whose bias field can be found", got=reason) from problem


def _matched(sitk: Any, image: Any, reference: Any) -> Any:
    """Give an image the histogram of another one, both above their means."""
    matcher = sitk.HistogramMatchingImageFilter()
    matcher.SetNumberOfHistogramLevels(1024)
    matcher.SetNumberOfMatchPoints(7)
    matcher.ThresholdAtMeanIntensityOn()
    return matcher.Execute(image, reference)


def _resampled(sitk: Any, image: Any, side: float) -> Any:
    """Linear, on cubic voxels; the first voxel stays where it is."""
    pairs = zip(image.GetSize(), image.GetSpacing(), strict=True)
    resampler = sitk.ResampleImageFilter()
    resampler.SetOutputSpacing([side] * 3)
    resampler.SetOutputOrigin(image.GetOrigin())
    resampler.SetSize([round(size * (spacing / side)) for size, spacing in pairs])
    resampler.SetInterpolator(sitk.sitkLinear)
    return resampler.Execute(image)


def _back(sitk: Any, values: NDArray[Any], side: float, head: Any) -> NDArray[Any]:
    """From cubic voxels to the grid of the scan."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(head)
    resampler.SetInterpolator(sitk.sitkLinear)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing([side] * 3)
    image.SetOrigin(head.GetOrigin())
    return _values(sitk, resampler.Execute(image))
