"""Two processes on one CPU, as two GPUs would be: nobody may wait forever."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.training.devices import any_of, launch
from pellucid.training.loop import load_state
from pellucid.training.validation import ValidationConfig

RUN = """
import json, os, sys
from pellucid.config import from_dict
from pellucid.errors import PellucidError
from pellucid.training import enhancer

rank, trouble = int(os.environ.get("LOCAL_RANK", 0)), sys.argv[2]
recipe = from_dict(enhancer.RecipeConfig, json.loads(sys.argv[1]), "recipe")
seen = {"steps": 0}
plain = enhancer.enhancer_loss

def spoilt(*given):
    seen["steps"] += 1
    loss, parts = plain(*given)
    broken = trouble == "nan" and rank == 1 and seen["steps"] == 3
    return (loss * float("nan"), {**parts, "loss": parts["loss"] * float("nan")}) if broken else (loss, parts)

enhancer.enhancer_loss = spoilt
if trouble == "clock":  # the second process's clock runs ahead
    enhancer.Deadline.passed = lambda self: rank == 1 and seen["steps"] == 3
try:
    enhancer.fit(recipe)
except PellucidError as error:
    print(f"rank {rank}: {error}", flush=True)
    # That both stop is tested; torch's threads, taken down while the error still holds them, abort now and then.
    os._exit(0)
"""


def test_alone_it_holds_if_it_holds_here() -> None:
    alone = SimpleNamespace(world_size=1)
    assert any_of(alone, True) and not any_of(alone, False)


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_together_it_holds_if_it_holds_anywhere(here: bool, elsewhere: bool) -> None:
    def all_reduce(flag: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        return flag.clamp_min(float(elsewhere))

    both = SimpleNamespace(world_size=2, device=torch.device("cpu"), all_reduce=all_reduce)
    assert any_of(both, here) is (here or elsewhere)


def test_without_lightning_fabric_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(PellucidError, match=r"lightning_fabric is not installed.*'pellucid\[train\]'"):
        launch("cpu", devices=1, precision="fp32", threads=None)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["clock", "nan"])
def test_two_processes_stop_together(recipe, tmp_path: Path, trouble: str) -> None:
    packed = recipe().data.packed
    judged = ValidationConfig(packed=packed, every=2, patch=20, corruptions=("rician-0.05",))
    config = recipe(devices=2, threads=1, checkpoint_minutes=0.0, validation=judged)
    script = tmp_path / "train.py"
    script.write_text(RUN)
    done = subprocess.run(
        [sys.executable, script, json.dumps(to_dict(config)), trouble],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state = load_state(Path(config.out) / "checkpoint.pt", torch.device("cpu"))
    assert state is not None
    if trouble == "clock":
        assert state["step"] == 3
        assert "val/rician-0.05/psnr_output" in (Path(config.out) / "log.tsv").read_text()
    else:
        assert state["step"] == 2  # the broken step left nothing behind
        assert "rank 0: step 2: need a finite loss" in done.stdout
