"""What is done to every enhanced scan at last: it is compared with its scan, its error is told, it is made even."""

from typing import NamedTuple

from pellucid.io import resample
from pellucid.io.volume import Volume
from pellucid.ops.intensity import IntensityRange
from pellucid.pipelines.anatomy import Asked
from pellucid.pipelines.bias import field_wanted, without_bias
from pellucid.pipelines.consistency import consistency
from pellucid.pipelines.doubt import gap_error, nothing_inferred
from pellucid.pipelines.options import EnhanceOptions
from pellucid.pipelines.record import Run


class Judged(NamedTuple):
    """An output and what is to be known of it; what nobody asked for is none."""

    image: Volume
    """The output, without the bias field if it is to be removed."""
    uncertainty: Volume | None
    """Absolute error to be expected."""
    consistency: Volume | None
    """The scan minus the output as the scanner would have seen it."""
    bias: Volume | None
    """The field."""

    def back_to(self, template: Volume, scan: Volume) -> "Judged":
        """The same in other axes.

        Args:
            template: The place of the output, as it is to be stored.
            scan: The scan as it was read; it says how the residual is stored.

        Returns:
            All that is there, with the header of the scan.
        """
        image, error, field = (
            None if one is None else resample.back_to(one, template)
            for one in (self.image, self.uncertainty, self.bias)
        )
        residual = None if self.consistency is None else resample.back_to(self.consistency, scan)
        return Judged(image or self.image, error, residual, field)


def judged(
    volume: Volume,
    output: Volume,
    levels: IntensityRange,
    options: EnhanceOptions,
    run: Run,
    *,
    asked: Asked | None = None,
    own_error: Volume | None = None,
    knows: bool = False,
) -> Judged:
    """Check an output against its scan, say how far it may be off, and remove the bias field if that is wanted.

    Args:
        volume: The scan as it was read.
        output: In its unit.
        levels: Its values of 0 and 1.
        options: What is wanted.
        run: Its notebook has the noise, and gets what is found.
        asked: What the anatomy network says of the scan, if that is asked elsewhere too.
        own_error: What the network itself expects of its error, if it is wanted.
        knows: Whether the network can say that; else it is said of what lies between the voxels of the scan.

    Returns:
        The output and what is known of it.

    Raises:
        PellucidError: If the error is to be saved and nothing is known of it.
    """
    with run.step("check"):
        wanted = "uncertainty" in options.save
        error = own_error if knows else gap_error(volume, output, levels, run, wanted=wanted)
        if wanted and error is None:
            raise nothing_inferred(volume, options)
        residual = consistency(volume, output, levels, run, wanted="consistency" in options.save)
    with run.step("bias"):
        # Last, so that the check compares what the scanner saw.
        field = field_wanted(volume, levels, output, options, run, asked=asked)
        if field is not None and options.bias == "remove":
            output = without_bias(output, field, zero=levels.low)
            error = None if error is None else without_bias(error, field)
    return Judged(output, error, residual, field)
