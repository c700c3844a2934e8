"""`enhance --motion correct`: what is found is used if it shows less motion, and the record says what was done."""

import pytest
import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose, rigid_motion
from pellucid.inference.motion import Motion
from pellucid.io.volume import Grid, Volume
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.intensity import IntensityRange
from pellucid.ops.poses import Room, Track, rest
from pellucid.pipelines import motion
from pellucid.pipelines.motion import without_motion
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run

LEVELS = IntensityRange(0.0, 100.0)
CORRECT = EnhanceOptions(motion="correct")


@pytest.fixture
def still(phantom_image: Tensor) -> Tensor:
    """The head at rest, air 0 and bright tissue 1."""
    return gaussian_blur(phantom_image, sigma=(0.7, 0.7, 0.7))


@pytest.fixture
def scan(still: Tensor) -> Volume:
    """The same from a head that jumped twice, in the scan's unit."""
    poses = [Pose(0.0), Pose(0.4, (2.0, -1.0, 3.0), (1.0, 2.0, -1.5)), Pose(0.62)]
    moved = rigid_motion(still, poses=poses, phase_axis=1, spacing=(1.0, 1.0, 1.0))
    return Volume(
        100 * moved, Grid((40, 44, 36), torch.eye(4, dtype=torch.float64).numpy()), path="moved.nii.gz"
    )


def _found(shape: tuple[int, ...]) -> Motion:
    track = Track(Room(shape, (1.0, 1.0, 1.0)), 1, [rest(), torch.tensor([2.0, -1, 3, 1, 2, -1.5])])
    track.pairs = [(0, 0)] * 4 + [(0, 1)] * 6
    return Motion(track, tuple(slice(0, n) for n in (1, *shape)), 2.5, 0.2)


def _pretend(monkeypatch: pytest.MonkeyPatch, made: Tensor | None) -> None:
    found = None if made is None else _found(tuple(made.shape[1:]))
    monkeypatch.setattr(motion, "find_motion", lambda *given, **more: found)
    monkeypatch.setattr(motion, "undo_motion", lambda *given, **more: made)


def test_nothing_is_looked_for_unless_asked(scan: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion, "find_motion", None)
    run = Run("enhance")
    assert without_motion(scan, LEVELS, EnhanceOptions(), run) is scan
    assert "motion" not in run.notes


def test_a_repair_with_no_more_ghosts_is_used(
    scan: Volume, still: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _pretend(monkeypatch, still)
    run = Run("enhance")
    made = without_motion(scan, LEVELS, CORRECT, run)
    assert torch.allclose(made.data, 100 * still, atol=1e-3)
    note = run.notes["motion"]
    assert note["found"]
    assert note["axis"] == "back-front"
    assert note["poses"] == [{"rotation_deg": [2.0, -1.0, 3.0], "translation_mm": [1.0, 2.0, -1.5]}]
    assert "down to 2.5 mm" in caplog.text


def test_a_repair_with_more_ghosts_is_not(
    scan: Volume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _pretend(monkeypatch, scan.data / 100 * 1.3)
    run = Run("enhance")
    assert without_motion(scan, LEVELS, CORRECT, run) is scan
    assert not run.notes["motion"]["found"]
    assert "stays as it is" in caplog.text


def test_a_still_head_is_left_alone(scan: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, None)
    run = Run("enhance")
    assert without_motion(scan, LEVELS, CORRECT, run) is scan
    assert run.notes["motion"] == {"found": False, "reason": "no pair of poses explains the lines"}


def test_thick_slices_are_not_looked_at(
    still: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(motion, "find_motion", None)
    grid = Grid((40, 44, 36), torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0], dtype=torch.float64)).numpy())
    thick, run = Volume(still, grid), Run("enhance")
    assert without_motion(thick, IntensityRange(0.0, 1.0), CORRECT, run) is thick
    assert "longer than 1.6 mm" in caplog.text
