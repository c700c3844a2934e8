"""Stand-ins for networks: classes by intensity, and a synthesizer that has learnt nothing."""

import torch
from torch import Tensor, nn

from pellucid.models import Anatomy, Synthesizer, SynthesizerConfig
from pellucid.synthesis.structures import STRUCTURES
from pellucid.training.synthesis import first_network

INDEX = {structure.name: place for place, structure in enumerate(STRUCTURES)}
SHELLS = {"Background": 0.0, "CSF": 0.3, "Cerebral-Cortex": 0.6, "Cerebral-White-Matter": 0.9}
"""Class -> intensity, from the outside to the inside."""
RADII = (16.0, 13.0, 9.0)


class Stub(nn.Module):
    """Classifies by intensity; right is beyond the middle of what is bright."""

    def forward(self, batch: Tensor) -> Anatomy:
        logits = torch.full((len(batch), len(STRUCTURES), *batch.shape[2:]), -50.0)
        for name, level in SHELLS.items():
            logits[:, INDEX[name]] = -300 * (batch[:, 0] - level).square()
        place = torch.arange(batch.shape[2]).float()
        ramp = place - torch.nonzero(batch[0, 0] > 0.1)[:, 0].float().mean()
        return Anatomy(logits, 20 * ramp.view(1, 1, -1, 1, 1).expand_as(batch))

    def explain(self, batch: Tensor) -> tuple[Anatomy, Tensor]:
        """Its features are powers of the intensity."""
        return self(batch), torch.cat([batch, batch**2, batch**3], dim=1)


def sketcher() -> Synthesizer:
    """The sketch, and the groups as they were told."""
    torch.manual_seed(0)
    return first_network(SynthesizerConfig(channels=(4, 8))).eval()
