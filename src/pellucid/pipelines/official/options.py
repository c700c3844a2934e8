"""What a run of a published network may be told. No torch here."""

import dataclasses
from typing import Literal

from pellucid.errors import wrong

OfficialExtra = Literal["tissue"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialOptions:
    """The same in Python and on the command line. What a system does not know of is refused."""

    weights: str
    """What `pellucid weights import` made: a .safetensors file."""

    faithful: bool = False
    """Do what the release does, its faults included; else these are mended. The geometry is right in either case."""

    github: bool = False
    """SynthSR, with --faithful: as its GitHub release instead of FreeSurfer's."""

    ct: bool = False
    """SynthSR: the scan is a CT in Hounsfield units, to be cut to 0 to 80."""

    flip: bool = True
    """SynthSR: also look at the mirrored scan, and take the mean: on, unless --no-flip."""

    sharpen: bool = True
    """SynthSR, as FreeSurfer: sharpen the image (--no-sharpen: do not)."""

    t2: str | None = None
    """SynthSR for two scans: the T2 that belongs to the T1, in the same place by its header."""

    mask: str | None = None
    """BME-X, 3T to 7T: brain mask, an image of the scan's space. BME-X asks the network `anatomy` if there is none."""

    template: str | None = None
    """BME-X: the release's template of the age (Template-Month24-T1w.nii.gz and so on). Needed."""

    skull: bool = False
    """BME-X: put what lies outside of the brain back, in the scan's intensities."""

    age: float | None = None
    """3T to 7T: age in years. Needed."""

    sex: Literal["F", "M"] | None = None
    """3T to 7T: sex. Needed."""

    save: tuple[OfficialExtra, ...] = ()
    """BME-X: also write tissue labels (1 CSF, 2 gray, 3 white matter)."""

    frame: int | None = None
    """Frame of a 4-D file, counted from 0."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""

    threads: int | None = None
    """CPU threads; if not given, as many as cores, or as this process may use."""

    def __post_init__(self) -> None:
        """Refuse values that no run can obey."""
        if self.age is not None and not 0 <= self.age <= 130:
            raise wrong("age", need="years from 0 to 130", got=str(self.age))
        if self.threads is not None and self.threads < 1:
            raise wrong("threads", need="a whole number >= 1", got=str(self.threads))
        if self.github and not self.faithful:
            raise wrong("github", need="faithful too", got="github alone")

    def only(self, system: str, *known: str) -> None:
        """Refuse options that a system does not know of.

        Args:
            system: Title, for the message.
            known: Names of options that it does, beside those of every system.

        Raises:
            PellucidError: If another option was given.
        """
        always = {"weights", "faithful", "frame", "device", "threads"}
        for field in dataclasses.fields(self):
            if field.name in {*known, *always}:
                continue
            if getattr(self, field.name) != field.default:
                raise wrong(field.name, need=f"options that {system} knows of", got=field.name)
