"""Every metric that fits, for images in files: what `pellucid metrics` prints."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import PellucidError, did_you_mean, wrong
from pellucid.io import resample
from pellucid.io.values import FEW_LEVELS
from pellucid.io.volume import Volume, shape_text
from pellucid.metrics import METRICS, MetricEntry, quality_index
from pellucid.metrics.overlap import labels_in
from pellucid.metrics.table import LABELS
from pellucid.ops.labels import are_labels
from pellucid.pipelines.record import read, read_mask

logger = logging.getLogger(__name__)

QI = "quality_index"
"""Needs three things (test image, original, tissue), so it has no row in `METRICS`."""
SAME_GRID_MM = 0.1
"""Grids whose corners lie closer than this are one grid."""


@dataclasses.dataclass(frozen=True)
class ScoresOptions:
    """What is measured, where, against what."""

    names: tuple[str, ...] = ()
    """Keys of `METRICS`; empty takes all for which everything needed is there."""
    mask: Path | None = None
    """Where to measure: voxels above 0. None measures everywhere, air too, which flatters every image. Metrics that
    need nothing but a tissue map take no mask."""
    tissue: Path | None = None
    """Tissue map (1 CSF, 2 gray matter, 3 white matter) on the same grid, for metrics that need one."""
    labels: bool = False
    """Whether the images are label maps."""
    each: bool = False
    """Whether label maps also get a score for every label, named `dice[17]`."""
    data_range: float | None = None
    """Intensity range of PSNR, SSIM and their kin; None takes the reference's max - min inside the mask."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in METRICS:
                hint = did_you_mean(name, METRICS)
                raise wrong("metrics", need="names of metrics", got=repr(name), fix=hint)
        if self.each and not self.labels:
            raise wrong("each", need="label maps", got="images", fix="Say so with --labels if they are.")
        if self.data_range is not None and not 0 < self.data_range < math.inf:
            raise wrong("data_range", need="a finite number > 0", got=str(self.data_range))


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of one image."""

    image: str
    metric: str
    value: float
    unit: str
    direction: str
    """Which way is better."""


COLUMNS = ("image", "metric", "value", "unit", "direction")


class Scores:
    """Scores of images against one reference, all on one grid.

    Args:
        reference: The truth: a scan, or a label map.
        options: What is measured.

    Raises:
        PellucidError: If a file cannot be used, grids differ, or the mask is empty.

    Example:
        >>> scores = Scores(Path("truth.nii.gz"), ScoresOptions(names=("psnr",)))  # doctest: +SKIP
        >>> scores.of(Path("enhanced.nii.gz"))[0].value  # doctest: +SKIP
        31.4
    """

    def __init__(self, reference: Path, options: ScoresOptions) -> None:
        self.options = options
        self.reference = self._read(reference)
        self.mask = self._companion(options.mask, "mask")
        self.tissue = self._companion(options.tissue, "tissue map")
        if self.mask is not None and not bool((self.mask > 0).any()):
            raise wrong(str(options.mask), need="a mask with voxels above 0", got="an empty one")

    def of(self, path: Path) -> list[Score]:
        """Measure one image.

        Args:
            path: An image on the reference's grid.

        Returns:
            One score per metric, in the order of the table.

        Raises:
            PellucidError: If the file cannot be used, its grid is another one, or a metric that was asked for
                by name cannot be computed.
        """
        volume = self._read(path)
        self._check_grid(volume)
        scores = []
        for name in self.options.names or tuple(METRICS):
            entry = METRICS[name]
            against = self._against(entry)
            if against is None:
                if self.options.names:
                    raise _missing(name, entry)
                continue
            value = self._value(name, volume, against)
            scores.append(Score(str(path), name, value, entry.unit, entry.direction))
            if self.options.each:
                scores += self._of_each(path, name, volume, against)
        if self.tissue is not None and not self.options.names and not self.options.labels:
            scores.append(Score(str(path), QI, self._quality_index(volume, self.tissue), "", "higher"))
        return scores

    def _of_each(self, path: Path, name: str, volume: Volume, against: Tensor) -> list[Score]:
        """The same metric of every label of both maps; NaN where the truth lacks one that it needs."""
        entry = METRICS[name]
        scores = []
        for label in labels_in(against, volume.data):
            try:
                value = self._computed(entry, volume, against, labels=[label])
            except PellucidError:  # said once, of all labels
                value = math.nan
            scores.append(Score(str(path), f"{name}[{label}]", value, entry.unit, entry.direction))
        return scores

    def _quality_index(self, volume: Volume, tissue: Tensor) -> float:
        try:
            image = volume.data[None]
            return float(quality_index(image, self._data(), tissue=tissue, mask=self._inside()))
        except PellucidError as error:
            return _not_there(error)

    def _value(self, name: str, volume: Volume, against: Tensor) -> float:
        """One metric; NaN and a warning if it cannot be computed and was not asked for by name."""
        try:
            return self._computed(METRICS[name], volume, against)
        except PellucidError as error:
            if self.options.names:
                raise
            return _not_there(error)

    def _computed(self, entry: MetricEntry, volume: Volume, against: Tensor, **more: Any) -> float:
        if "data_range" in entry.parameters:
            more["data_range"] = self.options.data_range
        if "spacing" in entry.parameters:
            more["spacing"] = volume.grid.spacing
        # A tissue map says itself where to measure, and some of its metrics need the air that a mask leaves out.
        mask = None if entry.needs == ("tissue",) else self._inside()
        return float(entry.function(volume.data[None], against, mask=mask, **more))

    def _against(self, entry: MetricEntry) -> Tensor | None:
        """What a metric compares with; None if it is not there or does not fit."""
        if not entry.needs:
            return None if self.options.labels else self._data()
        if entry.needs == ("tissue",):
            return None if self.options.labels else self.tissue
        return self._data() if ("tissue" in entry.needs) == self.options.labels else None

    def _read(self, path: Path) -> Volume:
        """A scan or a label map in canonical orientation: how it is stored is no difference."""
        if not self.options.labels:
            return resample.to_canonical(read(path))
        volume = read_mask(path)
        if not are_labels(volume.data):
            need = "a label map: whole numbers from 0 on"
            raise wrong(str(path), need=need, got="other values", fix="Leave out --labels to compare images.")
        return resample.to_canonical(volume)

    def _data(self) -> Tensor:
        return self.reference.data[None]

    def _inside(self) -> Tensor | None:
        return None if self.mask is None else self.mask > 0

    def _companion(self, path: Path | None, what: str) -> Tensor | None:
        """A mask or map on the reference's grid."""
        if path is None:
            return None
        volume = resample.to_canonical(read_mask(path, sure=True))
        self._check_grid(volume, what)
        return volume.data[None]

    def _check_grid(self, volume: Volume, what: str = "image") -> None:
        """Refuse to compare voxels that lie in different places."""
        ours, theirs = self.reference.grid, volume.grid
        if ours.distance_mm(theirs) > SAME_GRID_MM:  # infinite if the shapes differ
            order = "" if what == "image" and not self.options.labels else ", order=0"
            fix = (
                "Resample it onto that grid first, for instance with "
                f"nibabel.processing.resample_from_to(this, reference{order})."
            )
            got = f"{shape_text(theirs.shape)} voxels, up to {ours.distance_mm(theirs):.3g} mm elsewhere"
            raise wrong(
                volume.name,
                need=f"{'an' if what == 'image' else 'a'} {what} on the grid of {Path(self.reference.name).name} "
                f"({shape_text(ours.shape)} voxels)",
                got=got if ours.shape == theirs.shape else f"{shape_text(theirs.shape)} voxels",
                fix=fix,
            )


def look_like_labels(paths: Sequence[Path], names: Sequence[str] = ()) -> bool:
    """Whether all images are masks or label maps, and nothing is asked that only images have.

    Args:
        paths: Images to compare.
        names: Metrics that were asked for by name.

    Returns:
        True if each holds but a few whole numbers from 0 on. Files that cannot be read are no label maps: whoever
        reads them next says why.
    """
    if any(name not in METRICS or METRICS[name].needs != LABELS for name in names):
        return False
    try:
        return all(_few_labels(path) for path in paths)
    except PellucidError:
        return False


def _few_labels(path: Path) -> bool:
    data = read_mask(path).data
    return are_labels(data) and len(torch.unique(data)) <= FEW_LEVELS


def to_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Scores as plain data; what is infinite or not a number becomes text, which JSON can hold.

    Args:
        scores: From `Scores.of`.

    Returns:
        One dictionary per score.
    """
    rows = [dataclasses.asdict(score) for score in scores]
    for row in rows:
        if not math.isfinite(row["value"]):
            row["value"] = str(row["value"])
    return rows


def _not_there(error: PellucidError) -> float:
    logger.warning("%s It is left out.", error)
    return math.nan


def _missing(name: str, entry: MetricEntry) -> Exception:
    if entry.needs == ("tissue",):
        return wrong(name, need="a tissue map", got="none", fix="Give one with --tissue FILE.")
    if "tissue" in entry.needs:
        return wrong(
            name, need="label maps", got="images", fix="Say so with --labels if they are label maps."
        )
    return wrong(name, need="images", got="label maps", fix="Leave out --labels.")
