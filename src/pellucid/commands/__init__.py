"""The commands: one frozen dataclass each, whose fields are the options. No torch at import time."""

from pellucid.commands.command import Command
from pellucid.commands.evaluation import (
    EvaluateAblation,
    EvaluateBias,
    EvaluateRobustness,
    EvaluateSheet,
)
from pellucid.commands.house import Demo, Info, Report, Weights
from pellucid.commands.metrics import Metrics
from pellucid.commands.official import Official, WeightsImport
from pellucid.commands.representation import Adapt, Features
from pellucid.commands.scans import Audit, Degrade, Enhance, Segment, SuperResolve, Synthesize
from pellucid.commands.study import Bids
from pellucid.commands.workshop import Pack, Train

COMMANDS: dict[str, type[Command]] = {
    "enhance": Enhance,
    "synthesize": Synthesize,
    "segment": Segment,
    "super-resolve": SuperResolve,
    "features": Features,
    "adapt": Adapt,
    "official": Official,
    "bids": Bids,
    "degrade": Degrade,
    "audit": Audit,
    "metrics": Metrics,
    "evaluate robustness": EvaluateRobustness,
    "evaluate bias": EvaluateBias,
    "evaluate ablation": EvaluateAblation,
    "evaluate sheet": EvaluateSheet,
    "train": Train,
    "pack": Pack,
    "demo": Demo,
    "report": Report,
    "weights": Weights,
    "weights import": WeightsImport,
    "info": Info,
}
"""Name on the command line -> options, in the order of `pellucid --help`."""
