import itertools

import numpy as np
import pytest
import torch
from scipy import fft
from torch import Tensor

from pellucid.ops.alike import guided_means, nonlocal_means
from pellucid.ops.denoise import BALANCE, MEANS, THRESHOLD, WIDTH, cosine_shrinkage, denoise, prinlm
from pellucid.ops.noise import noise_std, without_rician_bias


def image() -> Tensor:
    return torch.rand((2, 17, 19, 23), generator=torch.Generator().manual_seed(0))


def brute_force(volume: np.ndarray, std: float, strength: float) -> np.ndarray:
    """Non-local means of an interior voxel by the formula, one pair at a time."""
    center = tuple(n // 2 for n in volume.shape)

    def patch(at: tuple[int, ...]) -> np.ndarray:
        return volume[tuple(slice(a - 1, a + 2) for a in at)]

    total = weights = 0.0
    for shift in itertools.product(range(-2, 3), repeat=3):
        at = tuple(c + s for c, s in zip(center, shift, strict=True))
        distance = ((patch(center) - patch(at)) ** 2).mean()
        weight = (
            1.0
            if shift == (0, 0, 0)
            else np.exp(-max(distance - 2 * std**2, 0) / (2 * (strength * std) ** 2))
        )
        total, weights = total + weight * volume[at], weights + weight
    return total / weights


def test_nonlocal_means_equals_its_formula() -> None:
    volume = image()[:1, :11, :11, :11]
    result = nonlocal_means(volume, std=0.3, strength=0.7)
    expected = brute_force(volume[0].double().numpy(), 0.3, 0.7)
    assert result[0, 5, 5, 5].item() == pytest.approx(expected, rel=1e-4)


def test_pieces_of_nonlocal_means_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.rand(1, 41, 9, 8, generator=torch.Generator().manual_seed(4))
    whole = nonlocal_means(given, std=0.2)
    for planes in (7, 10, 20):
        monkeypatch.setattr("pellucid.ops.alike.PLANES", planes)
        torch.testing.assert_close(nonlocal_means(given, std=0.2), whole)


def test_nonlocal_means_removes_noise_and_keeps_edges(phantom: Tensor, generator: torch.Generator) -> None:
    clean = phantom.float()[None] / 3
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
    denoised = nonlocal_means(noisy, std=0.05)
    assert (denoised - clean).std() < 0.5 * (noisy - clean).std()
    assert torch.equal(nonlocal_means(noisy, std=0.0), noisy)


def test_nonlocal_means_of_an_image_thinner_than_its_search() -> None:
    thin = image()[:, :4]
    result = nonlocal_means(thin, std=0.2)
    assert result.isfinite().all()
    assert result.std() < thin.std()
    assert torch.equal(nonlocal_means(image()[:, :2], std=0.2), image()[:, :2])


@pytest.mark.parametrize("std", [0.01, 0.05])
def test_noise_is_estimated_over_slow_changes_and_an_edge(generator: torch.Generator, std: float) -> None:
    x, y, _ = torch.meshgrid(*(torch.linspace(0, 1, n) for n in (41, 43, 45)), indexing="ij")
    clean = (0.5 + 0.4 * x * y + 0.4 * (x > 0.5))[None]
    noisy = clean + std * torch.randn(clean.shape, generator=generator)
    assert noise_std(noisy) == pytest.approx(std, rel=0.05)


def test_edges_everywhere_raise_the_estimate_by_less_than_half(
    phantom: Tensor, generator: torch.Generator
) -> None:
    noisy = phantom.float()[None] / 3 + 0.05 * torch.randn((1, *phantom.shape), generator=generator)
    assert 0.05 < noise_std(noisy) < 0.075


def test_rician_air_does_not_count(generator: torch.Generator) -> None:
    head = torch.zeros(80, 80, 80)
    head[20:60, 20:60, 20:60] = 0.8
    parts = 0.1 * torch.randn((2, *head.shape), generator=generator)
    assert noise_std(torch.hypot(head + parts[0], parts[1])[None]) == pytest.approx(0.1, rel=0.05)


def test_anatomy_across_thick_slices_is_not_noise(generator: torch.Generator) -> None:
    slices = 0.5 + 0.2 * torch.rand((1, 1, 1, 24), generator=generator)
    noisy = slices + 0.02 * torch.randn((1, 40, 40, 24), generator=generator)
    assert noise_std(noisy, axes=(0, 1)) == pytest.approx(0.02, rel=0.1)
    assert noise_std(slices.expand(1, 40, 40, 24)) == 0


def test_no_noise_where_there_is_no_tissue() -> None:
    assert noise_std(torch.zeros(1, 5, 6, 7)) == 0
    assert noise_std(torch.ones(1, 1, 40, 40)) == 0


@pytest.mark.parametrize("shape", [(9, 10, 7), (4, 3, 1), (35, 6, 5)])
def test_cosine_shrinkage_equals_scipy_patch_by_patch(shape: tuple[int, int, int]) -> None:
    volume, std = torch.rand(shape, generator=torch.Generator().manual_seed(2)), 0.1
    padded = np.pad(volume.double().numpy(), 4, mode="edge")
    total, weights = np.zeros_like(padded), np.zeros_like(padded)
    # The first voxel of the volume lies at 4, so even and odd are the same in both.
    for first in (0, 1):
        for corner in itertools.product(*(range(first, size - 3, 2) for size in padded.shape)):
            box = tuple(slice(c, c + 4) for c in corner)
            waves = fft.dctn(padded[box], norm="ortho")
            kept = np.abs(waves) > THRESHOLD * std
            kept[0, 0, 0] = True
            share = 1 / max(1, np.count_nonzero(np.where(kept, waves, 0)))
            total[box] += share * fft.idctn(np.where(kept, waves, 0), norm="ortho")
            weights[box] += share
    inner = (slice(4, -4),) * 3
    expected = total[inner] / weights[inner]
    got = cosine_shrinkage(volume[None], std=std)[0]
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)


def test_guided_means_equal_their_formula() -> None:
    volume = image()[:1, :9, :10, :11].double()
    guide = volume.roll(1, 1) * 0.5
    padded = np.pad(guide[0].numpy(), 1, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3))
    wide = np.nanmean(windows, axis=(3, 4, 5))
    center, total, weights = (4, 5, 5), 0.0, 0.0
    for shift in itertools.product((-2, -1, 0, 1, 2), repeat=3):
        if sum(s * s for s in shift) > 5:
            continue
        at = tuple(c + s for c, s in zip(center, shift, strict=True))
        near = (guide[0][center] - guide[0][at]).item() ** 2
        weight = np.exp(-(near + 3 * (wide[center] - wide[at]) ** 2) / (2 * 0.2**2))
        total, weights = total + weight * volume[0][at].item(), weights + weight
    got = guided_means(volume.float(), guide.float(), width=0.2)
    # `_surroundings` is three means in a row: beyond an edge the same as one mean over what is inside.
    assert got[(0, *center)].item() == pytest.approx(total / weights, rel=1e-4)


def test_denoising_undoes_rician_noise_without_bias(phantom: Tensor, generator: torch.Generator) -> None:
    clean = phantom.float()[None] / 3
    parts = 0.1 * torch.randn((2, *clean.shape), generator=generator)
    noisy = torch.hypot(clean + parts[0], parts[1])
    made = denoise(noisy, std=0.1)
    assert (made - clean).square().mean().sqrt() < 0.5 * (noisy - clean).square().mean().sqrt()
    assert made.min() >= 0
    dark = torch.hypot(0.2 + parts[0, 0], parts[1, 0])[None]  # E = 0.227
    assert denoise(dark, std=0.1).mean() == pytest.approx(0.2, abs=0.006)
    assert denoise(dark, std=0.1, rician=False).mean() > 0.22


def in_air(std: float, *, faint: float = 0.0) -> tuple[Tensor, Tensor]:
    """A ball of two tissues in a large field of view, something faint far from it; and the same with Rician noise."""
    shape = (70, 52, 61)
    at = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in shape), indexing="ij"))
    radius = (at - torch.tensor([40.0, 22.0, 30.0]).view(3, 1, 1, 1)).norm(dim=0)
    clean = (0.6 * (radius < 14) + 0.3 * (radius < 8))[None]
    clean[:, 4:12, 30:42, 30:42] = faint
    parts = std * torch.randn((2, *clean.shape), generator=torch.Generator().manual_seed(3))
    return clean, torch.hypot(clean + parts[0], parts[1])


def test_prinlm_averages_what_sparse_patches_say_is_alike() -> None:
    """Equation 5 of the paper: squares are averaged, and 2 std² is what noise adds to them."""
    clean, noisy = in_air(0.05)
    sparse = cosine_shrinkage(noisy, std=0.05)
    means = guided_means(noisy, sparse, width=WIDTH * 0.05)
    torch.testing.assert_close(prinlm(noisy, std=0.05, rician=False), means)
    made, tissue = prinlm(noisy, std=0.05), clean > 0
    power = guided_means(noisy**2, sparse, width=WIDTH * 0.05)
    torch.testing.assert_close(made**2, (power - 2 * 0.05**2).clamp_min(0))
    error, before = ((image - clean)[tissue].square().mean().sqrt() for image in (made, noisy))
    assert error < 0.4 * before
    assert torch.equal(prinlm(noisy, std=0.0), noisy)


def wiener(noisy: Tensor, guide: Tensor, std: float) -> Tensor:
    """Wiener's filter by scipy's cosine transform of all patches that begin at all even or all odd places."""
    images = [np.pad(image[0].double().numpy(), 5, mode="edge") for image in (noisy, guide)]
    total, weights = np.zeros_like(images[0]), np.zeros_like(images[0])
    for first in (0, 1):
        windows = [
            np.lib.stride_tricks.sliding_window_view(image, (4, 4, 4))[first::2, first::2, first::2]
            for image in images
        ]
        found, signal = (fft.dctn(view, axes=(3, 4, 5), norm="ortho") for view in windows)
        gain = signal**2 / (signal**2 + std**2)
        gain[..., 0, 0, 0] = 1
        shares = 1 / (gain**2).sum((3, 4, 5))
        answers = fft.idctn(found * gain, axes=(3, 4, 5), norm="ortho") * shares[..., None, None, None]
        i, j, k = shares.shape
        for x, y, z in itertools.product(range(4), repeat=3):
            at = tuple(
                slice(first + o, first + o + 2 * n, 2) for o, n in zip((x, y, z), (i, j, k), strict=True)
            )
            total[at] += answers[..., x, y, z]
            weights[at] += shares
    inner = (slice(5, -5),) * 3
    return torch.from_numpy((total[inner] / weights[inner]).astype(np.float32))[None]


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_leaving_out_air_changes_tissue_by_less_than_a_thousandth(std: float) -> None:
    clean, noisy = in_air(std)
    sparse, share = cosine_shrinkage(noisy, std=std), std**2 / (std**2 + BALANCE**2)
    power = guided_means(noisy**2, sparse, width=WIDTH * std)
    guide = torch.lerp(sparse, (power - std**2).clamp_min(0).sqrt(), share)
    filtered = without_rician_bias(wiener(noisy, guide, std), std=std)
    whole = torch.lerp(filtered, (power - 2 * std**2).clamp_min(0).sqrt(), MEANS * share)
    made = denoise(noisy, std=std)
    near = torch.nn.functional.max_pool3d(clean[None], 3, stride=1, padding=1)[0] > 0
    assert (made - whole)[near].abs().max() < 1e-3
    assert made[:, :16].square().mean().sqrt() < 0.4 * std  # nothing but air; it was 1.4


def test_signal_twice_as_strong_as_the_noise_is_not_air() -> None:
    made = denoise(in_air(0.1, faint=0.2)[1], std=0.1)
    assert made[:, 6:10, 33:39, 33:39].mean() == pytest.approx(0.2, abs=0.03)


def test_threads_do_not_change_the_answer() -> None:
    noisy, before = in_air(0.05)[1], torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = denoise(noisy, std=0.05)
        torch.set_num_threads(3)
        assert torch.equal(denoise(noisy, std=0.05), alone)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_means_of_several_channels_weigh_all_of_them() -> None:
    two = torch.cat([image()[:1], image()[:1]])
    torch.testing.assert_close(
        guided_means(two, two, width=0.2), guided_means(two[:1], two[:1], width=0.2).expand_as(two)
    )


def test_denoising_changes_nothing_without_noise_and_a_constant_never() -> None:
    assert torch.equal(denoise(image(), std=0.0), image())
    constant = torch.full((1, 9, 8, 7), 0.4)
    torch.testing.assert_close(denoise(constant, std=0.1, rician=False), constant)


@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0, 3.0, 7.95, 8.05, 30.0])
def test_rician_bias_is_inverted(signal: float) -> None:
    noise = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0))
    mean = torch.hypot(signal + noise[0], noise[1]).mean().view(1, 1, 1, 1)
    found = float(without_rician_bias(3 * mean, std=3.0)) / 3
    assert found == pytest.approx(signal, abs=0.08 if signal < 0.5 else 0.02)


def test_means_below_those_of_air_are_no_signal() -> None:
    assert not without_rician_bias(torch.full((1, 2, 3, 4), 0.9), std=1.0).any()
