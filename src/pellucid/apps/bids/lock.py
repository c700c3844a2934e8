"""Two runs never work on one participant: a lock for each, which a dead run does not keep."""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import wrong
from pellucid.io.disk import make_folder, unwritable

BEAT_SECONDS = 30.0
"""How often a run says that it is alive."""
SILENT_SECONDS = 600.0
"""A run on another machine that said nothing for so long is dead; on this one we look."""


@contextlib.contextmanager
def locked(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Hold the locks of some participants.

    A lock is a file that only one can make. It says who made it; a run of this machine whose process is gone,
    and one of another machine whose lock was not touched for ten minutes, have lost it.

    Args:
        folder: Where locks lie; made if absent.
        names: What is locked, each once.

    Yields:
        Nothing.

    Raises:
        PellucidError: If a run that is alive holds one of them; none is held then.
    """
    token = secrets.token_hex(8)
    held: list[Path] = []
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_SECONDS):
            for path in held:
                with contextlib.suppress(OSError):
                    os.utime(path)

    try:
        for name in names:
            path = folder / f"{name}.lock"
            _take(path, token)
            held.append(path)
        threading.Thread(target=beat, daemon=True).start()
        yield
    finally:
        stop.set()
        for path in held:
            with contextlib.suppress(OSError):
                if _read(path).get("token") == token:
                    path.unlink()


def _take(path: Path, token: str) -> None:
    """Make the file, whole from its first moment, or say who has it."""
    mine = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }
    draft = path.with_name(f".{token}")
    try:
        for _ in range(5):
            # Another run that ends removes the folder if it is empty.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                make_folder(path.parent)
                draft.write_text(json.dumps(mine), encoding="utf-8")
                os.link(draft, path)
                return
            _remove_dead(path)
        got = f"one that is being taken by others again and again ({path})"
        raise wrong(path.stem, need="a participant that no other run works on", got=got)
    except OSError as problem:
        raise unwritable(path, problem) from problem
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    """Remove a lock whose run is dead.

    Raises:
        PellucidError: If it is alive.
    """
    try:
        silent = time.time() - path.stat().st_mtime
        owner = _read(path)
    except FileNotFoundError:
        return
    if not _is_dead(owner, silent):
        who = f"process {owner.get('pid')} on {owner.get('host')}"
        fix = "Wait for it, or stop it and use --resume."
        raise wrong(
            path.stem, need="a participant that no other run works on", got=f"one held by {who}", fix=fix
        )
    # Another run may have found it dead too, and hold it by now: look at what we moved away.
    aside = path.with_name(f".{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside).get("token") != owner.get("token"):
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _is_dead(owner: dict[str, Any], silent: float) -> bool:
    if owner.get("host") != socket.gethostname():
        return silent > SILENT_SECONDS
    pid = owner.get("pid")
    if not isinstance(pid, int):
        # Damaged, as after a power cut.
        return silent > BEAT_SECONDS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # A number is used again after a while, or after a start of the machine.
    return _started(pid) != owner.get("started")


def _read(path: Path) -> dict[str, Any]:
    """What a lock says; nothing if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's words; None where these cannot be had, and for the dead."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if words[0] in "ZX" else words[19]
    except (OSError, IndexError):
        return None
