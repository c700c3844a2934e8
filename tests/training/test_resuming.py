"""Going on from a folder: only with the network that is in it, also when options have come since."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.config import to_dict
from pellucid.errors import PellucidError
from pellucid.models import SliceFiller, SliceFillerConfig
from pellucid.training.loop import ScheduleConfig, load_state
from pellucid.training.recipes import RECIPES
from pellucid.training.resuming import CHECKPOINT, check_same_network
from pellucid.training.run import RunConfig, SingleRun

PATH = Path("run") / CHECKPOINT
FIRST = {"anatomy": "channels", "enhancer": "body", "lesions": "channels", "restore": "channels"}
FIRST |= {"slices": "channels", "synthesize": "channels"}


@dataclasses.dataclass(frozen=True)
class Recipe(RunConfig):
    model: SliceFillerConfig = SliceFillerConfig(channels=4, blocks=1)  # noqa: RUF009 (frozen)


def begun(config: Recipe) -> SingleRun[SliceFiller]:
    model = SliceFiller(config.model)
    return SingleRun(config, model, torch.optim.Adam(model.parameters()))


def facts(config: Any, **changes: Any) -> str:
    return json.dumps({"recipe": {"model": to_dict(config) | changes}})


@pytest.mark.parametrize("task", list(RECIPES))
def test_an_option_that_came_later_is_what_its_default_is(task: str) -> None:
    config: Any = RECIPES[task].config().model
    known = to_dict(config)
    for name in known:
        older = {key: value for key, value in known.items() if key != name}
        check_same_network(json.dumps({"recipe": {"model": older}}), config, PATH)


@pytest.mark.parametrize(("task", "name"), list(FIRST.items()))
def test_an_option_that_differs_is_named(task: str, name: str) -> None:
    config: Any = RECIPES[task].config().model
    other = {"body": "dunet"}.get(name, 3 if isinstance(getattr(config, name), int) else [3, 5])
    with pytest.raises(
        PellucidError, match=rf"^model.{name}: need .*checkpoint.pt, got .*out=FOLDER"
    ) as caught:
        check_same_network(facts(config, **{name: other}), config, PATH)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["{}", "[]", "3", "{", '{"recipe": null}', '{"recipe": {}}'])
def test_facts_that_say_no_network_are_one_sentence(given: str) -> None:
    with pytest.raises(PellucidError, match="checkpoint.pt: need a checkpoint of this recipe, got facts"):
        check_same_network(given, SliceFillerConfig(), PATH)


def test_an_option_that_is_gone_is_named() -> None:
    with pytest.raises(PellucidError, match="checkpoint.pt: model: unknown key 'dance'"):
        check_same_network(facts(SliceFillerConfig(), dance=1), SliceFillerConfig(), PATH)


def test_a_run_on_one_device_goes_on_from_before_an_option(tmp_path: Path) -> None:
    config = Recipe(out=str(tmp_path), schedule=ScheduleConfig(steps=3))
    begun(config).checkpoint(2)
    state = load_state(tmp_path / CHECKPOINT, torch.device("cpu"))
    assert state is not None
    told = json.loads(state["facts"])
    del told["recipe"]["model"]["neighbors"]
    torch.save(state | {"facts": json.dumps(told)}, tmp_path / CHECKPOINT)
    assert begun(config).first == 2
    other = dataclasses.replace(config, model=SliceFillerConfig(channels=4, blocks=2))
    with pytest.raises(PellucidError, match=r"model.blocks: need 1, as in .*checkpoint.pt, got 2"):
        begun(other)
