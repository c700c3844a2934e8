"""How every page is written: one environment, everything escaped, pictures inside the page."""

import base64
import io
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from jinja2 import Environment

CAVEAT = "Research software, not a medical device. Do not use this page for diagnosis or treatment."


def environment() -> "Environment":
    """The templates, with every text escaped and every unknown name an error.

    Returns:
        An environment with the filters `embed` (a picture as an address that holds it), `size` (its width and height)
        and `link` (a relative address that can never run as a script).
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pellucid.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(embed=_embed, size=_size, link=safe_link)
    made.globals.update(caveat=CAVEAT)
    return made


def safe_link(path: str) -> str:
    """Turn the relative path of a file into an address.

    Args:
        path: As the file system has it, perhaps with a `#part`; any characters.

    Returns:
        A relative address: a colon or a leading slash of the path never makes it a scheme or a host.

    Example:
        >>> safe_link("sub-01.html#scan-2"), safe_link("javascript:alert(1)")
        ('./sub-01.html#scan-2', './javascript%3Aalert%281%29')
    """
    name, mark, part = path.replace("\\", "/").partition("#")
    return f"./{quote(name.lstrip('/'))}{mark}{quote(part)}"


def compact(png: bytes, *, width: int | None = None) -> bytes:
    """Store a picture in fewer bytes: gray where it is gray, else by the 256 colors that fit it best.

    Args:
        png: A PNG file without transparency.
        width: Shrink it to this many dots across; None leaves its size.

    Returns:
        A PNG file.
    """
    from PIL import Image, ImageChops

    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if width is not None and width < picture.width:
        size = (width, max(1, round(width * picture.height / picture.width)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    red, green, blue = picture.split()
    gray = not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox())
    out = io.BytesIO()
    (red if gray else picture.quantize(256)).save(out, format="PNG")
    return out.getvalue()


def _embed(png: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in dots, from the first block: with them the page does not jump while it loads."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
