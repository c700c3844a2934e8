"""Benchmarks still run: small, and without a look at their figures."""

import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers.py"


@pytest.mark.slow
def test_peers_can_be_compared() -> None:
    names = ["pellucid segment", "SynthSR", "Brain-ID", "BME-X", "3T to 7T"]
    words = [word for name in names for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(PEERS), "--small", *words], capture_output=True, text=True, check=True
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [row.split("|")[1].strip() for row in rows] == names
    assert "n/a" not in done.stdout
