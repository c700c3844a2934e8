"""Options as Python users write them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pellucid.config import from_dict
from pellucid.errors import wrong
from pellucid.pipelines.options import RunOptions

MASKS = ("mask", "lesion_mask")
"""Options that name a mask."""
IMAGE = "an image in memory"
"""What records say of a mask that was given as an image."""

Options = TypeVar("Options", bound=RunOptions)


def from_keywords(kind: type[Options], options: Mapping[str, Any]) -> Options:
    """Read options as Python users write them: numbers for `spacing`, a list or a word for `save`, any path.

    Args:
        kind: Which options.
        options: Keyword arguments of `pellucid.enhance` or `pellucid.segment`.

    Returns:
        Checked options.

    Raises:
        PellucidError: If an option is unknown or its value is refused.

    Example:
        >>> from pellucid.pipelines.options import EnhanceOptions
        >>> from_keywords(EnhanceOptions, {"spacing": (1, 1, 2), "save": "mask,tissue"}).save
        ('mask', 'tissue')
    """
    # NumPy's numbers, and sets of names, are what a script has at hand.
    values = {name: _plain(value) for name, value in options.items()}
    if isinstance(values.get("save"), set | frozenset):
        values["save"] = sorted(values["save"])
    spacing, save = values.get("spacing"), values.get("save")
    if isinstance(spacing, int | float):
        values["spacing"] = str(spacing)
    elif isinstance(spacing, Iterable) and not isinstance(spacing, str):
        values["spacing"] = ",".join(str(size) for size in spacing)
    if isinstance(save, str) and "save" in get_type_hints(kind):
        choices = get_args(get_args(get_type_hints(kind)["save"])[0])
        values["save"] = split_choices(save, choices)
    for name, value in values.items():
        if isinstance(value, Path) and (name in (*MASKS, "head") or name.endswith("weights")):
            values[name] = str(value)
    if "device" in values:
        values["device"] = str(values["device"])
    verb = re.sub("(?<=[a-z])(?=[A-Z])", "-", kind.__name__.removesuffix("Options")).lower()
    return from_dict(kind, values, verb)


def _plain(value: Any) -> Any:
    """A scalar of NumPy or torch as Python's own; told by its form, for neither is imported here."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def images_apart(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell masks that Python users give as images from those that are files, which alone an option can name.

    Args:
        options: Keyword arguments of `pellucid.enhance`, `pellucid.segment` or `pellucid.synthesize`.

    Returns:
        The options, with `IMAGE` in place of images; the images, by the names of their options.

    Example:
        >>> images_apart({"mask": "mask.nii.gz", "denoise": "never"})[1]
        {}
    """
    words = (str, Path, type(None))
    images = {name: options[name] for name in MASKS if not isinstance(options.get(name), words)}
    return {**options, **dict.fromkeys(images, IMAGE)}, images


def split_choices(words: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Split the command line's `--save mask,tissue`.

    Args:
        words: Names separated by commas; empty for none.
        choices: Names that there are.

    Returns:
        The names, each once, in the order given.

    Raises:
        PellucidError: If a name is not among the choices.

    Example:
        >>> split_choices("tissue, mask,tissue", ["mask", "tissue"])
        ('tissue', 'mask')
    """
    names = dict.fromkeys(word.strip() for word in words.split(",") if word.strip())
    if not set(names) <= set(choices):
        raise wrong("save", need=f"names among {', '.join(choices)}", got=repr(words))
    return tuple(names)
