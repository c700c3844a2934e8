"""Signs of motion: simulated motion has them, undoing it takes them away."""

import torch
from torch import Tensor

from pellucid.degradation.kspace import Pose, rigid_motion
from pellucid.ops.filters import gaussian_blur
from pellucid.ops.ghosts import gradient_entropy, has_no_more_ghosts, light


def _moved(image: Tensor) -> Tensor:
    poses = [
        Pose(0.0),
        Pose(0.4, (2.0, -1.0, 3.0), (1.0, 2.0, -1.5)),
        Pose(0.62, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ]
    return rigid_motion(image, poses=poses, phase_axis=1, spacing=(1.0, 1.0, 1.0))


def test_a_still_head_has_fewer_than_a_moved_one(phantom_image: Tensor) -> None:
    still = gaussian_blur(phantom_image, sigma=(0.7, 0.7, 0.7))
    moved = _moved(still)
    assert has_no_more_ghosts(still, moved)
    assert not has_no_more_ghosts(moved, still)
    assert has_no_more_ghosts(still, still)


def test_light_is_of_the_region() -> None:
    image = torch.zeros(1, 4, 5, 6)
    image[0, 1] = 3.0
    where = torch.zeros(4, 5, 6, dtype=torch.bool)
    assert light(image, where) == 0
    where[1:3] = True
    assert abs(light(image, where) - (9 / 2) ** 0.5) < 1e-6


def test_entropy_is_lowest_for_one_edge() -> None:
    step = torch.zeros(1, 12, 10, 8)
    step[:, 6:] = 1.0
    ramp = torch.linspace(0, 1, 12)[None, :, None, None].expand(1, 12, 10, 8).contiguous()
    everywhere = torch.ones(12, 10, 8, dtype=torch.bool)
    assert gradient_entropy(step, everywhere) < gradient_entropy(ramp, everywhere)
    assert gradient_entropy(ramp, everywhere) <= float(torch.tensor(12.0 * 10 * 8).log()) + 1e-4


def test_an_empty_image_has_no_head_to_judge() -> None:
    assert not has_no_more_ghosts(torch.zeros(1, 8, 9, 10), torch.zeros(1, 8, 9, 10))
