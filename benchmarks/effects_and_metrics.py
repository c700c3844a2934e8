"""Effects and metrics beside TorchIO, MONAI, scikit-image and torchmetrics, in one run, as ratios.

python benchmarks/effects_and_metrics.py [--shape 192 224 192] [--threads 2] [--repeats 3] [--only NAME ...]

Each pair does about the same work on the same volume; where the other library does something simpler, the line says so.
Effects and metrics that no library has stand alone, so that every row of the two tables is timed.
Peers that are not installed are left out: pip install torchio monai scikit-image torchmetrics
"""

import argparse
import contextlib
import importlib
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pellucid import runtime
from pellucid.degradation import EFFECTS, apply, preset
from pellucid.metrics import METRICS
from pellucid.ops.random import Dice, seeded
from pellucid.ops.warp import sample
from pellucid.synthesis.deformation import DeformationConfig, deformed_positions, draw_deformation

SPACING = (1.0, 1.0, 1.0)
ALONE = ("motion", "line_jitter", "zipper", "contrast", "gantry_tilt")
"""Effects that none of the libraries has."""
Work = Callable[[], object]
Peer = tuple[str, Callable[[], Work]]
"""What to call it, and a function that imports the library and returns the work."""


def head(shape: tuple[int, int, int]) -> torch.Tensor:
    """A textured ellipsoid about as large as a head."""
    axes = [torch.linspace(-1.1, 1.1, size) for size in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    inside = (x**2 + y**2 + z**2) < 1
    texture = 0.6 + 0.2 * torch.sin(20 * x) * torch.sin(22 * y) * torch.sin(18 * z)
    noise = 0.03 * torch.randn(shape, generator=seeded(0))
    return ((texture + noise) * inside).clamp(0, 1)[None]


def torchio(name: str, **options: Any) -> Callable[[torch.Tensor], Work]:
    """A transform of TorchIO on a scan."""

    def make(image: torch.Tensor) -> Work:
        library = importlib.import_module("torchio")
        transform = getattr(library, name)(**options)
        scan = library.ScalarImage(tensor=image)
        return lambda: transform(scan)

    return make


def monai(name: str, **options: Any) -> Callable[[torch.Tensor], Work]:
    """A transform of MONAI on a scan."""

    def make(image: torch.Tensor) -> Work:
        transform = getattr(importlib.import_module("monai.transforms"), name)(**options)
        return lambda: transform(image)

    return make


def effects(image: torch.Tensor) -> Iterator[tuple[str, Work, list[Peer]]]:
    """Name, our work, and theirs."""

    def ours(steps: list[dict[str, Any]]) -> Work:
        return lambda: apply(image, steps, spacing=SPACING)

    def on(name: str, make: Callable[[torch.Tensor], Work]) -> Peer:
        return name, lambda: make(image)

    poses = [
        {"start": s, "rotation_deg": [2.0, 1.0, 1.0], "translation_mm": [1.0, 1.0, 1.0]} for s in (0.3, 0.7)
    ]
    move = {"effect": "rigid_motion", "poses": [{"start": 0.0}, *poses], "phase_axis": 1}
    yield (
        "motion, 3 poses",
        ours([move]),
        [on("TorchIO RandomMotion", torchio("RandomMotion", num_transforms=2))],
    )
    yield (
        "ghosting",
        ours([{"effect": "ghosting", "intensity": 0.5, "ghosts": 4, "phase_axis": 1}]),
        [on("TorchIO RandomGhosting", torchio("RandomGhosting", num_ghosts=4, axes=(1,), intensity=0.5))],
    )
    yield (
        "spikes",
        ours(preset("spikes", spacing=SPACING)),
        [
            on("TorchIO RandomSpike", torchio("RandomSpike", num_spikes=2, intensity=0.3)),
            on("MONAI KSpaceSpikeNoise", monai("KSpaceSpikeNoise", loc=(0, 20, 30, 40))),
        ],
    )
    yield (
        "bias field",
        ours(preset("bias", spacing=SPACING)),
        [
            on("TorchIO RandomBiasField", torchio("RandomBiasField")),
            on("MONAI RandBiasField", monai("RandBiasField", prob=1.0)),
        ],
    )
    yield (
        "Rician noise",
        ours(preset("rician-0.05", spacing=SPACING)),
        [
            on("MONAI RandRicianNoise", monai("RandRicianNoise", prob=1.0, std=0.05)),
            on("TorchIO RandomNoise (Gaussian)", torchio("RandomNoise", std=(0.05, 0.05))),
        ],
    )
    yield (
        "blur",
        ours(preset("blur-1.2", spacing=SPACING)),
        [
            on("TorchIO RandomBlur", torchio("RandomBlur", std=(1.2, 1.2))),
            on("MONAI GaussianSmooth", monai("GaussianSmooth", sigma=1.2)),
        ],
    )
    yield (
        "5 mm slices",
        ours(preset("slices-5mm", spacing=SPACING)),
        [
            on(
                "TorchIO RandomAnisotropy (no slice profile)",
                torchio("RandomAnisotropy", axes=(2,), downsampling=(5, 5), image_interpolation="bspline"),
            )
        ],
    )
    yield (
        "gamma",
        ours([{"effect": "gamma", "log_gamma": 0.3}]),
        [
            on("TorchIO RandomGamma", torchio("RandomGamma", log_gamma=(0.3, 0.3))),
            on("MONAI AdjustContrast", monai("AdjustContrast", gamma=1.35)),
        ],
    )
    yield (
        "Gaussian noise",
        ours([{"effect": "gaussian_noise", "std": 0.05, "seed": 0}]),
        [
            on("TorchIO RandomNoise", torchio("RandomNoise", std=(0.05, 0.05))),
            on("MONAI RandGaussianNoise", monai("RandGaussianNoise", prob=1.0, std=0.05)),
        ],
    )
    for name in ALONE:
        step = {"effect": name, "seed": 0} | dict(EFFECTS[name].example)
        yield name.replace("_", " "), ours([step]), []
    shape = (image.shape[1], image.shape[2], image.shape[3])
    record = draw_deformation(DeformationConfig(), Dice(seeded(1)))

    center = tuple((size - 1) / 2 for size in shape)

    def elastic() -> torch.Tensor:
        where = deformed_positions(record, patch=shape, center=center, source_spacing=SPACING, spacing=1.0)
        return sample(image, where)

    yield (
        "elastic deformation",
        elastic,
        [
            on("TorchIO RandomElasticDeformation", torchio("RandomElasticDeformation")),
            on(
                "MONAI Rand3DElastic",
                monai("Rand3DElastic", prob=1.0, sigma_range=(5, 8), magnitude_range=(50, 100)),
            ),
        ],
    )


def metrics(image: torch.Tensor) -> Iterator[tuple[str, Work, list[Peer]]]:
    """Name, our work, and theirs."""
    noise = 0.05 * torch.randn(image.shape, generator=seeded(1))
    prediction, reference = (image + noise)[None], image[None]
    a, b = prediction[0, 0].numpy(), reference[0, 0].numpy()

    def ours(name: str, **more: Any) -> Work:
        return lambda: METRICS[name].function(prediction, reference, **more)

    def skimage(name: str, **more: Any) -> Callable[[], Work]:
        return lambda: lambda: getattr(importlib.import_module("skimage.metrics"), name)(b, a, **more)

    def torchmetrics(name: str, **more: Any) -> Callable[[], Work]:
        def make() -> Work:
            function = getattr(importlib.import_module("torchmetrics.functional.image"), name)
            return lambda: function(prediction, reference, **more)

        return make

    def monai_metric(name: str, **more: Any) -> Callable[[], Work]:
        def make() -> Work:
            metric = getattr(importlib.import_module("monai.metrics"), name)(spatial_dims=3, **more)
            return lambda: metric(prediction, reference)

        return make

    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    yield (
        "PSNR",
        ours("psnr", data_range=1.0),
        [
            ("scikit-image", skimage("peak_signal_noise_ratio", data_range=1.0)),
            ("torchmetrics", torchmetrics("peak_signal_noise_ratio", data_range=1.0)),
        ],
    )
    yield (
        "SSIM",
        ours("ssim", data_range=1.0),
        [
            ("scikit-image", skimage("structural_similarity", data_range=1.0, **gaussian)),
            ("torchmetrics", torchmetrics("structural_similarity_index_measure", data_range=1.0)),
            ("MONAI", monai_metric("SSIMMetric", win_size=11)),
        ],
    )
    yield (
        "MS-SSIM",
        ours("ms_ssim", data_range=1.0),
        [
            (
                "torchmetrics",
                torchmetrics("multiscale_structural_similarity_index_measure", data_range=1.0),
            ),
            ("MONAI", monai_metric("MultiScaleSSIMMetric", kernel_size=11)),
        ],
    )
    yield (
        "VIF",
        ours("vif", data_range=1.0),
        [
            (
                "torchmetrics (2-D, slice by slice)",
                _slices("visual_information_fidelity", prediction, reference),
            )
        ],
    )
    yield "NRMSE", ours("nrmse", data_range=1.0), [("scikit-image", skimage("normalized_root_mse"))]
    yield (
        "MSE",
        ours("mse"),
        [
            ("scikit-image", skimage("mean_squared_error")),
            ("torchmetrics", _regression("mean_squared_error", prediction, reference)),
        ],
    )
    yield "MAE", ours("mae"), [("torchmetrics", _regression("mean_absolute_error", prediction, reference))]
    uqi = "universal_image_quality_index"
    yield "UQI", ours("uqi"), [("torchmetrics (2-D, slice by slice)", _slices(uqi, prediction, reference))]
    for name in ("clipped_psnr", "clipped_ssim", "norm_l2"):
        yield METRICS[name].title, ours(name), []
    yield from _of_labels(image)


def _of_labels(image: torch.Tensor) -> Iterator[tuple[str, Work, list[Peer]]]:
    """Metrics of label maps, and of an image within a tissue map."""
    true = sum((image > limit).long() for limit in (0.05, 0.5, 0.7))[None]
    found = true.roll((1, 2), (2, 3))
    one_hot = [torch.nn.functional.one_hot(x[0, 0], 4).movedim(3, 0)[None] for x in (found, true)]

    def monai_labels(name: str, **more: Any) -> Callable[[], Work]:
        def make() -> Work:
            metric = getattr(importlib.import_module("monai.metrics"), name)(include_background=False, **more)
            return lambda: metric(*one_hot)

        return make

    peers: dict[str, list[Peer]] = {
        "dice": [("MONAI", monai_labels("DiceMetric"))],
        "hd95": [("MONAI", monai_labels("HausdorffDistanceMetric", percentile=95))],
        "average_surface_distance": [("MONAI", monai_labels("SurfaceDistanceMetric", symmetric=True))],
    }
    for name, entry in METRICS.items():
        function = entry.function
        if entry.needs == ("reference", "tissue"):
            yield entry.title, (lambda f=function: f(found, true)), peers.get(name, [])
        elif "reference" not in entry.needs:
            yield entry.title, (lambda f=function: f(image[None], true)), []


def _regression(name: str, prediction: torch.Tensor, reference: torch.Tensor) -> Callable[[], Work]:
    def make() -> Work:
        function = getattr(importlib.import_module("torchmetrics.functional.regression"), name)
        return lambda: function(prediction, reference)

    return make


def _slices(name: str, prediction: torch.Tensor, reference: torch.Tensor) -> Callable[[], Work]:
    """A metric of torchmetrics that knows pictures only."""

    def make() -> Work:
        function = getattr(importlib.import_module("torchmetrics.functional.image"), name)
        a, b = (x[0].movedim(3, 0).contiguous() for x in (prediction, reference))
        return lambda: function(a, b)

    return make


def seconds(work: Work, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 224, 192))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    image = head(tuple(options.shape))

    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, shape {tuple(options.shape)}"
    )
    versions = runtime.versions() | {
        name: _version(name) for name in ("torchio", "monai", "skimage", "torchmetrics")
    }
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print("\n| what | pellucid, s | beside | s | theirs / ours |\n|---|--:|---|--:|--:|")
    for name, work, peers in (*effects(image), *metrics(image)):
        if options.only and name not in options.only:
            continue
        own = seconds(work, options.repeats)
        if not peers:
            print(f"| {name} | {own:.2f} | none | n/a | n/a |", flush=True)
        lines = [(peer, _try(make, options.repeats)) for peer, make in peers]
        for peer, theirs in lines:
            cells = ("not run", "n/a") if theirs is None else (f"{theirs:.2f}", f"{theirs / own:.1f}")
            print(f"| {name} | {own:.2f} | {peer} | {cells[0]} | {cells[1]} |", flush=True)
    return 0


def _try(make: Callable[[], Work], repeats: int) -> float | None:
    """Time of a peer's work; None if the library is not there or cannot do it."""
    with contextlib.suppress(ImportError):
        try:
            return seconds(make(), repeats)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            print(f"    {error}", file=sys.stderr)
    return None


def _version(name: str) -> str:
    try:
        return str(importlib.import_module(name).__version__)
    except ImportError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
