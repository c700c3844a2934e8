import numpy as np
import pytest
import torch
from pages import SHAPE, head, record, story

from pellucid.errors import PellucidError
from pellucid.report.story import ScanStory, findings_of, quality_of, tissue_of, volumes_ml, warnings_of


def test_images_are_turned_to_ras_together() -> None:
    """The affine runs leftwards: the bright side of the phantom is the patient's right."""
    one = story()
    before, tissue = one.image("before"), one.image("tissue")
    assert before is not None and tissue is not None
    np.testing.assert_array_equal(before.numpy(), head()["before"][::-1])
    np.testing.assert_array_equal(tissue.numpy(), head()["tissue"][::-1])
    assert one.volumes["before"].grid.orientation == "RAS"


def test_images_of_two_grids_are_refused() -> None:
    with pytest.raises(PellucidError, match=r"sub-01 T1w: mask: need shape \(18, 22, 14\).*got \(3, 4, 5\)"):
        story(mask=np.ones((3, 4, 5)))
    with pytest.raises(PellucidError, match="before: need three axes, got"):
        ScanStory(title="4-D", before=np.ones((3, 4, 5, 2)))


def test_structures_stand_in_for_tissues_and_tissues_for_the_mask() -> None:
    numbers = torch.tensor([0.0, 24, 4, 43, 3, 42, 2, 41, 999]).reshape(1, 1, 9)
    assert tissue_of(numbers).flatten().tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 0]
    one = ScanStory(title="t", structures=numbers.numpy())
    tissue, mask = one.image("tissue"), one.image("mask")
    assert tissue is not None and mask is not None
    assert mask.flatten().tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert ScanStory(title="t").image("mask") is None


def test_torch_and_numpy_give_the_same_story() -> None:
    one, two = story(), story(before=torch.from_numpy(head()["before"]))
    first, second = one.image("before"), two.image("before")
    assert first is not None and second is not None
    assert torch.equal(first, second)
    assert tuple(first.shape) == SHAPE


def test_records_are_read_once_and_in_order() -> None:
    finding = {"code": "x", "level": "warn", "message": "Sheared."}
    segment = {"pipeline": "segment", "certainty": 0.8, "tissue_ml": {"GM": 600.0}, "intracranial_ml": 1400.0}
    one = story(
        records=[
            segment,
            record(findings=[finding], warnings=["Sheared.", "Odd."]),
            record(findings=[finding]),
        ],
        warnings=["Mine."],
        quality_after={"snr": 4.0},
    )
    assert findings_of(one) == [finding]
    assert warnings_of(one) == ["Mine.", "Odd."]
    assert volumes_ml(one) == {"GM": 600.0, "intracranial": 1400.0}
    before, after = quality_of(one)
    assert before == {"noise": pytest.approx(3.4)}
    assert after == {"certainty": 0.8, "snr": 4.0}
    assert findings_of(story(findings=[])) == []


def test_expected_error_comes_from_synthesize() -> None:
    made = {"pipeline": "synthesize", "quality": [{"brain_ml": 1400.0, "expected_error": 9.3}]}
    assert quality_of(story(records=[made]))[1] == {"expected_error": 9.3}
    assert quality_of(story(records=[{"quality": [{"expected_error": None}]}]))[1] == {}
