"""Files <-> Volume: the only room that knows formats, headers and grids."""

from pellucid.io.audit import Finding, audit
from pellucid.io.nifti import load, save, to_nibabel
from pellucid.io.resample import back_to, to_canonical, to_grid, to_spacing
from pellucid.io.volume import Grid, Header, Volume

__all__ = [
    "Finding",
    "Grid",
    "Header",
    "Volume",
    "audit",
    "back_to",
    "load",
    "save",
    "to_canonical",
    "to_grid",
    "to_nibabel",
    "to_spacing",
]
