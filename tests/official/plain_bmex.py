"""BME-X once more, by the names of its release and straight through its steps: nothing of pellucid in here."""

from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
Array = NDArray[Any]


def random_weights(width: int, growth: int, seed: int = 0) -> Weights:
    """Both stages and what connects them."""
    generator = torch.Generator().manual_seed(seed)
    out: Weights = {}

    def conv(number: str, inputs: int, outputs: int, norm: int, tag: str = "") -> None:
        spread = (2 / (27 * inputs)) ** 0.5
        out[f"conv{number}{tag}.weight"] = spread * torch.randn(outputs, inputs, 3, 3, 3, generator=generator)
        out[f"conv{number}{tag}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        out[f"bn{number}{tag}.weight"] = 0.5 + torch.rand(norm, generator=generator)
        out[f"bn{number}{tag}.bias"] = 0.2 * torch.randn(norm, generator=generator)
        out[f"bn{number}{tag}.running_mean"] = 0.1 * torch.randn(norm, generator=generator)
        out[f"bn{number}{tag}.running_var"] = 0.5 + torch.rand(norm, generator=generator)
        out[f"bn{number}{tag}.num_batches_tracked"] = torch.tensor(9)

    def up(number: int, inputs: int, outputs: int, tag: str) -> None:
        spread = (1 / (8 * inputs)) ** 0.5
        weights = torch.randn(inputs, outputs, 4, 4, 4, generator=generator)
        out[f"deconv{number}{tag}.weight"] = spread * weights
        out[f"deconv{number}{tag}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def dense(numbers: tuple[Any, ...], inputs: int, root: int, grow: int, tag: str) -> int:
        conv(numbers[0], inputs, root, root, tag)
        for index, number in enumerate(numbers[1:]):
            conv(number, root + index * grow, grow, root + (index + 1) * grow, tag)
        return root + 3 * grow

    def stage(inputs: int, outputs: int, tag: str) -> None:
        w, g = width, growth
        conv("1", inputs, w, w, tag)
        conv("5", dense(("2", "3", "4", "4_1"), w, w, g, tag), w, w, tag)
        conv("10", dense((6, 7, 8, 9), w, w, 2 * g, tag), 2 * w, 2 * w, tag)
        conv("11", 2 * w, 2 * w, 2 * w, tag)
        up(11, 2 * w, 2 * w, tag)
        up(15, dense((12, 13, 14, 15), 4 * w, 4 * w, 2 * g, tag), 2 * w, tag)
        wide = dense((16, 17, 18, 19), 4 * w, 4 * w, 2 * g, tag)
        up(23, dense((20, 21, 22, 23), wide, 4 * w, 2 * g, tag), w, tag)
        wide = dense((24, 25, 26, 27), 2 * w, 2 * w, g, tag)
        conv("32", dense((28, 29, 30, 31), wide, w, g, tag), outputs, outputs, tag)

    stage(1, 4, "")
    conv("1_con", 4, width // 2, width // 2)
    conv("2_con", 1, width // 2, width // 2)
    stage(2 * (width // 2), 1, "_recon")
    # Intensities of a template are in the hundreds.
    out["bn2_con.running_var"] *= 200.0**2
    out["bn1.running_var"] *= 200.0**2
    out["bn32_recon.weight"] *= 100
    out["bn32_recon.bias"] += 300
    return out


def network(weights: Weights, patch: Array) -> tuple[Array, Array]:
    """(x, y, z) -> rectified class maps (4, x, y, z) and the image (x, y, z)."""
    known = {name: value.float() for name, value in weights.items()}  # in double, torch is ten times slower

    def conv(number: Any, x: Tensor, tag: str) -> Tensor:
        return F.conv3d(
            x, known[f"conv{number}{tag}.weight"], known[f"conv{number}{tag}.bias"], padding="same"
        )

    def act(number: Any, x: Tensor, tag: str) -> Tensor:
        name = f"bn{number}{tag}"
        shape = (1, -1, 1, 1, 1)
        scale = known[f"{name}.weight"] / (known[f"{name}.running_var"] + 1e-5).sqrt()
        shift = known[f"{name}.bias"] - known[f"{name}.running_mean"] * scale
        return (x * scale.view(shape) + shift.view(shape)).clamp_min(0)

    def up(number: int, x: Tensor, tag: str) -> Tensor:
        # Zeros between the voxels, then an ordinary convolution with the turned kernel.
        apart = x.new_zeros(*x.shape[:2], *(2 * n - 1 for n in x.shape[2:]))
        apart[:, :, ::2, ::2, ::2] = x
        kernel = known[f"deconv{number}{tag}.weight"].flip(2, 3, 4).transpose(0, 1)
        return F.conv3d(F.pad(apart, (2,) * 6), kernel, known[f"deconv{number}{tag}.bias"])

    def dense(numbers: tuple[Any, ...], x: Tensor, tag: str) -> Tensor:
        entry, one, two, three = numbers
        root = conv(entry, x, tag)
        new = conv(one, act(entry, root, tag), tag)
        first = torch.cat([new, root] if entry == 6 else [root, new], 1)
        second = torch.cat([first, conv(two, act(one, first, tag), tag)], 1)
        active = act(two, second, tag)
        kept = active if entry == 16 else second
        return act(three, torch.cat([kept, conv(three, active, tag)], 1), tag)

    def pool(x: Tensor) -> Tensor:
        return F.max_pool3d(x, 3, 2, 1)

    def stage(x: Tensor, tag: str) -> Tensor:
        full = conv(5, dense((2, 3, 4, "4_1"), act(1, conv(1, x, tag), tag), tag), tag)
        half = conv(10, dense((6, 7, 8, 9), pool(act(5, full, tag)), tag), tag)
        quarter = conv(11, pool(act(10, half, tag)), tag)
        x = torch.cat([quarter, up(11, pool(act(11, quarter, tag)), tag)], 1)
        x = torch.cat([half, up(15, dense((12, 13, 14, 15), x, tag), tag)], 1)
        x = dense((20, 21, 22, 23), dense((16, 17, 18, 19), x, tag), tag)
        x = torch.cat([full, up(23, x, tag)], 1)
        x = dense((28, 29, 30, 31), dense((24, 25, 26, 27), x, tag), tag)
        return act(32, conv(32, x, tag), tag)

    image = torch.from_numpy(patch.copy()).float()[None, None]
    tissue = stage(image, "")
    seen = act("1_con", conv("1_con", tissue.softmax(1), ""), "")
    joint = torch.cat([seen, act("2_con", conv("2_con", image, ""), "")], 1)
    return tissue[0].numpy(), stage(joint, "_recon")[0, 0].numpy()


def _match(image: Any, reference: Any) -> Any:
    return sitk.HistogramMatching(image, reference, 1024, 7, True)


def _n4(image: Any) -> Any:
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50, 50, 30, 20])
    return corrector.Execute(image)


def _like(values: Array, image: Any) -> Any:
    out = sitk.GetImageFromArray(values.astype(np.float32))
    out.CopyInformation(image)
    return out


def pipeline(
    weights: Weights, path: str, mask_path: str, template_path: str, side: int, step: int
) -> dict[str, Array | float]:
    """From files to the release's arrays, in the axes of the file (x, y, z)."""
    raw = sitk.Cast(sitk.ReadImage(path), sitk.sitkFloat32)

    def rai(image: Any) -> Any:
        out = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[:, ::-1, ::-1].copy())
        out.SetSpacing(image.GetSpacing())
        out.SetOrigin(image.GetOrigin())
        return out

    head = rai(raw)
    values = sitk.GetArrayFromImage(head)
    low, high = np.percentile(values[values != 0], [0.001, 99.999])
    head = sitk.IntensityWindowing(
        head, windowMinimum=float(low), windowMaximum=float(high), outputMinimum=0, outputMaximum=1000
    )
    head = _n4(head)
    mask = sitk.GetArrayFromImage(rai(sitk.Cast(sitk.ReadImage(mask_path), sitk.sitkFloat32)))
    template = sitk.Cast(sitk.ReadImage(template_path), sitk.sitkFloat32)
    masked = _like(sitk.GetArrayFromImage(head) * mask, head)
    corrected = _n4(masked)
    size = [round(n * s / 0.8) for n, s in zip(head.GetSize(), head.GetSpacing(), strict=True)]
    fine = sitk.Resample(
        corrected, size, sitk.Transform(), sitk.sitkLinear, head.GetOrigin(), [0.8] * 3, head.GetDirection()
    )
    shown = sitk.GetArrayFromImage(_match(fine, template)).transpose(0, 2, 1)
    big = np.pad(shown, side)
    sums, visits = np.zeros((5, *big.shape)), np.full(big.shape, 1e-5)
    spans = []
    for axis in range(3):
        filled = np.nonzero(big.sum(tuple({0, 1, 2} - {axis})) > 0)[0]
        last = filled[-1]
        if last + side + 5 >= big.shape[axis]:
            last = big.shape[axis] - side - 5
        spans.append(range(filled[0] - 5, last + 5, step))
    for i in spans[0]:
        for j in spans[1]:
            for k in spans[2]:
                tissue, clear = network(weights, big[i : i + side, j : j + side, k : k + side])
                inner = tuple(slice(start + 5, start + side - 5) for start in (i, j, k))
                sums[0][inner] += clear[5:-5, 5:-5, 5:-5]
                for label in range(4):
                    sums[label + 1][inner] += tissue[label, 5:-5, 5:-5, 5:-5]
                visits[inner] += 1
    native = []
    for one in (sums / visits)[:, side:-side, side:-side, side:-side]:
        image = sitk.GetImageFromArray(one.transpose(0, 2, 1).copy())
        image.SetSpacing([0.8] * 3)
        image.SetOrigin(head.GetOrigin())
        native.append(sitk.GetArrayFromImage(sitk.Resample(image, head)))
    labels = np.argmax(native[1:], axis=0)
    brain = sitk.Cast(sitk.Cast(_like(native[0], head), sitk.sitkUInt16), sitk.sitkFloat32)
    whole = sitk.GetArrayFromImage(_match(brain, masked)) + sitk.GetArrayFromImage(head) * (1 - mask)
    before = sitk.GetArrayFromImage(_match(head, template))
    scores = [
        abs(one[labels == 2].mean() - one[labels == 3].mean())
        / np.sqrt(one[labels == 2].std() ** 2 + one[labels == 3].std() ** 2)
        for one in (before, native[0])
    ]

    def back(values: Array) -> Array:
        return values[:, ::-1, ::-1].T

    return {
        "float": back(native[0]),
        "brain": back(sitk.GetArrayFromImage(brain)),
        "whole": back(np.trunc(whole)),
        "labels": back(labels),
        "quality": scores[0] / scores[1],
    }
