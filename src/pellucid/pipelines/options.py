"""What a run over scans may be told: the one definition behind Python, the command line and the record."""

import dataclasses
import math
import re
from typing import ClassVar, Literal

from pellucid.errors import wrong

LEAST_MEMORY = 1e9
"""Half of it is torch and the interpreter; the rest is what smaller tiles cannot do without."""

Extra = Literal["mask", "tissue", "uncertainty", "consistency", "bias", "lesion"]
SegmentExtra = Literal["mask", "tissue", "probseg", "lesion"]
Lesions = Literal["keep", "inpaint"]
SynthesizeExtra = Literal["uncertainty", "lesion"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What everything that runs networks over scans may be told."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""

    threads: int | None = None
    """CPU threads; if not given, as many as cores, or as this process may use."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network; auto is bf16 where the machine has it in hardware."""

    background: Literal["auto", "keep"] = "auto"
    """Background full of noise, as in ratio images of MP2RAGE (UNI): darkened before anything else, or kept."""

    memory: str | None = None
    """Memory to stay under, for instance 1.5GB: networks then work on tiles of the image."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey, in the words the user typed."""
        _ = self.memory_bytes
        if self.threads is not None and self.threads < 1:
            raise wrong("threads", need="a whole number >= 1", got=str(self.threads))

    @property
    def memory_bytes(self) -> int | None:
        """The option `memory`, read; None for no limit."""
        if self.memory is None:
            return None
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])(i?)B?\s*", self.memory, flags=re.IGNORECASE)
        size = 0.0
        if found is not None:
            step = 1024 if found[3] else 1000
            size = float(found[1]) * step ** (2 if found[2].upper() == "M" else 3)
        if size < LEAST_MEMORY:
            need = f"a number of GB or MB, {LEAST_MEMORY / 1e9:g}GB or more, for instance 1.5GB or 1500MB"
            raise wrong("memory", need=need, got=repr(self.memory))
        return int(size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanOptions(RunOptions):
    """What every pipeline over scans may be told."""

    GRIDS: ClassVar[str] = "native, iso, or "
    """What `spacing` may be beside numbers, as a message says it."""

    spacing: str = "native"
    """Output grid: native, iso (the finest voxel side, but 0.8 to 1.2 mm, along all axes), or mm, for instance 1 or
    1,1,2 (left-right, back-front, bottom-top)."""

    frame: int | None = None
    """Frame of a 4-D file, counted from 0."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey, in the words the user typed."""
        super().__post_init__()
        _ = self.spacing_mm
        if self.frame is not None and self.frame < 0:
            raise wrong("frame", need="a whole number >= 0", got=str(self.frame))

    @property
    def spacing_mm(self) -> Literal["native", "iso"] | tuple[float, float, float]:
        """The option `spacing`, read: a word, or mm along the three axes."""
        if self.spacing == "native":
            return "native"
        if self.spacing == "iso":
            return "iso"
        try:
            sizes = [float(word) for word in self.spacing.replace("x", ",").split(",")]
        except ValueError:
            sizes = []
        if len(sizes) == 1:
            sizes *= 3
        if len(sizes) != 3 or not all(math.isfinite(size) and 0.1 <= size <= 15 for size in sizes):
            raise wrong(
                "spacing",
                need=f"{self.GRIDS}one or three voxel sizes from 0.1 to 15 mm",
                got=repr(self.spacing),
                fix='For instance "1" or "1,1,2".',
            )
        return (sizes[0], sizes[1], sizes[2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnhanceOptions(ScanOptions):
    """The same in Python and on the command line."""

    denoise: Literal["auto", "never"] = "auto"
    """Take noise away before anything else: where there is enough to be seen, or never."""

    motion: Literal["keep", "correct"] = "keep"
    """Jumps of the head during the scan: look for them and undo them (experimental; two minutes of a core), or keep
    what they did."""

    bias: Literal["keep", "remove"] = "keep"
    """The bias field, which makes tissue brighter in one place than in another: keep it, or remove it."""

    save: tuple[Extra, ...] = ()
    """Also write: brain mask, tissue labels (1 CSF, 2 gray, 3 white matter), expected absolute error of each voxel,
    what the scan has that the output, acquired once more, has not, bias field, mask of inpainted lesions."""

    lesions: Lesions = "keep"
    """What becomes of lesions. Keep: they stay. Inpaint: what their tissue looks like around them is put in their
    place, in the image and in the labels."""

    lesion_mask: str | None = None
    """Mask of the lesions, to use instead of finding them: an image of the scan's space, of shares from 0 to 1 or
    labels above 0 inside. An empty one says that there are none."""

    mask: str | None = None
    """Brain mask to use instead of our own: an image of the scan's space, above zero inside."""

    weights: str = "default"
    """Name of bundled weights, or path of a .safetensors file."""

    slice_weights: str = "slices"
    """The same for the network that fills in between thick slices."""

    anatomy_weights: str = "anatomy"
    """The same for the network that finds brain and tissues, if they are to be saved or lesions are inpainted."""

    border_weights: str = "borders"
    """The same for the network that draws their borders, if they are to be saved: of the kind that makes T1w images."""

    lesion_weights: str = "lesions"
    """The same for the network that finds lesions, if they are inpainted."""

    def __post_init__(self) -> None:
        """Refuse a mask of lesions that nothing is done with, or that nobody makes."""
        super().__post_init__()
        if self.lesion_mask is not None and self.lesions == "keep":
            fix = "Lesions are kept as they are without a mask; --lesions inpaint fills them in."
            raise wrong("lesion mask", need="lesions inpaint beside it", got="lesions keep", fix=fix)
        if "lesion" in self.save and self.lesions == "keep":
            fix = "To find lesions without a change of the scan: pellucid segment --save lesion."
            raise wrong("save lesion", need="lesions inpaint beside it", got="lesions keep", fix=fix)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentOptions(ScanOptions):
    """The same in Python and on the command line."""

    save: tuple[SegmentExtra, ...] = ()
    """Also write: brain mask (with the CSF around the brain), tissue labels (1 CSF, 2 gray, 3 white matter),
    probabilities of CSF, gray and white matter as three frames, mask of lesions."""

    lesions: Literal["find", "ignore"] = "find"
    """Look for lesions, whose labels are then those of the tissue that they have replaced; or take them for any tissue,
    which saves the time of a small network."""

    lesion_mask: str | None = None
    """Mask of the lesions, to use instead of finding them: an image of the scan's space, of shares from 0 to 1 or
    labels above 0 inside. An empty one says that there are none."""

    weights: str = "anatomy"
    """Name of bundled weights, or path of a .safetensors file."""

    border_weights: str = "borders"
    """The same for the network that draws the borders of tissues: of the kind that makes T1w images."""

    lesion_weights: str = "lesions"
    """The same for the network that finds lesions."""

    def __post_init__(self) -> None:
        """Refuse a mask of lesions that nothing is done with, and to save what is not looked for."""
        super().__post_init__()
        if self.lesion_mask is not None and self.lesions == "ignore":
            fix = "Leave one of the two away."
            raise wrong("lesion mask", need="lesions find beside it", got="lesions ignore", fix=fix)
        if "lesion" in self.save and self.lesions == "ignore":
            raise wrong("save lesion", need="lesions find beside it", got="lesions ignore")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeOptions(ScanOptions):
    """The same in Python and on the command line."""

    spacing: str = "1"
    """Output grid: mm, for instance 1 or 1,1,2 (left-right, back-front, bottom-top), native, or iso (the finest voxel
    side, but 0.8 to 1.2 mm, along all axes)."""

    ct: bool = False
    """The scan is a CT in Hounsfield units: what lies outside of 0 to 80 is cut off."""

    lesions: Lesions = "inpaint"
    """What becomes of lesions. Keep: they are drawn as dark as they usually are. Inpaint: healthy tissue is put in
    their place."""

    lesion_mask: str | None = None
    """Mask of the lesions, to use instead of finding them: an image of the scan's space, of shares from 0 to 1 or
    labels above 0 inside. An empty one says that there are none."""

    flip: bool = True
    """Synthesize the mirrored scan too, and take the mean: a little better and slower; on, unless --no-flip."""

    same_person: bool = False
    """Several scans are of one person, however little alike they look: leave none out."""

    save: tuple[SynthesizeExtra, ...] = ()
    """Also write: expected absolute error of each voxel, mask of the lesions that were inpainted or drawn."""

    weights: str = "t1w"
    """Name of bundled weights, or path of a .safetensors file."""

    anatomy_weights: str = "anatomy"
    """The same for the network that says what lies where."""

    lesion_weights: str = "lesions"
    """The same for the network that finds lesions."""
