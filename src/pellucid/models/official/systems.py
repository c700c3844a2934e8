"""What must be known of each published system whose weights can be imported. No torch here."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class System:
    """A published system."""

    name: str
    """What `--system` takes, and the name of its network."""
    title: str
    """As its authors write it."""
    license: str
    """Of code and weights, in words."""
    citation: str
    """What its users cite."""
    source: str
    """Where a user gets the weights: the project, not a link to a file."""
    anchor: str
    """A layer that no other system has."""

    def facts(self, file: str) -> dict[str, Any]:
        """What a converted file says of itself.

        Args:
            file: Name of the original.

        Returns:
            Plain data.
        """
        told = asdict(self)
        del told["name"], told["anchor"]
        return {"system": self.name, **told, "version": version(self.name, file)}


SYSTEMS = {
    system.name: system
    for system in (
        System(
            "synthsr",
            "SynthSR",
            "Apache-2.0 (GitHub release); the FreeSurfer license for files that come with FreeSurfer",
            "Iglesias et al. 2023, Sci Adv 9:eadd3607, doi:10.1126/sciadv.add3607; for two low-field scans: "
            "Iglesias et al. 2022, Radiology 220522",
            "the folder models/ of FreeSurfer or of BBillot/SynthSR",
            "unet_likelihood.weight",
        ),
        System(
            "brain_id",
            "Brain-ID",
            "Apache-2.0",
            "Liu et al. 2024, ECCV, arXiv:2311.16914",
            "the README of peirong26/Brain-ID",
            "backbone.encoders.0.basic_module.SingleConv1.conv.weight",
        ),
        System(
            "bme_x",
            "BME-X",
            "MIT",
            "Sun et al. 2025, Nat Biomed Eng, doi:10.1038/s41551-024-01283-7",
            "the README of DBC-Lab/Brain_MRI_Enhancement, or its container (/BME_X/checkpoints)",
            "conv32_recon.weight",
        ),
        System(
            "seven_tesla",
            "3T to 7T (SuperResolutionMalo)",
            "CC BY-NC 4.0: NOT for commercial use",
            "arXiv:2507.13782",
            "the folder models/ of DeMONLab-BioFINDER/SuperResolutionMalo (Git LFS)",
            "input_blocks.0.0.weight",
        ),
    )
}
"""Name -> system. The names are those of the networks in `models.MODELS`."""


def version(system: str, file: str) -> str:
    """Which of a system's files it seems to be, by the name it was given: the content does not say.

    Args:
        system: Name in `SYSTEMS`.
        file: Name of the file.

    Returns:
        For instance "v2", "low field", "month 24, T1w"; "unknown" if the name does not say.

    Example:
        >>> version("bme_x", "BMEX-Month24-T1-model.pt"), version("synthsr", "synthsr_v20_230130.h5")
        ('month 24, T1w', 'v2')
    """
    stem = Path(file).name.lower()
    if system == "bme_x":
        found = re.search(r"(month(\d+)|fetal)[-_](t[12])", stem)
        return (
            f"{'fetal' if found[2] is None else f'month {found[2]}'}, {found[3].upper()}w"
            if found
            else "unknown"
        )
    words = {
        "synthsr": {"hyperfine": "v1, T1 and T2", "lowfield": "v2, low field", "v20": "v2", "v10": "v1"},
        "seven_tesla": {"gan": "GAN", "unet": "U-Net"},
    }
    return next((said for word, said in words.get(system, {}).items() if word in stem), "unknown")
