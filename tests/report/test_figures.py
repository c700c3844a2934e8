import io
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pellucid.errors import PellucidError
from pellucid.report import figures
from pellucid.report.figures import PLANES, plane, sheet
from pellucid.report.framing import Column, Frame, frame

SHAPE = (40, 44, 24)
SPACING = (1.0, 1.2, 3.0)


def marked() -> torch.Tensor:
    """A gray brain whose right-anterior-superior eighth is bright."""
    image = torch.zeros(SHAPE)
    image[6:34, 6:38, 3:21] = 60
    image[20:34, 22:38, 12:21] = 120
    return image


def shared(image: torch.Tensor) -> Frame:
    return frame([Column("brain", image)], spacing=SPACING, window=(0.0, 120.0), at=(27, 30, 16))


def pixels(png: bytes) -> NDArray[np.float32]:
    """Gray levels 0..1, first row at the top."""
    return matplotlib.image.imread(io.BytesIO(png))[..., :3].mean(axis=2)


@pytest.mark.parametrize("name", PLANES)
def test_right_anterior_and_superior_are_right_or_up_in_the_picture(name: str) -> None:
    image = marked()
    picture = pixels(plane(Column("brain", image), shared(image), name))
    rows, columns = (size // 2 for size in picture.shape)
    upper_right = picture[:rows, columns:].mean()
    others = picture[:rows, :columns].mean(), picture[rows:, :columns].mean(), picture[rows:, columns:].mean()
    assert upper_right > 1.4 * max(others)


@pytest.mark.parametrize("name", PLANES)
def test_voxels_have_their_true_proportions(name: str) -> None:
    image = marked()
    place = shared(image)
    height, width = pixels(plane(Column("brain", image), place, name)).shape
    extent = [(b - a) * mm for a, b, mm in zip(place.start, place.stop, SPACING, strict=True)]
    _, right, up = PLANES[name]
    assert width / height == pytest.approx(extent[right] / extent[up], rel=0.01)


def test_one_window_for_all_columns() -> None:
    image = marked()
    place = shared(image)
    bright = pixels(plane(Column("a", image), place, "axial"))
    half = pixels(plane(Column("b", image / 2), place, "axial"))
    middle = tuple(size // 2 for size in bright.shape)
    at = (slice(middle[0] - 40, middle[0] - 20), slice(middle[1] + 15, middle[1] + 25))
    assert half[at].mean() == pytest.approx(bright[at].mean() / 2, rel=0.02)


def test_sides_are_lettered() -> None:
    blank = torch.zeros(SHAPE)
    picture = pixels(plane(Column("blank", blank), shared(marked()), "axial"))
    height, width = picture.shape
    edges = {
        "left": picture[height // 3 : -height // 3, : width // 8],
        "right": picture[height // 3 : -height // 3, -width // 8 :],
        "top": picture[: height // 8, width // 3 : -width // 3],
        "bottom": picture[-height // 8 :, width // 3 : -width // 3],
    }
    assert all(edge.max() > 0.5 for edge in edges.values())
    assert picture[height // 4 : -height // 4, width // 4 : -width // 4].max() == 0


def test_difference_is_blue_where_too_dark_and_red_where_too_bright() -> None:
    error = torch.zeros(SHAPE)
    error[:20], error[20:] = -30.0, 30.0
    png = plane(Column("error", error, "difference"), shared(marked()), "axial")
    colors = matplotlib.image.imread(io.BytesIO(png))
    row, width = colors.shape[0] // 3, colors.shape[1]
    red, blue = colors[row, :, 0], colors[row, :, 2]
    assert (blue > red)[20 : width // 2 - 5].all()
    assert (red > blue)[width // 2 + 5 : -20].all()


def test_tissue_is_outlined_in_color() -> None:
    image = marked()
    place = shared(image)
    tissue = torch.zeros(SHAPE, dtype=torch.int32)
    tissue[10:20, 10:20, 5:20] = 2
    at = frame([Column("brain", image)], spacing=SPACING, at=(15, 15, 10))
    plain = matplotlib.image.imread(io.BytesIO(plane(Column("a", image), at, "axial")))
    drawn = matplotlib.image.imread(io.BytesIO(plane(Column("a", image, tissue=tissue), at, "axial")))
    assert np.ptp(plain[..., :3], axis=2).max() < 0.02
    assert np.ptp(drawn[..., :3], axis=2).max() > 0.5
    assert place.start == at.start


def test_sheet_has_a_column_for_every_image() -> None:
    image = marked()
    place = shared(image)
    one = pixels(sheet([Column("a", image)], place))
    three = pixels(
        sheet(
            [
                Column("a", image),
                Column("b", image, tissue=(image > 100).int()),
                Column("a - b", image, "difference"),
            ],
            place,
        )
    )
    assert one[0, 0] == 1
    assert three.shape[1] > 2.5 * one.shape[1]
    assert three.shape[0] > one.shape[0]


def test_same_input_gives_the_same_file() -> None:
    image = marked()
    assert sheet([Column("a", image)], shared(image)) == sheet([Column("a", image)], shared(image))


def test_unknown_plane_is_refused() -> None:
    with pytest.raises(PellucidError, match="one of sagittal, coronal, axial, got 'oblique'"):
        plane(Column("a", marked()), shared(marked()), "oblique")


@pytest.mark.parametrize("size", [60, 150])
def test_the_tissue_key_is_inside_the_sheet_whatever_its_width(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[float] = []
    original = figures._Paper.write

    def write(paper: Any, x: float, y: float, text: str, **style: Any) -> None:
        if text in figures.TISSUE_NAMES.values():
            # About half a letter's height for each letter.
            ends.append((x + 0.5 * len(text) * 8 / 72 * paper.zoom) / paper.width)
        original(paper, x, y, text, **style)

    monkeypatch.setattr(figures._Paper, "write", write)
    image = torch.zeros(size, size + 2, size + 1)
    image[5:-5, 5:-5, 5:-5] = 1.0
    columns = [Column(name, image) for name in "abc"] + [Column("d", image, tissue=image.int())]
    figures.sheet(columns, frame(columns, spacing=(1.0, 1.0, 1.0)))
    assert len(ends) == 3
    assert max(ends) <= 1.0
