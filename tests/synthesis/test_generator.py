import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid import degradation
from pellucid.errors import PellucidError
from pellucid.ops.random import seeded
from pellucid.synthesis import Example, GeneratorConfig, Record, Subject, build, draw, load_table
from pellucid.synthesis.deformation import DeformationConfig

SPACING = (1.0, 1.0, 1.0)


def parts(example: Example) -> dict[str, Tensor]:
    made = {name: getattr(example, name) for name in ("input", "clean", "t1w", "tissue")}
    return {name: value for name, value in made.items() if value is not None}


def make(
    config: GeneratorConfig, subject: Subject, seed: int = 0, **changes: object
) -> tuple[Record, Example]:
    record = {**draw(config, subject, seeded(seed)), **changes}
    return record, build(subject, record)


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
def test_a_generator_of_no_strength_returns_the_scan_bit_for_bit(
    still: GeneratorConfig, subject: Subject, contrast: str
) -> None:
    _, example = make(still, subject, source=contrast)
    assert torch.equal(example.input, subject.images[contrast])
    assert torch.equal(example.clean, subject.images[contrast])
    assert torch.equal(example.t1w, subject.images["T1w"])
    assert torch.equal(example.tissue, load_table("freesurfer").tissue_map(subject.labels))


@pytest.mark.parametrize("seed", range(12))
def test_draw_json_build_is_bit_for_bit_and_finite(
    wild: GeneratorConfig, subject: Subject, seed: int
) -> None:
    record = draw(wild, subject, seeded(seed))
    again = json.loads(json.dumps(record))
    assert again == record
    first, second = parts(build(subject, record)), parts(build(subject, again))
    assert first.keys() == second.keys() == {"input", "clean", "t1w", "tissue"}
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert value.isfinite().all()
        assert value.shape[-3:] == (24, 30, 27)
    assert first["input"].std() > 0
    assert first["clean"].min() >= 0
    assert set(first["tissue"].unique().tolist()) <= {0, 1, 2, 3}


def test_records_depend_on_the_generator_alone(wild: GeneratorConfig, subject: Subject) -> None:
    assert draw(wild, subject, seeded(1)) == draw(wild, subject, seeded(1))
    assert draw(wild, subject, seeded(1)) != draw(wild, subject, seeded(2))


def test_building_leaves_the_subject_and_the_record_alone(wild: GeneratorConfig, subject: Subject) -> None:
    before = {key: image.clone() for key, image in subject.images.items()}, subject.labels.clone()
    for seed in range(6):
        record = draw(wild, subject, seeded(seed))
        text = json.dumps(record)
        for made in parts(build(subject, record)).values():
            made.fill_(-7)
        assert json.dumps(record) == text
    assert all(torch.equal(subject.images[key], image) for key, image in before[0].items())
    assert torch.equal(subject.labels, before[1])


def test_targets_of_one_example_share_no_memory(still: GeneratorConfig, subject: Subject) -> None:
    _, example = make(still, subject, source="T1w")
    pointers = {value.data_ptr() for value in parts(example).values()}
    assert len(pointers) == 4


def test_a_flip_mirrors_scans_and_exchanges_sides(still: GeneratorConfig, painted: Subject) -> None:
    # Each side of the head as its own tissue, so that an exchange of numbers without one of places shows.
    _, plain = make(still, painted, flip=False)
    flipping = replace(still, deformation=replace(still.deformation, flip=1.0))
    record, flipped = make(flipping, painted)
    assert record["deformation"]["flip"]
    assert torch.equal(flipped.tissue, plain.tissue.flip(0))
    gray = {
        "labels": {"3": [1.0, 0.0, 0.0]},
        "kind": "random",
        "seed": 0,
        "texture_scale": 0.0,
        "partial_volume": 0.0,
    }
    left = build(painted, {**draw(flipping, painted, seeded(0)), "contrast": gray}).clean[0] > 0
    # After the flip the gray matter numbered 3 (left) still lies at low x, where left is.
    assert left.any()
    assert not left[21:].any()


@pytest.mark.parametrize("patch", [(40, 44, 36), (20, 22, 24), (21, 23, 17), (60, 44, 50)])
def test_patches_without_deformation_are_boxes_of_the_scan(
    still: GeneratorConfig, subject: Subject, patch: tuple[int, int, int]
) -> None:
    for seed in range(3):
        record, example = make(replace(still, patch=patch), subject, seed, source="T1w")
        start = [round(c - (p - 1) / 2) for c, p in zip(record["center"], patch, strict=True)]
        padded = torch.nn.functional.pad(subject.images["T1w"], (70,) * 6)
        box = tuple(slice(70 + s, 70 + s + p) for s, p in zip(start, patch, strict=True))
        assert torch.equal(example.clean, padded[(slice(None), *box)])
        mirrored = build(subject, {**record, "flip": True})
        assert torch.equal(mirrored.clean, example.clean.flip(1))


def test_a_patch_beside_the_scan_is_empty(still: GeneratorConfig, subject: Subject) -> None:
    _, example = make(still, subject, center=[-300.5, 21.5, 400.5])
    assert not any(value.any() for value in parts(example).values())


def test_deformed_scans_and_labels_stay_on_each_other(still: GeneratorConfig, subject: Subject) -> None:
    config = replace(still, deform_scan=1.0, deformation=DeformationConfig(warp_mm=2.0))
    for seed in range(4):
        record, example = make(config, subject, seed, source="T1w")
        assert record["deformation"]
        means = [example.clean[0][example.tissue == t].mean().item() for t in (1, 2, 3)]
        assert means == sorted(means)
        assert means[2] - means[0] > 0.4


def test_the_input_is_the_clean_image_after_the_steps(still: GeneratorConfig, subject: Subject) -> None:
    steps = degradation.preset("mixed", spacing=SPACING)
    _, example = make(still, subject, source="T2w", steps=steps, remask=False)
    assert torch.equal(example.input, degradation.apply(example.clean, steps, spacing=SPACING))
    assert not torch.equal(example.input, example.clean)


def test_what_belongs_to_the_scan_is_in_input_and_target_alike(
    still: GeneratorConfig, subject: Subject
) -> None:
    changes = {"source": "T1w", "scale": 0.9, "log_gamma": 0.2, "receive_field": [0.3, 5]}
    _, example = make(still, subject, **changes)
    assert torch.equal(example.input, example.clean)
    assert torch.equal(example.t1w, subject.images["T1w"])
    ratio = (example.clean / subject.images["T1w"])[subject.images["T1w"] > 0.2]
    assert 0.05 < ratio.std() < 1


@pytest.mark.parametrize("remask", [False, True])
def test_a_stripped_head_has_neither_skull_nor_its_targets(
    still: GeneratorConfig, painted: Subject, phantom_image: Tensor, remask: bool
) -> None:
    subject = replace(painted, images={"T1w": phantom_image})
    config = replace(still, synthetic=1.0, strip=1.0)
    noise = [{"effect": "gaussian_noise", "std": 0.1, "seed": 0}]
    record, example = make(config, subject, steps=noise, remask=remask)
    assert record["source"] == "labels"
    outside = example.tissue == 0
    assert outside.any()
    assert not example.clean[0][outside].any()
    assert not example.t1w[0][outside].any()
    assert bool(example.input[0][outside].any()) is not remask


def test_artefacts_of_the_skull_reach_a_brain_that_was_stripped_later(
    still: GeneratorConfig, painted: Subject
) -> None:
    config = replace(still, strip=1.0)
    blur = [{"effect": "blur", "fwhm_mm": 6.0}]
    early, late = (make(config, painted, steps=blur, remask=remask)[1] for remask in (False, True))
    torch.testing.assert_close(early.clean, late.clean, rtol=0, atol=1e-6)
    beside_skull = (slice(None), slice(7, 9), slice(18, 26), slice(12, 18))
    assert (late.input[beside_skull] - early.input[beside_skull]).max() > 0.02


def test_a_cut_removes_input_and_targets_on_one_side(still: GeneratorConfig, subject: Subject) -> None:
    _, example = make(still, subject, source="T2w", cut=[0.0, 0.0, -2.0, 0.25], remask=True)
    for value in parts(example).values():
        assert not value[..., :9].any()
        assert value[..., 9:].any()


def test_painted_images_have_the_range_of_a_scan(still: GeneratorConfig, painted: Subject) -> None:
    for seed in range(6):
        _, example = make(still, painted, seed)
        inside = example.clean[0][painted.labels > 0]
        assert torch.quantile(inside, 0.995).item() == pytest.approx(1.0, abs=0.15)


def test_labels_alone_give_no_t1w_and_scans_alone_no_tissue(
    wild: GeneratorConfig, subject: Subject, painted: Subject
) -> None:
    assert make(wild, painted)[1].t1w is None
    scans = replace(subject, labels=None, images={"T2w": subject.images["T2w"]})
    _, example = make(wild, scans)
    assert example.tissue is None and example.t1w is None
    assert scans.shape == (40, 44, 36)


def test_sources_are_drawn_as_often_as_asked(wild: GeneratorConfig, subject: Subject) -> None:
    sources = [draw(wild, subject, seeded(seed))["source"] for seed in range(200)]
    assert sources.count("labels") == pytest.approx(100, abs=25)
    assert set(sources) == {"labels", "T1w", "T2w"}


def test_a_subject_of_nothing_or_with_negative_labels_is_refused(
    still: GeneratorConfig, painted: Subject
) -> None:
    with pytest.raises(PellucidError, match="subject nobody: need a label map or a scan, got neither"):
        draw(still, Subject("nobody", SPACING), seeded(0))
    negative = replace(painted, labels=painted.labels - 1)
    with pytest.raises(PellucidError, match="subject phantom: need label numbers >= 0, got -1"):
        draw(still, negative, seeded(0))


@pytest.mark.gpu
def test_the_gpu_builds_the_same_example_but_for_noise(wild: GeneratorConfig, subject: Subject) -> None:
    for seed in range(6):
        record = draw(wild, subject, seeded(seed))
        there, here = parts(build(subject, record, device="cuda")), parts(build(subject, record))
        again = parts(build(subject, record, device="cuda"))
        for name, value in here.items():
            assert there[name].device.type == "cuda" and torch.equal(there[name], again[name])
            if name in ("input", "clean"):  # texture and noise are drawn where they are wanted
                for part in (torch.mean, torch.std):
                    torch.testing.assert_close(part(there[name]).cpu(), part(value), rtol=0.05, atol=0.01)
                continue
            share = (there[name].cpu() - value).abs().float().gt(1e-3).float().mean()
            assert share < 0.01  # a nearest label may fall to the other side


def test_both_sides_of_a_map_with_the_left_numbers_only_are_painted_after_a_flip(
    still: GeneratorConfig, painted: Subject
) -> None:
    labels = painted.labels.clone()
    labels[labels == 42], labels[labels == 41] = 3, 2
    one_sided = replace(painted, labels=labels)
    assert painted.is_sided and not one_sided.is_sided
    flipping = replace(still, deformation=replace(still.deformation, flip=1.0))
    record, example = make(flipping, one_sided)
    assert record["deformation"]["flip"]
    assert torch.equal(example.labels, labels.flip(0))
    assert (example.clean[0][example.labels == 2] > 0).all()


def test_an_example_tells_the_labels_it_shows(still: GeneratorConfig, painted: Subject) -> None:
    table = load_table("freesurfer")
    _, example = make(replace(still, strip=1.0), painted)
    assert torch.equal(example.labels, painted.labels * (table.tissue_map(painted.labels) > 0))
    flipping = replace(still, deformation=replace(still.deformation, flip=1.0))
    assert torch.equal(make(flipping, painted)[1].labels, table.swapped(painted.labels).flip(0))
