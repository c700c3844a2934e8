"""Protocol `restoration`: corrupt clean scans, enhance them, and compare both with the clean ones."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid import runtime, weights
from pellucid.degradation import PRESETS
from pellucid.errors import wrong
from pellucid.evaluation.rows import Row, read_rows, write_rows, write_table
from pellucid.evaluation.summary import COLUMNS, Summary, summarize, to_markdown
from pellucid.io import nifti
from pellucid.io.disk import make_folder, replacing
from pellucid.io.volume import Volume
from pellucid.metrics import psnr, ssim
from pellucid.ops.intensity import IntensityRange, robust_range
from pellucid.ops.labels import fill_holes, largest_component
from pellucid.pipelines.degrade import degrade
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.names import split_suffix
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import file_digest
from pellucid.types import Image

CLEAN = "clean"
"""The corruption that does nothing: what is changed in a scan that needed no help."""

CORRUPTIONS = (
    CLEAN,
    "motion-moderate",
    "motion-severe",
    "slices-5mm",
    "rician-0.05",
    "rician-0.10",
    "blur-1.2",
    "mixed",
)

MEASURED = {"psnr": psnr, "ssim": ssim}
"""Both with a range of 1, the clean scan's 99.5th percentile: its maximum, often a single vessel, would flatter."""

MASK_SHARE = 0.05
MASK = (
    "voxels of the clean scan above 5 % of its 99.5th percentile, the largest piece, holes filled: the brain if "
    "the scan is skull-stripped, else the head"
)

ROWS, SUMMARY, PAGE, RECORD = "restoration.tsv", "summary.tsv", "summary.md", "restoration.json"
"""Files of the protocol in its folder."""


@dataclasses.dataclass(frozen=True)
class RestorationOptions:
    """What is measured, and with which weights."""

    corruptions: tuple[str, ...] = CORRUPTIONS
    """Presets of `pellucid degrade`, and "clean"."""
    seed: int = 0
    """Seed of noise and bias; motion is the same in every scan."""
    enhance: EnhanceOptions = dataclasses.field(default_factory=EnhanceOptions)
    """Weights, device, threads; the spacing must be native, since truth and output share one grid."""

    def __post_init__(self) -> None:
        known = (CLEAN, *PRESETS)
        unknown = [name for name in self.corruptions if name not in known]
        if unknown or not self.corruptions:
            raise wrong(
                "corruptions", need=f"names among {', '.join(known)}", got=", ".join(unknown) or "none"
            )
        if self.enhance.spacing != "native" or self.enhance.contrast != "same":
            raise wrong("restoration", need="native spacing and the same contrast", got=str(self.enhance))


class Restoration:
    """A folder of results that grows scan by scan; a run that was stopped goes on where it was.

    Args:
        out: Folder of the results, made if it does not exist.
        options: What is measured.
        force: Forget what is in the folder and measure everything anew.

    Raises:
        PellucidError: If the weights cannot be found, or the folder holds results of other weights or of
            another seed.

    Example:
        >>> protocol = Restoration(Path("results"), RestorationOptions())  # doctest: +SKIP
        >>> protocol.judge(Path("sub-01_T1w.nii.gz"))  # doctest: +SKIP
        >>> print(to_markdown(protocol.finish()))  # doctest: +SKIP
    """

    def __init__(self, out: Path, options: RestorationOptions, *, force: bool = False) -> None:
        self.out, self.options = out, options
        runtime.set_threads(options.enhance.threads)
        self._network, metadata = weights.load(
            options.enhance.weights, runtime.device(options.enhance.device)
        )
        sha256 = file_digest(weights.path(options.enhance.weights))
        self._record: dict[str, Any] = {
            "protocol": "restoration",
            "mask": MASK,
            "seed": options.seed,
            "weights": {"name": options.enhance.weights, "sha256": sha256, "metadata": metadata},
            "versions": runtime.versions(),
            "scans": {},
        }
        self.rows: list[Row] = []
        if not force:
            self._go_on()
        make_folder(out)

    def _go_on(self) -> None:
        """Take over what an earlier run left, if it measured the same."""
        path = self.out / RECORD
        if not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        for what, old, new in (
            ("weights", before["weights"]["sha256"], self._record["weights"]["sha256"]),
            ("seed", before["seed"], self._record["seed"]),
        ):
            if old != new:
                raise wrong(
                    str(self.out),
                    need=f"a folder without results of other {what}",
                    got=f"{what} {old}, now {new}",
                    fix="Choose another folder, or replace the results with --force.",
                )
        self._record["scans"] = before["scans"]
        self.rows = read_rows(self.out / ROWS)

    def judge(self, path: Path) -> list[Row]:
        """Measure one scan: every corruption that its rows do not have yet.

        Args:
            path: A clean scan.

        Returns:
            The new rows; they are in the folder as well.

        Raises:
            PellucidError: If the scan cannot be used, or another one of this name was measured before.
        """
        name = split_suffix(path)[0]
        done = {row.corruption for row in self.rows if row.scan == name}
        missing = [corruption for corruption in self.options.corruptions if corruption not in done]
        if done:
            self._check_same(name, path)
        if not missing:
            return []
        clean = nifti.load(path)
        levels = robust_range(clean.data)
        truth = levels.scale(clean.data)
        mask = truth_mask(truth)
        self._record["scans"][name] = file_digest(path)
        self._write_record()
        first = len(self.rows)
        for corruption in missing:
            self.rows += self._measure(name, corruption, clean, (truth, mask, levels))
            write_rows(self.out / ROWS, self.rows)
        return self.rows[first:]

    def _measure(
        self,
        name: str,
        corruption: str,
        clean: Volume,
        reference: tuple[Image, Bool[Tensor, "x y z"], IntensityRange],
    ) -> list[Row]:
        """Rows of one corruption of one scan."""
        truth, mask, levels = reference
        given = clean
        if corruption != CLEAN:
            given = degrade(clean, preset=corruption, seed=self.options.seed).volume
        start = time.perf_counter()
        result = enhance_volume(given, self._network, self.options.enhance)
        seconds = time.perf_counter() - start
        before, after = (_values(levels.scale(image.data), truth, mask) for image in (given, result.volume))
        return [Row(name, corruption, metric, before[metric], after[metric], seconds) for metric in MEASURED]

    def finish(self) -> list[Summary]:
        """Write the summary of all rows in the folder, as TSV and Markdown.

        Returns:
            One entry per corruption and metric; none, and no files, if nothing was measured.

        Raises:
            PellucidError: If the folder cannot be written.
        """
        if not self.rows:
            return []
        order = {name: at for at, name in enumerate((*CORRUPTIONS, *PRESETS))}
        summaries = summarize(sorted(self.rows, key=lambda row: order[row.corruption]))
        write_table(self.out / SUMMARY, COLUMNS, [summary.cells() for summary in summaries])
        with replacing(self.out / PAGE, force=True) as place:
            place.write_text(self._page(summaries), encoding="utf-8")
        return summaries

    def _page(self, summaries: list[Summary]) -> str:
        """The summary with what a reader of its numbers must know."""
        scans = len({row.scan for row in self.rows})
        facts = self._record["weights"]
        return "\n".join(
            [
                "# Restoration",
                "",
                f"{scans} scans; weights {facts['name']} (sha256 {facts['sha256'][:12]}), seed {self.options.seed}.",
                f"Measured in: {MASK}.",
                "The range of PSNR and SSIM is the clean scan's 99.5th percentile. Thick slices are compared "
                "with their cubic interpolation, which is the input. Differences are output minus input; "
                "intervals are 95 % bootstrap intervals of the mean over scans.",
                "",
                to_markdown(summaries),
                "",
            ]
        )

    def _check_same(self, name: str, path: Path) -> None:
        """Refuse a scan whose rows are those of another file."""
        if self._record["scans"].get(name) != file_digest(path):
            raise wrong(
                str(path),
                need="the scan that the rows of this name were measured on",
                got="another file",
                fix="Rename one of them, or measure all anew with --force.",
            )

    def _write_record(self) -> None:
        with replacing(self.out / RECORD, force=True) as place:
            place.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")


def truth_mask(truth: Image) -> Bool[Tensor, "x y z"]:
    """Where a clean scan is compared: see `MASK`.

    Args:
        truth: The clean scan, 1 at its 99.5th percentile.

    Returns:
        True inside.
    """
    return fill_holes(largest_component(truth[0] > MASK_SHARE))


@torch.inference_mode()
def _values(image: Image, truth: Image, mask: Bool[Tensor, "x y z"]) -> dict[str, float]:
    """Each metric of one image."""
    batch = image[None], truth[None]
    return {
        name: float(function(*batch, mask=mask[None, None], data_range=1.0))
        for name, function in MEASURED.items()
    }
