"""The recipe of the network that finds lesions: settings, data, loss, what a step is.

Run it with `pellucid train recipes/lesions.yaml`. It resumes from the last checkpoint in its run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pellucid import weights
from pellucid.errors import wrong
from pellucid.inference.predictor import autocast
from pellucid.models import AnatomyNet, LesionNet, LesionNetConfig
from pellucid.ops.head import brain_box
from pellucid.ops.random import Dice, seeded
from pellucid.synthesis import Subject
from pellucid.synthesis.contrast import ContrastConfig
from pellucid.synthesis.lesions import LesionConfig
from pellucid.synthesis.structures import BRAIN
from pellucid.training.ahead import Stream
from pellucid.training.anatomy_data import AnatomyDataConfig, AnatomyExample, AnatomyStream
from pellucid.training.data import seed_of
from pellucid.training.heads import FIRST_JUDGED, Beginning, HeadsConfig, HeadsRun

OUTSIDE = 0.1
"""Weight of a voxel outside of the brain: nothing is to be found there, and it is easily learnt."""


def _data() -> AnatomyDataConfig:
    """Heads as the anatomy network learns from, most of them with lesions, in contrasts that mostly show them."""
    config = AnatomyDataConfig()
    lesions, contrast = LesionConfig(probability=0.8, white=0.7), ContrastConfig(plausible=0.95)
    return replace(config, generator=replace(config.generator, lesions=lesions, contrast=contrast))


@dataclass(frozen=True)
class LesionRecipe(HeadsConfig):
    """Everything that makes a run."""

    task: Literal["lesions"] = "lesions"
    """Tells this recipe from the others."""
    out: str = "runs/lesions"
    anatomy: str = "anatomy"
    """Weights of the anatomy network whose probabilities are given: a name, or a .safetensors file."""
    real: float = 0.15
    """Share of heads that are real scans whose lesions are known, if there are some."""
    echoes: int = 3
    """Steps that each head is used for, mirrored along other axes each time: making one takes longer than a step
    (data echoing; Choi et al. 2019, arXiv:1907.05550)."""
    judged: int = 16
    model: LesionNetConfig = field(default_factory=LesionNetConfig)
    data: AnatomyDataConfig = field(default_factory=_data)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.real <= 1 or self.echoes < 1:
            need = "real from 0 to 1 and echoes >= 1"
            raise wrong("recipe", need=need, got=f"{self.real} and {self.echoes}")


class LesionHead(NamedTuple):
    """One head."""

    seen: Float[Tensor, "8 x y z"]
    """What the network is shown (`LesionNet.seen`)."""
    lesion: Bool[Tensor, "x y z"]
    """True in lesions."""
    brain: Bool[Tensor, "x y z"]
    """True in the brain with its CSF."""


class LesionStream(Stream[tuple[int, int], LesionHead, list[LesionHead]]):
    """Heads by step number.

    Args:
        subjects: With label maps.
        config: The recipe.
        anatomy: The network whose probabilities are given.
        network: The network, for what it wants to see.
        device: Where to build.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        config: LesionRecipe,
        anatomy: AnatomyNet,
        network: LesionNet,
        device: torch.device,
    ) -> None:
        self.config, self.anatomy, self.network = config, anatomy, network
        self.heads = AnatomyStream(subjects, config.data, seed=config.seed, device=device)
        known = [subject for subject in subjects if subject.lesion is not None and subject.images]
        scans = replace(config.data, generator=replace(config.data.generator, synthetic=0.0))
        self.known = AnatomyStream(known, scans, seed=config.seed, device=device) if known else None

    def keys(self, step: int) -> list[tuple[int, int]]:
        """The heads of a step: those of the step before, or new ones."""
        return [(step // self.config.echoes, place) for place in range(self.config.data.batch)]

    def make(self, key: tuple[int, int]) -> LesionHead:
        """One of them."""
        return self.head(*key)

    def collate(self, step: int, parts: Sequence[LesionHead]) -> list[LesionHead]:
        """Heads, mirrored otherwise in every step."""
        dice = Dice(seeded(seed_of(self.config.seed, step, 2)))
        axes = [axis for axis in (-3, -2, -1) if dice.happens(0.5)]
        return [LesionHead(*(part.flip(axes) for part in head)) for head in parts]

    def head(self, step: int, place: int) -> LesionHead:
        """The head at a step and place."""
        real = Dice(seeded(seed_of(self.config.seed, step, place, 1))).happens(self.config.real)
        stream = self.known if self.known is not None and real else self.heads
        return self.shown(stream.example(step, place))

    def shown(self, example: AnatomyExample) -> LesionHead:
        """What the network is to see of a head, and to say."""
        image, lesion = example.image, example.lesion
        with torch.inference_mode():
            with autocast(image.device, "auto"):
                answer = self.anatomy(image[None].contiguous(memory_format=torch.channels_last_3d))
            classes = answer.structures[0].float().softmax(0)
            box = brain_box(classes[BRAIN:].sum(0))
            here = (slice(None), *box)
            seen = self.network.seen(image[here], classes[here], spacing=(example.spacing,) * 3)
        lesion = torch.zeros_like(example.rows, dtype=torch.bool) if lesion is None else lesion
        # A tensor of inference mode cannot be trained on; a copy can.
        return LesionHead(seen.clone(), lesion[box], example.rows[box] >= BRAIN)


def fit(config: LesionRecipe) -> Path:
    """Train, or go on training.

    Args:
        config: The run.

    Returns:
        The weights of the moving average (.safetensors) in the run's folder.

    Raises:
        PellucidError: If the data are wrong, the checkpoint is another network's, or the loss stops being a number.
    """
    start = Beginning(config, config.data.packed, needs="labels")
    anatomy = cast(AnatomyNet, weights.shared(config.anatomy, start.device, kind="anatomy"))
    training = _Training(config, start.device)
    stream = LesionStream(start.learnt, config, anatomy, training.model, start.device)
    if start.judged:
        others = LesionStream(start.judged, config, anatomy, training.model, start.device)
        heads = [others.head(FIRST_JUDGED, place) for place in range(config.judged)]
        training.figures = partial(judge, heads=heads)
    return start.train(training, stream)


class _Training(HeadsRun[LesionNet]):
    """The network in training."""

    def __init__(self, config: LesionRecipe, device: torch.device) -> None:
        super().__init__(config, device, lambda: LesionNet(config.model))

    def step(self, step: int, batch: list[LesionHead]) -> dict[str, float]:
        """One step of the optimizer; returns the loss."""
        losses = []
        for head in batch:
            # One by one: the boxes around brains differ in size.
            with autocast(self.device, "auto"):
                logits = self.model(head.seen[None].contiguous(memory_format=torch.channels_last_3d))[0, 0]
            losses.append(lesion_loss(logits.float(), head))
        loss = torch.stack(losses).mean()
        self.descend(step, loss)
        return {"loss": float(loss.detach())}


def lesion_loss(logits: Float[Tensor, "x y z"], head: LesionHead) -> Float[Tensor, ""]:
    """Cross-entropy plus one minus the soft Dice of lesions if there are any.

    The brain counts ten times as much as what lies around it, and lesions more, the rarer they are: by the root of what
    would make them half of everything. With equal weights a network answered "nowhere" for more than 1,400 steps.

    Args:
        logits: What the network says.
        head: What is true.

    Returns:
        A number >= 0.
    """
    truth = head.lesion.to(logits)
    weight = torch.where(head.brain, 1.0, OUTSIDE)
    total, lesions = weight.sum(), truth.sum()
    rarity = (total / lesions.clamp_min(1)).sqrt()
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth, weight=weight, pos_weight=rarity, reduction="sum"
    )
    if not bool(lesions):
        return entropy / total
    chance = logits.sigmoid()
    dice = (2 * (chance * truth).sum() + 1) / (chance.sum() + lesions + 1)
    return entropy / (total + rarity * lesions) + 1 - dice


@torch.inference_mode()
def judge(network: LesionNet, heads: Sequence[LesionHead]) -> dict[str, float]:
    """Compare heads with what is known of them.

    Args:
        network: The network.
        heads: That it did not learn from.

    Returns:
        Dice of lesions, all heads together, and the share of the brain that is taken for lesion without being it.
    """
    both = found = true = imagined = brain = 0.0
    for head in heads:
        inside = network(head.seen[None].contiguous(memory_format=torch.channels_last_3d))[0, 0] > 0
        both += float((inside & head.lesion).sum())
        found += float(inside.sum())
        true += float(head.lesion.sum())
        imagined += float((inside & head.brain & ~head.lesion).sum())
        brain += float(head.brain.sum())
    return {"val/lesion": 2 * both / max(1.0, found + true), "val/imagined": imagined / max(1.0, brain)}
