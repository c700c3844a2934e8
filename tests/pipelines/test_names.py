from pathlib import Path

import pytest

from pellucid import endings
from pellucid.errors import PellucidError
from pellucid.io import nifti
from pellucid.pipelines.names import is_file, output_name, output_paths


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_desc-enhanced_T1w.nii.gz"),
        ("a.b/sub-01_ses-2_FLAIR.nii", "sub-01_ses-2_desc-enhanced_FLAIR.nii"),
        ("scan.mgz", "scan_desc-enhanced.mgz"),
        ("scan_2.nrrd", "scan_2_desc-enhanced.nrrd"),
        ("sub-01_run-1.nii.gz", "sub-01_run-1_desc-enhanced.nii.gz"),
        ("SCAN_T2w.NII.GZ", "SCAN_desc-enhanced_T2w.NII.GZ"),
        ("pair_T1w.hdr", "pair_desc-enhanced_T1w.nii.gz"),
        ("odd.name.v1.nii", "odd.name.v1_desc-enhanced.nii"),
    ],
)
def test_outputs_are_named_after_inputs_in_their_format(source: str, expected: str) -> None:
    assert output_name(source, "enhanced") == expected


def test_the_kind_follows_the_contrast() -> None:
    assert output_name("sub-01_T1w.nii.gz", "enhanced", kind="T1w") == "sub-01_desc-enhanced_T1w.nii.gz"
    assert output_name("scan.nii", "enhanced", kind="T1w") == "scan_desc-enhanced_T1w.nii"


def test_what_is_made_from_two_contrasts_of_a_person_has_two_names() -> None:
    names = [
        list(
            output_paths(
                f"sub-01_{kind}.nii.gz", Path("out"), "enhanced", extras=("mask", "tissue", "uncertainty")
            ).values()
        )
        for kind in ("T2w", "FLAIR")
    ]
    assert not set(names[0]) & set(names[1])
    assert names[1][1].name == "sub-01_mod-FLAIR_desc-brain_mask.nii.gz"


def test_an_output_is_a_file_by_its_ending_or_else_a_folder(tmp_path: Path) -> None:
    assert is_file(tmp_path / "x.nii.gz") and is_file(tmp_path / "x.MGZ")
    assert not is_file(tmp_path / "clear") and not is_file(tmp_path / "version-1.2")
    (tmp_path / "odd.tif").mkdir()
    assert not is_file(tmp_path / "odd.tif")


@pytest.mark.parametrize("name", ["x.tif", "x.nii.gx", "x.txt", "x.img", "x.hdr"])
def test_a_name_that_is_neither_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match=r"need a name ending in \.nii\.gz.*or a folder, got '\.\w+'"):
        is_file(tmp_path / name)


def test_a_path_without_an_image_ending_is_a_folder() -> None:
    assert endings.split_suffix("out.d/clear") == ("clear", "")
    assert endings.split_suffix("notes.txt")[1] == ""


def test_the_endings_are_those_of_the_formats() -> None:
    assert set(endings.ENDINGS) == set(nifti.FORMATS)
    assert set(endings.WRITABLE) == {ending for ending, kind in nifti.FORMATS.items() if kind.write}


@pytest.mark.parametrize("suffix", endings.WRITABLE)
def test_every_ending_is_a_format_that_can_be_written(suffix: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert nifti.file_format(tmp_path / f"scan{suffix}").write is not None


def test_several_frames_are_written_in_a_format_that_has_them() -> None:
    paths = output_paths("sub-1_T1w.nrrd", Path("out"), "structures", kind="dseg", extras=["mask", "probseg"])
    assert paths["probseg"].name == "sub-1_mod-T1w_desc-tissue_probseg.nii.gz"
    assert paths["mask"].suffix == ".nrrd"
    assert output_paths("x", Path("y.mgz"), "structures", extras=["probseg"])["probseg"].suffix == ".mgz"
