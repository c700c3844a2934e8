import re
from pathlib import Path

import pytest
import torch
from pages import Reader

from pellucid.errors import PellucidError
from pellucid.report.figures import PLANES, plane, sheet
from pellucid.report.framing import Column, frame
from pellucid.report.page import Comparison, Page, Panel, metric_rows, render, write


def page() -> Page:
    image = torch.rand(20, 24, 16, generator=torch.Generator().manual_seed(0))
    shared = frame([Column("a", image)], spacing=(1.0, 1.2, 3.0))
    png = {name: plane(Column("a", image), shared, name) for name in PLANES}
    return Page(
        title="A <title> & more",
        lead="It went well.",
        comparison=Comparison(
            "Before and after",
            "old",
            "new",
            {name: (one, one) for name, one in png.items()},
            "Look.",
            "Gone.",
        ),
        panels=(Panel("Planes", sheet([Column("a", image)], shared), "three planes", "Read.", "Smear."),),
        images=("old", "new"),
        rows=metric_rows({"old": {"psnr": 20.0, "nrmse": 0.1}, "new": {"psnr": 25.0, "nrmse": 0.05}}),
        rows_note="In the brain.",
        steps=("First this.", "Then that."),
        record={"input": "<script>alert(1)</script>", "seconds": 3.5},
        versions={"pellucid": "0.1.0"},
        files=("truth.nii.gz",),
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render(page())


@pytest.fixture(scope="module")
def reader(html: str) -> Reader:
    read = Reader()
    read.feed(html)
    return read


def test_every_tag_is_closed(reader: Reader) -> None:
    assert reader.open == []


def test_nothing_is_loaded_from_elsewhere(html: str, reader: Reader) -> None:
    for tag, attributes in reader.tags:
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,"), tag
        assert tag not in ("link", "iframe", "object", "embed")
    scripts = [attributes for tag, attributes in reader.tags if tag == "script"]
    assert scripts == [{}]
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_text_is_escaped(html: str) -> None:
    assert "A &lt;title&gt; &amp; more" in html
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_says_what_a_reader_must_know(html: str) -> None:
    assert html.count("not a medical device") == 2
    assert html.count("How to read it.") == html.count("What a fault looks like.") == 2
    for words in ("First this.", "pellucid 0.1.0", "In the brain.", "truth.nii.gz", "&#34;seconds&#34;: 3.5"):
        assert words in html


def test_can_be_used_without_mouse_or_eyes(reader: Reader) -> None:
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(images) == 7
    assert all(attributes["alt"] and int(attributes["width"]) > 0 for attributes in images)
    sliders = [attributes for tag, attributes in reader.tags if tag == "input"]
    assert [slider["type"] for slider in sliders] == ["range"]
    assert ("html", {"lang": "en"}) in reader.tags


def test_slider_sits_in_a_label_that_names_both_images(html: str) -> None:
    label = re.search(r"<label.*?</label>", html, flags=re.S)
    assert label is not None
    assert "<input" in label[0]
    assert "old" in label[0]
    assert "new" in label[0]


def test_the_better_value_is_marked_in_the_metric_s_direction() -> None:
    rows = {row.name: row for row in page().rows}
    assert rows["PSNR"].values == ("20.00 dB", "25.00 dB")
    assert rows["PSNR"].best == 1
    assert rows["NRMSE"].best == 1
    worse = metric_rows({"old": {"psnr": 25.0, "nrmse": 0.05}, "new": {"psnr": 20.0, "nrmse": 0.1}})
    assert [row.best for row in worse] == [0, 0]
    assert metric_rows({"old": {"ssim": 0.5}, "new": {"ssim": 0.5}})[0].best is None


def test_metrics_that_one_image_lacks_are_left_out_and_unknown_ones_refused() -> None:
    assert [row.name for row in metric_rows({"a": {"ssim": 0.5, "psnr": 9.0}, "b": {"ssim": 0.4}})] == [
        "SSIM"
    ]
    with pytest.raises(PellucidError, match=r"need metrics among .* got sharpness"):
        metric_rows({"a": {"sharpness": 1.0}})


def test_an_empty_page_is_still_a_page() -> None:
    read = Reader()
    read.feed(render(Page("Nothing", "Nothing was done.")))
    assert read.open == []
    assert not [tag for tag, _ in read.tags if tag in ("img", "table", "figure")]


def test_writing_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    small = Page("One", "First.")
    assert write(small, target) == target
    with pytest.raises(PellucidError, match="need a new file"):
        write(Page("Two", "Second."), target)
    assert "First." in target.read_text(encoding="utf-8")
    write(Page("Two", "Second."), target, force=True)
    assert "Second." in target.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
