"""Names of outputs, BIDS-like everywhere: `sub-01_T1w.nii.gz` becomes `sub-01_desc-enhanced_T1w.nii.gz`."""

import re
from collections.abc import Sequence
from pathlib import Path

from pellucid import endings
from pellucid.errors import wrong

EXTRAS: dict[str, tuple[str, str | None]] = {
    "mask": ("brain", "mask"),
    "tissue": ("tissue", "dseg"),
    "probseg": ("tissue", "probseg"),
    "lesion": ("lesion", "mask"),
    "uncertainty": ("uncertainty", None),
    "consistency": ("consistency", None),
    "bias": ("bias", None),
}
"""Description and kind in the name of each extra output, in an output folder; without a kind, that of the image."""

FRAMES = "feat"
"""Kind of an image that is many frames, which not all formats hold."""


def split_kind(stem: str) -> tuple[str, str]:
    """Split off the last word of a stem, BIDS's "suffix", which says what kind of image it is.

    Args:
        stem: A file name without its ending.

    Returns:
        What comes before, and the kind with its underscore; the stem and nothing if it has no kind.

    Example:
        >>> split_kind("sub-01_T1w"), split_kind("scan"), split_kind("scan_2")
        (('sub-01', '_T1w'), ('scan', ''), ('scan_2', ''))
    """
    before, _, last = stem.rpartition("_")
    is_kind = bool(before) and "-" not in last and last[:1].isalpha()
    return (before, f"_{last}") if is_kind else (stem, "")


def output_name(source: str | Path, description: str, *, kind: str | None = None) -> str:
    """Name the output made from an input, in the input's format.

    Args:
        source: Name or path of the input.
        description: What was done, for instance "enhanced".
        kind: Kind of the output if it is not that of the input, for instance "T1w".

    Returns:
        A file name; inputs of a format that is unknown or only read (header and image apart) give NIfTI.

    Example:
        >>> output_name("sub-01_T2w.mgz", "enhanced")
        'sub-01_desc-enhanced_T2w.mgz'
        >>> output_name("sub-01_T2w.mgz", "brain", kind="mask")
        'sub-01_mod-T2w_desc-brain_mask.mgz'
    """
    before, own_kind = split_kind(endings.split_suffix(source)[0])
    if kind is not None and own_kind not in ("", f"_{kind}"):
        # What is made from the T2w and from the FLAIR of one person needs two names.
        before = f"{before}_mod-{own_kind[1:]}"
    return f"{before}_desc-{description}{own_kind if kind is None else f'_{kind}'}{endings.output_ending(source)}"


def is_file(out: Path) -> bool:
    """Whether an output is meant as one image file; else it is a folder, which need not exist yet.

    Args:
        out: As the user named it.

    Returns:
        True for a name with an image's ending.

    Raises:
        PellucidError: If the name ends like a file, but not like an image that can be written.
    """
    ending = endings.split_suffix(out)[1].lower()
    if out.is_dir():
        return False
    if ending in endings.WRITABLE:
        return True
    looks_like_file = re.fullmatch(r"\.[a-zA-Z][a-zA-Z0-9]{1,4}", out.suffix) is not None
    if ending or out.is_file() or looks_like_file:
        raise wrong(
            str(out),
            need=f"a name ending in {', '.join(endings.WRITABLE)}, or a folder",
            got=f"'{ending or out.suffix}'",
            fix="If it is to be a folder, make it first.",
        )
    return False


def output_paths(
    source: str | Path,
    out: Path,
    description: str,
    *,
    extras: Sequence[str] = (),
    kind: str | None = None,
    table: bool = False,
) -> dict[str, Path]:
    """Say where everything goes that is made from one input.

    Args:
        source: Name or path of the input.
        out: An image file, or a folder.
        description: What was done, for instance "enhanced".
        extras: Which of `EXTRAS` are written too.
        kind: Kind of the image if it is not that of the input.
        table: Whether a table (TSV) is written beside the image.

    Returns:
        Paths of the "image", of each extra, of the "table", and of the "record".

    Raises:
        PellucidError: As `is_file`; or if the format of the file cannot hold what it is to hold.

    Example:
        >>> paths = output_paths("sub-01_T2w.nii", Path("out.nii.gz"), "enhanced", extras=["mask"])
        >>> [str(path) for path in paths.values()]
        ['out.nii.gz', 'out_mask.nii.gz', 'out.json']
    """
    single = is_file(out)
    if single:
        stem, ending = endings.split_suffix(out)
        image = out
        more = {name: out.with_name(f"{stem}_{name}{ending}") for name in extras}
    else:
        image = out / output_name(source, description, kind=kind)
        more = {
            name: out / output_name(source, EXTRAS[name][0], kind=EXTRAS[name][1] or kind) for name in extras
        }
    if kind == FRAMES and endings.split_suffix(image)[1].lower() in endings.ONE_IMAGE:
        if single:
            raise wrong(str(out), need="NIfTI or MGH for many frames", got=f"'{out.suffix}'")
        image = image.with_name(f"{endings.split_suffix(image)[0]}.nii.gz")
    if "probseg" in more and endings.split_suffix(image)[1].lower() in endings.ONE_IMAGE:
        # Several frames in one file: NIfTI where the format of the image has none.
        more["probseg"] = more["probseg"].with_name(f"{endings.split_suffix(more['probseg'])[0]}.nii.gz")
    stem = endings.split_suffix(image)[0]
    tables = {"table": image.with_name(f"{stem}.tsv")} if table else {}
    return {"image": image, **more, **tables, "record": image.with_name(f"{stem}.json")}
