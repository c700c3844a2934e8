"""Endings of image files. Apart from their formats, so that the command line knows names without reading images."""

from pathlib import Path

WRITABLE = (".nii.gz", ".nii", ".mgz", ".mgh", ".nrrd", ".nhdr")
"""Endings that images are written with."""
ONE_IMAGE = (".nrrd", ".nhdr")
"""Endings of formats that are written with one channel only."""
SECOND_HALVES = (".img.gz", ".img")
"""Endings of files that go with a header of their own: in a folder, the header stands for both."""
ENDINGS = (*WRITABLE, ".hdr.gz", ".hdr", *SECOND_HALVES)
"""Endings that images are read with, longer before shorter."""


def split_suffix(path: str | Path) -> tuple[str, str]:
    """Split a file name into its stem and the ending of its format.

    Args:
        path: A name or path.

    Returns:
        Stem and ending, as it is written; an empty ending if it is not an image's.

    Example:
        >>> split_suffix("data/sub-01_T1w.nii.gz")
        ('sub-01_T1w', '.nii.gz')
    """
    name = Path(path).name
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)], name[len(name) - len(ending) :]


def output_ending(source: str | Path) -> str:
    """Ending of what is made from a file: its own, or NIfTI's if its format is unknown or only read.

    Args:
        source: A name or path.

    Returns:
        One of `WRITABLE`, as it is written in the name.

    Example:
        >>> output_ending("scan.mgz"), output_ending("pair.hdr")
        ('.mgz', '.nii.gz')
    """
    ending = split_suffix(source)[1]
    return ending if ending.lower() in WRITABLE else ".nii.gz"
