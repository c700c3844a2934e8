"""The published networks and what is around them, once more, in plain numpy and scipy: nothing of pellucid in here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

Array = NDArray[Any]
Layers = dict[str, dict[str, Array]]


def random_keras(features: int, levels: int, channels: int = 1, seed: int = 0) -> Layers:
    """Layers of SynthSR's network as Keras keeps them, with random numbers."""
    random = np.random.default_rng(seed)
    widths = [features * 2**level for level in range(levels)]
    layers: Layers = {}

    def conv(name: str, inputs: int, outputs: int, side: int = 3) -> None:
        scale = (side**3 * inputs) ** -0.5
        layers[name] = {
            "kernel": random.normal(0, scale, (side, side, side, inputs, outputs)),
            "bias": random.normal(0, 0.1, outputs),
        }

    def norm(name: str, width: int) -> None:
        layers[name] = {
            "gamma": random.uniform(0.5, 1.5, width),
            "beta": random.normal(0, 0.1, width),
            "moving_mean": random.normal(0, 0.1, width),
            "moving_variance": random.uniform(0.001, 1, width),
        }

    for level, width in enumerate(widths):
        conv(f"unet_conv_downarm_{level}_0", channels if level == 0 else widths[level - 1], width)
        conv(f"unet_conv_downarm_{level}_1", width, width)
        norm(f"unet_bn_down_{level}", width)
    for step, width in enumerate(widths[-2::-1]):
        conv(f"unet_conv_uparm_{levels + step}_0", 3 * width, width)
        conv(f"unet_conv_uparm_{levels + step}_1", width, width)
        norm(f"unet_bn_up_{step}", width)
    conv("unet_likelihood", features, 1, side=1)
    # The answer to noise is made to lie around a quarter, so that little of it is cut off.
    answer = keras_unet(layers, random.random((16, 16, 16, channels)))
    gain = 0.12 / answer.std()
    head = layers["unet_likelihood"]
    head["kernel"] *= gain
    head["bias"] = gain * (head["bias"] - answer.mean()) + 0.25
    return layers


def pool(x: Array) -> Array:
    """Largest of every 2 x 2 x 2 voxels, channels last."""
    a, b, c, d = x.shape
    return x.reshape(a // 2, 2, b // 2, 2, c // 2, 2, d).max(axis=(1, 3, 5))


def double(x: Array) -> Array:
    """Every voxel eight times."""
    return x.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def keras_unet(layers: Layers, image: Array) -> Array:
    """(x, y, z, c) -> (x, y, z): channels last, one image, double precision."""

    def conv(name: str, x: Array) -> Array:
        kernel = layers[name]["kernel"]
        side = kernel.shape[0]
        padded = np.pad(x, [(side // 2,) * 2] * 3 + [(0, 0)])
        out = np.zeros((*x.shape[:3], kernel.shape[-1]))
        for i, j, k in np.ndindex(side, side, side):
            out += padded[i : i + x.shape[0], j : j + x.shape[1], k : k + x.shape[2]] @ kernel[i, j, k]
        return out + layers[name]["bias"]

    def elu(x: Array) -> Array:
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    def norm(name: str, x: Array) -> Array:
        one = layers[name]
        return one["gamma"] * (x - one["moving_mean"]) / np.sqrt(one["moving_variance"] + 1e-3) + one["beta"]

    levels = sum(name.startswith("unet_bn_down") for name in layers)
    skips, x = [], image
    for level in range(levels):
        for part in (0, 1):
            x = elu(conv(f"unet_conv_downarm_{level}_{part}", x))
        skips.append(x)
        x = norm(f"unet_bn_down_{level}", x)
        x = pool(x) if level < levels - 1 else x
    for step in range(levels - 1):
        x = np.concatenate([skips[levels - 2 - step], double(x)], axis=-1)
        for part in (0, 1):
            x = elu(conv(f"unet_conv_uparm_{levels + step}_{part}", x))
        x = norm(f"unet_bn_up_{step}", x)
    return conv("unet_likelihood", x)[..., 0]


def one_millimeter(values: Array, spacing: Array) -> Array:
    """SynthSR's way to 1 mm, along the axes as stored."""
    smooth = ndimage.gaussian_filter(values, np.where(spacing > 1, 0, 0.25 / spacing))
    grid = [np.arange(size) for size in values.shape]
    wanted = []
    for size, factor in zip(values.shape, spacing, strict=True):
        at = -(factor - 1) / (2 * factor) + np.arange(int(np.ceil(size * factor))) / factor
        wanted.append(np.clip(at, 0, size - 1))
    return RegularGridInterpolator(grid, smooth)(tuple(np.meshgrid(*wanted, indexing="ij")))


def padded32(values: Array) -> tuple[Array, tuple[slice, ...]]:
    """Zeros around the middle, up to multiples of 32."""
    sizes = [int(np.ceil(size / 32) * 32) for size in values.shape]
    out = np.zeros(sizes)
    place = tuple(
        slice((big - size) // 2, (big - size) // 2 + size)
        for big, size in zip(sizes, values.shape, strict=True)
    )
    out[place] = values
    return out, place


def freesurfer_synthsr(layers: Layers, ras: Array, *, ct: bool = False, sharpen: bool = True) -> Array:
    """From the 1 mm scan in RAS to FreeSurfer's image in RAS."""
    image, place = padded32(ras)
    image = np.clip(image, 0, 80) if ct else image
    image = (image - image.min()) / (image.max() - image.min())
    first = np.clip(255 * keras_unet(layers, image[..., None]), 0, 128)
    second = np.clip(255 * np.flip(keras_unet(layers, np.flip(image, 0)[..., None]), 0), 0, 128)
    mean = (0.5 * first + 0.5 * second)[place]
    return mean + (mean - ndimage.gaussian_filter(mean, 1.5)) if sharpen else mean


def github_synthsr(layers: Layers, ras: Array) -> Array:
    """The same as the GitHub release does it."""
    image, place = padded32((ras - ras.min()) / (ras.max() - ras.min()))
    mirrored = np.flip(keras_unet(layers, np.flip(image, 0)[..., None]), 0)
    mean = 0.5 * keras_unet(layers, image[..., None]) + 0.5 * mirrored
    return np.clip(255 * mean, 0, 128)[place]


def hyperfine_synthsr(layers: Layers, t1: Array, t2: Array, *, forgets: bool) -> Array:
    """Two scans on the 1 mm grid of the T1; FreeSurfer's program forgets the minimum of the T1."""
    low = t1.min()
    spread = (t1 - low).max() / 3
    one = t1 / spread if forgets else (t1 - low) / spread
    two = (t2 - t2.min()) / (t2 - t2.min()).max() * 2
    (one_in, place), (two_in, _) = padded32(one), padded32(two)
    residual = keras_unet(layers, np.stack([one_in, two_in], axis=-1))[place]
    return np.maximum(low + spread * (residual + one), 0)
