"""Pages of a study: the numbers of the table, what failed and why, the same bytes every time."""

import csv
import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.apps.bids import reports, run, work
from pellucid.apps.bids.found import OWN_NUMBERS, recorded, subjects_of, units_of
from pellucid.apps.bids.group import gaps, write_group
from pellucid.apps.bids.options import StudyOptions
from pellucid.apps.bids.quality import compared, judged
from pellucid.apps.bids.scan import Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.bids.tasks import Step, _images, _maps, _trusted
from pellucid.apps.bids.work import do
from pellucid.apps.stories import scan_stories
from pellucid.errors import PellucidError
from pellucid.io.volume import Volume
from pellucid.pipelines.consistency import CONTRADICTS
from pellucid.pipelines.record import Run, describe
from pellucid.pipelines.result import Result
from pellucid.report.standing import written

CHECK = {"residual": 0.06, "unexplained": 0.0512, "largest_block": 0.0345}
DOUBT = "the network never saw a head like this"


@pytest.fixture
def study(dataset, phantom: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Three participants, of whom one is broken; tasks without networks, but with the records of the real ones."""
    root = dataset("sub-01_ses-a_T1w", "sub-02_T2w", "sub-03_T1w")
    broken = root / "sub-03/anat/sub-03_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])

    def steps(unit: Unit, volumes: Sequence[Volume], study: Study) -> Iterator[Step]:
        scan, grid = volumes[0], volumes[0].grid
        tissue = Volume(phantom[None].float(), grid)
        chances = Volume(torch.stack([(phantom == n).float() for n in (1, 2, 3)]), grid)
        clear = scan.with_data(scan.data * 0.9)
        before = judged(scan, Result(tissue, tissue, tissue, {}))
        for verb in ("segment", "enhance", "synthesize"):
            clock = Run(verb)
            with clock.step("predict"):
                clock.notes["output_grid"] = describe(grid)
            if verb == "segment":
                sizes = {"CSF": 300.0, "GM": 600.5, "WM": 500.0}
                clock.notes |= {
                    "certainty": 0.81,
                    "tissue_ml": sizes,
                    "intracranial_ml": 1400.5,
                    "lesion_ml": 4.25,
                }
                numbers = {"certainty": 0.81, "intracranial_ml": 1400.5, "lesion_ml": 4.25}
                numbers |= {f"{name}_ml": value for name, value in sizes.items()}
                numbers |= {f"{name}_before": value for name, value in before.items()}
                labels = Result(tissue, tissue, tissue, clock.record(scan, {}), probseg=chances)
                yield Step(verb, _maps(unit.scan, labels, None), labels.record, numbers)
            elif verb == "enhance":
                clock.notes["noise"] = {"share": 0.02345, "removed": False}
                clock.notes["consistency"] = {**CHECK, "agrees": unit.scan.subject != "02"}
                clock.notes["uncertainty"] = {"expected_error": 0.0312}
                found = compared(scan, clear, labels, before) | {"noise_before": 2.345}
                made = Result(clear, tissue, tissue, clock.record(scan, {}))
                found |= _trusted(made.record)
                yield Step(verb, _images(unit.scan, made, labels, None, found["qi"]), made.record, found)
            elif unit.scan.suffix != "T1w":
                clock.warnings.append(f"{unit.scan.path}: {DOUBT}")
                clock.notes["quality"] = [{"expected_error": 7.5}]
                yield Step(verb, [], clock.record(scan, {}), {"synth_expected_error": 7.5})

    monkeypatch.setattr(work, "steps", steps)
    return Study(str(root), str(tmp_path / "out"), StudyOptions(), "pellucid bids raw out participant")


def units(study: Study) -> list[Unit]:
    from pellucid.apps.bids.layout import find_scans

    pytest.importorskip("bids")
    return [
        Unit((scan,), ("enhance", "segment", "synthesize"), 1.0)
        for scan in find_scans(Path(study.root), study.options)
    ]


def pages(study: Study) -> dict[str, str]:
    """All pages of participants and of the group, with `iqm.tsv`."""
    root, out = Path(study.root), Path(study.out)
    write_group(root, out)
    reports.group_pages(root, out)
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir() if path.is_file()}


def table(study: Study) -> dict[str, dict[str, str]]:
    lines = (Path(study.out) / "iqm.tsv").read_text(encoding="utf-8").splitlines()
    return {row["scan"]: row for row in csv.DictReader(lines, delimiter="\t")}


def test_pages_have_the_numbers_of_the_table_and_the_reasons_of_failures(study: Study) -> None:
    for unit in units(study):
        do(unit, study)
    found = pages(study)
    one, rows = found["sub-01.html"], table(study)
    row = rows["sub-01_ses-a_T1w"]
    assert row["noise_before"] == "2.345" and float(row["change_after"]) > 1
    for name, unit in (("noise_before", "%"), ("change_after", "%"), ("snr_before", ""), ("tct_after", "")):
        assert f'<td class="value">{written(row[name], unit)}</td>' in one, name
    told = [
        row[name]
        for name in ("unexplained_after", "largest_block_after", "inferred_error_after", "lesion_ml")
    ]
    assert told == ["5.12", "3.45", "3.12", "4.25"] and row["agrees_with_scan"] == "True"
    for shown in ("5.12 %", "3.45 %", "3.12 %", "4.2 ml"):
        assert f'<td class="value">{shown}</td>' in one
    assert "4.2 ml of lesions were found" in one and "contradicts" not in one
    assert (
        "The enhanced image contradicts its scan: acquired once more it differs by 5.1 %"
        in found["sub-02.html"]
    )
    assert "contradicts its scan" in found["group.html"] and rows["sub-02_T2w"]["agrees_with_scan"] == "False"
    assert f"{float(row['GM_ml']):.0f} ml" in one and "Ran the enhancing network." in one
    assert "age 30 years, read from &#39;30 (years" in one and "logs/sub-01/" in one
    assert (
        "need a complete gzip file" in found["sub-03.html"]
        and "need a complete gzip file" in found["group.html"]
    )
    links = set(re.findall(r'href="\./(sub-[^"]+)"', found["group.html"]))
    assert links == {"sub-01.html#scan-1", "sub-02.html#scan-1", "sub-02.html#scan-2", "sub-03.html#scan-1"}
    for link in links:
        page, _, part = link.partition("#")
        assert f'id="{part}"' in found[page]
    assert str(study.root) not in "".join(found.values())


def test_the_images_are_those_of_the_derivatives_in_our_numbers(study: Study, phantom: Tensor) -> None:
    unit = units(study)[0]
    do(unit, study)
    root, out = Path(study.root), Path(study.out)
    (record,) = units_of(root, out, "01")
    (story,) = scan_stories(recorded(record, root, out))
    assert torch.equal(torch.as_tensor(story.tissue).long(), phantom), (
        "BIDS has gray matter first, we have CSF"
    )
    assert OWN_NUMBERS == (0, 2, 3, 1)
    scan = nib.load(unit.scan.path).get_fdata()
    np.testing.assert_allclose(np.asarray(story.before), scan, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(story.after), 0.9 * scan, atol=1)


def test_pages_are_the_same_bytes_after_another_run(study: Study, tmp_path: Path) -> None:
    other = dataclasses.replace(study, out=str(tmp_path / "other"))
    for where in (study, other):
        for unit in units(where):
            do(unit, where)
        reports.participant_pages(Path(where.root), Path(where.out), subjects_of(Path(where.out)))
    first, second = (
        {path.name: path.read_bytes() for path in Path(where.out).glob("*.html")} for where in (study, other)
    )
    assert first == second and set(first) == {"sub-01.html", "sub-02.html", "sub-03.html"}


def test_a_warning_is_about_its_own_image(study: Study) -> None:
    unit = next(one for one in units(study) if one.scan.subject == "02")
    do(unit, study)
    (record,) = units_of(Path(study.root), Path(study.out), "02")
    assert record["warnings"] == [f"sub-02/anat/sub-02_T2w.nii.gz: {DOUBT}"]
    enhanced, made = reports.stories_of(record, Path(study.root), Path(study.out))
    told = [
        [words for one in (*story.records, story.__dict__) for words in one["warnings"]]
        for story in (enhanced, made)
    ]
    assert told == [[], record["warnings"]]


def test_a_contradiction_on_a_grid_that_is_not_shown_is_told(study: Study) -> None:
    unit = units(study)[0]
    do(unit, study)
    root, out = Path(study.root), Path(study.out)
    (record,) = units_of(root, out, "01")
    shown = next(task for name, task in record["tasks"].items() if name.startswith("enhance"))
    said = f"sub-01: {CONTRADICTS}: by 9 %"
    other = {**shown, "consistency": {**CHECK, "agrees": False}, "warnings": [said, "Odd."]}
    for more, told in ((other, True), ({**shown, "warnings": [DOUBT]}, False)):
        both = {**record, "tasks": {**record["tasks"], "enhance 1x1x1 mm": more}}
        made = next(one for one in recorded(both, root, out) if one.pipeline == "enhance")
        words = "The image on the grid of 1x1x1 mm, not shown here, contradicts its scan."
        assert made.record["warnings"] == (["Odd.", words] if told else [DOUBT])
        assert made.record["consistency"] == shown["consistency"], "numbers are those of the first grid"


def test_a_unit_that_died_before_its_record_is_in_the_table_and_has_a_page(study: Study) -> None:
    from pellucid.apps.bids.logs import write_crash

    ok, dead = units(study)[0], units(study)[1]
    do(ok, study)
    write_crash(dead, study, "worker", f"{dead.scan.path}: the worker died", [])
    write_crash(ok, study, "worker", "the disk was full", [])
    found = pages(study)
    row = table(study)["sub-02_T2w"]
    assert row["status"] == "failed" and row["failure"] == "sub-02/anat/sub-02_T2w.nii.gz: the worker died"
    assert row["age_years"] == "31.0" and row["suffix"] == "T2w"
    assert "the worker died" in found["sub-02.html"] and "the worker died" in found["group.html"]
    assert "This result is of an earlier run; a later try failed: the disk was full" in found["sub-01.html"]
    do(ok, dataclasses.replace(study, options=StudyOptions(resume=True)))
    assert "earlier run" not in pages(study)["sub-01.html"], "a run that keeps it finds it right"


def test_what_is_gone_or_has_changed_is_told_and_not_shown(study: Study) -> None:
    unit = units(study)[0]
    do(unit, study)
    whole = pages(study)["sub-01.html"]
    image = Path(study.out) / "sub-01/ses-a/anat/sub-01_ses-a_desc-preproc_T1w.nii.gz"
    image.write_bytes(b"else")
    Path(unit.scan.path).unlink()
    page = pages(study)["sub-01.html"]
    assert f"{image.name} is gone or has changed since, so it is not shown." in page
    assert "The scan sub-01_ses-a_T1w.nii.gz is gone" in page
    assert 'class="compare"' in whole and 'class="compare"' not in page
    assert written(table(study)["sub-01_ses-a_T1w"]["snr_after"]) in page, "numbers are in the record"


def test_a_record_that_nobody_understands_costs_its_page_only(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    for unit in units(study)[:2]:
        do(unit, study)
    path = Path(study.out) / "sub-02/anat/sub-02_T2w_record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tasks": {"enhance": {}}}))
    with caplog.at_level(logging.WARNING):
        found = pages(study)
    assert "sub-02.html: the page could not be made" in caplog.text
    assert "sub-01.html" in found and "The page of sub-02 could not be made." in found["group.html"]


def test_a_group_needs_a_dataset_and_results(study: Study, tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="need a BIDS dataset, got no such folder"):
        run.group(tmp_path / "nowhere", Path(study.out))
    with pytest.raises(
        PellucidError, match="need records of scans, got none. Run the participant level first"
    ):
        run.group(Path(study.root), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_group_says_who_is_not_in_it(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    root, out = Path(study.root), Path(study.out)
    first, *others = units(study)
    do(first, study)
    study.locks.mkdir(parents=True)
    (study.locks / "sub-01.lock").write_text("{}")
    run.group(root, out)
    absent = "2 of 3 participants of the dataset have no results here: sub-02, sub-03."
    stopped = "Scans of sub-01 may be missing: a run of the participant level was stopped"
    page = (out / "group.html").read_text(encoding="utf-8")
    assert all(words in caplog.text and words in page for words in (absent, stopped))
    (study.locks / "sub-01.lock").unlink()
    for unit in others:
        do(unit, study)
    assert gaps(root, out) == []


def test_a_resumed_run_never_takes_away_what_other_options_made(study: Study) -> None:
    unit = units(study)[0]
    do(unit, study)

    def check(unit: Unit, **options: object) -> None:
        run._check_free([unit], dataclasses.replace(study, options=StudyOptions(resume=True, **options)))  # type: ignore[arg-type]

    check(unit)
    check(unit, nprocs=3)
    check(unit, frame=1)  # The scan has one image: another frame is no other result.
    with pytest.raises(PellucidError, match="sub-01_ses-a_T1w, made with task segment and synthesize, which"):
        check(dataclasses.replace(unit, tasks=("enhance",)))
    with pytest.raises(
        PellucidError, match="made with denoise auto, which this run would replace. Give the same"
    ):
        check(unit, denoise="never")
    with pytest.raises(PellucidError, match="need a folder without results"):
        run._check_free([unit], study)


def test_a_link_to_what_is_not_here_says_so(study: Study) -> None:
    unit = units(study)[0]
    path = Path(unit.scan.path)
    path.unlink()
    path.symlink_to("../../.git/annex/objects/x.nii.gz")
    message = do(unit, study).message
    assert "got a link to what is not here. Fetch its content first (datalad get, git annex get)" in message
