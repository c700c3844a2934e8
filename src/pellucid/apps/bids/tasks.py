"""What is made of a scan: pipelines run, and their results as derivatives with sidecars."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch

from pellucid import runtime, weights
from pellucid.apps.bids.options import spacing_of
from pellucid.apps.bids.quality import compared, is_stripped, judged
from pellucid.apps.bids.scan import Scan, Unit
from pellucid.apps.bids.study import Study
from pellucid.apps.stories import on_grid
from pellucid.errors import PellucidError
from pellucid.io.nifti_file import undisplayed
from pellucid.io.volume import Volume
from pellucid.models import Synthesizer
from pellucid.pipelines.borders import border_network
from pellucid.pipelines.enhance import enhance_volume
from pellucid.pipelines.lesions import lesion_network
from pellucid.pipelines.look import Networks
from pellucid.pipelines.options import EnhanceOptions, SegmentOptions, SynthesizeOptions
from pellucid.pipelines.record import Run, describe_weights, read
from pellucid.pipelines.result import Result
from pellucid.pipelines.segment import segment_volume
from pellucid.pipelines.synthesize import synthesize_volumes
from pellucid.synthesis import TISSUES

BIDS_TISSUES = {"GM": (1, "Gray Matter"), "WM": (2, "White Matter"), "CSF": (3, "Cerebrospinal Fluid")}
"""BIDS's own numbers, which pipelines expect in `dseg`."""
COLUMNS = {
    "volume_ml": {"Description": "Volume, a sum of probabilities.", "Units": "mL"},
    "certainty": {"Description": "Mean probability of the label over where it was found; not calibrated."},
}
RESEARCH = "For research only, not for diagnosis."


class Product(NamedTuple):
    """One file to be written, with its sidecar."""

    stem: str
    """Name without ending."""
    volume: Volume
    dtype: str | None
    """Type on disk; None for the scan's own."""
    sidecar: dict[str, Any]
    table: list[dict[str, Any]] | None = None


class Step(NamedTuple):
    """One task on one grid: what it made, and what is to be noted."""

    task: str
    products: list[Product]
    record: dict[str, Any]
    """The pipeline's record."""
    quality: dict[str, Any]
    """Numbers for the table of the group, of the scan's first grid only."""


def load(scan: Scan, frame: int | None) -> Volume:
    """Read a scan; a file of one image needs no frame.

    Args:
        scan: Which.
        frame: For 4-D files.

    Returns:
        The scan in its stored orientation.

    Raises:
        PellucidError: As `nifti.load`.
    """
    if frame is None:
        return read(scan.path)
    try:
        return read(scan.path)
    except PellucidError:
        return read(scan.path, frame=frame)


def steps(unit: Unit, volumes: Sequence[Volume], study: Study) -> Iterator[Step]:
    """Run the tasks of a unit, one after another, each when it is asked for.

    Args:
        unit: What to do.
        volumes: Its scans, in its order.
        study: Options.

    Yields:
        What was made.

    Raises:
        PellucidError: If a scan cannot be used.
    """
    options = study.options
    torch.manual_seed(options.random_seed)
    runtime.set_threads(options.omp_nthreads)
    if {"enhance", "segment"} & set(unit.tasks):
        for number, space in enumerate(options.output_spaces):
            yield from _anatomical(unit, volumes[0], study, space, judge=number == 0)
    if "synthesize" in unit.tasks:
        yield _synthesized(unit, volumes, study)


def _anatomical(unit: Unit, volume: Volume, study: Study, space: str, *, judge: bool) -> Iterator[Step]:
    """Labels, which enhancement needs too, then the clearer image, on one grid."""
    options, scan = study.options, unit.scan
    spacing, res = spacing_of(space)
    common: dict[str, Any] = {"spacing": spacing, "device": options.device, "precision": options.precision}
    run, device = Run("segment"), runtime.device(options.device)
    network = weights.shared("anatomy", device, kind="anatomy")
    run.notes["weights"] = describe_weights("anatomy")
    wanted = SegmentOptions(**common, save=("mask", "tissue", "probseg"))
    finer = border_network(wanted.border_weights, device, run)
    lesions = lesion_network(wanted.lesion_weights, device, run)
    labels = segment_volume(volume, network, wanted, lesions=lesions, finer=finer, run=run)
    numbers = {"certainty": labels.record["certainty"], "intracranial_ml": labels.record["intracranial_ml"]}
    numbers |= {f"{name}_ml": value for name, value in labels.record["tissue_ml"].items()}
    numbers["lesion_ml"] = labels.record["lesion_ml"]
    shown = on_grid(volume, labels.volume, order=3) if judge else volume
    before = judged(shown, labels) if judge else {}
    numbers |= {f"{name}_before": value for name, value in before.items()}
    if "segment" in unit.tasks:
        yield Step("segment", _maps(scan, labels, res), labels.record, numbers if judge else {})
    else:
        only = [product for product in _maps(scan, labels, res) if "desc-brain" in product.stem]
        yield Step("mask", only, labels.record, numbers if judge else {})
    if "enhance" in unit.tasks:
        run = Run("enhance")
        enhancer = weights.shared("default", device, kind="two_stage")
        run.notes["weights"] = describe_weights("default")
        clear = enhance_volume(volume, enhancer, EnhanceOptions(**common, denoise=options.denoise), run=run)
        found: dict[str, Any] = compared(shown, clear.volume, labels, before) if judge else {}
        found["noise_before"] = round(100 * clear.record["noise"]["share"], 3)
        found |= _trusted(clear.record)
        images = _images(scan, clear, labels, res, found.get("qi"))
        yield Step("enhance", images, clear.record, found if judge else {})


def _trusted(record: Mapping[str, Any]) -> dict[str, Any]:
    """How far an enhanced image may be trusted, by its record: columns of the group's table, shares in %."""
    check, inferred = record.get("consistency") or {}, record.get("uncertainty") or {}
    shares = {name: check.get(name) for name in ("unexplained", "largest_block")}
    shares["inferred_error"] = inferred.get("expected_error")
    told = {f"{name}_after": round(100 * share, 3) for name, share in shares.items() if share is not None}
    return told | ({"agrees_with_scan": check["agrees"]} if "agrees" in check else {})


def _sidecar(scan: Scan, res: str | None, description: str, **more: Any) -> dict[str, Any]:
    """What BIDS asks of every derivative image."""
    told = {} if res is None else {"Resolution": _resolution(res)}
    return {
        "Description": f"{description} {RESEARCH}",
        "Sources": [scan.uri],
        "SpatialReference": scan.uri,
        **told,
        **more,
    }


def _resolution(res: str) -> str:
    if res == "iso":
        return "Cubic voxels as fine as the finest side of the scan's, but of 0.8 to 1.2 mm, along the scan's axes."
    return f"Voxels of {res.replace('p', '.').removesuffix('mm')} mm along the scan's axes."


def _maps(scan: Scan, labels: Result, res: str | None) -> list[Product]:
    """Labels, tissues, probabilities and mask, named as pipelines look for them."""
    mask = cast(Volume, labels.mask)
    tissue, chances = cast(Volume, labels.tissue), cast(Volume, labels.probseg)
    bids = torch.zeros_like(tissue.data)
    for number, name in enumerate(TISSUES[1:], start=1):
        bids[tissue.data == number] = BIDS_TISSUES[name][0]
    found = labels.record["tissue_ml"]
    rows = [{"index": i, "name": n, "volume_ml": found[key]} for key, (i, n) in BIDS_TISSUES.items()]
    products = [
        Product(
            scan.derivative("dseg", res=res, desc="structures"),
            labels.volume,
            "int16",
            _sidecar(scan, res, "Structures of the brain, FreeSurfer's numbers.", **COLUMNS),
            labels.table,
        ),
        Product(
            scan.derivative("dseg", res=res),
            tissue.with_data(bids),
            "uint8",
            _sidecar(scan, res, "Tissues.", volume_ml=COLUMNS["volume_ml"]),
            rows,
        ),
        Product(
            scan.derivative("mask", res=res, desc="brain"),
            mask,
            "uint8",
            _sidecar(scan, res, "Brain with the CSF around it.", Type="Brain"),
        ),
    ]
    if labels.lesion is not None:
        side = _sidecar(scan, res, "Lesions, where the network thinks that there are some.", Type="Lesion")
        products.append(
            Product(scan.derivative("mask", res=res, desc="lesion"), labels.lesion, "uint8", side)
        )
    for number, name in enumerate(TISSUES[1:]):
        part = chances.with_data(chances.data[number : number + 1])
        side = _sidecar(scan, res, f"Probability of {BIDS_TISSUES[name][1].lower()}, 0 to 1.")
        products.append(Product(scan.derivative("probseg", res=res, label=name), part, "float32", side))
    return [product._replace(volume=_plain(product.volume)) for product in products]


def _plain(volume: Volume) -> Volume:
    """Without what a header says of how the scan looked."""
    return replace(volume, header=undisplayed(volume.header))


def _images(scan: Scan, clear: Result, labels: Result, res: str | None, qi: float | None) -> list[Product]:
    """The clearer image as it is, and the brain alone (BME-X's two outputs, by its names)."""
    mask = cast(Volume, labels.mask).data > 0
    told = scan.facts.get("skull_stripped")
    stripped = is_stripped(clear.volume, mask) if told is None else told
    index = {"value": qi, "description": "TCT(scan) / TCT(enhanced): near 1 the scan was clear already."}
    more: dict[str, Any] = {} if qi is None else {"QI": index}
    whole = _sidecar(scan, res, "Enhanced scan.", SkullStripped=stripped, **more)
    products = [Product(scan.derivative(scan.suffix, res=res, desc="preproc"), clear.volume, None, whole)]
    if bool(mask.any()):
        brain = clear.volume.with_data(clear.volume.data * mask)
        alone = _sidecar(scan, res, "Enhanced scan, brain alone.", SkullStripped=True, **more)
        products.append(Product(scan.derivative(scan.suffix, res=res, desc="enhanced"), brain, None, alone))
    return products


def _synthesized(unit: Unit, volumes: Sequence[Volume], study: Study) -> Step:
    """The T1w that there is not, with the error to be expected."""
    options, scan, run = study.options, unit.scan, Run("synthesize")
    device = runtime.device(options.device)
    network = cast(Synthesizer, weights.shared("t1w", device, kind="synthesizer"))
    anatomy = weights.shared("anatomy", device, kind="anatomy")
    run.notes["weights"], run.notes["anatomy_weights"] = (describe_weights(n) for n in ("t1w", "anatomy"))
    wanted = SynthesizeOptions(device=options.device, precision=options.precision, save=("uncertainty",))
    lesions = lesion_network(wanted.lesion_weights, device, run)
    made = synthesize_volumes(volumes, Networks(anatomy, network, lesions), wanted, run=run)
    side = _sidecar(scan, "1mm", "T1-weighted image made by a network from the sources: no acquired image.")
    side |= {"Sources": [one.uri for one in unit.scans], "SkullStripped": False}
    error = _sidecar(scan, "1mm", "Absolute error to be expected of the synthesized image, in its units.")
    error |= {"Sources": side["Sources"], "SkullStripped": False}
    products = [
        Product(scan.derivative("T1w", res="1mm", desc="synth"), made.volume, "float32", side),
        Product(
            scan.derivative("T1w", res="1mm", desc="uncertainty"),
            _plain(cast(Volume, made.uncertainty)),
            "float32",
            error,
        ),
    ]
    found = made.record["quality"][0]
    columns = {"synth_expected_error": found["expected_error"], "synth_filled_ml": found["lesion_ml"]}
    return Step("synthesize", products, made.record, columns)
