"""Where one image of a head lies in another one's space: rigid registration with SimpleITK."""

import importlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import wrong
from pellucid.io import resample
from pellucid.io.volume import Grid, Volume
from pellucid.ops.labels import bounding_box

AROUND_MM = 15.0
"""What is looked at around the brain: images may be this far apart."""

STEP_MM = 1.0
"""Voxels that images are compared on."""

SHRINK = (4, 2, 1)
"""Coarse to fine."""

SHARES = (1.0, 0.5, 0.2)
"""Share of the voxels that are looked at, on a regular lattice."""


class Image(NamedTuple):
    """What is to be registered."""

    data: Float[Tensor, "1 x y z"]
    """Intensities of one contrast."""
    grid: Grid
    """Where they are."""
    mask: Float[Tensor, "1 x y z"]
    """1 where they are to be compared."""


class Rigid(NamedTuple):
    """A motion of the world."""

    matrix: NDArray[np.float64]
    """4 x 4: RAS mm of the fixed image -> RAS mm of the moving one."""
    translation_mm: list[float]
    """How far the middle of the fixed brain moves."""
    rotation_deg: float
    """By how much it turns."""
    correlation: float
    """Of the intensities inside the mask, afterwards; 0 if the images do not meet."""


def rigid(fixed: Image, moving: Image) -> Rigid:
    """Find the motion that brings two images of one contrast together.

    The correlation of intensities inside the mask of the fixed image is made large by gradient descent, from coarse to
    fine, from where the headers put the images or from where their brains lie on each other, whichever fits better. One
    thread, so that the answer is the same on every run.

    Args:
        fixed: The image whose space is kept.
        moving: The other one.

    Returns:
        The motion.

    Raises:
        PellucidError: If a mask is empty, or no motion is found.
    """
    for image in (fixed, moving):
        if not bool(image.mask.any()):
            raise wrong("registration", need="a mask with voxels above 0", got="none")
    sitk: Any = importlib.import_module("SimpleITK")
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    warns = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        return _rigid(sitk, fixed, moving)
    except RuntimeError as problem:
        raise wrong("registration", need="images of one head", got=str(problem).splitlines()[-1]) from problem
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warns)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def still(correlation: float) -> Rigid:
    """No motion: the headers say where both are.

    Args:
        correlation: What was reached by moving.

    Returns:
        The identity.
    """
    return Rigid(np.eye(4), [0.0, 0.0, 0.0], 0.0, correlation)


def overlap(fixed: Image, moving: Image) -> float:
    """How much of the smaller mask lies in the larger one by the headers.

    Args:
        fixed: One image.
        moving: The other one.

    Returns:
        0..1.
    """
    shares = []
    for one, other in ((fixed, moving), (moving, fixed)):
        there = resample.to_grid(Volume(other.mask, other.grid), one.grid, order=0).data
        shares.append(float(((there > 0) & (one.mask > 0)).sum()) / max(1.0, float((one.mask > 0).sum())))
    return max(shares)


def moved_grid(grid: Grid, motion: Rigid) -> Grid:
    """The grid of a moving image in the space of the fixed one.

    Args:
        grid: Of the moving image.
        motion: From `rigid`.

    Returns:
        The same voxels elsewhere: nothing is interpolated.
    """
    return Grid(shape=grid.shape, affine=np.linalg.inv(motion.matrix) @ grid.affine)


def _rigid(sitk: Any, fixed: Image, moving: Image) -> Rigid:
    ours, inside = _straight(sitk, fixed)
    theirs, _ = _straight(sitk, moving)
    centers = [_center(image) for image in (fixed, moving)]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(inside)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel(
        SHARES, 1
    )  # the seed of the jitter on the lattice; else the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-4, numberOfIterations=200, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel([step / 2 if step > 1 else 0 for step in SHRINK])
    starts = []
    for shift in (np.zeros(3), centers[1] - centers[0]):
        start = sitk.Euler3DTransform()
        start.SetCenter(centers[0].tolist())
        start.SetTranslation(shift.tolist())
        method.SetInitialTransform(start)
        starts.append((method.MetricEvaluate(ours, theirs), start))
    found = min(starts, key=lambda pair: pair[0])[1]
    method.SetInitialTransform(found, inPlace=True)
    method.Execute(ours, theirs)
    # ITK's metric is the negative square of the correlation.
    correlation = max(0.0, -float(method.GetMetricValue())) ** 0.5
    rotation = np.array(found.GetMatrix()).reshape(3, 3)
    middle = np.array(found.GetCenter())
    shift = np.array(found.GetTranslation())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = middle + shift - rotation @ middle
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    return Rigid(matrix, [round(float(mm), 3) for mm in shift], round(angle, 3), round(correlation, 3))


def _straight(sitk: Any, image: Image) -> tuple[Any, Any]:
    """Image and mask around the brain, on a grid along the axes of the world, which SimpleITK is told of in RAS."""
    box = bounding_box(image.mask[0] > 0, margin=round(AROUND_MM / min(image.grid.spacing)))
    corners = np.array(
        [[x, y, z, 1] for x in _ends(box[0]) for y in _ends(box[1]) for z in _ends(box[2])], dtype=np.float64
    )
    world = (image.grid.affine @ corners.T)[:3]
    low, high = world.min(1), world.max(1)
    size = [max(8, int(np.ceil(length / STEP_MM))) for length in high - low]
    affine = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    affine[:3, 3] = low + STEP_MM / 2
    grid = Grid(shape=(size[0], size[1], size[2]), affine=affine)
    parts = []
    for data, order in ((image.data, 1), (image.mask, 0)):
        there = resample.to_grid(Volume(data, image.grid), grid, order=order).data[0].numpy()
        part = sitk.GetImageFromArray(np.ascontiguousarray(there.T))
        part.SetSpacing([STEP_MM] * 3)
        part.SetOrigin(affine[:3, 3].tolist())
        parts.append(part)
    return parts[0], sitk.Cast(parts[1] > 0.5, sitk.sitkUInt8)


def _ends(span: slice) -> tuple[float, float]:
    """Faces of the first and the last voxel."""
    return span.start - 0.5, span.stop - 0.5


def _center(image: Image) -> NDArray[np.float64]:
    """Middle of the mask in the world."""
    found = image.mask[0].nonzero().double().mean(0).numpy()
    return np.asarray((image.grid.affine @ np.append(found, 1.0))[:3])
