from typing import Any

import numpy as np
import pytest
import torch
from pages import head, record, row, story

from pellucid.report.edge import cut_faces, outside
from pellucid.report.verdict import judge, worst


def segmented(**more: Any) -> dict[str, Any]:
    return {"pipeline": "segment", "certainty": 0.8, "intracranial_ml": 1400.0, **more}


def test_a_good_scan_is_usable_and_says_that_rules_are_not_eyes() -> None:
    verdict = judge(
        story(records=[segmented(), record()], quality_before={"snr": 5}, quality_after={"snr": 6})
    )
    assert verdict.word == "usable"
    assert verdict.reasons == ("No rule found a fault. Look at the pictures all the same.",)


FINDING = {"code": "form-conflict", "message": "Two geometries."}


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({"failure": "No memory."}, "do not use", "Nothing was made of it: No memory."),
        ({"findings": [{**FINDING, "level": "refuse"}]}, "do not use", "refused: Two geometries."),
        ({"after": np.full((18, 22, 14), np.nan)}, "do not use", "values that are not numbers"),
        ({"after": np.full((18, 22, 14), 7.0)}, "do not use", "one value everywhere"),
        ({"mask": np.zeros((18, 22, 14))}, "do not use", "No brain was found"),
        ({"records": [segmented(certainty=0.59)]}, "do not use", "unsure (certainty 0.59"),
        ({"records": [segmented(certainty=0.65)]}, "look", "doubtful (certainty 0.65"),
        ({"findings": [{**FINDING, "level": "warn"}]}, "look", "Two geometries."),
        ({"warnings": ["It is a CT."]}, "look", "It is a CT."),
        (
            {"records": [segmented(intracranial_ml=300.0)]},
            "look",
            "300 ml were found inside the skull: little",
        ),
        ({"records": [segmented(intracranial_ml=2500.0)]}, "look", "too much for a head"),
        (
            {"quality_before": {"cjv": 0.5}, "quality_after": {"cjv": 0.61}},
            "look",
            "CJV got worse: 0.5 before, 0.61",
        ),
        ({"quality_before": {"snr": 10}, "quality_after": {"snr": 8}}, "look", "SNR got worse"),
        ({"quality_after": {"change": 12.0}}, "look", "changed by 12 %"),
    ],
)
def test_one_fault_is_enough(change: dict[str, Any], word: str, reason: str) -> None:
    verdict = judge(story(**change))
    assert verdict.word == word
    assert reason in " ".join(verdict.reasons)


@pytest.mark.parametrize(
    "change",
    [
        {"findings": [{**FINDING, "level": "info"}]},
        {"quality_before": {"cjv": 0.5}, "quality_after": {"cjv": 0.59}},
        {"quality_before": {"fwhm": 2.0}, "quality_after": {"fwhm": 4.0}},
        {"quality_after": {"change": 9.0}},
        {"quality_before": {"snr": None}, "quality_after": {"snr": 1.0}},
        {"same_contrast": False, "quality_before": {"snr": 10}, "quality_after": {"snr": 2}},
    ],
)
def test_what_is_no_fault_is_none(change: dict[str, Any]) -> None:
    assert judge(story(**change)).word == "usable"


def test_the_gravest_reason_comes_first_and_all_are_told() -> None:
    verdict = judge(story(warnings=["Odd."], mask=np.zeros((18, 22, 14))))
    assert verdict.word == "do not use"
    assert verdict.reasons == ("No brain was found.", "Odd.")


def test_a_number_far_out_on_its_bad_side_deserves_a_look() -> None:
    group = [row(number) for number in range(30)]
    assert judge(story(quality_after={"snr": 30.0}), group).word == "usable"
    verdict = judge(story(quality_after={"snr": 1.0}), group)
    assert verdict.word == "look"
    assert "SNR is far from the others: 1, where the median of 30 scans is" in verdict.reasons[0]
    assert judge(story(quality_after={"snr": 1.0}), group[:9]).word == "usable"
    assert judge(story(suffix="FLAIR", quality_after={"snr": 1.0}), group).word == "usable"


def test_volumes_are_far_out_on_either_side() -> None:
    group = [row(number) for number in range(30)]
    for ml in (100.0, 1300.0):
        verdict = judge(story(records=[{"tissue_ml": {"GM": ml}}]), group)
        assert verdict.word == "look"
        assert "The volume of gray matter is far from the others" in verdict.reasons[0]


def test_a_brain_that_is_cut_off_is_named_with_the_face() -> None:
    """The stored axis runs leftwards, so its first voxels are the patient's right."""
    cut = {name: image[9:] for name, image in head().items()}
    verdict = judge(story(**cut))
    assert verdict.word == "look"
    assert "The field of view cuts off the brain" in verdict.reasons[0]
    assert "largest: right (100 %); about 50 % of it lies outside" in verdict.reasons[0]


def test_a_slab_that_ends_at_the_edge_of_the_brain_is_usable_with_a_remark() -> None:
    slab = {name: image[:, 3:] for name, image in head().items()}
    verdict = judge(story(**slab))
    assert verdict.word == "usable" and verdict.reasons[0].startswith("No rule found a fault.")
    assert "reaches the edge of the image" in verdict.reasons[1] and "back (" in verdict.reasons[1]
    assert judge(story(**slab, warnings=["Odd."])).reasons[-1] == verdict.reasons[1]
    assert cut_faces(story().volumes["mask"].data[0]) == {}


def test_how_much_is_cut_off_does_not_depend_on_the_air_around_nor_on_slices() -> None:
    axes = [torch.linspace(-1, 1, size) for size in (90, 100, 70)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.9).float()
    for lowest in (6, 12, 20):
        part, thick = ball[..., lowest:], ball[..., lowest::2]
        lost = float(1 - part.sum() / ball.sum())
        assert outside(cut_faces(part)) == pytest.approx(lost, abs=0.01)
        assert outside(cut_faces(thick)) == pytest.approx(lost, abs=0.015)
        wide = torch.nn.functional.pad(part, (0, 0, 20, 20, 10, 10))
        assert cut_faces(wide) == cut_faces(part)
    assert cut_faces(torch.zeros(4, 5, 6)) == {}


def test_the_worst_word_wins() -> None:
    assert worst(["usable", "do not use", "look"]) == "do not use"
    assert worst(["usable"]) == "usable"
    assert worst([]) == "do not use"
