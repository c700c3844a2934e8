"""What every page must be, and small people to make pages of."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import torch

from pellucid.report.story import ScanStory

VOID = {"img", "meta", "input", "br", "link"}
SHAPE = (18, 22, 14)
"""Axes as stored: leftwards, anterior, superior."""
AFFINE = np.array([[-2.0, 0, 0, 17], [0, 2.2, 0, -23], [0, 0, 3.0, -20], [0, 0, 0, 1]])
NASTY = "<script>alert(\"x\")</script> & 'Zoë' 脳 " + "long_" * 40


class Reader(HTMLParser):
    """Collects tags and checks that every one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def read(html: str) -> Reader:
    """Read a page, and check what every page of ours must be."""
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        assert not any(name.startswith("on") for name in attributes)
    for link in reader.all("a"):
        target = link["href"]
        assert target.removeprefix("#") in ids if target.startswith("#") else target.startswith("./")
    for image in reader.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
        assert image["alt"]
        assert int(image["width"]) > 0 and int(image["height"]) > 0
    assert reader.all("script") == [{}]
    assert not any(reader.all(tag) for tag in ("link", "iframe", "object", "embed", "form"))
    assert not re.search(r"https?:|url\(|@import|srcset", html)
    assert "default-src 'none'" in html
    assert html.count("not a medical device") == 2
    return reader


def head() -> dict[str, np.ndarray]:
    """A head as stored: before, after, tissue, mask and uncertainty, right unlike left."""
    axes = [torch.linspace(-1, 1, size) for size in SHAPE]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    tissue = (radius < 0.8).int() + (radius < 0.65).int() + (radius < 0.4).int()
    clean = tissue * 30.0 + 10.0 * (x < -0.2) * (radius < 0.8)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return {
        "before": (clean + 3 * noise).clamp_min(0).numpy(),
        "after": (clean + noise).clamp_min(0).numpy(),
        "tissue": tissue.numpy(),
        "mask": (radius < 0.8).numpy().astype(np.uint8),
        "uncertainty": (0.5 + 5 * radius).numpy(),
    }


def record(**more: Any) -> dict[str, Any]:
    """What enhance leaves, shortened."""
    return {
        "pipeline": "enhance",
        "date": "2026-11-22T06:18:19+00:00",
        "inputs": [{"path": "sub-01_T1w.nii.gz", "sha256": "a" * 64}],
        "findings": [],
        "noise": {"std": 2.0, "share": 0.034, "rician": True, "removed": True},
        "weights": {"name": "mine", "file": "mine.safetensors", "sha256": "b" * 64},
        "used": {"device": "cpu", "precision": "bf16", "threads": 1},
        "versions": {"pellucid": "0.1.0", "torch": "2.6"},
        "seconds": {"load": 0.1, "denoise": 2.5, "predict": 4.04, "total": 6.64},
        "peak_memory_mb": 1472.0,
        "warnings": [],
        **more,
    }


def story(**more: Any) -> ScanStory:
    """A scan that went well."""
    given: dict[str, Any] = {"title": "sub-01 T1w", "suffix": "T1w", "affine": AFFINE, "records": [record()]}
    return ScanStory(**{**given, **head(), **more})


def row(number: int, **more: Any) -> dict[str, Any]:
    """A scan of a study."""
    spread = np.random.default_rng(number).normal()
    return {
        "participant": f"sub-{number:04d}",
        "title": f"sub-{number:04d} T1w",
        "suffix": "T1w",
        "site": ("Kyōto", "Utah")[number % 2],
        "age_years": 20.0 + number % 50,
        "volumes_ml": {"GM": 700 + 30 * spread, "WM": 500 + 20 * spread},
        "quality_before": {"snr": 8 + spread},
        "quality_after": {"snr": 10 + spread, "cjv": 0.5 + 0.05 * spread},
        "verdict": "usable",
        "reason": "No rule found a fault.",
        "page": f"sub-{number:04d}.html#scan-1",
        **more,
    }
