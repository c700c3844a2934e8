"""Labels for scans that have none: our own, with the rest of the head in classes of similar brightness.

Look at the labels before training on them: `pellucid segment` labels whatever it is given.

    python recipes/bootstrap_labels.py DATA/train/labels DATA/train/scans/*_T1w.nii.gz
"""

import argparse
import math
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.cluster.vq import kmeans2

import pellucid

EXTRACEREBRAL = (501, 502, 503, 504)
"""Air and bone, muscle, ..., fat: from dark to bright, as SynthSR clusters what has no label."""
BRIGHT = 0.08
"""Share of the 99.5th percentile above which a voxel is part of the head."""
CLOSING_MM = 6.0


def labels_of(path: Path) -> pellucid.Volume:
    """FreeSurfer's numbers of the brain, EXTRACEREBRAL in the rest of the head, 0 in air."""
    found = pellucid.segment(path).volume
    scan = pellucid.load(path)
    values, labels = scan.data[0].numpy(), found.data[0].numpy()
    bright = values > BRIGHT * np.percentile(values[values > 0], 99.5)
    spacing = scan.grid.spacing
    reach = [math.ceil(CLOSING_MM / mm) for mm in spacing]
    padded = np.pad(bright, [(width, width) for width in reach])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing) > CLOSING_MM
    head = closed[tuple(slice(width, -width) for width in reach)] | bright
    # Stripped brains end in zeros: what is exactly 0 at the edge of the volume is air.
    head = ndimage.binary_fill_holes(head) & ((values > 0) | (labels > 0) | bright)
    rest = (labels == 0) & head
    out = labels.copy()
    if rest.sum() > 1000:
        start = np.quantile(values[rest], [0.2, 0.5, 0.8, 0.97])
        centers, cluster = kmeans2(values[rest], start, minit="matrix")
        out[rest] = np.array(EXTRACEREBRAL)[np.argsort(np.argsort(centers))[cluster]]
    return found.with_data(found.data.new_tensor(out)[None])


def main() -> None:
    """Read the arguments, label, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the label maps go")
    parser.add_argument("scans", type=Path, nargs="+", help="<subject>_<contrast>.nii.gz")
    arguments = parser.parse_args()
    names = {path: path.name.split(".nii")[0].rpartition("_")[0] for path in arguments.scans}
    if "" in names.values() or len(set(names.values())) < len(names):
        parser.error("need one scan of each subject, named <subject>_<contrast>.nii.gz")
    for path, subject in names.items():
        pellucid.save(labels_of(path), arguments.folder / f"{subject}_dseg.nii.gz", dtype="int16")


if __name__ == "__main__":
    main()
