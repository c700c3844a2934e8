from typing import Any

import numpy as np
import pytest
import torch
from pages import head, record, row, story

from pellucid.io.volume import Grid, Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines.consistency import consistency
from pellucid.pipelines.record import Run
from pellucid.pipelines.volumes import CUT_OFF
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


def checked(**more: Any) -> dict[str, Any]:
    """What the check of an output against its scan leaves."""
    found = {"residual": 0.02, "unexplained": 0.01, "largest_block": 0.01, "agrees": True, **more}
    return record(consistency=found)


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        (
            checked(agrees=False, unexplained=0.05),
            "look",
            "5.0 % of the range beyond noise and blur. Compare",
        ),
        (checked(agrees=False, largest_block=0.1), "look", "something of 8 mm appeared or vanished (10.0 %"),
        (checked(agrees=False, unexplained=0.02), "look", "lacks detail that the scan has"),
        (
            checked(agrees=False, unexplained=0.09),
            "do not use",
            "9.0 % of the range beyond noise and blur. Use",
        ),
        (
            checked(agrees=False, largest_block=0.3),
            "do not use",
            "vanished (30.0 % of the range). Use the scan",
        ),
        (record(uncertainty={"expected_error": 0.06}), "look", "errors of 6.0 % of the range on average"),
        (record(quality=[{"expected_error": 24.0}]), "look", "errors of 24 of 255 in its T1w image"),
        (
            record(options={"lesions": "inpaint"}, quality=[{"lesion_ml": 3.2}]),
            "look",
            "3.2 ml were taken for lesions and show healthy tissue instead",
        ),
        (
            record(options={"lesions": "inpaint"}, lesions={"ml": 9.0}),
            "look",
            "9.0 ml were taken for lesions",
        ),
    ],
)
def test_what_was_not_measured_is_told(change: dict[str, Any], word: str, reason: str) -> None:
    verdict = judge(story(records=[segmented(), change]))
    assert verdict.word == word
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (checked(), ""),
        # Blur that is granted is part of the block.
        (checked(largest_block=0.09), ""),
        (
            record(uncertainty={"expected_error": 0.03}),
            "errors of 3.0 % of the range on average are to be expected",
        ),
        (record(quality=[{"expected_error": 10.0}]), ""),
        (record(options={"lesions": "keep"}, quality=[{"lesion_ml": 3.2}]), ""),
        (record(options={"lesions": "inpaint"}, quality=[{"lesion_ml": None}]), ""),
        (record(options={"lesions": "inpaint"}, quality=[{"lesion_ml": 1.4}]), ""),
        (segmented(lesion_ml=14.8), "14.8 ml of lesions were found, more than in healthy people"),
        (segmented(lesion_ml=1.5), ""),
    ],
)
def test_what_may_be_inferred_is_at_most_a_remark(change: dict[str, Any], remark: str) -> None:
    verdict = judge(story(records=[segmented(), change]))
    assert verdict.word == "usable"
    assert len(verdict.reasons) == (2 if remark else 1) and remark in verdict.reasons[-1]


def test_a_real_contradiction_is_told_once_in_plain_words() -> None:
    """The warning of the check itself is left out: the page words it, and its words must be known to the page."""
    shape = (18, 22, 14)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij")
    ball = (sum(axis**2 for axis in axes) < 0.7).float()[None]
    scan = Volume(100 * ball, Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    run = Run("enhance")
    run.notes["noise"] = {"std": 0.0, "share": 0.0, "rician": False, "removed": False}
    with run.listening():
        consistency(scan, scan.with_data(scan.data.roll(2, 1)), IntensityRange(0.0, 100.0), run, wanted=False)
    made = run.record(scan, {})
    assert len(made["warnings"]) == 1
    verdict = judge(story(records=[made]))
    assert verdict.word == "do not use" and len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("The enhanced image contradicts its scan")


def test_harmless_numbers_are_never_far_out() -> None:
    group = [
        row(n, quality_after={"unexplained": 0.1 + 0.001 * n}, volumes_ml={"lesion": 0.1 * (n % 3)})
        for n in range(30)
    ]
    assert (
        judge(story(records=[checked(unexplained=0.009), segmented(lesion_ml=1.9)]), group).word == "usable"
    )
    found = judge(story(records=[checked(unexplained=0.03), segmented(lesion_ml=9.0)]), group)
    assert found.word == "look"
    assert "Against the scan is far from the others" in found.reasons[0]
    assert "The volume of lesions is far from the others" in found.reasons[1]


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
    said = f"scan.nii.gz: {CUT_OFF} 50 % of the brain (at its right)"
    assert judge(story(**cut, warnings=[said])).reasons == verdict.reasons
    unknown = {"mask": None, "tissue": None}
    assert said in judge(story(**cut | unknown, warnings=[said])).reasons


def test_a_slab_that_ends_at_the_edge_of_the_brain_is_usable_with_a_remark() -> None:
    slab = {name: image[:, 3:] for name, image in head().items()}
    verdict = judge(story(**slab))
    assert verdict.word == "usable" and verdict.reasons[0].startswith("No rule found a fault.")
    assert "reaches the edge of the image" in verdict.reasons[1] and "back (" in verdict.reasons[1]
    assert judge(story(**slab, warnings=["Odd."])).reasons[-1] == verdict.reasons[1]


def test_the_worst_word_wins() -> None:
    assert worst(["usable", "do not use", "look"]) == "do not use"
    assert worst(["usable"]) == "usable"
    assert worst([]) == "do not use"
