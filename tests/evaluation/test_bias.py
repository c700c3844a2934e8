"""Bias: groups come from names or from corruptions, and a bias that is put in is found."""

import dataclasses
import math
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pellucid import cli
from pellucid.errors import PellucidError
from pellucid.evaluation.bias import Bias, BiasOptions, deviations, to_markdown
from pellucid.evaluation.protocol import Case
from pellucid.evaluation.rows import Row, read_rows

MOVED, STILL = "headmotion1", "standard"
MEANS = np.array([0.0, 150.0, 400.0, 600.0], dtype=np.float32)
GROW = (
    "import nibabel as nib, numpy as np, sys; i = nib.load(sys.argv[1]); d = i.get_fdata(); "
    "e = d[:32]; e[(e > 275) & (e < 450)] = 600; nib.save(nib.Nifti1Image(d.astype('f4'), i.affine), sys.argv[2])"
)
METHOD = (("gm-to-wm", f'{sys.executable} -c "{GROW}" {{in}} {{out}}'),)


def brain(path: Path, radius: float) -> Path:
    axis = np.arange(64) - 31.5
    r = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    labels = (r < radius).astype(int) + (r < radius - 4) + (r < radius - 9)
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(MEANS[labels], np.eye(4)), path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Three people, still and moved: the moved brains look smaller by half a millimeter."""
    return [
        brain(tmp_path / "study" / f"sub-{who}_acq-{group}_T1w.nii.gz", radius - 0.5 * (group == MOVED))
        for who, radius in ((1, 24.0), (2, 26.0), (3, 28.5))
        for group in (STILL, MOVED)
    ]


def options(**more: object) -> BiasOptions:
    return BiasOptions(**({"methods": (), "by": "acq", "good": STILL} | more))


def test_groups_come_from_names(study: list[Path], tmp_path: Path) -> None:
    plan = Bias(tmp_path / "out", options()).plan(study)
    assert plan[0] == Case(study[0], "sub-1_T1w", STILL)
    assert {case.condition for case in plan} == {STILL, MOVED} and len({case.name for case in plan}) == 3


def test_a_bias_that_is_there_is_found(study: list[Path], tmp_path: Path) -> None:
    protocol = Bias(tmp_path / "out", options(commands=METHOD))
    assert protocol.run(protocol.plan(study)) == []
    found = {(d.condition, d.measure, d.method): d for d in deviations(protocol.rows, STILL)}
    smaller = found[MOVED, "WM_ml", "input"]
    assert smaller.subjects == 3 and -15 < smaller.percent < -5 and smaller.high < 0
    assert smaller.effect_paired < smaller.effect < 0
    assert found[STILL, "WM_ml", "gm-to-wm"].percent > 30
    assert found[STILL, "GM_ml", "gm-to-wm"].percent == pytest.approx(-50, abs=1)  # in one half of the brain
    assert (STILL, "WM_ml", "input") not in found
    text = to_markdown(list(found.values()))
    assert "| WM_ml: difference in % (d) | subjects |" in text and f"| {MOVED} | 3 |" in text


def test_corruptions_make_groups_of_good_scans(study: list[Path], tmp_path: Path) -> None:
    protocol = Bias(tmp_path / "out", options(by="", good="clean", corruptions=("blur-1.6",)))
    protocol.run(protocol.plan(study[::2]))
    assert {row.condition for row in protocol.rows} == {"clean", "blur-1.6"}
    blurred = {d.measure: d for d in deviations(protocol.rows, "clean")}
    assert abs(blurred["GM_ml"].percent) > 1


def test_one_subject_has_no_test() -> None:
    rows = [Row("sub-1", group, "input", "WM_ml", value, 0.0) for group, value in (("a", 100.0), ("b", 97.0))]
    (only,) = deviations(rows, "a")
    assert only.percent == pytest.approx(-3.0) and math.isnan(only.p) and math.isnan(only.effect)
    with pytest.raises(PellucidError, match=r"need rows of good scans \(c\)"):
        deviations(rows, "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"good": "clean"}, "need the good scan's value of the entity"),
        ({"by": "", "good": "clean", "corruptions": ("blurr",)}, "need presets, got 'blurr'"),
        ({"by": "", "good": "standard"}, "need the entity that --good is a value of"),
        ({"segment": "otsu"}, "need kmeans, pellucid or a command"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PellucidError, match=message):
        options(**changes)


def test_names_without_the_entity_and_missing_groups_are_refused(study: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="need a name with run-VALUE once, got 'sub-1_acq-standard_T1w'"):
        Bias(tmp_path / "out", options(by="run")).plan(study)
    with pytest.raises(
        PellucidError, match="need scans of the group 'still', got the groups headmotion1, standard"
    ):
        Bias(tmp_path / "out", options(good="still")).plan(study)


def test_the_command_writes_tables(
    study: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "bias", str(study[0].parent), "-o", str(out), "--by", "acq", "--good", STILL]
    words += ["--methods", "gaussian"]
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    assert page.strip() == (out / "summary.md").read_text().strip()
    assert "nan" not in page
    assert "gaussian" in page and "good scans" in page
    assert len(read_rows(out / "rows.tsv")) == 6 * 2 * 6
    assert (out / "summary.tsv").read_text().startswith("condition\tmeasure\tmethod")
    assert cli.main([*words, "--segment", "otsu", "-q"]) == 2


def test_a_different_segmenter_is_not_mixed_in(study: list[Path], tmp_path: Path) -> None:
    first = Bias(tmp_path / "out", options())
    first.run(first.plan(study[:2]))
    copy = f'{sys.executable} -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{in}} {{out}}'
    with pytest.raises(PellucidError, match="without results of another segment"):
        Bias(tmp_path / "out", dataclasses.replace(options(), segment=copy))
    with pytest.raises(PellucidError, match="without results of another by"):
        Bias(tmp_path / "out", BiasOptions(methods=()))


def test_weights_are_noted_if_only_the_segmenter_needs_them() -> None:
    assert not options().needs_weights
    assert options(segment="pellucid").needs_weights


def test_people_with_one_scan_are_named_and_nobody_to_compare_is_refused(
    study: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = Bias(tmp_path / "out", options())
    assert len(protocol.plan([*study[:2], study[3]])) == 3
    assert "sub-2_acq-headmotion1_T1w.nii.gz: no scan standard of the same person" in caplog.text
    with pytest.raises(PellucidError, match="need a person with a scan 'standard' and another, got none"):
        protocol.plan([study[0], study[3]])


def test_a_segmenter_that_draws_no_labels_is_refused(
    study: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "bias", *map(str, study[:2]), "-o", str(out), "--by", "acq", "--good", STILL]
    assert cli.main([*words, "--methods", "gaussian", "--segment", "cp {in} {out}"]) == 2
    assert "segment: need labels of gray and white matter" in capsys.readouterr().err
