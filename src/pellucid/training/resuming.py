"""The folder of a run: what is kept there, and how the next session goes on from it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid import models
from pellucid.config import from_dict, to_dict
from pellucid.errors import wrong
from pellucid.training.loop import Average, load_state, save_state

log = logging.getLogger(__name__)

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"
"""Files of a run's folder."""


def resume(
    folder: Path, *, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer
) -> tuple[int, float] | None:
    """Put the state of a folder's checkpoint, if there is one, into what is trained.

    Args:
        folder: Of the run.
        model: Is filled in; with `config`, on its device.
        average: Is filled in.
        optimizer: Is filled in.

    Returns:
        Steps that are done, and the hours that they took; none if the run is new.

    Raises:
        PellucidError: If the checkpoint cannot be read, or is of another network.
    """
    path = folder / CHECKPOINT
    state = load_state(path, next(model.parameters()).device)
    if state is None:
        return None
    check_same_network(state["facts"], model.config, path)
    model.load_state_dict(state["model"])
    average.model.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    step, hours = int(state["step"]), float(state["hours"])
    log.info("resuming at step %d after %.2f hours", step, hours)
    return step, hours


def check_same_network(facts: str, config: Any, path: Path) -> None:
    """Refuse to go on with a network other than the checkpoint's.

    Options that the checkpoint does not know, since they came later, were what their defaults are.

    Args:
        facts: Of the checkpoint, JSON.
        config: Of the network, a dataclass.
        path: Of the checkpoint, for the message.

    Raises:
        PellucidError: If the facts cannot be read, or an option differs, which is named.
    """
    try:
        theirs = json.loads(facts)["recipe"]["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(str(path), need="a checkpoint of this recipe", got="facts that cannot be read") from error
    old, ours = to_dict(from_dict(type(config), theirs, f"{path}: model")), to_dict(config)
    for name in ours:
        if ours[name] != old[name]:
            fix = "Restore it, or give the run another folder: out=FOLDER."
            raise wrong(f"model.{name}", need=f"{old[name]}, as in {path}", got=str(ours[name]), fix=fix)


def save_run(
    folder: Path,
    *,
    model: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    hours: float,
) -> None:
    """Save everything needed to go on, and the average as weights to use, in 16 bits.

    Args:
        folder: Of the run.
        model: What is trained.
        average: Its moving average.
        optimizer: Its optimizer.
        facts: `step`, `revision` and `recipe`; kept in both files, with the hours.
        hours: That all steps took.
    """
    facts = {"step": facts["step"], "hours": round(hours, 3), **facts}
    state = {
        "model": model.state_dict(),
        "average": average.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": facts["step"],
        "hours": hours,
        "facts": json.dumps(facts),
    }
    save_state(folder / CHECKPOINT, state)
    models.save(average.model, folder / WEIGHTS, metadata=facts, dtype=torch.float16)
