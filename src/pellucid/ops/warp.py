"""Moving images: affine maps, displacement fields, diffeomorphisms. Positions are voxel indices."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pellucid import runtime
from pellucid.errors import wrong
from pellucid.ops import trilinear
from pellucid.ops.resize import apply_along, interpolation_matrix


def identity_positions(
    shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Position of every voxel: its own index."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def affine_positions(
    matrix: Float[Tensor, "3 4"], shape: tuple[int, int, int], *, device: torch.device | str = "cpu"
) -> Float[Tensor, "3 x y z"]:
    """Positions `matrix @ (i, j, k, 1)` of all output voxels (output index -> input index)."""
    return add_affine(torch.zeros(3, *shape, device=device), matrix)


def add_affine(
    displacement: Float[Tensor, "3 x y z"], matrix: Float[Tensor, "3 4"]
) -> Float[Tensor, "3 x y z"]:
    """Add the positions of an affine map to displacements, in place.

    An affine map is a sum of one term per axis, so nothing of the size of the volume is multiplied.

    Args:
        displacement: What to add to; it is overwritten.
        matrix: Output index -> input index.

    Returns:
        `displacement`, now positions.
    """
    matrix = matrix.to(displacement.device, displacement.dtype)
    terms = []
    for axis, size in enumerate(displacement.shape[1:]):
        line = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        view = [1, 1, 1, 1]
        view[axis + 1] = size
        terms.append(matrix[:, axis].view(3, 1, 1, 1) * line.view(view))
    plane = terms[1] + terms[2] + matrix[:, 3].view(3, 1, 1, 1)
    return displacement.add_(plane).add_(terms[0])


def sample(
    image: Float[Tensor, "c x y z"],
    positions: Float[Tensor, "3 u v w"],
    *,
    mode: str = "linear",
    outside: str = "zeros",
) -> Float[Tensor, "c u v w"]:
    """Read an image at positions.

    Args:
        image: Image to read.
        positions: Voxel indices into `image`, one 3-vector per output voxel.
        mode: "linear" or "nearest".
        outside: What lies outside the image: "zeros", or "edge", the nearest voxel of the border.

    Returns:
        The values, on the grid of `positions`.

    Raises:
        PellucidError: If `mode` or `outside` is unknown.
    """
    kernel, padding = _kernel(mode, outside)
    if mode == "linear" and _is_plain(image, positions):
        shape = (positions.shape[1], positions.shape[2], positions.shape[3])
        return trilinear.read(image, lambda rows: positions[:, rows].unbind(), shape, outside=outside)
    # grid_sample wants x last and -1..1 between the centres of the outer voxels.
    shares = [2 / max(size - 1, 1) for size in image.shape[1:]]
    grid = torch.stack([positions[axis] * shares[axis] - 1 for axis in (2, 1, 0)], dim=-1)
    return _read(image, grid.to(image.dtype), kernel, padding)


def sample_affine(
    image: Float[Tensor, "c x y z"],
    matrix: Float[Tensor, "3 4"],
    shape: tuple[int, int, int],
    *,
    outside: str = "zeros",
) -> Float[Tensor, "c u v w"]:
    """Read an image at the positions of an affine map: `sample` of `affine_positions`, which are never written down.

    Args:
        image: Image to read.
        matrix: Output index -> input index.
        shape: Voxels of the output.
        outside: As for `sample`.

    Returns:
        The values, linearly interpolated.

    Raises:
        PellucidError: If `outside` is unknown.
    """
    kernel, padding = _kernel("linear", outside)
    lines = [torch.arange(n, device=image.device, dtype=image.dtype) for n in shape]
    if _is_plain(image, matrix):
        x, y, z = (column[:, None] * line for column, line in zip(matrix.to(image).T, lines, strict=False))
        plane = y[:, :, None] + (z + matrix[:, 3:].to(image))[:, None]

        def places(rows: slice) -> tuple[Tensor, ...]:
            return tuple(x[axis, rows, None, None] + plane[axis] for axis in range(3))

        return trilinear.read(image, places, shape, outside=outside)
    shares = torch.tensor([2 / max(size - 1, 1) for size in image.shape[1:]])
    scaled = (matrix.cpu() * shares[:, None]).flip(0).to(image.device, image.dtype)
    x, y, z = (line[:, None] * column for column, line in zip(scaled.T, lines, strict=False))
    return _read(image, x[:, None, None] + y[:, None] + z + (scaled[:, 3] - 1), kernel, padding)


def _is_plain(image: Tensor, at: Tensor) -> bool:
    """Whether an image is read on the CPU and nothing is to be learnt from it."""
    return image.device.type == "cpu" and not (image.requires_grad or at.requires_grad)


def _kernel(mode: str, outside: str) -> tuple[str, str]:
    """What `grid_sample` calls them."""
    if mode not in ("linear", "nearest"):
        raise wrong("sample: mode", need="linear or nearest", got=str(mode))
    if outside not in ("zeros", "edge"):
        raise wrong("sample: outside", need="zeros or edge", got=str(outside))
    return "bilinear" if mode == "linear" else mode, "zeros" if outside == "zeros" else "border"


def _read(image: Tensor, grid: Float[Tensor, "u v w 3"], kernel: str, padding: str) -> Tensor:
    """`grid_sample` of one image."""
    return F.grid_sample(image[None], grid[None], mode=kernel, padding_mode=padding, align_corners=True)[0]


def sample_labels(labels: Int[Tensor, "x y z"], positions: Float[Tensor, "3 u v w"]) -> Int[Tensor, "u v w"]:
    """Read the nearest label at positions; outside is 0.

    Args:
        labels: Label numbers of any integer type, which is kept.
        positions: Voxel indices into `labels`, one 3-vector per output voxel.

    Returns:
        Label numbers, on the grid of `positions`.
    """
    flat, out = labels.reshape(-1), labels.new_empty(positions.shape[1:])

    def work(rows: slice) -> None:
        index, inside = _nearest(positions[:, rows], labels.shape)
        found = flat.index_select(0, index).view(out[rows].shape)
        out[rows] = found if inside is None else found * inside

    shape = (out.shape[0], out.shape[1], out.shape[2])
    on_cpu = positions.device.type == "cpu"
    runtime.spread(work, trilinear.blocks(shape) if on_cpu else [slice(None)], device=positions.device)
    return out


def _nearest(positions: Float[Tensor, "3 u v w"], sizes: torch.Size) -> tuple[Tensor, Tensor | None]:
    """Flat index of the voxel nearest to each position, and whether that lies inside; none if all do."""
    exact, inside, axes = trilinear.flat_type(sizes.numel()), None, []
    for at, size in zip(positions, sizes, strict=True):
        index = at.to(exact).round()
        if positions.device.type != "cpu" or not _all_within(at, size):
            near = index.clamp(0, size - 1)
            same = near == index
            inside, index = (same if inside is None else inside & same), near
        axes.append(index)
    place = axes[2].add_(axes[1], alpha=sizes[2]).add_(axes[0], alpha=sizes[1] * sizes[2])
    return place.to(torch.int32 if sizes.numel() < 2**31 else torch.int64).view(-1), inside


def _all_within(at: Tensor, size: int) -> bool:
    """Whether the nearest voxels of all positions are from 0 to the last; a position between two need not be."""
    low, high = at.aminmax()
    return float(low) > -0.5 and float(high) < size - 0.5


def upsample(coarse: Float[Tensor, "c i j k"], shape: tuple[int, int, int]) -> Float[Tensor, "c x y z"]:
    """Cubic B-spline interpolation of a coarse field whose outer nodes lie on the outer voxels."""
    fine = coarse
    for axis, size in enumerate(shape):
        if size != coarse.shape[axis + 1]:
            fine = apply_along(fine, _spline_weights(coarse.shape[axis + 1], size), axis + 1)
    return coarse.clone() if fine is coarse else fine


def _spline_weights(nodes: int, size: int) -> Float[Tensor, "size nodes"]:
    """Matrix of `upsample` along one axis."""
    return interpolation_matrix(nodes, torch.linspace(0, nodes - 1, size, dtype=torch.float64))


def displaced_affine(
    coarse: Float[Tensor, "3 i j k"], matrix: Float[Tensor, "3 4"], shape: tuple[int, int, int]
) -> Float[Tensor, "3 x y z"]:
    """Positions of an affine map plus a coarse displacement: `add_affine` of `upsample`, in one pass over the volume.

    Args:
        coarse: Displacement on a grid whose outer nodes lie on the outer voxels.
        matrix: Output index -> input index.
        shape: Voxels of the output.

    Returns:
        Positions.
    """
    matrix = matrix.to(coarse)
    planes = upsample(coarse, (shape[0], shape[1], coarse.shape[3]))
    lines = [torch.arange(size, dtype=coarse.dtype, device=coarse.device) for size in shape]
    start = matrix[:, 0, None, None] * lines[0][:, None] + matrix[:, 1, None, None] * lines[1]
    start = start + matrix[:, 3, None, None]
    # The last axis is a product with a matrix anyway: two more columns bring the affine map.
    parts = [planes, start[..., None], matrix[:, 2].view(3, 1, 1, 1).expand(*start.shape, 1)]
    last = _spline_weights(coarse.shape[3], shape[2]).T.to(coarse)
    return torch.cat(parts, dim=3) @ torch.cat([last, torch.ones_like(last[:1]), lines[2][None]])


def exponentiate(velocity: Float[Tensor, "3 x y z"], *, steps: int = 5) -> Float[Tensor, "3 x y z"]:
    """Flow of a stationary velocity field after unit time, by scaling and squaring.

    The result is a diffeomorphism (smooth, invertible) when the scaled field folds nowhere; its inverse is
    `exponentiate(-velocity)`.

    Args:
        velocity: Velocity in voxels per unit time.
        steps: Number of squarings.

    Returns:
        Displacement in voxels.

    Reference:
        Arsigny et al. 2006, MICCAI, LNCS 4190:924.
    """
    displacement = velocity / 2**steps
    shape = (velocity.shape[1], velocity.shape[2], velocity.shape[3])
    start = identity_positions(shape, device=velocity.device)
    limits = torch.tensor(shape, dtype=velocity.dtype, device=velocity.device).view(3, 1, 1, 1) - 1
    for _ in range(steps):
        # Clamped, so that the flow stays constant beyond the border instead of falling to 0.
        target = (start + displacement).clamp_min(0).minimum(limits)
        displacement = displacement + sample(displacement, target)
    return displacement


def rotation_matrix(angles_deg: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """Rotation about x, then y, then z, by angles in degrees (right-handed)."""
    angles = [math.radians(angle) for angle in angles_deg]
    cosines, sines = (torch.tensor([of(angle) for angle in angles]) for of in (math.cos, math.sin))
    return rotation_of(cosines, sines).to(torch.float32)


def rotation_of(cosines: Float[Tensor, " 3"], sines: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """Rotation about x, then y, then z (right-handed), by the cosines and sines of the angles; differentiable."""
    (cx, cy, cz), (sx, sy, sz) = cosines, sines
    one, nil = torch.ones_like(cx), torch.zeros_like(cx)
    about_x = torch.stack([one, nil, nil, nil, cx, -sx, nil, sx, cx]).view(3, 3)
    about_y = torch.stack([cy, nil, sy, nil, one, nil, -sy, nil, cy]).view(3, 3)
    about_z = torch.stack([cz, -sz, nil, sz, cz, nil, nil, nil, one]).view(3, 3)
    return about_z @ about_y @ about_x


def about_center(linear: Float[Tensor, "3 3"], shape: tuple[int, int, int]) -> Float[Tensor, "3 4"]:
    """Affine map that applies a linear map about the centre of a volume."""
    center = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    return torch.cat([linear, (center - linear @ center)[:, None]], dim=1)
