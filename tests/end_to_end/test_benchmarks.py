"""Benchmarks still run: small, and without a look at their figures."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEERS = BENCHMARKS / "peers.py"


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


def table(name: str, *words: str) -> list[list[str]]:
    """Cells of the rows that a benchmark prints, headings and rules left out."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *words], capture_output=True, text=True, check=True
    )
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line[:1] == "|"
    ]
    return [row for row in rows if row[1].replace(".", "").isdigit()]


@pytest.mark.slow
def test_growth_is_told_for_sizes_and_for_numbers_of_scans() -> None:
    words = ["--sides", "40", "48", "--scans", "1", "2", "--many", "40", "--only", "enhance"]
    small, large, one, two = table("growth.py", *words)
    assert [small[0], large[0]] == ["32 x 48 x 40", "40 x 56 x 48"]
    assert [one[0], two[0]] == ["1", "2"]
    # How long is for the benchmark to say: here other processes may be busy.
    assert all(float(cell) > 0 for row in (one, two) for cell in row[1:3])


@pytest.mark.slow
def test_the_floor_lies_below_what_is_measured() -> None:
    (row,) = table("floor.py", "--shape", "48", "64", "48", "--only", "anatomy")
    assert row[0] == "anatomy" and 10 < float(row[1]) < 100


@pytest.mark.slow
def test_the_generator_is_timed_effect_by_effect() -> None:
    words = ["--patch", "32", "--samples", "2", "--repeats", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "generator_speed.py"), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ")} >= {"rigid_motion", "spikes", "in"}
    (mean,) = (line.split()[3].strip(",") for line in lines if "processor seconds" in line)
    assert 0 < float(mean) < 60
