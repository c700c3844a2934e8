"""Files of the derivatives as a whole: who made them, from what, and how to cite."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pellucid.apps.bids.publish import write_whole
from pellucid.io.json_file import read_object

BIDS_VERSION = "1.10.0"
MAKER = "pellucid"
"""Who made the derivatives, by `GeneratedBy`."""
CODE = "https://github.com/pellucid-mri/pellucid"

IGNORED = (
    "*.html",
    "figures/",
    "logs/",
    "*_iqm.json",
    "*_record.json",
    "/iqm.tsv",
    "/iqm.json",
    "/CITATION.md",
)
"""What BIDS has no name for."""

README = """# Derivatives made by pellucid

Images made by networks from the scans of the dataset named in `dataset_description.json`. **For research only, not for
diagnosis:** a network can invent or remove structure; keep the scans beside what was made from them.

| file | what |
|---|---|
| `*_desc-preproc_<T1w, T2w, FLAIR, PDw>` | the scan, enhanced, on its own grid unless `res-` says another |
| `*_desc-enhanced_<T1w, ...>` | the same, brain alone |
| `*_desc-synth_T1w` | T1w image of 1 mm made from another contrast (`space-`); no acquired image |
| `*_desc-uncertainty_T1w` | absolute error to be expected of it |
| `*_dseg`, `*_label-<GM, WM, CSF>_probseg` | tissues (BIDS's numbers: 1 gray, 2 white, 3 CSF) and their probabilities |
| `*_desc-structures_dseg` | structures (FreeSurfer's numbers), volumes in the TSV beside it |
| `*_desc-brain_mask` | brain with the CSF around it |
| `*_desc-lesion_mask` | what the network takes for lesions; raters find more |
| `*_iqm.json`, `iqm.tsv` | quality of each scan before and after, volumes, age; `iqm.json` says what the columns mean |
| `sub-*.html`, `group.html` | pages for people: pictures, numbers, verdicts, failures with reasons |
| `*_record.json` | what was done to a scan: input and output hashes, options, weights, warnings, failures |
| `logs/` | times, memory, messages and crash files |
"""

CITATION = """# How to cite, and what to write

Scans were processed with pellucid {version} ({code}), research software, not a medical device.

- Enhancement: noise is taken away by prefiltered rotation-invariant non-local means (Manjon et al. 2012, Med Image Anal
  16:18), then a tissue-aware network sharpens what is blurred.
- Anatomy: tissues, structures and brain masks by a network trained on images painted from label maps, as SynthSeg is
  (Billot et al. 2023, Med Image Anal 86:102789).
- T1w images that were not acquired (`desc-synth`) were synthesized, in the way of SynthSR (Iglesias et al. 2023,
  Sci Adv 9:eadd3607): say so, and do not measure lesions in them.
- The quality index QI is that of BME-X (Sun et al., Nature Biomedical Engineering); other quality numbers follow MRIQC
  (Esteban et al. 2017, PLoS ONE 12:e0184661).
- The layout is BIDS (Gorgolewski et al. 2016, Sci Data 3:160044).
"""


def write_dataset_files(root: Path, out: Path) -> None:
    """Write what describes the derivatives; the same run writes the same bytes.

    Args:
        root: Folder of the scans' dataset.
        out: Folder of the derivatives; made if absent.

    Raises:
        PellucidError: If they cannot be written.
    """
    described = _description(root)
    write_whole(out / "dataset_description.json", json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / ".bidsignore", "".join(f"{name}\n" for name in IGNORED))
    write_whole(out / "README.md", README)
    write_whole(out / "CITATION.md", CITATION.format(version=version("pellucid"), code=CODE))


def _description(root: Path) -> dict[str, Any]:
    raw = read_object(root / "dataset_description.json") or {}
    source: dict[str, Any] = {"URL": root.absolute().as_uri()}
    doi = re.sub(r"^https?://(dx\.)?doi\.org/", "doi:", str(raw.get("DatasetDOI", "")))
    if doi:
        source["DOI"] = doi
    made = {"Name": MAKER, "Version": version("pellucid"), "CodeURL": CODE}
    return {
        "Name": f"pellucid: {raw.get('Name') or 'enhanced scans'}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": raw.get("License", "As the source dataset's"),
        "Authors": raw.get("Authors") or ["See the source dataset"],
        "HowToAcknowledge": "See CITATION.md.",
        "GeneratedBy": [{**made, "Description": "Enhanced, synthesized and labelled anatomical scans."}],
        "SourceDatasets": [source],
        "DatasetLinks": {"raw": root.absolute().as_uri()},
    }
