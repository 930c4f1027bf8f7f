"""Measures what tandem-quality made: PESQ of every cell, targets, comparison with the baseline, plots, docs/audio.md.

quality.py DIRECTORY [--accept | --alone], in the venv that scripts/quality.sh makes.
"""

import hashlib
import json
import os
import sys
import time
from multiprocessing import Pool
from pathlib import Path

import numpy
import pesq
import scipy.io.wavfile
import soxr

import quality_docs
import quality_gate
import quality_resamplers

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "quality" / "baseline.json"
PESQ = "pesq 0.0.4"
# Where the resamplers to compare with have their cells: the model's voice at 24 kHz on its way to the telephone.
TABLE, ROW = "model voice", "24 kHz"


def main():
    directory, options = Path(sys.argv[1]), sys.argv[2:]
    if options not in ([], ["--accept"], ["--alone"]):
        sys.exit(__doc__)
    begin = time.monotonic()
    manifest = json.loads((directory / "manifest.json").read_text())
    cells = manifest["cells"] + [soxr_cell(directory, manifest, quality) for quality in quality_resamplers.SOXR]
    known = scores(directory, cells)
    cells = [scored(cell, known) for cell in cells]
    report = {
        "speech": manifest["speech"],
        "clips": manifest["clips"],
        "measured_with": requirements(),
        "cells": cells,
        "figures": manifest["figures"] + quality_resamplers.figures(manifest["sweeps"]),
        "facts": manifest["facts"],
        "sweeps": manifest["sweeps"],
        "libopus": libopus(directory),
    }
    report["targets"] = quality_gate.targets(report)
    write(directory / "report.json", report)
    comparison = quality_gate.Comparison()
    if options != ["--alone"]:
        if options == ["--accept"]:
            write(BASELINE, quality_gate.baseline_of(report))
        baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else None
        comparison = quality_gate.compare(report, baseline)
        quality_docs.write(ROOT, report)
    print(quality_docs.terminal(report, comparison))
    print(f"measured in {time.monotonic() - begin:.0f} s; {directory}/report.json has every score")
    failures = quality_gate.failures(report, comparison)
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"quality: {'FAILED' if failures else 'ok'}")
    sys.exit(1 if failures else 0)


def soxr_cell(directory, manifest, quality):
    """The cell of one of soxr's resamplers, from the clips that the others of its row come from."""
    theirs = next(c for c in manifest["cells"] if (c["table"], c["row"]) == (TABLE, ROW))
    pairs = []
    for pair in theirs["pairs"]:
        _, pcm = scipy.io.wavfile.read(directory / f"reference/{pair['clip']}-24k.wav")
        narrow = soxr.resample(pcm.astype(numpy.float64), 24_000, 8_000, quality=quality)
        narrow = numpy.clip(numpy.rint(narrow), -32_768, 32_767).astype(numpy.int16)
        degraded = f"degraded/soxr-{quality}-{pair['clip']}.wav"
        scipy.io.wavfile.write(directory / degraded, 8_000, mu_law(narrow))
        pairs.append({**pair, "degraded": degraded})
    return {"table": TABLE, "row": ROW, "column": f"soxr {quality}", "measure": "nb", "pairs": pairs}


def libopus(directory):
    """What scripts/quality-libopus.sh found out; none when it was not run."""
    path = directory / "libopus.json"
    return json.loads(path.read_text()) if path.exists() else None


def mu_law(pcm):
    """Samples that went through G.711 mu-law: each the nearest of the 256 values of the law."""
    steps, segments = numpy.arange(16), numpy.arange(8)
    positive = ((((2 * steps + 33) << segments[:, None]) - 33) * 4).ravel()
    values = numpy.unique(numpy.concatenate([-positive, positive]))
    limits = (values[1:] + values[:-1]) / 2
    return values[numpy.searchsorted(limits, pcm, side="right")].astype(numpy.int16)


def scores(directory, cells):
    """PESQ of every pair, by file. What was measured once, of the same sound, is not measured again."""
    path = directory / "pesq-cache.json"
    cache = json.loads(path.read_text()) if path.exists() else {}
    tasks = {}
    hashes = {}
    keys = {}
    for cell in cells:
        for pair in cell["pairs"]:
            files = [directory / pair[side] for side in ("reference", "degraded")]
            for file in files:
                if file not in hashes:
                    hashes[file] = hashlib.sha256(file.read_bytes()).hexdigest()
            key = " ".join([PESQ, cell["measure"], *(hashes[file] for file in files)])
            keys[pair["degraded"]] = key
            if key not in cache:
                tasks[key] = (key, cell["measure"], *map(str, files))
    jobs = int(os.environ.get("TANDEM_QUALITY_JOBS", 0)) or os.cpu_count() or 1
    print(f"PESQ of {len(tasks)} files, {len(keys) - len(tasks)} known already, {jobs} at once", flush=True)
    if tasks:
        with Pool(jobs) as pool:
            cache.update(pool.imap_unordered(score, tasks.values(), chunksize=4))
        # Only what this report has is kept, so that the file does not grow.
        write(path, {key: cache[key] for key in sorted(set(keys.values()))})
    return {degraded: cache[key] for degraded, key in keys.items()}


def score(task):
    key, measure, reference, degraded = task
    rate, original = scipy.io.wavfile.read(reference)
    other_rate, heard = scipy.io.wavfile.read(degraded)
    if rate != other_rate or rate != {"nb": 8_000, "wb": 16_000}[measure]:
        raise ValueError(f"{reference} and {degraded}: {rate} and {other_rate} Hz")
    return key, round(float(pesq.pesq(rate, original, heard, measure)), 6)


def scored(cell, scores):
    pairs = [
        {"clip": pair["clip"], "seed": pair["seed"], "pesq": scores[pair["degraded"]]}
        for pair in cell["pairs"]
    ]
    mean = round(sum(pair["pesq"] for pair in pairs) / len(pairs), 4)
    return {**cell, "pesq": mean, "pairs": pairs}


def requirements():
    lines = (ROOT / "scripts" / "quality-requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def write(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
