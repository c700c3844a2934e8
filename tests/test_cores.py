"""How many processors a process was given, by its affinity and by control groups of both versions."""

from pathlib import Path

import pytest

from pellucid import cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 processors whose control groups say nothing yet."""
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


def limit(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_groups_it_is_the_affinity(groups: Path) -> None:
    assert cores.cores() == 64
    (groups / "self").write_text("0::/\n")
    assert cores.cores() == 64


@pytest.mark.parametrize(
    ("text", "count"), [("max 100000\n", 64), ("250000 100000\n", 3), ("1000 100000\n", 1), ("nonsense", 64)]
)
def test_a_quota_of_the_second_version(groups: Path, text: str, count: int) -> None:
    (groups / "self").write_text("0::/user.slice/job\n")
    limit(groups / "cgroup/user.slice/job/cpu.max", text)
    assert cores.cores() == count


def test_a_group_around_it_counts_and_so_does_the_container_s_own(groups: Path) -> None:
    (groups / "self").write_text("0::/docker/abc\n")
    limit(groups / "cgroup/cpu.max", "200000 100000\n")
    assert cores.cores() == 2
    limit(groups / "cgroup/docker/abc/cpu.max", "100000 100000\n")
    assert cores.cores() == 1


def test_a_quota_of_the_first_version(groups: Path) -> None:
    (groups / "self").write_text("5:cpuacct,cpu:/job\n4:memory:/job\n")
    limit(groups / "cgroup/cpu/job/cpu.cfs_quota_us", "400000\n")
    limit(groups / "cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert cores.cores() == 4
    limit(groups / "cgroup/cpu/job/cpu.cfs_quota_us", "-1\n")
    assert cores.cores() == 64
