"""A network to go on learning from that says what a smaller or sparser one says: grow from narrow to wide."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models.blocks import ResidualBlock
from pellucid.types import Batch

PART = re.compile(r"(?:^|\.)(stem|down|shrink|grow|up|head|gate)\.")
"""The part of an efficient U-Net that a weight belongs to."""
APART = 0.3
"""How far copies of a channel are read differently, relative to the weight; alike they would stay alike forever."""


@torch.no_grad()
def widened(narrow: nn.Module, wide: nn.Module, *, seed: int = 0) -> None:
    """Fill in the weights of an efficient U-Net from those of a narrower one, in place.

    Channels are repeated, and what reads them shares its weight between the copies, unevenly so that they go different
    ways (Net2WiderNet; Chen et al. 2016, arXiv:1511.05641). Where every channel is repeated equally often the answer
    is the same; else the normalization over channels sees other shares of them, and the answer is a similar one.

    Args:
        narrow: Anything with one `EfficientUNet`, or one itself.
        wide: The same with as many levels, none of them narrower.
        seed: Of how the copies differ.

    Raises:
        PellucidError: If a level would be narrower, or the networks differ in anything but widths.
    """
    old, new = narrow.state_dict(), wide.state_dict()
    if old.keys() != new.keys():
        names = ", ".join(sorted(old.keys() ^ new.keys())[:3])
        raise wrong("the wider network", need="the same parts", got=f"others: {names}")
    generator = torch.Generator().manual_seed(seed)
    for name, weights in new.items():
        weights.copy_(_widened(name, old[name], weights.shape, generator))


def _widened(name: str, old: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """One weight."""
    if old.shape == shape:
        return old
    grows = old.dim() == len(shape) and all(a <= b for a, b in zip(old.shape, shape, strict=True))
    if PART.search(name) is None or not grows or old.shape[2:] != shape[2:]:
        got = f"{name} of {tuple(shape)} for {tuple(old.shape)}"
        raise wrong("the wider network", need="levels at least as wide, and the same kernels", got=got)
    repeated = old[torch.arange(shape[0]) % old.shape[0]]
    if repeated.dim() == 1 or repeated.shape[1] == shape[1]:
        return repeated
    return _shared(repeated, shape[1], generator)


def _shared(weights: Tensor, inputs: int, generator: torch.Generator) -> Tensor:
    """Weights (out, in, ...) for repeated inputs: those of the copies of one add up to what there was."""
    place = torch.arange(inputs) % weights.shape[1]
    copies = torch.bincount(place).to(weights)[place].view(1, -1, *(1,) * (weights.dim() - 2))
    shared = weights[:, place] / copies
    apart = APART * shared * torch.randn(shared.shape, generator=generator)
    mean = torch.zeros_like(weights).index_add_(1, place, apart)[:, place] / copies
    return shared + apart - mean


@torch.no_grad()
def let_through(model: nn.Module, seen: Sequence[Batch]) -> None:
    """Take back what the slopes of rectifiers let through, on the mean and in place.

    The weights of a network that learnt without slopes (decision 0025) mean nothing with them: units that were off
    nearly everywhere now answer everywhere. Most of that is the same in all voxels, so biases can undo it.

    Args:
        model: Any network of `ResidualBlock`s with slopes, and the weights of one without.
        seen: What the model is called with, (b, c, x, y, z): a few real inputs.

    Raises:
        PellucidError: If there is no input, or a block has no slope.
    """
    blocks = [block for block in model.modules() if isinstance(block, ResidualBlock)]
    if not seen or not blocks or not all(block.slope for block in blocks):
        raise wrong(
            "let_through", need="inputs, and blocks with slopes", got=f"{len(seen)} and {len(blocks)}"
        )
    done: set[ResidualBlock] = set()
    while len(done) < len(blocks):
        # In the order of the pass, each with what the mended ones before it give.
        done.add(_mended(model, done, seen))


def _mended(model: nn.Module, done: set[ResidualBlock], seen: Sequence[Batch]) -> ResidualBlock:
    """Mend the first block of the pass that is not done."""
    means: list[Tensor] = []
    first: list[ResidualBlock] = []

    def note(block: nn.Module, arguments: tuple[Tensor]) -> None:
        if not isinstance(block, ResidualBlock) or (first and block is not first[0]):
            return
        first[:] = [block]
        means.append(block.slope * block.unrectified(arguments[0]).clamp_max(0).mean((0, 2, 3, 4)))

    blocks = [b for b in model.modules() if isinstance(b, ResidualBlock) and b not in done]
    hooks = [block.register_forward_pre_hook(note) for block in blocks]
    for batch in seen:
        model(batch)
    for hook in hooks:
        hook.remove()
    block = first[0]
    if block.conv2.bias is None:
        raise AssertionError("convolutions of blocks have a bias")
    block.conv2.bias -= block.conv2.weight.sum((2, 3, 4)) @ torch.stack(means).mean(0)
    return block
