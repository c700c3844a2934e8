"""Every picture is on the page, in its place."""

import io
from pathlib import Path

from PIL import Image

from pellucid.report.contact import CAPTION, SIDE, contact_sheet


def test_pictures_stand_in_rows(tmp_path: Path) -> None:
    colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (120, 120, 120))
    pictures = {}
    for name, color in zip("abcd", colors, strict=True):
        pictures[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (960, 800), color).save(pictures[name])
    page = Image.open(io.BytesIO(contact_sheet(pictures)))
    assert page.size == (3 * SIDE[0], 2 * (SIDE[1] + CAPTION))
    for number, color in enumerate(colors):
        x = number % 3 * SIDE[0] + SIDE[0] // 2
        y = number // 3 * (SIDE[1] + CAPTION) + CAPTION + SIDE[1] // 2
        assert all(abs(a - b) < 12 for a, b in zip(page.getpixel((x, y)), color, strict=True))
    assert page.getpixel((2 * SIDE[0], page.size[1] - 5)) == (255, 255, 255)
