"""One run at a time works on a participant, and the dead hold nothing."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pellucid.apps.bids.lock import SILENT_SECONDS, locked
from pellucid.errors import PellucidError

HOLDER = """
import sys, time
from pathlib import Path
from pellucid.apps.bids.lock import locked
with locked(Path(sys.argv[1]), ["sub-01"]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_and_given_back(tmp_path: Path) -> None:
    with locked(tmp_path, ["sub-01"]):
        taken = f"sub-01: need a participant .* process {os.getpid()} on"
        with pytest.raises(PellucidError, match=taken), locked(tmp_path, ["sub-02", "sub-01"]):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["sub-01.lock"], "sub-02 is given back"
        with locked(tmp_path, ["sub-02"]):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(PellucidError, match="need a participant"), locked(tmp_path, ["sub-01"]):
        pass
    holder.kill()
    # Not waited for: what is dead but not buried has lost its lock too.
    time.sleep(0.3)
    with locked(tmp_path, ["sub-01"]):
        pass
    holder.communicate()


def _write(path: Path, **more: object) -> None:
    entry = {"token": "x", "host": socket.gethostname(), "pid": os.getpid(), "started": "1", **more}
    path.write_text(json.dumps(entry))


def test_a_number_used_again_by_another_process_is_not_the_owner(tmp_path: Path) -> None:
    _write(tmp_path / "sub-01.lock")
    with locked(tmp_path, ["sub-01"]):
        pass


def test_a_run_of_another_machine_is_dead_when_it_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "sub-01.lock"
    _write(path, host="elsewhere")
    with pytest.raises(PellucidError, match="on elsewhere"), locked(tmp_path, ["sub-01"]):
        pass
    before = time.time() - SILENT_SECONDS - 1
    os.utime(path, (before, before))
    with locked(tmp_path, ["sub-01"]):
        pass


def test_a_damaged_lock_does_not_last(tmp_path: Path) -> None:
    path = tmp_path / "sub-01.lock"
    path.write_text("{")
    os.utime(path, (1, 1))
    with locked(tmp_path, ["sub-01"]):
        pass


def test_a_full_disk_is_told_of_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with (
        pytest.raises(PellucidError, match=r"group.lock: need a disk with room"),
        locked(tmp_path, ["group"]),
    ):
        pass
