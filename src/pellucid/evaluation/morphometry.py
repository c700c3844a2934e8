"""Volumes and a thickness proxy from label maps, and who may draw the labels."""

import importlib
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster import vq

from pellucid import runtime, weights
from pellucid.errors import wrong
from pellucid.evaluation.methods import shell
from pellucid.evaluation.robustness import truth_mask
from pellucid.io.volume import Volume
from pellucid.models import Synthesizer
from pellucid.ops.intensity import robust_range
from pellucid.ops.labels import are_labels, fill_holes
from pellucid.pipelines.borders import posteriors
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.segment import labels_on
from pellucid.synthesis.tables import TISSUES, load_table

Segmenter = Callable[[Volume], Volume]
"""A scan -> its label map on the same grid: tissue (1 CSF, 2 GM, 3 WM) or FreeSurfer's numbers."""

CENTRAL_MM = 20.0
"""CSF deeper inside the brain than this is central: the ventricles, mostly."""
STRUCTURES = {"ventricles": (4, 43), "hippocampus": (17, 53)}
"""FreeSurfer's numbers of structures, left and right."""
HIGHEST = 20000
"""FreeSurfer's largest label numbers, of parcellations, are below it."""
MEASURES = ("CSF_ml", "GM_ml", "WM_ml", "ventricles_ml", "hippocampus_ml", "thickness_mm")
"""What is measured; "ventricles" of a tissue map is its central CSF, and it has no hippocampus."""


def measure(labels: Volume) -> dict[str, float]:
    """Volumes and thickness of one brain.

    Ventricles are FreeSurfer's lateral ones, or, in a tissue map, CSF more than `CENTRAL_MM` away from the outside of
    the brain. Thickness is GM volume over the mean area of its two boundaries (around WM, and around GM and
    WM): a proxy that deep gray matter makes too large, by about as much in every scan of a person.

    Args:
        labels: Tissue classes 0..3, or FreeSurfer's numbers (any above 3).

    Returns:
        `MEASURES`; NaN where there is nothing to measure.

    Raises:
        PellucidError: If the map holds anything but label numbers.
    """
    numbers = _numbers(labels)
    detailed = int(numbers.max()) >= len(TISSUES)
    tissue = load_table("freesurfer").tissue_map(numbers) if detailed else numbers
    if detailed and not tissue.any():
        need = "labels of gray and white matter (tissue 2 and 3, or FreeSurfer's numbers)"
        raise wrong("segment", need=need, got=f"other numbers up to {int(numbers.max())}")
    ml = float(np.prod(labels.grid.spacing)) / 1000
    found = tissue_volumes(labels.with_data(tissue[None].float()))
    if detailed:
        for name, pair in STRUCTURES.items():
            found[f"{name}_ml"] = ml * int(torch.isin(numbers, torch.tensor(pair)).sum())
    else:
        brain = fill_holes(tissue > 0)
        depth = ndimage.distance_transform_edt(np.pad(brain.numpy(), 1), sampling=labels.grid.spacing)
        deep = torch.from_numpy(depth[1:-1, 1:-1, 1:-1] > CENTRAL_MM)
        found["ventricles_ml"] = ml * int(((tissue == 1) & deep).sum())
        found["hippocampus_ml"] = math.nan
    inner, outer = (_area(tissue >= at, labels) for at in (3, 2))
    area = (inner + outer) / 2
    found["thickness_mm"] = 1000 * found["GM_ml"] / area if area else math.nan
    return found


def _numbers(labels: Volume) -> Int[torch.Tensor, "x y z"]:
    """Label numbers; refuses what is no label map."""
    data = labels.data[0]
    lowest, highest = (float(value) for value in torch.aminmax(data))
    if highest > HIGHEST or not are_labels(data):
        need = f"a label map: whole numbers from 0 to {HIGHEST}"
        raise wrong("segment", need=need, got=f"values from {lowest:g} to {highest:g}")
    return data.long()


def tissue_volumes(tissue: Volume) -> dict[str, float]:
    """Milliliters of each tissue, by counting voxels.

    Args:
        tissue: Classes 0..3.

    Returns:
        `CSF_ml`, `GM_ml` and `WM_ml`.
    """
    ml = float(np.prod(tissue.grid.spacing)) / 1000
    return {f"{name}_ml": ml * int((tissue.data == at).sum()) for at, name in enumerate(TISSUES) if at}


def _area(inside: Bool[torch.Tensor, "x y z"], labels: Volume) -> float:
    """Area in mm² of the surface of a mask; 0 if it is empty. WM counts as inside of GM."""
    library: Any = importlib.import_module("skimage.measure")
    if not inside.any():
        return 0.0
    # Marching cubes follows voxel corners and finds half too much area; a little blur makes surfaces smooth.
    smooth = ndimage.gaussian_filter(np.pad(inside.numpy().astype(np.float32), 2), 0.7)
    if smooth.max() <= 0.5:
        return 0.0
    corners, faces, *_ = library.marching_cubes(smooth, 0.5, spacing=labels.grid.spacing)
    return float(library.mesh_surface_area(corners, faces))


def segmenter(name: str, options: EnhanceOptions) -> Segmenter:
    """Who draws the labels.

    Args:
        name: "kmeans" (three clusters of a skull-stripped T1w's intensities), "pellucid" (the tissue of our
            anatomy network), or a shell command with {in} and {out}, for instance "mri_synthseg --i {in} --o {out}".
        options: How our network is run.

    Returns:
        A function of scans.

    Raises:
        PellucidError: If the name is neither known nor a command.
    """
    if name == "kmeans":
        return kmeans
    if name == "pellucid":
        return lambda volume: _ours(volume, options)
    if "{in}" not in name or "{out}" not in name:
        raise wrong("segment", need="kmeans, pellucid or a command with {in} and {out}", got=repr(name))
    tool = shell("segment", name, order=0)
    return lambda volume: tool(volume, volume.grid)


def kmeans(volume: Volume) -> Volume:
    """Three clusters of the intensities of a skull-stripped T1w: CSF, GM, WM from dark to bright.

    Args:
        volume: Brain only; 0 outside.

    Returns:
        Tissue classes on the same grid.
    """
    image = robust_range(volume.data).scale(volume.data)[0]
    brain = truth_mask(image[None])
    values = image[brain].numpy().astype(np.float64)
    if np.unique(values).size < 3:
        raise wrong(volume.name, need="a brain with three tissues", got="fewer than three intensities")
    start = np.quantile(values, [0.1, 0.5, 0.9])[:, None]
    centers, _ = vq.kmeans2(values[:, None], start, minit="matrix")
    edges = _edges(centers[:, 0])
    classes = torch.bucketize(image, torch.from_numpy(edges).float()) + 1
    return volume.with_data((classes * brain)[None].float())


def _edges(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(centers)
    return (ordered[1:] + ordered[:-1]) / 2


def _ours(volume: Volume, options: EnhanceOptions) -> Volume:
    """Tissue of our anatomy network, on the scan's grid."""
    where = runtime.device(options.device)
    network = weights.shared(options.anatomy_weights, where, kind="anatomy")
    finer = cast(Synthesizer, weights.shared(options.border_weights, where, kind="synthesizer"))
    return labels_on(volume, posteriors(volume, network, options, finer=finer)).tissue
