"""Names of outputs, BIDS-like everywhere: `sub-01_T1w.nii.gz` becomes `sub-01_desc-enhanced_T1w.nii.gz`."""

from pathlib import Path

from pellucid import endings


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
        >>> output_name("sub-01_T2w.mgz", "enhanced", kind="T1w")
        'sub-01_desc-enhanced_T1w.mgz'
    """
    before, own_kind = split_kind(endings.split_suffix(source)[0])
    ending = endings.output_ending(source)
    return f"{before}_desc-{description}{own_kind if kind is None else f'_{kind}'}{ending}"
