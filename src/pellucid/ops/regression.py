"""Linear models in closed form, or nearly: ridge regression from sums, and multinomial logistic regression."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import wrong

AT_ONCE = 100_000
"""Samples that are brought to double precision together."""

LEAST_STD = 1e-6
"""An input that varies less is taken as constant."""

ROUNDING = 1e-12
"""Variance of an input, as a share of its mean square, that sums in double precision cannot tell from none."""


class Linear(NamedTuple):
    """`weight @ x + bias`."""

    weight: Float[Tensor, "k c"]
    bias: Float[Tensor, " k"]


class Ridge:
    """Least squares with a penalty on the weights; of the samples, only sums of products are kept.

    Args:
        inputs: Numbers that describe a sample.
        outputs: Numbers to be told from them.

    Reference:
        Hoerl & Kennard 1970, Technometrics 12:55, doi:10.1080/00401706.1970.10488634

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> sums = Ridge(1, 1)
        >>> sums.add(x, 3 * x + 1)
        >>> [round(value.item(), 3) for value in sums.solve(penalty=0.0)]
        [3.0, 1.0]
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.products = torch.zeros(inputs + outputs + 1, inputs + outputs + 1, dtype=torch.float64)

    def add(self, x: Float[Tensor, "n c"], y: Float[Tensor, "n k"], *, weight: float = 1.0) -> None:
        """Take in samples.

        Args:
            x: What is known of each.
            y: What is to be told.
            weight: How much each counts.
        """
        for start in range(0, len(x), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            rows = torch.cat([x[part], y[part], torch.ones_like(y[part, :1])], dim=1).double()
            self.products += weight * (rows.T @ rows)

    def solve(self, *, penalty: float, least_std: float = LEAST_STD) -> Linear:
        """The layer that fits best.

        Args:
            penalty: Of the squared weights, where inputs have a standard deviation of 1 and the error is a mean.
            least_std: Inputs that vary less are not brought to 1, or they would get large weights.

        Returns:
            Weights and bias for inputs as they came.

        Raises:
            PellucidError: If there are no samples.
        """
        total = self.products[-1, -1]
        if total <= 0:
            raise wrong("Ridge", need="samples", got="none")
        means = self.products[-1, :-1] / total
        spread = self.products[:-1, :-1] / total - means[:, None] * means[None]
        c = self.inputs
        std = spread.diagonal()[:c].clamp_min(0).sqrt().clamp_min(least_std)
        matrix = spread[:c, :c] / (std[:, None] * std[None])
        # What is left of an input that never varies is rounding, which some processors make negative.
        same = spread.diagonal()[:c] <= ROUNDING * self.products.diagonal()[:c] / total
        matrix[same], matrix[:, same] = 0.0, 0.0
        spread[:c].masked_fill_(same[:, None], 0.0)
        # A trace of penalty, so that inputs that say the same share the weight.
        matrix += (penalty + 1e-9) * torch.eye(c, dtype=torch.float64)
        weight = (torch.linalg.solve(matrix, spread[:c, c:] / std[:, None]) / std[:, None]).T
        return Linear(weight.float(), (means[c:] - weight @ means[:c]).float())


def logistic(
    x: Float[Tensor, "n c"],
    y: Int[Tensor, " n"],
    *,
    classes: int,
    weights: Float[Tensor, " n"],
    penalty: float,
    least_std: float = LEAST_STD,
    steps: int = 200,
) -> Linear:
    """Multinomial logistic regression by L-BFGS: the problem is convex, so where it begins does not matter.

    Args:
        x: What is known of each sample.
        y: Class of each, from 0.
        classes: How many there are.
        weights: How much each sample counts.
        penalty: Of the squared weights, where inputs have a standard deviation of 1 and the loss is a mean.
        least_std: Inputs that vary less are not brought to 1, or they would get large weights.
        steps: Most steps.

    Returns:
        The layer whose outputs are logits.

    Raises:
        PellucidError: If there are no samples.
    """
    if not len(x):
        raise wrong("logistic", need="samples", got="none")
    share = (weights / weights.sum())[:, None]
    mean = (share * x).sum(0)
    std = (share * (x - mean).square()).sum(0).sqrt().clamp_min(least_std)
    scaled = (x - mean) / std
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    search: Any = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=20, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        logits = torch.addmm(bias, scaled, weight.T)
        each = torch.nn.functional.cross_entropy(logits, y.long(), reduction="none")
        total: Any = (share[:, 0] * each).sum() + 0.5 * penalty * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        search.step(loss)
    found = weight.detach() / std
    return Linear(found, bias.detach() - found @ mean)
