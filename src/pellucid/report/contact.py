"""Many pictures on one: for looking at a whole study at once."""

import io
import math
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = (480, 400)
"""Room for each picture, in dots."""
CAPTION = 16


def contact_sheet(pictures: Mapping[str, Path], *, columns: int = 3) -> bytes:
    """Shrink pictures and put them side by side, each with its name above.

    Args:
        pictures: Name -> picture, at least one.
        columns: How many in a row.

    Returns:
        A JPEG file.
    """
    across = min(columns, len(pictures))
    width, height = SIDE[0], SIDE[1] + CAPTION
    page = Image.new("RGB", (across * width, math.ceil(len(pictures) / across) * height), "white")
    draw = ImageDraw.Draw(page)
    for number, (name, path) in enumerate(pictures.items()):
        left, top = number % across * width, number // across * height
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.thumbnail(SIDE, Image.Resampling.LANCZOS)
        page.paste(small, (left + (width - small.width) // 2, top + CAPTION))
        draw.text((left + 4, top + 2), name, fill="black")
    out = io.BytesIO()
    page.save(out, format="JPEG", quality=80)
    return out.getvalue()
