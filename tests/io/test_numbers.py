import numpy as np
import pytest

from pellucid.errors import PellucidError
from pellucid.io.numbers import LEVELS, Storage, choose, decode, encode

INT16, UINT8, UINT16 = (np.dtype(name) for name in ("int16", "uint8", "uint16"))


def smooth(low: float, high: float) -> np.ndarray:
    """Values between two ends, both reached, hardly any of them whole."""
    values = np.random.default_rng(0).uniform(low, high, (7, 8, 9, 1)).astype(np.float32)
    values.flat[:2] = low, high
    return values


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 4000), (1000, 1001), (-1e-6, 1e-6), (0, 1e9), (-5, -4)]
)
def test_rounding_is_at_most_half_a_level_of_the_range(dtype, low, high):
    values = smooth(low, high)
    storage = choose(values, Storage(np.dtype(dtype)), asked=None, can_scale=True)
    back, bad = decode(encode(values, storage)[..., 0], storage.slope, storage.inter)
    assert storage.dtype == (np.int16 if np.dtype(dtype).itemsize == 1 else dtype)
    assert bad == 0
    # Beside rounding there is float32 itself.
    tolerance = 0.5 * (high - low) / LEVELS + 2e-7 * max(abs(low), abs(high))
    assert np.abs(back.numpy() - values[..., 0]).max() <= tolerance


def test_slope_and_inter_stay_when_the_values_fit():
    kept = Storage(INT16, 0.5, 100.0)
    steps = np.arange(504, dtype=np.float32).reshape(7, 8, 9, 1) * 0.5 + 100
    assert choose(steps, kept, asked=None, can_scale=True) == kept
    assert choose(smooth(100, 10000), kept, asked=None, can_scale=True) == kept  # far more than 4096 steps
    assert choose(smooth(100, 20000), kept, asked=None, can_scale=True) != kept  # above 32767 steps
    assert choose(smooth(100, 120), kept, asked=None, can_scale=True) != kept  # 40 steps are too coarse


def test_background_zero_stays_zero():
    values = smooth(0, 3.7)
    storage = choose(values, Storage(UINT16), asked=None, can_scale=True)
    assert storage.inter == 0
    values = smooth(-2.0, 3.7)
    values[3] = 0
    storage = choose(values, Storage(UINT16), asked=None, can_scale=True)
    back, _ = decode(encode(values, storage)[..., 0], storage.slope, storage.inter)
    assert back[3].abs().max() < 1e-6


def test_formats_without_slope_round_only_where_it_is_harmless():
    whole = np.rint(smooth(0, 255))
    assert choose(whole, Storage(UINT8), asked=None, can_scale=False) == Storage(UINT8)
    assert choose(smooth(0, 255), Storage(UINT8), asked=None, can_scale=False) == Storage(np.dtype("f4"))
    assert choose(smooth(0, 9000), Storage(INT16), asked=None, can_scale=False) == Storage(INT16)
    assert choose(smooth(0, 40000), Storage(INT16), asked=None, can_scale=False) == Storage(np.dtype("f4"))
    with pytest.raises(PellucidError, match="need whole numbers that fit uint8, as this format has no slope"):
        choose(smooth(0, 300), Storage(INT16), asked=np.uint8, can_scale=False)


def test_the_type_asked_for_is_taken_and_floats_and_bools_are_simple():
    values = smooth(-1, 7)
    assert choose(values, Storage(INT16, 2.0, 3.0), asked=np.float64, can_scale=True) == Storage(
        np.dtype("f8")
    )
    assert choose(values, Storage(INT16), asked=np.uint8, can_scale=True).dtype == UINT8
    assert choose(
        (values > 3).astype(np.float32), Storage(INT16, 2.0), asked=bool, can_scale=True
    ) == Storage(UINT8)
    big_endian = Storage(np.dtype(">u1"))
    assert choose(values, big_endian, asked=None, can_scale=True).dtype == INT16
    with pytest.raises(PellucidError, match="need a type of integers or real numbers, got <U3"):
        choose(values, Storage(INT16), asked="<U3", can_scale=True)


def test_encode_refuses_to_wrap():
    with pytest.raises(PellucidError, match="need numbers that fit uint8, got 0 to 300"):
        encode(smooth(0, 300), Storage(UINT8))


def test_decode_scales_wide_types_in_double_precision():
    stored = np.full((2, 3, 4), 2**30 + 1, np.int32)
    values, _ = decode(stored, 2**-10, -(2.0**20))
    assert values.max() == pytest.approx(2**-10, rel=1e-6)


def test_decode_reorders_and_counts():
    stored = np.asfortranarray(np.arange(24, dtype=">f4").reshape(2, 3, 4))
    stored[1, 2, 3] = -np.inf
    values, bad = decode(stored, 1.0, 0.0)
    assert bad == 1
    assert values.is_contiguous()
    np.testing.assert_array_equal(values[:, :, :3], stored[:, :, :3])
    assert values[1, 2, 3] == 0


def test_what_float32_cannot_hold_is_counted_and_not_warned_of(recwarn):
    values, bad = decode(np.array([[[1.0, 1e300, -1e300, np.nan]]]), 1.0, 0.0)
    assert bad == 3 and values.tolist() == [[[1.0, 0.0, 0.0, 0.0]]]
    _, bad = decode(np.full((2, 2, 2), 500, np.int16), 1e37, 0.0)
    assert bad == 8
    assert not recwarn.list
