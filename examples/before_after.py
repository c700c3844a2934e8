"""Make the picture of the demo: the MNI152 template corrupted, enhanced, and as it was.

Run: python examples/before_after.py [FOLDER OF A DEMO] [PICTURE]
First `pellucid demo --out FOLDER`, which corrupts and enhances the MNI152 T1w brain that ships inside nilearn.
"""

import json
import sys
from pathlib import Path

import pellucid
from pellucid.report.figures import sheet
from pellucid.report.framing import Column, frame


def main(folder: Path, picture: Path) -> None:
    """Lay the demo's images side by side."""
    scores = json.loads((folder / "demo.json").read_text())["scores"]

    def column(title: str, name: str) -> Column:
        if name in scores:
            title += f"\nPSNR {scores[name]['psnr']:.1f} dB, SSIM {scores[name]['ssim']:.2f}"
        return Column(title, pellucid.load(folder / f"{name}.nii.gz").data[0])

    columns = [
        column("Corrupted: motion, 5 mm slices, noise", "corrupted"),
        column("Enhanced by pellucid", "enhanced"),
        column("Truth", "truth"),
    ]
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(sheet(columns, frame(columns, spacing=(1.0, 1.0, 1.0))))


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    defaults = [Path("pellucid-demo"), Path("docs/images/before_after.png")]
    main(*(given + defaults[len(given) :]))
