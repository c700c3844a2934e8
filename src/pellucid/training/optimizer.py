"""The optimizer: orthogonalized momentum for convolutions, AdamW for everything else.

Training here is short of steps, not of memory, and a step of Muon goes further than one of AdamW.
"""

import fnmatch
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import wrong

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that pushes all singular values towards 1 (Jordan et al. 2024)."""


class Muon(torch.optim.Optimizer):
    """Muon for weights of convolutions, AdamW for vectors (biases, scales).

    A convolution's weight (out, in, x, y, z) counts as a matrix (out, in x y z). Its update is the momentum with
    all singular values made about equal, scaled so that its root mean square is that of an AdamW step: one
    learning rate serves both.

    Args:
        parameters: What to train.
        lr: Learning rate.
        weight_decay: Decoupled decay, relative to the learning rate.
        momentum: Decay of Muon's (Nesterov) momentum.
        betas: Decays of AdamW's moments.

    Reference:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; scale and weight decay:
        Liu et al. 2025, arXiv:2502.16982, equation 4.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        values = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__(list(parameters), values)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._muon if weights.dim() > 1 else self._adam
                weights.add_(update(weights, weights.grad, group), alpha=-group["lr"])
        return loss

    def _muon(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weights]
        if not state:
            state["momentum"] = torch.zeros_like(weights)
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"])
        flat = orthogonalized(ahead.reshape(len(weights), -1).float())
        return (0.2 * math.sqrt(max(flat.shape)) * flat).to(weights.dtype).view(weights.shape)

    def _adam(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (fast, slow) = self.state[weights], group["betas"]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(weights), torch.zeros_like(weights)
            state["step"] = torch.zeros((), dtype=torch.float32)
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - fast)
        square = state["square"].lerp_(gradient.square(), 1 - slow)
        count = float(state["step"])
        return (mean / (1 - fast**count)) / ((square / (1 - slow**count)).sqrt() + 1e-8)


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Keep the gradients from weights whose names match.

    Args:
        model: The network, changed in place.
        patterns: Names with wildcards, such as `tissue.*`.

    Raises:
        PellucidError: If a pattern matches nothing, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        matching = fnmatch.filter(named, pattern)
        if not matching:
            raise wrong("frozen", need=f"names of weights, such as {next(iter(named))}", got=pattern)
        for name in matching:
            named[name].requires_grad_(False)
    if not any(weights.requires_grad for weights in model.parameters()):
        raise wrong("frozen", need="some weights that are trained", got="patterns that match all of them")


def orthogonalized(matrix: Float[Tensor, "m n"], *, iterations: int = 5) -> Float[Tensor, "m n"]:
    """The matrix with its singular values moved near 1 (about 0.7 to 1.2), by Newton-Schulz iterations.

    Args:
        matrix: Any matrix; one of zeros stays zero.
        iterations: 5 suffice for singular values above a thousandth of the norm.

    Returns:
        A new matrix.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-12)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
