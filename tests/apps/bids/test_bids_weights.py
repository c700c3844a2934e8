"""Weights are read once by each worker, however many scans it does."""

from collections import Counter
from typing import Any

import pytest

from pellucid import weights
from pellucid.apps.bids.work import USED

KINDS = {
    "default": "two_stage",
    "slices": "slice_filler",
    "anatomy": "anatomy",
    "lesions": "lesions",
    "t1w": "synthesizer",
    "borders": "synthesizer",
}


def test_every_network_of_a_study_is_read_once_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def load(name: str, device: str, *, kind: str) -> tuple[object, dict[str, Any]]:
        read[name] += 1
        return object(), {}

    monkeypatch.setattr(weights, "load", load)
    weights._shared.cache_clear()
    names = sorted({name for task in USED.values() for name in task})
    assert names == sorted(KINDS), "what a study uses is what is tested"
    try:
        first = {name: weights.shared(name, kind=KINDS[name]) for name in names}
        for _ in range(3):
            assert all(weights.shared(name, kind=KINDS[name]) is first[name] for name in names)
    finally:
        weights._shared.cache_clear()
    assert read == dict.fromkeys(names, 1)
