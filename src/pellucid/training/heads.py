"""Runs that are judged by heads which were held back."""

from dataclasses import dataclass

from pellucid.errors import wrong
from pellucid.training.run import RunConfig

FIRST_JUDGED = 10**9
"""Steps from here on belong to what a network is judged by."""


@dataclass(frozen=True)
class HeadsConfig(RunConfig):
    """Settings of a run that is judged by heads of subjects it does not learn from."""

    log_every: int = 50
    held_back: tuple[str, ...] = ()
    """Patterns of subject names that are judged, not learnt from."""
    judge_every: int = 500
    """Steps between judgements."""
    judged: int = 8
    """Heads of the subjects held back that are judged."""
    weight_decay: float = 0.01
    """Decoupled weight decay, relative to the learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.log_every, self.judge_every, self.judged) < 1:
            got = f"{self.log_every}, {self.judge_every} and {self.judged}"
            raise wrong("recipe", need="log_every, judge_every and judged >= 1", got=got)
