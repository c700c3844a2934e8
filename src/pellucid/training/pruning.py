"""A network without the units that do nothing: the same answers from fewer weights (decision 0025)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from pellucid.errors import wrong
from pellucid.models import TwoStage
from pellucid.models.blocks import ResidualBlock
from pellucid.models.unet import EfficientUNet, EfficientUNetConfig

MULTIPLE = 8
"""Units are left in multiples of this: fewer are not faster."""


@torch.inference_mode()
def living(
    model: nn.Module, shown: Iterable[Tensor], call: Callable[[Tensor], Any] | None = None
) -> dict[str, Bool[Tensor, " u"]]:
    """Which units of the rectifiers inside of blocks are ever above 0.

    Args:
        model: Any network of `ResidualBlock`s.
        shown: What it is called with: whole scans of every kind that it will see.
        call: What is called with it; the model by default.

    Returns:
        For each block, by its name, whether each of its units is.

    Raises:
        PellucidError: If a block has a slope: none of its units is dead.
    """
    highest: dict[str, Tensor] = {}

    def note(name: str, block: ResidualBlock, arguments: tuple[Tensor, ...]) -> None:
        made = block.unrectified(arguments[0]).amax((0, 2, 3, 4)).float()
        highest[name] = torch.maximum(highest.get(name, made), made)

    blocks = {name: block for name, block in model.named_modules() if isinstance(block, ResidualBlock)}
    for name, block in blocks.items():
        if block.slope:
            raise wrong("living", need="rectifiers without a slope", got=f"{block.slope} in {name}")
    hooks = [
        block.register_forward_pre_hook(lambda b, a, name=name: note(name, b, a))
        for name, block in blocks.items()
    ]
    for batch in shown:
        (call or model)(batch)
    for hook in hooks:
        hook.remove()
    return {name: most > 0 for name, most in highest.items()}


@torch.no_grad()
def pruned(model: TwoStage, alive: Mapping[str, Bool[Tensor, " u"]]) -> TwoStage:
    """A two-stage network without its dead units.

    Args:
        model: Over efficient U-Nets with one block a level.
        alive: From `living`.

    Returns:
        A new network.

    Raises:
        PellucidError: If the network is another one.
    """
    weights = dict(model.state_dict())
    bodies = {}
    for stage in ("tissue", "enhance"):
        unet = getattr(model, stage)
        if not isinstance(unet, EfficientUNet) or unet.config.blocks != 1:
            raise wrong("pruned", need="efficient U-Nets with one block a level", got=str(model.config))
        blocks = {name.removeprefix(f"{stage}."): units for name, units in alive.items()}
        bodies[stage], left = _pruned(unet, blocks)
        weights = {name: values for name, values in weights.items() if not name.startswith(f"{stage}.")}
        weights |= {f"{stage}.{name}": values for name, values in left.items()}
    new = TwoStage(replace(model.config, tissue=bodies["tissue"], enhance=bodies["enhance"]))
    new.load_state_dict(weights)
    return new.eval()


def _pruned(
    unet: EfficientUNet, alive: Mapping[str, Bool[Tensor, " u"]]
) -> tuple[EfficientUNetConfig, dict[str, Tensor]]:
    """Config and weights of what is left of a U-Net.

    What a block without a living unit adds is the bias of its last convolution: it goes into the convolution before.
    """
    down = [(f"down.{at}.0", f"shrink.{at - 1}" if at else "stem") for at in range(len(unet.down))]
    up = [(f"up.{at}.0", f"grow.{at}") for at in reversed(range(len(unet.up)))]
    weights = {name: values.clone() for name, values in unet.state_dict().items()}
    units = []
    for block, before in down + up:
        kept = _rounded(alive[block])
        units.append(len(kept))
        if len(kept):
            for name in ("conv1.weight", "conv1.bias"):
                weights[f"{block}.{name}"] = weights[f"{block}.{name}"][kept]
            weights[f"{block}.conv2.weight"] = weights[f"{block}.conv2.weight"][:, kept]
        else:
            weights[f"{before}.bias"] += weights[f"{block}.conv2.bias"]
            weights = {name: values for name, values in weights.items() if not name.startswith(f"{block}.")}
    return replace(unet.config, units=tuple(units)), weights


def _rounded(alive: Bool[Tensor, " u"]) -> Tensor:
    """The places of living units, and of dead ones to fill up the last multiple."""
    count = min(len(alive), -(-int(alive.sum()) // MULTIPLE) * MULTIPLE)
    return torch.argsort(alive.int(), descending=True, stable=True)[:count].sort().values
