from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.config import from_dict, to_dict
from pellucid.errors import PellucidError
from pellucid.pipelines.keywords import from_keywords, split_choices
from pellucid.pipelines.options import EnhanceOptions, SegmentOptions, SynthesizeOptions


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("native", "native"),
        ("iso", "iso"),
        ("1", (1.0, 1.0, 1.0)),
        ("0.8,0.8,2", (0.8, 0.8, 2.0)),
        ("1x1x2", (1.0, 1.0, 2.0)),
    ],
)
def test_spacing_is_read(spacing: str, expected: Any) -> None:
    assert EnhanceOptions(spacing=spacing).spacing_mm == expected


@pytest.mark.parametrize("spacing", ["", "fine", "1,2", "0", "-1", "1,1,0", "nan", "inf", "25", "1,1,1,1"])
def test_impossible_spacings_are_refused(spacing: str) -> None:
    with pytest.raises(PellucidError, match="spacing: need native, iso, or one or three voxel sizes"):
        EnhanceOptions(spacing=spacing)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frame": -1}, "frame: need a whole number >= 0, got -1"),
        ({"threads": 0}, "threads: need a whole number >= 1, got 0"),
        ({"denoise": "yes"}, "enhance.denoise: need one of auto, never, got 'yes'"),
        ({"precision": "fp16"}, "enhance.precision: need one of auto, bf16, fp32"),
        ({"spacings": 1}, "enhance: unknown key 'spacings'. Did you mean 'spacing'?"),
        (
            {"save": "mask,brain"},
            "save: need names among mask, tissue, uncertainty, consistency, bias, lesion, got 'mask,brain'",
        ),
        ({"save": ["brain"]}, "enhance.save[0]: need one of mask, tissue"),
    ],
)
def test_wrong_keywords_are_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PellucidError) as caught:
        from_keywords(EnhanceOptions, values)
    assert str(caught.value).startswith(message)


def test_python_spellings_equal_those_of_the_command_line() -> None:
    python = {"spacing": (1, 1, 2), "save": ["mask", "tissue"], "mask": Path("m.nii"), "weights": Path("w")}
    command = {"spacing": "1,1,2", "save": "mask,tissue", "mask": "m.nii", "weights": "w"}
    assert from_keywords(EnhanceOptions, python) == from_keywords(EnhanceOptions, command)
    assert from_keywords(EnhanceOptions, {"spacing": 1}).spacing_mm == (1.0, 1.0, 1.0)


def test_numbers_of_numpy_and_sets_are_taken() -> None:
    arrays = {"spacing": np.float32(2), "frame": np.int64(1), "save": {"tissue", "mask"}}
    plain = {"spacing": 2.0, "frame": 1, "save": "mask,tissue"}
    assert from_keywords(EnhanceOptions, arrays) == from_keywords(EnhanceOptions, plain)
    assert from_keywords(EnhanceOptions, {"spacing": np.array([1, 1, 2])}).spacing_mm == (1.0, 1.0, 2.0)


def test_the_record_rebuilds_the_options() -> None:
    options = from_keywords(EnhanceOptions, {"spacing": 0.5, "save": "tissue", "frame": 2, "threads": 1})
    assert from_dict(EnhanceOptions, to_dict(options), "record") == options


def test_extras_come_once_in_the_order_given() -> None:
    assert split_choices("tissue, mask,tissue", ("mask", "tissue")) == ("tissue", "mask")
    assert split_choices("", ("mask",)) == ()


def test_each_pipeline_has_its_own_extras() -> None:
    assert from_keywords(SegmentOptions, {"save": "tissue,mask"}).save == ("tissue", "mask")
    with pytest.raises(
        PellucidError, match="save: need names among mask, tissue, probseg, lesion, got 't1w'"
    ):
        from_keywords(SegmentOptions, {"save": "t1w"})
    with pytest.raises(PellucidError, match="segment: unknown key 'denoise'"):
        from_keywords(SegmentOptions, {"denoise": "never"})
    assert from_keywords(SynthesizeOptions, {"save": "uncertainty"}).save == ("uncertainty",)


@pytest.mark.parametrize(
    ("words", "size"), [("1.5GB", 1.5e9), ("1500MB", 1.5e9), ("2 gib", 2 * 1024**3), ("4g", 4e9)]
)
def test_memory_is_read_with_its_unit(words: str, size: float) -> None:
    assert EnhanceOptions(memory=words).memory_bytes == size
    assert EnhanceOptions().memory_bytes is None


@pytest.mark.parametrize("words", ["4", "lots", "500MB", "-2GB", "1e9"])
def test_memory_that_cannot_be_kept_is_refused(words: str) -> None:
    with pytest.raises(PellucidError, match="memory: need a number of GB or MB, 1GB or more, for instance"):
        EnhanceOptions(memory=words)
