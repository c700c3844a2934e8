import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.apps import report_page
from pellucid.cli import main
from pellucid.errors import PellucidError
from pellucid.io import nifti, resample
from pellucid.pipelines.record import Run, describe, describe_weights
from pellucid.pipelines.result import Result


def leave(pipeline: str, scan: Path, out: Path, **more: Any) -> Path:
    """What a run of a pipeline leaves behind, by the package's own writer; the image is the scan, a little darker."""
    volume = nifti.load(scan)
    labels = volume.with_data((volume.data / volume.data.max() * 3.4).round().clamp(0, 3))
    run = Run(pipeline)
    run.notes |= {"output_grid": describe(volume.grid), **more}
    record = run.record(volume, {"frame": None})
    image, kind = volume.with_data(volume.data * 0.9), None
    if pipeline == "segment":
        image, kind = volume.with_data(labels.data * 10 + 11), "dseg"
    result = Result(image, labels, None, record=record, kind=kind)
    if pipeline == "synthesize":
        result = replace(
            result, kind="T1w", description="synthetic", uncertainty=volume, extras=("uncertainty",)
        )
    elif pipeline == "segment":
        result = replace(result, description="structures", extras=("tissue",))
    return next(path for path in result.save(out) if path.suffix == ".json")


@pytest.fixture
def flair(scan: Path) -> Path:
    return shutil.copy(scan, scan.with_name("sub-01_FLAIR.nii.gz"))


def test_what_segment_found_is_drawn_beside_what_enhance_made(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    records = [
        leave("enhance", scan, out),
        leave("segment", scan, out, certainty=0.8, tissue_ml={"GM": 600.0}, intracranial_ml=1400.0),
    ]
    page = report_page.run(records, tmp_path / "page.html")
    html = page.read_text(encoding="utf-8")
    assert html.count('<section class="scan" aria-labelledby="scan-') == 1
    for words in (
        "<h1>sub-01_T1w</h1>",
        "sub-01_T1w, enhanced",
        ">Tissues</h3>",
        "600 ml",
        ">What was changed</h3>",
    ):
        assert words in html
    story = next(report_page.stories([report_page.open_record(path) for path in records]))
    assert story.quality_after["change"] == pytest.approx(10 * 0.55, rel=0.5)
    assert {"snr", "cjv", "fwhm"} <= set(story.quality_before)
    assert story.suffix == "T1w"


def test_every_image_has_a_part_and_synthetic_ones_are_not_subtracted(
    scan: Path, flair: Path, tmp_path: Path
) -> None:
    records = [leave("synthesize", flair, tmp_path / "out"), leave("segment", scan, tmp_path / "out")]
    story = next(report_page.stories([report_page.open_record(record) for record in records]))
    # Its numbers are no company for those of real T1w images, nor of FLAIR.
    assert story.suffix == "T1w from FLAIR"
    html = report_page.run(records, tmp_path / "page.html", title="sub-01").read_text(encoding="utf-8")
    assert "<h1>sub-01</h1>" in html
    # Same bytes, so the same scan: segment lends its labels, and has no part of its own.
    assert html.count('<section class="scan" aria-labelledby="scan-') == 1
    assert ">Uncertainty</h3>" in html and ">Tissues</h3>" in html
    assert ">What was changed</h3>" not in html
    assert 'alt="axial plane, synthetic T1w"' in html


def test_a_scan_that_was_only_segmented_has_a_part(scan: Path, tmp_path: Path) -> None:
    record = leave("segment", scan, tmp_path / "out")
    html = report_page.run([record], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "sub-01_T1w, segmented" in html and ">Tissues</h3>" in html
    assert 'class="compare"' not in html


def test_a_folder_may_be_moved(scan: Path, tmp_path: Path) -> None:
    record = leave("enhance", scan, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / record.name
    opened = report_page.open_record(moved)
    assert opened.outputs["image"].parent == tmp_path / "elsewhere"


def test_a_scan_is_found_from_another_folder_than_that_of_the_command(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records hold paths as they were typed."""
    home, elsewhere = scan.parent, tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    record = leave("enhance", Path(scan.name), home / "deep" / "out")
    monkeypatch.chdir(elsewhere)
    assert report_page.open_record(record).inputs == (home / scan.name,)


def test_files_that_have_changed_are_refused(scan: Path, tmp_path: Path) -> None:
    record = leave("enhance", scan, tmp_path / "out")
    image = report_page.open_record(record).outputs["image"]
    data = image.read_bytes()
    volume = nifti.load(image)
    nifti.save(volume.with_data(volume.data + 1), image, force=True)
    with pytest.raises(
        PellucidError, match=r"need its image output .* as it was when .* got a file that has changed"
    ):
        report_page.open_record(record)
    image.write_bytes(data)
    report_page.open_record(record)
    before = nifti.load(scan)
    nifti.save(before.with_data(before.data + 1), scan, force=True)
    with pytest.raises(PellucidError, match=r"need its input .* got a file that has changed since"):
        report_page.open_record(record)


def test_files_that_are_gone_are_refused(scan: Path, tmp_path: Path) -> None:
    record = leave("enhance", scan, tmp_path / "out")
    report_page.open_record(record).outputs["image"].unlink()
    with pytest.raises(
        PellucidError, match=r"need its image output .*, got no file of this name beside .* Put it back"
    ):
        report_page.run([record], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_records_without_hashes_are_used_with_a_warning(
    scan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = leave("enhance", scan, tmp_path / "out")
    old = json.loads(record.read_text(encoding="utf-8"))
    del old["outputs_sha256"]
    record.write_text(json.dumps(old), encoding="utf-8")
    html = report_page.run([record], tmp_path / "page.html").read_text(encoding="utf-8")
    words = "was written by a version that did not note the hashes"
    assert words in html
    assert words in caplog.text


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("no json", "got damage"),
        ("[1]", "got something else"),
        ('{"pipeline": "degrade"}', "got one of 'degrade'"),
        ('{"pipeline": "enhance"}', "got an incomplete one"),
        (
            '{"pipeline": "enhance", "inputs": [{"path": null}], "outputs": {"image": "x.nii"}}',
            "only in memory",
        ),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, text: str, got: str) -> None:
    record = tmp_path / "record.json"
    record.write_text(text, encoding="utf-8")
    with pytest.raises(PellucidError, match=got):
        report_page.open_record(record)


def test_the_command_writes_the_page_and_never_replaces_one_unasked(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, page = leave("enhance", scan, tmp_path / "out"), tmp_path / "page.html"
    assert main(["report", str(record), "-o", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert main(["report", str(record), "-o", str(page)]) == 2
    assert "need a new file" in capsys.readouterr().err
    assert main(["report", str(record), "-o", str(page), "--force", "-q"]) == 0
    assert main(["report", str(record), "-o", str(tmp_path / "page.png")]) == 2
    assert "need a name ending in .html" in capsys.readouterr().err


def test_a_record_of_the_writer_says_the_hashes_of_all_outputs(scan: Path, tmp_path: Path) -> None:
    record = json.loads(leave("synthesize", scan, tmp_path / "out").read_text(encoding="utf-8"))
    assert set(record["outputs_sha256"]) == set(record["outputs"]) - {"record"} == {"image", "uncertainty"}
    assert torch.tensor([len(digest) for digest in record["outputs_sha256"].values()]).eq(64).all()


def test_a_scan_on_a_finer_grid_is_drawn_beside_the_scan_and_told_of(scan: Path, tmp_path: Path) -> None:
    volume = nifti.load(scan)
    grid = resample.spaced_grid(volume.grid, (0.9, 1.1, 1.4))
    run = Run("super-resolve")
    with run.step("predict"):
        finer = resample.to_grid(volume, grid, order=3)
    run.notes |= {"output_grid": describe(finer.grid), "weights": describe_weights("slices")}
    result = Result(finer, None, None, record=run.record(volume, {}), description="superresolved")
    (record,) = (path for path in result.save(tmp_path / "out") if path.suffix == ".json")
    (story,) = report_page.stories([report_page.open_record(record)])
    assert story.suffix == "T1w on a finer grid", "its numbers are no company for those of scans as they are"
    before, after = story.image("before"), story.image("after")
    assert before is not None and after is not None and before.shape == after.shape == grid.shape
    assert torch.allclose(before, after, atol=1e-2 * float(after.max())), (
        "the scan is brought to the finer grid"
    )
    html = report_page.run([record], tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'alt="axial plane, super-resolved"' in html and ">What was changed</h3>" in html
    assert "Inferred the finer voxels along each axis" in html and "<b>slices</b>" in html
