"""Laws that every row of EFFECTS obeys."""

import json
import math

import pytest
import torch
from torch import Tensor

from pellucid.degradation import EFFECTS, Step, apply
from pellucid.errors import PellucidError

SPACING = (1.0, 1.2, 3.0)


def image(*, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two channels of two nested boxes with texture; no axis like another."""
    made = torch.zeros(2, 17, 19, 23)
    made[:, 3:14, 4:16, 4:20] = torch.tensor([0.5, 0.8]).view(2, 1, 1, 1)
    made[:, 6:10, 7:12, 8:15] = torch.tensor([1.0, 0.3]).view(2, 1, 1, 1)
    noise = torch.rand(made.shape, generator=torch.Generator().manual_seed(1))
    return (made * (1 + 0.1 * noise)).to(dtype)


@pytest.fixture(params=sorted(EFFECTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def example(name: str, *, seed: int = 0) -> Step:
    return {"effect": name, **EFFECTS[name].example, "seed": seed}


def test_the_same_step_gives_the_same_image(name: str) -> None:
    assert torch.equal(*(apply(image(), [example(name)], spacing=SPACING) for _ in range(2)))


def test_another_seed_gives_another_image_only_where_there_is_chance(name: str) -> None:
    first, second = (apply(image(), [example(name, seed=s)], spacing=SPACING) for s in (0, 1))
    assert torch.equal(first, second) is not EFFECTS[name].needs_generator


def test_global_randomness_is_neither_read_nor_changed(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = apply(image(), [example(name)], spacing=SPACING)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(apply(image(), [example(name)], spacing=SPACING), first)


@pytest.mark.parametrize("kind", ["identity", "example"])
def test_the_result_is_new_and_the_input_untouched(name: str, kind: str) -> None:
    given = image()
    result = apply(given, [{"effect": name, **getattr(EFFECTS[name], kind), "seed": 0}], spacing=SPACING)
    assert torch.equal(given, image())
    result.zero_()
    assert torch.equal(given, image())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(name: str, dtype: torch.dtype) -> None:
    given = image(dtype=dtype)
    result = apply(given, [example(name)], spacing=SPACING)
    assert result.shape == given.shape
    assert result.dtype == dtype


def test_identity_parameters_change_no_bit(name: str) -> None:
    step = {"effect": name, **EFFECTS[name].identity, "seed": 0}
    assert torch.equal(apply(image(), [step], spacing=SPACING), image())


def test_the_example_is_visible_in_every_channel_and_finite(name: str) -> None:
    result = apply(image(), [example(name)], spacing=SPACING)
    assert result.isfinite().all()
    assert ((result - image()).flatten(1).std(1) > 0.01).all()


def test_an_empty_image_stays_finite(name: str) -> None:
    assert apply(torch.zeros(1, 17, 19, 23), [example(name)], spacing=SPACING).isfinite().all()


def test_steps_survive_json(name: str) -> None:
    step = example(name)
    again = json.loads(json.dumps(step))
    assert torch.equal(apply(image(), [again], spacing=SPACING), apply(image(), [step], spacing=SPACING))


def test_steps_are_left_as_they_are(name: str) -> None:
    step = example(name)
    before = json.dumps(step)
    apply(image(), [step, step], spacing=SPACING)
    assert json.dumps(step) == before


def test_an_unknown_parameter_is_refused_with_a_suggestion(name: str) -> None:
    known = next(iter(EFFECTS[name].example))
    step = {**example(name), known + "s": 1}
    with pytest.raises(
        PellucidError, match=rf"step 1 \({name}\): need this effect's .*Did you mean '{known}'"
    ):
        apply(image(), [step], spacing=SPACING)


@pytest.mark.parametrize("key", ["image", "spacing", "generator"])
def test_what_the_chain_passes_itself_is_no_parameter(name: str, key: str) -> None:
    with pytest.raises(PellucidError, match=f"got '{key}'"):
        apply(image(), [{**example(name), key: 1}], spacing=SPACING)


def test_a_missing_parameter_is_named(name: str) -> None:
    missing = next(iter(EFFECTS[name].example))
    step = {key: value for key, value in example(name).items() if key != missing}
    with pytest.raises(PellucidError, match=rf"step 1 \({name}\): {missing}: need a value, got none"):
        apply(image(), [step], spacing=SPACING)


@pytest.mark.parametrize("value", ["much", None, True, math.nan, math.inf])
def test_a_value_of_another_kind_is_refused(name: str, value: object) -> None:
    key = next(iter(EFFECTS[name].example))
    with pytest.raises(PellucidError, match=rf"step 1 \({name}\): {key}: need (a|text)"):
        apply(image(), [{**example(name), key: value}], spacing=SPACING)


def test_a_missing_seed_is_refused_only_where_there_is_chance(name: str) -> None:
    step = {key: value for key, value in example(name).items() if key != "seed"}
    if not EFFECTS[name].needs_generator:
        apply(image(), [step], spacing=SPACING)
        return
    with pytest.raises(PellucidError, match=r'seed: need a whole number, got none\. Add "seed": 0'):
        apply(image(), [step], spacing=SPACING)
    with pytest.raises(PellucidError, match="seed: need a whole number, got 'zero'"):
        apply(image(), [{**step, "seed": "zero"}], spacing=SPACING)


def test_whole_numbers_are_numbers() -> None:
    results = [apply(image(), [{"effect": "blur", "fwhm_mm": v}], spacing=SPACING) for v in (3, 3.0)]
    assert torch.equal(*results)


@pytest.mark.gpu
def test_the_gpu_gives_the_same_image_or_noise_of_the_same_law(name: str) -> None:
    result = apply(image().cuda(), [example(name)], spacing=SPACING)
    assert result.device.type == "cuda"
    expected = apply(image(), [example(name)], spacing=SPACING)
    if name in ("gaussian_noise", "rician_noise", "zipper"):  # drawn voxel by voxel, where the image is
        for part in (torch.mean, torch.std):
            torch.testing.assert_close(part(result).cpu(), part(expected), rtol=0.03, atol=0.003)
        assert torch.equal(result, apply(image().cuda(), [example(name)], spacing=SPACING))
        return
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("effect", "hint"), [("rician_nois", "Did you mean 'rician_noise'"), (None, "Known: bias_field, blur")]
)
def test_an_unknown_effect_is_refused(effect: str | None, hint: str) -> None:
    with pytest.raises(PellucidError, match=f"step 2: need the name of an effect, got .*{hint}"):
        apply(image(), [example("blur"), {"effect": effect}], spacing=SPACING)


def test_no_steps_give_a_copy() -> None:
    given = image()
    result = apply(given, [], spacing=SPACING)
    assert torch.equal(result, given)
    assert result.data_ptr() != given.data_ptr()
