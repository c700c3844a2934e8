"""pellucid: any brain MRI, made clear, and honest about it.

Every name is loaded when it is first used, so `import pellucid` costs nothing.

Example:
    >>> import pellucid
    >>> result = pellucid.enhance("sub-01_T1w.nii.gz", save="mask,tissue")  # doctest: +SKIP
    >>> result.save("clear/")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pellucid.errors import PellucidError as PellucidError
    from pellucid.io.audit import audit as audit
    from pellucid.io.nifti import load as load
    from pellucid.io.nifti import save as save
    from pellucid.io.volume import Volume as Volume
    from pellucid.pipelines.degrade import degrade as degrade
    from pellucid.pipelines.heads import Head as Head
    from pellucid.pipelines.result import Result as Result

    __version__: str

__all__ = [
    "Head",
    "PellucidError",
    "Result",
    "Volume",
    "__version__",
    "adapt",
    "audit",
    "degrade",
    "enhance",
    "features",
    "load",
    "save",
    "segment",
    "super_resolve",
    "synthesize",
]

_HOMES = {
    "Head": "pellucid.pipelines.heads",
    "PellucidError": "pellucid.errors",
    "Result": "pellucid.pipelines.result",
    "Volume": "pellucid.io.volume",
    "audit": "pellucid.io.audit",
    "degrade": "pellucid.pipelines.degrade",
    "load": "pellucid.io.nifti",
    "save": "pellucid.io.nifti",
}


def enhance(source: "str | Path | Volume | Any", **options: Any) -> "Result":
    """Make a brain scan clearer: motion, noise, blur, thick slices.

    Args:
        source: A file, a nibabel image or a `Volume`.
        **options: The fields of `pellucid.pipelines.options.EnhanceOptions`, the same as those of
            `pellucid enhance --help`; `spacing` also takes numbers, `save` a list, and `mask` and `lesion_mask`
            nibabel images or Volumes.

    Returns:
        The clearer image (`.image`, a nibabel image), `.mask` and `.tissue` if `save` names them, `.record`, and
        `.save(out)`.

    Raises:
        PellucidError: If an option or the scan cannot be used; the message says what to do.

    Example:
        >>> enhance("scan.nii.gz", spacing="iso", save=["mask"]).save("clear/")  # doctest: +SKIP
    """
    from pellucid.pipelines import enhance as pipeline
    from pellucid.pipelines.keywords import from_keywords, images_apart
    from pellucid.pipelines.options import EnhanceOptions

    words, images = images_apart(options)
    return pipeline.enhance(source, from_keywords(EnhanceOptions, words), **images)


def features(source: "str | Path | Volume | Any", **options: Any) -> "Result":
    """Describe every voxel of a brain by numbers in which the contrast of the scan hardly shows.

    Args:
        source: A file, a nibabel image or a `Volume`.
        **options: The fields of `pellucid.pipelines.feature_options.FeaturesOptions`, the same as those of
            `pellucid features --help`; `spacing` also takes numbers.

    Returns:
        The features as frames (`.image`, a nibabel image), or what the head of the option `head` makes of them;
        `.record`, which names the frames, and `.save(out)`.

    Raises:
        PellucidError: If an option or the scan cannot be used; the message says what to do.

    Example:
        >>> features("scan.nii.gz").save("features/")  # doctest: +SKIP
        >>> features("scan.nii.gz", head="nuclei.safetensors").save("nuclei.nii.gz")  # doctest: +SKIP
    """
    from pellucid.pipelines import features as pipeline
    from pellucid.pipelines.feature_options import FeaturesOptions
    from pellucid.pipelines.keywords import from_keywords

    return pipeline.features(source, from_keywords(FeaturesOptions, options))


def adapt(
    pairs: "Sequence[tuple[Any, Any]]", *, validate: "Sequence[tuple[Any, Any]]" = (), **options: Any
) -> "Head":
    """Fit one linear layer that finds what targets show in the features of scans.

    Args:
        pairs: A scan and its target each: files, nibabel images or Volumes.
        validate: Further pairs to judge by.
        **options: The fields of `pellucid.pipelines.feature_options.AdaptOptions`, the same as those of
            `pellucid adapt --help`; `target` is needed: "labels", "image" or "values".

    Returns:
        The head: `.facts` (scores among them), and `.save("head.safetensors")`, for the option `head` of `features`.

    Raises:
        PellucidError: If an option, a scan or a target cannot be used; the message says what to do.

    Example:
        >>> adapt([("01_T1w.nii.gz", "01_dseg.nii.gz")], target="labels").save("it.safetensors")  # doctest: +SKIP
    """
    from pellucid.pipelines import adapt as pipeline
    from pellucid.pipelines.feature_options import AdaptOptions
    from pellucid.pipelines.keywords import from_keywords

    known, judged = pipeline.as_pairs(pairs), pipeline.as_pairs(validate)
    return pipeline.adapt(known, from_keywords(AdaptOptions, options), validate=judged)


def segment(source: "str | Path | Volume | Any", **options: Any) -> "Result":
    """Tell structures and tissues apart in a brain scan of any contrast, and measure their volumes.

    Args:
        source: A file, a nibabel image or a `Volume`.
        **options: The fields of `pellucid.pipelines.options.SegmentOptions`, the same as those of
            `pellucid segment --help`; `spacing` also takes numbers, `save` a list, and `lesion_mask` a nibabel
            image or Volume.

    Returns:
        The labels (`.image`, FreeSurfer's numbers), `.mask`, `.tissue`, `.table` (name and volume of every label),
        `.record`, and `.save(out)`.

    Raises:
        PellucidError: If an option or the scan cannot be used; the message says what to do.

    Example:
        >>> segment("scan.nii.gz", save=["mask"]).save("anatomy/")  # doctest: +SKIP
    """
    from pellucid.pipelines import segment as pipeline
    from pellucid.pipelines.keywords import from_keywords, images_apart
    from pellucid.pipelines.options import SegmentOptions

    words, images = images_apart(options)
    return pipeline.segment(source, from_keywords(SegmentOptions, words), **images)


def super_resolve(source: "str | Path | Volume | Any", **options: Any) -> "Result":
    """Bring a brain scan to a finer grid, with detail that a network infers and not only interpolation.

    Args:
        source: A file, a nibabel image or a `Volume`.
        **options: The fields of `pellucid.pipelines.superres_options.SuperResolveOptions`, the same as those of
            `pellucid super-resolve --help`; `spacing` also takes numbers.

    Returns:
        The scan on the finer grid (`.image`, a nibabel image), `.record`, and `.save(out)`.

    Raises:
        PellucidError: If an option or the scan cannot be used, or the grid wanted is not finer.

    Example:
        >>> super_resolve("scan.nii.gz", spacing=0.5).save("fine/")  # doctest: +SKIP
    """
    from pellucid.pipelines import superres as pipeline
    from pellucid.pipelines.keywords import from_keywords
    from pellucid.pipelines.superres_options import SuperResolveOptions

    return pipeline.super_resolve(source, from_keywords(SuperResolveOptions, options))


def synthesize(source: "str | Path | Volume | Any", **options: Any) -> "Result":
    """Make the T1w image of 1 mm of a scan of any contrast, or one of several scans of the same person.

    Args:
        source: A file, a nibabel image or a `Volume`; or a list of them, of one person: they are registered and fused.
        **options: The fields of `pellucid.pipelines.options.SynthesizeOptions`, the same as those of
            `pellucid synthesize --help`; `spacing` also takes numbers, `save` a list, and `lesion_mask` a nibabel
            image or Volume.

    Returns:
        The T1w image (`.image`, a nibabel image) with white matter at 110, `.uncertainty` (expected absolute error in
        the same unit), `.record`, and `.save(out)`.

    Raises:
        PellucidError: If an option or a scan cannot be used; the message says what to do.

    Example:
        >>> synthesize(["T2w.nii.gz", "FLAIR.nii.gz"], save="uncertainty").save("t1w/")  # doctest: +SKIP
    """
    from pellucid.pipelines import synthesize as pipeline
    from pellucid.pipelines.keywords import from_keywords, images_apart
    from pellucid.pipelines.options import SynthesizeOptions

    words, images = images_apart(options)
    return pipeline.synthesize(source, from_keywords(SynthesizeOptions, words), **images)


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("pellucid")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names for completion, loaded or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
