"""What a run of `enhance` may be told: the one definition behind Python, the command line and the record."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pellucid.config import from_dict
from pellucid.errors import PellucidError, wrong

Extra = Literal["mask", "tissue", "t1w"]


@dataclasses.dataclass(frozen=True)
class EnhanceOptions:
    """The same in Python and on the command line."""

    contrast: Literal["same", "t1w"] = "same"
    """Contrast of the output: that of the input, or T1-weighted."""

    spacing: str = "native"
    """Output grid: native, iso (the finest voxel side, but 0.8 to 1.2 mm, along all axes), or mm, for instance 1 or
    1,1,2 (left-right, back-front, bottom-top)."""

    denoise: Literal["auto", "never"] = "auto"
    """Take noise away before anything else: where there is enough to be seen, or never."""

    save: tuple[Extra, ...] = ()
    """Also write: brain mask, tissue labels (1 CSF, 2 gray, 3 white matter), T1-weighted version."""

    mask: str | None = None
    """Brain mask to use instead of our own: an image of the scan's space, above zero inside."""

    frame: int | None = None
    """Frame of a 4-D file, counted from 0."""

    weights: str = "default"
    """Name of bundled weights, or path of a .safetensors file."""

    slice_weights: str = "slices"
    """The same for the network that fills in between thick slices."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""

    threads: int | None = None
    """CPU threads; torch's choice if not given."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network; auto is bf16 where the machine has it in hardware."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey, in the words the user typed."""
        _ = self.spacing_mm
        if self.frame is not None and self.frame < 0:
            raise wrong("frame", need="a whole number >= 0", got=str(self.frame))
        if self.threads is not None and self.threads < 1:
            raise wrong("threads", need="a whole number >= 1", got=str(self.threads))

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
                need="native, iso, or one or three voxel sizes from 0.1 to 15 mm",
                got=repr(self.spacing),
                fix='For instance "1" or "1,1,2".',
            )
        return (sizes[0], sizes[1], sizes[2])


def from_keywords(options: Mapping[str, Any]) -> EnhanceOptions:
    """Read options as Python users write them: numbers for `spacing`, a list or a word for `save`, any path.

    Args:
        options: Keyword arguments of `pellucid.enhance`.

    Returns:
        Checked options.

    Raises:
        PellucidError: If an option is unknown or its value is refused.

    Example:
        >>> from_keywords({"spacing": (1, 1, 2), "save": "mask,tissue"}).save
        ('mask', 'tissue')
    """
    values = dict(options)
    spacing, save = values.get("spacing"), values.get("save")
    if isinstance(spacing, int | float):
        values["spacing"] = str(spacing)
    elif isinstance(spacing, Iterable) and not isinstance(spacing, str):
        values["spacing"] = ",".join(str(size) for size in spacing)
    if isinstance(save, str):
        values["save"] = split_extras(save)
    for name in ("mask", "weights", "slice_weights"):
        if isinstance(values.get(name), Path):
            values[name] = str(values[name])
    if "device" in values:
        values["device"] = str(values["device"])
    return from_dict(EnhanceOptions, values, "enhance")


def split_extras(words: str) -> tuple[Extra, ...]:
    """Split the command line's `--save mask,tissue`.

    Args:
        words: Names separated by commas; empty for none.

    Returns:
        The names, each once, in the order given.

    Raises:
        PellucidError: If a name is not one of mask, tissue, t1w.
    """
    names = dict.fromkeys(word.strip() for word in words.split(",") if word.strip())
    try:
        return from_dict(EnhanceOptions, {"save": list(names)}, "enhance").save
    except PellucidError as problem:
        raise wrong("save", need="names among mask, tissue, t1w", got=repr(words)) from problem
