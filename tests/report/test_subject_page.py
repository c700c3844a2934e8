import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pages import AFFINE, NASTY, head, read, record, row, story
from PIL import Image

from pellucid.report.doing import citations, doing, weights_used
from pellucid.report.panels import SLICES, draw
from pellucid.report.story import ScanStory
from pellucid.report.subject import render, section, subject_page
from pellucid.weights import available


def pixels(png: bytes) -> NDArray[np.int16]:
    """Colors 0 to 255, whatever the file stores."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int16)


@pytest.fixture(scope="module")
def html() -> str:
    """Everything at once: a scan that went well, a synthetic one, one that failed; words that want to break out."""
    segment = {"pipeline": "segment", "certainty": 0.8, "tissue_ml": {"GM": 700.0}, "intracranial_ml": 1400.0}
    finding = {"code": "x", "level": "info", "message": f"Description: {NASTY}"}
    good = story(
        title=NASTY,
        records=[segment, record(findings=[finding])],
        quality_before={"snr": 5.0, NASTY: 1.0},
        quality_after={"snr": 30.0},
    )
    synthetic = story(title="sub-01 T2w", same_contrast=False, after_name="synthetic T1w", uncertainty=None)
    failed = ScanStory(title="sub-01 FLAIR", failure=f"The file is cut off: {NASTY}")
    rows = [row(number) for number in range(12)]
    return subject_page([good, synthetic, failed], group=rows, title=NASTY, notes=[NASTY])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"consistency": {"agrees": True}}, "compared it with the scan: it agrees."),
        ({"consistency": {"agrees": False}}, "compared it with the scan: it contradicts it."),
        ({}, "Left the bias field as it is."),
        ({"options": {"bias": "remove"}}, "Removed the bias field."),
    ],
)
def test_the_last_steps_are_told_in_words(more: dict[str, Any], words: str) -> None:
    steps = doing(record(seconds={"check": 1.0, "bias": 0.0, "total": 1.0}, **more)).steps
    assert words in " ".join(step.words for step in steps)


def test_is_whole_and_loads_nothing(html: str) -> None:
    reader = read(html)
    assert [slider["type"] for slider in reader.all("input")] == ["range", "range"]
    # Of the first: two for the slider, tissues, change, uncertainty; the second has neither change nor uncertainty.
    assert len(reader.all("img")) == 3 * 5 + 3 * 3 + 2 * (SLICES + 1)
    assert len(html) < 2_000_000


def test_text_never_becomes_markup(html: str) -> None:
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert") >= 5
    assert "Zoë" in html and "脳" in html


def test_says_verdicts_reasons_and_history(html: str) -> None:
    assert "3 images: 2 usable, 1 do not use." in html
    for words in (
        "Nothing was made of this scan.",
        "Measured the noise (3.4 % of the intensity range) and took it away.",
        "6.64 s in all, at most 1.5 GB of memory, on cpu, threads: 1, bf16",
        "2026-11-22 06:18:19 UTC",
        "higher than 100 % of 12 scans",
        "The pellucid developers.",
        "doi:10.1038/s41551-024-01283-7",
        "Not bundled with this version.",
        "a" * 64,
        "1400 ml",
        "The header was not audited.",
        "pellucid 0.1.0",
    ):
        assert words in html


def test_every_picture_says_how_to_read_it(html: str) -> None:
    captions = html.count("<figure")
    assert captions == 4 + 2 + 2 + 2
    assert html.count("How to read it.") == html.count("What a fault looks like.") == captions


def test_a_person_without_scans_or_with_failures_only_still_has_a_page() -> None:
    read(subject_page([], title="sub-09"))
    assert "nothing was made" in subject_page([])
    html = subject_page([ScanStory(title=f"scan {n}", failure="No brain.") for n in (1, 2)])
    assert not read(html).all("img")
    assert html.count("Nothing was made of this scan.") == 2
    assert "2 images: 2 do not use." in html


@pytest.mark.parametrize(
    "images",
    [
        {"before": np.arange(6.0).reshape(1, 2, 3)},
        {"before": np.zeros((2, 3, 4)), "after": np.zeros((2, 3, 4)), "tissue": np.zeros((2, 3, 4))},
        {"before": np.full((2, 3, 4), np.nan), "after": np.ones((2, 3, 4)), "mask": np.ones((2, 3, 4))},
        {"after": np.arange(24.0).reshape(2, 3, 4), "uncertainty": np.zeros((2, 3, 4))},
        {"tissue": np.ones((2, 3, 4))},
    ],
)
def test_tiny_and_broken_images_are_drawn(images: dict[str, Any]) -> None:
    read(subject_page([ScanStory(title="tiny", affine=AFFINE, **images)]))


def test_scans_are_asked_for_one_by_one() -> None:
    alive = []

    def stories() -> Any:
        for number in range(3):
            alive.append(number)
            yield ScanStory(title=f"scan {number}", failure="none")

    assert "scan 2" in subject_page(stories())
    assert alive == [0, 1, 2]


def test_untouched_images_have_words_in_place_of_a_blank_picture() -> None:
    same = draw(story(after=head()["before"]))
    assert same.notes == ("Nothing was changed: before and after are the same in every voxel.",)
    assert "What was changed" not in [trio.title for trio in same.trios]
    assert draw(story()).notes == ()


def test_colors_of_a_change_reach_as_far_as_the_change() -> None:
    """The change is scaled to a tenth: so are the ends of its colors."""
    images = head()
    small = images["before"] + 0.1 * (images["after"] - images["before"])
    for after, most in ((images["after"], 5), (small, 1)):
        change = next(trio for trio in draw(story(after=after)).trios if trio.title == "What was changed")
        assert change.ramp is not None
        percent = int(change.ramp.low.split(" ")[0])
        assert percent == -most
        assert np.ptp(pixels(change.planes["axial"]), axis=2).max() > 100


def test_tissues_are_drawn_on_the_scan_as_it_came() -> None:
    """An after of zeros must not hide what the labels were found in."""
    tissues = draw(story(after=head()["after"] * 0 + 1.0)).trios[0]
    plain = draw(story(after=None, tissue=None, mask=None, uncertainty=None)).trios[0]
    assert (tissues.title, plain.title) == ("Tissues", "The scan")
    drawn, bare = (pixels(one.planes["axial"]).mean() for one in (tissues, plain))
    assert drawn == pytest.approx(bare, rel=0.15)


def test_numbers_that_only_one_image_has_leave_a_blank() -> None:
    one = section(story(quality_before={"fber": 10.0}, quality_after={"efc": 0.5}))
    rows = {row_.title: (row_.before, row_.after, row_.group) for row_ in one.quality}
    assert rows["FBER"] == ("10", "", "")
    assert rows["EFC"] == ("", "0.5", "")
    assert not one.compared


def test_bundled_weights_come_with_their_limits() -> None:
    entry = available()[0]
    used = weights_used([record(weights={"name": "default", "sha256": entry.sha256, "file": "x"}), record()])
    assert [one.name for one in used] == ["default", "mine"]
    assert used[0].limits == entry.limits
    assert all(entry.limits for entry in available())


def test_thick_slices_are_told_as_they_were_treated() -> None:
    thick = record(
        slices={"thick": True, "filled_in": True, "changed_by_network": False},
        seconds={"prepare": 1, "predict": 2},
    )
    words = [step.words for step in doing(thick).steps]
    assert "Inferred what lies between the thick slices" in words[0]
    assert "without the enhancing network, because the slices are thick" in words[1]
    assert doing({}).steps == ()


def test_only_what_was_used_is_cited() -> None:
    assert len(citations([])) == 1
    assert [("PRI" in words or "non-local" in words) for words in citations([record()])] == [
        False,
        True,
        False,
    ]
    quiet = record(noise={"share": 0.001, "removed": False})
    assert not any("non-local" in words for words in citations([quiet]))


def test_the_code_of_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "report.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "report.md", "exec"), {})
    for name in ("sub-02.html", "group.html"):
        assert "The file is cut off." in (tmp_path / name).read_text(encoding="utf-8")


def test_sections_can_be_made_in_other_processes() -> None:
    """A section is small plain data: no voxels travel, and the page is the same."""
    sent = pickle.dumps(section(story()))
    assert render([pickle.loads(sent)], title="sub-01") == subject_page([story()], title="sub-01")
