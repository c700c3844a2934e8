"""A whole study: a BIDS dataset of real scans, 200 scans on a cluster that loses a worker, and runs that are killed.

    python benchmarks/study.py dataset DATA OUT     # DATA: the folder with manifest.tsv, train/ and validation/
    python benchmarks/study.py cluster OUT
    python benchmarks/study.py killed OUT
    python benchmarks/study.py workers OUT          # one process and two, about two minutes
    python benchmarks/study.py crowd OUT            # fourteen heads of two sites, one of them bad: pages of a group
    python benchmarks/study.py verdicts DATA OUT    # DATA as above: a word about each of the validation scans

Everything is written below OUT. The figures are in docs/results/study.md.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE, SIDE_MM = (40, 44, 36), 1.5
MEANS = {"T1w": (0.02, 0.25, 0.6, 0.95), "T2w": (0.02, 0.95, 0.6, 0.4), "FLAIR": (0.02, 0.1, 0.8, 0.6)}

REAL = {
    "sub-adult1_ses-1_T1w": ("validation/scans/openms_long_p04_study1_T1W", "34", "Ljubljana"),
    "sub-adult1_ses-1_T2w": ("validation/scans/openms_long_p04_study1_T2W", "34", "Ljubljana"),
    "sub-adult1_ses-1_FLAIR": ("validation/scans/openms_long_p04_study1_FLAIR", "34", "Ljubljana"),
    "sub-adult2_ses-1_T1w": ("validation/scans/openms_long_p12_study1_T1W", "40", "Ljubljana"),
    "sub-adult2_ses-2_T1w": ("validation/scans/openms_long_p12_study2_T1W", "41", "Ljubljana"),
    "sub-adult3_T2w": ("validation/scans/allineate_T2w", "n/a", "Columbia"),
    "sub-child1_T1w": ("validation/scans/bmex_sub-0005_ses-V01_T1w", "20", "ChapelHill"),
    "sub-infant1_T2w": ("train/scans/bmex_template_M06_T2w", "0.5", "ChapelHill"),
    "sub-fetus1_run-01_T2w": ("validation/scans/mialsrtk_sub01_run1_T2w", "-0.2", "Lausanne"),
    "sub-fetus1_run-02_T2w": ("validation/scans/mialsrtk_sub01_run2_T2w", "-0.2", "Lausanne"),
    "sub-adult4_FLAIR": ("validation/scans/fernando_FLAIRlike_5p5mm", "50+", "London"),
    "sub-broken_T1w": ("validation/scans/openms_p19_T1", "30", "Ljubljana"),
    "sub-frames_T1w": ("train/scans/allineate_T1w2mm", "30", "Columbia"),
}
"""Name in the dataset -> file, age as participants.tsv has it, site. Ages not in the manifest are made up."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = parser.add_subparsers(dest="part", required=True)
    counts = {"dataset": 13, "cluster": 200, "killed": 8, "verdicts": 0, "workers": 40, "crowd": 14}
    for name, count in counts.items():
        part = words.add_parser(name)
        if name in ("dataset", "verdicts"):
            part.add_argument("data", type=Path)
        part.add_argument("out", type=Path)
        part.add_argument("--count", type=int, default=count)
        part.add_argument("--seed", type=int, default=0)
        part.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    parts = {
        "dataset": dataset,
        "cluster": cluster,
        "killed": killed,
        "verdicts": verdicts,
        "workers": workers,
        "crowd": crowd,
    }
    parts[given.part](given)


def dataset(given: argparse.Namespace) -> None:
    """Real scans of several ages, contrasts and sites; one file cut off, one participant without T1w, one 4-D."""
    root, out = given.out / "raw", given.out / "derivatives"
    for folder in (root, out):
        shutil.rmtree(folder, ignore_errors=True)
    people = {}
    for name, (source, age, site) in REAL.items():
        path = place(root, name)
        image = nib.load(given.data / f"{source}.nii.gz")
        if "frames" in name:
            image = nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, -1), image.affine, image.header)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
        if "broken" in name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        people[name.partition("_")[0]] = (age, site)
    describe(root, people)
    start = time.monotonic()
    code, said = bids(root, out, "-v")
    print(said)
    print(f"exit code {code}, {time.monotonic() - start:.0f} s")
    print(*bids(root, out, level="group"))
    print((out / "iqm.tsv").read_text())
    validate(root)
    validate(out)


def cluster(given: argparse.Namespace) -> None:
    """Many small scans through Dask, with a worker killed and a scan poisoned, beside the same in one process."""
    from distributed import LocalCluster

    root = given.out / "raw"
    names = synthetic(root, given.count)
    poisoned = place(root, names[given.count // 2])
    poisoned.write_bytes(poisoned.read_bytes()[:4000])
    outs = {name: given.out / name for name in ("serial", "dask")}
    for out in outs.values():
        shutil.rmtree(out, ignore_errors=True)
    seconds = {}
    start = time.monotonic()
    code, said = bids(root, outs["serial"], "--task", "segment", "--omp-nthreads", "1")
    seconds["serial"] = time.monotonic() - start
    print("serial:", code, said.splitlines()[-1])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        address = local.scheduler_address.removeprefix("tcp://")
        start = time.monotonic()
        run = begin(
            root, outs["dask"], "--task", "segment", "--executor", f"dask://{address}", "--omp-nthreads", "1"
        )
        while len(list(outs["dask"].rglob("*_record.json"))) < given.count // 4 and run.poll() is None:
            time.sleep(0.2)
        victim = next(iter(local.workers.values())).pid
        os.kill(victim, signal.SIGKILL)
        print(f"worker {victim} killed after {len(list(outs['dask'].rglob('*_record.json')))} records")
        said = run.communicate()[0]
        seconds["dask"] = time.monotonic() - start
    print("dask:", run.returncode, said.splitlines()[-1])
    for name, spent in seconds.items():
        statuses = Counter(json.loads(p.read_text())["status"] for p in outs[name].rglob("*_record.json"))
        print(f"{name}: {dict(statuses)}, {spent:.0f} s, {given.count / spent * 60:.1f} scans/min")
    compare(outs["serial"], outs["dask"])


def killed(given: argparse.Namespace) -> None:
    """Kill runs with -9 at random moments, go on with --resume, and compare all bytes with those of a quiet run."""
    root, quiet = given.out / "raw", given.out / "quiet"
    synthetic(root, given.count)
    shutil.rmtree(quiet, ignore_errors=True)
    words = ("--task", "segment", "--nprocs", "2", "--omp-nthreads", "1")
    start = time.monotonic()
    print("quiet:", *bids(root, quiet, *words))
    whole = time.monotonic() - start
    print(f"quiet run: {whole:.0f} s, {len(files(quiet))} files")
    draw = random.Random(given.seed)
    for number in range(given.kills):
        out = given.out / f"killed-{number}"
        shutil.rmtree(out, ignore_errors=True)
        run = begin(root, out, *words)
        moment = draw.uniform(1.0, whole)
        time.sleep(moment)
        # By turns the run alone, whose workers must end by themselves, and everything at once.
        if number % 2:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            run.kill()
        run.communicate()
        found = files(out)
        records = sum(name.endswith("_record.json") for name in found)
        code, said = bids(root, out, *words, "--resume")
        print(
            f"{number}: killed after {moment:.1f} s, {len(found)} files and {records} records; {code} {said.strip()}"
        )
        compare(quiet, out)
        shutil.rmtree(out)


def workers(given: argparse.Namespace) -> None:
    """The same small heads by one process and by two, of one thread each: scans per minute, and the same bytes."""
    root = given.out / "raw"
    synthetic(root, given.count)
    print("| processes | scans | exit code | s in all | scans/min | s for scans alone | scans/min |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    seconds, scans = {}, {}
    for processes in (1, 2):
        out = given.out / f"nprocs-{processes}"
        shutil.rmtree(out, ignore_errors=True)
        words = ("--task", "segment", "--omp-nthreads", "1", "--nprocs", str(processes))
        start = time.monotonic()
        code, said = bids(root, out, *words)
        seconds[processes] = time.monotonic() - start
        # With start and pages; and from the first scan's begin to the last one's end, which is what long studies have.
        logs = [json.loads(path.read_text()) for path in out.rglob("*_times.json")]
        begins = [datetime.fromisoformat(log["date"]).timestamp() for log in logs]
        ends = [begin + log["seconds"] for begin, log in zip(begins, logs, strict=True)]
        scans[processes] = max(ends) - min(begins)
        print(
            f"| {processes} | {given.count} | {code} | {seconds[processes]:.0f} | "
            f"{given.count / seconds[processes] * 60:.0f} | {scans[processes]:.0f} | "
            f"{given.count / scans[processes] * 60:.0f} |",
            flush=True,
        )
        print(f"  {said.splitlines()[-1]}")
    gains = [found[1] / found[2] for found in (seconds, scans)]
    print(
        f"two processes are {gains[0]:.2f} times as fast, {gains[1]:.2f} for scans alone; {os.cpu_count()} cores"
    )
    compare(given.out / "nprocs-1", given.out / "nprocs-2")


def crowd(given: argparse.Namespace) -> None:
    """T1w heads of two sites and scanners; the fourth is noisy and moved. What the pages of the group make of it."""
    root, out = given.out / "raw", given.out / "derivatives"
    names = synthetic(root, given.count, kinds=("T1w",), side_mm=4.0)
    shutil.rmtree(out, ignore_errors=True)
    for number, name in enumerate(names):
        told = {"Manufacturer": "AB"[number % 2], "ManufacturersModelName": ("Prisma", "Ingenia")[number % 2]}
        place(root, name).with_name(f"{name}.json").write_text(
            json.dumps({**told, "MagneticFieldStrength": 3})
        )
    spoil(place(root, names[3]))
    print(*bids(root, out, "--omp-nthreads", "1", "-v"))
    print(*bids(root, out, level="group"))
    columns = (
        "scan",
        "site",
        "certainty",
        "intracranial_ml",
        "GM_ml",
        "snr_before",
        "snr_after",
        "cjv_after",
    )
    lines = [line.split("\t") for line in (out / "iqm.tsv").read_text().splitlines()]
    for line in lines:
        print(*(line[lines[0].index(name)].rjust(12) for name in columns))


def spoil(path: Path) -> None:
    """Strong noise, and a third of the lines of k-space from a head that has moved by three voxels."""
    image = nib.load(path)
    data, draw = image.get_fdata(), np.random.default_rng(0)
    still, moved = np.fft.fftn(data), np.fft.fftn(np.roll(data, (3, 2, 1), (0, 1, 2)))
    still[:, ::3] = moved[:, ::3]
    noise = 0.15 * data.max() * (draw.standard_normal(data.shape) + 1j * draw.standard_normal(data.shape))
    spoiled = np.abs(np.fft.ifftn(still) + noise)
    nib.save(nib.Nifti1Image(np.round(spoiled).astype(np.int16), image.affine, image.header), path)


def verdicts(given: argparse.Namespace) -> None:
    """Every validation scan enhanced and segmented, and what its page says of it. What is whole is kept."""
    from pellucid.apps.bids.found import subjects_of, units_of
    from pellucid.apps.bids.reports import stories_of
    from pellucid.report.verdict import judge

    root, out = given.out / "raw", given.out / "derivatives"
    people = {}
    for source in sorted((given.data / "validation" / "scans").glob("*.nii.gz")):
        name = validation_name(source.name.removesuffix(".nii.gz"))
        image = nib.load(source)
        image.header.set_xyzt_units("mm", "sec")
        if not (path := place(root, name)).exists():
            nib.save(image, path)
        people[name.partition("_")[0]] = ("n/a", "real")
    describe(root, people)
    print(*bids(root, out, "--task", "enhance,segment", "--omp-nthreads", "1", "--resume", "-v"))
    for subject in subjects_of(out):
        for record in units_of(root, out, subject):
            for story in stories_of(record, root, out):
                verdict = judge(story)
                print(f"| {story.title} | {verdict.word} | {' '.join(verdict.reasons)} |")


def validation_name(stem: str) -> str:
    """Name in a dataset of a file of the validation scans: "openms_p19_T1POST" is sub-openmsp19_ce-gad_T1w."""
    who, _, kind = stem.rpartition("_")
    if kind.endswith("mm"):
        who, _, kind = who.rpartition("_")
    kinds = {"T1": "T1w", "T1POST": "ce-gad_T1w", "T2": "T2w", "FLAIRlike": "FLAIR"}
    who, _, run = who.partition("_run")
    last = kinds.get(kind, kind.replace("W", "w"))
    return f"sub-{''.join(filter(str.isalnum, who))}{f'_run-{run}' if run else ''}_{last}"


def place(root: Path, name: str) -> Path:
    """Where a scan lies in a dataset."""
    words = dict(word.split("-", 1) for word in name.split("_") if "-" in word)
    home = root / f"sub-{words['sub']}"
    folder = (home / f"ses-{words['ses']}" if "ses" in words else home) / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.nii.gz"


def describe(root: Path, people: dict[str, tuple[str, str]]) -> None:
    """Files that every dataset has."""
    description = {
        "Name": "A study",
        "BIDSVersion": "1.9.0",
        "License": "see sources",
        "Authors": ["Many", "Others"],
    }
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("Made by benchmarks/study.py from scans that others may share. " * 4)
    rows = [f"{who}\t{age}\t{site}\n" for who, (age, site) in sorted(people.items())]
    (root / "participants.tsv").write_text("participant_id\tage\tsite\n" + "".join(rows))
    told = {"age": {"Description": "Age", "Units": "years"}, "site": {"Description": "Where"}}
    (root / "participants.json").write_text(json.dumps(told))


def synthetic(
    root: Path, count: int, kinds: tuple[str, ...] = tuple(MEANS), side_mm: float = SIDE_MM
) -> list[str]:
    """Small heads, each of its own size, contrast and noise."""
    shutil.rmtree(root, ignore_errors=True)
    names = []
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    affine = np.diag([side_mm, side_mm, side_mm, 1.0])
    for number in range(count):
        draw = np.random.default_rng(number)
        x, y, z = (grid * scale for grid, scale in zip(grids, draw.uniform(0.95, 1.08, 3), strict=True))
        labels = np.zeros(SHAPE, dtype=int)
        for label, radius in ((1, 0.85), (2, 0.75), (3, 0.58)):
            labels[x**2 + (y / 1.05) ** 2 + (z / 0.95) ** 2 < radius**2] = label
        for side, width in ((-0.16, 0.09), (0.16, 0.13)):
            labels[((x - side) / width) ** 2 + (y / 0.3) ** 2 + (z / 0.2) ** 2 < 1] = 1
        kind = kinds[number % len(kinds)]
        data = np.clip(np.array(MEANS[kind])[labels] + 0.02 * draw.standard_normal(SHAPE), 0, None)
        names.append(f"sub-{number:03}_{kind}")
        image = nib.Nifti1Image(np.round(data * 1000).astype(np.int16), affine)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, place(root, names[-1]))
    describe(root, {name.partition("_")[0]: (str(20 + i % 60), "AB"[i % 2]) for i, name in enumerate(names)})
    return names


def begin(root: Path, out: Path, *words: str, level: str = "participant") -> "subprocess.Popen[str]":
    """Start a run in a group of its own."""
    line = [sys.executable, "-m", "pellucid", "bids", str(root), str(out), level, *words]
    if level == "participant" and "dataset" not in sys.argv[1]:
        line.append("--skip-bids-validation")
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def bids(root: Path, out: Path, *words: str, level: str = "participant") -> tuple[int, str]:
    """Run to the end; exit code and what was said."""
    run = begin(root, out, *words, level=level)
    said = run.communicate()[0]
    return run.returncode, said


def files(out: Path) -> dict[str, bytes]:
    """All outputs but the logs."""
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("logs/")}


def compare(one: Path, other: Path) -> None:
    """Say which files differ; images by their voxels' bytes too, should only the packing differ."""
    first, second = files(one), files(other)
    differ = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    voxels = [n for n in differ if n.endswith(".gz") and n in first and n in second]
    same = sum(gzip.decompress(first[n]) == gzip.decompress(second[n]) for n in voxels)
    print(
        f"  {len(first)} and {len(second)} files, {len(differ)} differ{f': {differ[:3]}' if differ else ''}",
        end="",
    )
    print(f" ({same} only in their packing)" if same else "")


def validate(root: Path) -> None:
    """What the validator says."""
    from pellucid.apps.bids.validator import validate

    found = Counter((issue["severity"], issue["code"]) for issue in validate(root))
    print(f"validator on {root.name}:", dict(found) or "nothing")


if __name__ == "__main__":
    main()
