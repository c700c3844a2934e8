"""What is said of folders of DICOM: slices written by the test, tilted, with gaps, of several series."""

import locale
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from pellucid import cli
from pellucid.io.audit import audit
from pellucid.io.dicom import dicom_files
from pellucid.io.kinds import is_dicom


def write(folder: Path, places: list[float], *, tilt_deg: float = 0.0, series: str = "1") -> Path:
    """CT slices at heights along an upright couch; their plane is tilted."""
    folder.mkdir(exist_ok=True)
    turn = np.radians(tilt_deg)
    down = (0.0, np.cos(turn), -np.sin(turn))
    for number, height in enumerate(places):
        image = SimpleITK.Image(20, 16, 1, SimpleITK.sitkInt16)
        tags = {
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{series}",
            "0020|0037": "\\".join(f"{value:.6f}" for value in (1.0, 0.0, 0.0, *down)),
            "0020|0032": f"0\\0\\{height:.4f}",
            "0020|0013": str(number + 1),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / f"{series}-{number:03d}.dcm"))
        writer.Execute(image)
    return folder


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """The library that writes the slices sets the locale of the process."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def test_a_look_leaves_the_locale_as_it_was(tmp_path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    folder = write(tmp_path / "ct", [0, 5, 10])
    locale.setlocale(locale.LC_ALL, before)
    audit(folder)
    assert locale.setlocale(locale.LC_ALL) == before


def codes(path: Path) -> dict[str, str]:
    return {finding.code: finding.message for finding in audit(path)}


def test_a_plain_series_is_refused_with_the_way_out(tmp_path) -> None:
    folder = write(tmp_path / "ct", [0, 5, 10, 15])
    assert len(dicom_files(folder)) == 4
    (finding,) = audit(folder)
    assert (finding.code, finding.level) == ("dicom", "refuse")
    assert finding.message == (
        "need an image file, got DICOM (4 files). Convert its folder first: dcm2niix -z y -o OUT FOLDER."
    )


def test_distances_that_vary_and_a_tilt_are_said(tmp_path) -> None:
    found = codes(write(tmp_path / "ct", [0, 2.5, 5, 10, 15, 20], tilt_deg=18))
    assert "The gantry is tilted by 18.0 degrees" in found["shear"]
    # Along the normal of the planes: cos(18 degrees) of what the couch moved.
    assert "Slices are 2.38 to 4.76 mm apart, which NIfTI cannot say" in found["slice-distance"]
    assert "_Eq" in found["slice-distance"] and "_Tilt" in found["shear"]


def test_a_missing_slice_is_a_distance_that_varies(tmp_path) -> None:
    assert "3 to 6 mm" in codes(write(tmp_path / "ct", [0, 3, 9, 12]))["slice-distance"]


def test_series_are_told_apart(tmp_path) -> None:
    folder = write(tmp_path / "ct", [0, 5, 10])
    write(folder, [1, 4, 7, 10], series="2")
    found = codes(folder)
    assert found["series"] == "2 series: each becomes a file of its own."
    assert "slice-distance" not in found


@pytest.mark.parametrize("name", ["IM0001", "scan.dcm", "scan.nii", "scan.nii.gz", "scan.mgz", "scan.nrrd"])
def test_a_dicom_file_under_any_name(tmp_path, name, capsys) -> None:
    folder = write(tmp_path / "ct", [0])
    path = next(folder.iterdir()).rename(tmp_path / name)
    assert is_dicom(path.read_bytes()[:132])
    assert "got DICOM (1 file)" in codes(path)["dicom"]
    assert cli.main(["synthesize", str(path), "-o", str(tmp_path / "out.nii.gz")]) == 2
    error = capsys.readouterr().err
    assert "dcm2niix" in error and "Traceback" not in error


def test_commands_say_what_is_in_the_folder(tmp_path, capsys) -> None:
    folder = write(tmp_path / "ct", [0, 5, 10])
    assert cli.main(["synthesize", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "got 3 DICOM files. Convert its folder first: dcm2niix" in capsys.readouterr().err
    assert cli.main(["audit", str(folder)]) == 2
    assert "got DICOM (3 files)" in capsys.readouterr().out


def test_folders_inside_are_looked_into(tmp_path, capsys) -> None:
    write(tmp_path / "study", [])
    write(tmp_path / "study" / "t1", [0, 5, 10])
    write(tmp_path / "study" / "flair", [0, 3, 9, 12], series="2")
    (tmp_path / "study" / "README").write_text("no image")
    found = codes(tmp_path / "study")
    assert "got DICOM (7 files)" in found["dicom"] and "2 series" in found["series"]
    assert "3 to 6 mm" in found["slice-distance"]
    assert cli.main(["audit", str(tmp_path / "study")]) == 2
    assert "got DICOM (7 files)" in capsys.readouterr().out
    assert cli.main(["enhance", str(tmp_path / "study"), "-o", str(tmp_path / "out")]) == 2
    assert "got 7 DICOM files" in capsys.readouterr().err
