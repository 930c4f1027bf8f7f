"""What the report must meet: the targets, and nothing worse than in the baseline."""

from dataclasses import dataclass, field

# A cell may be so much below its baseline.
TOLERANCE = 0.05

# Which cells of the loss table must reach what: PESQ narrowband, mean of all clips and seeds.
LOSS = {"5 % random": 3.35, "10 % random": 2.90, "5 % burst": 3.15, "10 % burst": 2.55}
# How far the way through our resampler may lie below the one through soxr's best.
RESAMPLER_GAP = 0.01
RIPPLE_DB, REJECTION_DB, DELAY_MS = 0.1, 80.0, 2.0

# What cannot be measured, for the part is not there.
NOT_MEASURED = [
    ("Q4", "Opus: 4.26 without loss, 3.2 at 5 % random loss, FEC only above 2 %", "no codec yet"),
    ("Q5", "G.722 bit-exact with the ITU vectors", "no codec yet"),
    ("Q5", "libopus by its own tests", "no codec yet"),
    ("", "loss on a wideband leg (G.722, Opus)", "no codec yet"),
    ("", "concealment of audio on its way to the caller", "not built yet"),
    ("", "echo guard", "not built yet"),
    ("", "noise suppression", "not built yet"),
    ("", "level control, DC removal", "not built yet"),
    ("", "comfort noise (RFC 3389) rendered", "not built yet"),
    ("", "spandsp and ITU-T G.711 Appendix I beside ours", "not shipped: licences"),
]


@dataclass
class Comparison:
    """Cells beside their baseline."""

    # (name, baseline, now) of the cells that can be compared.
    compared: list = field(default_factory=list)
    worse: list = field(default_factory=list)
    # Cells of the baseline that are gone.
    gone: list = field(default_factory=list)
    # Why cells were not compared; none when all were.
    reason: str = ""


def name_of(cell):
    return f"{cell['table']} / {cell['row']} / {cell['column']}"


def targets(report):
    """Every target: its number, what it asks, what was measured, and whether that meets it (None: not measured)."""
    whole = {(c["table"], c["row"], c["column"]): c for c in report["cells"]}
    cells = {key: cell["pesq"] for key, cell in whole.items()}
    found = []

    def add(number, asks, value, met):
        found.append({"number": number, "asks": asks, "measured": value, "met": met})

    def at_least(number, asks, key, least):
        score = cells.get(key)
        met = score is not None and score >= least
        measured = "no such cell" if score is None else f"{score:.3f} +- {seed_error(whole[key]):.3f}"
        add(number, f"{asks} >= {least:.2f}", measured, met)

    for row, least in LOSS.items():
        at_least("Q1", f"loss on the model leg, {row}: PESQ", ("loss", row, "tandem"), least)
    for fact in report["facts"]:
        number = "Q5" if "G.191" in fact["name"] else "Q2"
        add(number, fact["name"], "yes" if fact["holds"] else "no", fact["holds"])
    ours = cells.get(("model voice", "24 kHz", "tandem"))
    best = cells.get(("model voice", "24 kHz", "soxr VHQ"))
    if ours is None or best is None:
        add("Q2", "24 kHz to G.711 within 0.01 of soxr VHQ", "no such cell", False)
    else:
        met = ours >= best - RESAMPLER_GAP
        add("Q2", "24 kHz to G.711 within 0.01 of soxr VHQ", f"{ours:.3f}, soxr {best:.3f}", met)
    sweeps = report["sweeps"]
    for asks, key, worst, limit, met in [
        ("resampler, all pairs of rates: +-0.1 dB in the pass band", "ripple_db", max, "dB", lambda v: v <= RIPPLE_DB),
        ("resampler: aliases and images 80 dB down", "rejection_db", min, "dB", lambda v: v >= REJECTION_DB),
        ("resampler: 2 ms of delay at most", "delay_ms", max, "ms", lambda v: v <= DELAY_MS),
    ]:
        value = worst((sweep[key] for sweep in sweeps), default=None)
        add("Q3", asks, "no sweep" if value is None else f"{value:.2f} {limit}", value is not None and met(value))
    for number, asks, why in NOT_MEASURED:
        add(number, asks, f"not measured: {why}", None)
    return found


def baseline_of(report):
    """What is kept of a report: each cell by clip, and what the clips are."""
    cells = [
        {
            "table": cell["table"],
            "row": cell["row"],
            "column": cell["column"],
            "pesq": cell["pesq"],
            "clips": by_clip(cell),
        }
        for cell in report["cells"]
    ]
    return {
        "speech": report["speech"],
        "measured_with": report["measured_with"],
        "clips": {clip["name"]: clip["sha256"] for clip in report["clips"]},
        "cells": cells,
    }


def seed_error(cell):
    """The standard error of the cell by its seeds: how far other losses of the same number would move it."""
    seeds = {}
    for pair in cell["pairs"]:
        seeds.setdefault(pair["seed"], []).append(pair["pesq"])
    means = [sum(all_) / len(all_) for all_ in seeds.values()]
    mean = sum(means) / len(means)
    variance = sum((one - mean) ** 2 for one in means) / max(len(means) - 1, 1)
    return (variance / len(means)) ** 0.5


def by_clip(cell):
    """The mean of each clip's pairs."""
    scores = {}
    for pair in cell["pairs"]:
        scores.setdefault(pair["clip"], []).append(pair["pesq"])
    return {clip: round(sum(all_) / len(all_), 4) for clip, all_ in scores.items()}


def compare(report, baseline):
    """Each cell beside its baseline, by those clips that are the same sample by sample."""
    comparison = Comparison()
    if baseline is None:
        comparison.reason = "there is no baseline; `scripts/quality.sh --accept` makes one"
        return comparison
    now = {clip["name"]: clip["sha256"] for clip in report["clips"]}
    same = {name for name, sha256 in baseline["clips"].items() if now.get(name) == sha256}
    changed = sorted(set(baseline["clips"]) - same)
    if baseline["measured_with"] != report["measured_with"]:
        comparison.reason = "the baseline was measured with other versions of PESQ or numpy"
        return comparison
    if changed:
        comparison.reason = (
            f"other speech than in the baseline ({baseline['speech']}, now {report['speech']}): {', '.join(changed)}"
        )
    cells = {name_of(cell): by_clip(cell) for cell in report["cells"]}
    for before in baseline["cells"]:
        name = name_of(before)
        clips = sorted(same & set(before["clips"]))
        if name not in cells:
            comparison.gone.append(name)
        elif clips:
            missing = [clip for clip in clips if clip not in cells[name]]
            if missing:
                comparison.gone.append(f"{name} ({', '.join(missing)})")
                continue
            was = sum(before["clips"][clip] for clip in clips) / len(clips)
            is_ = sum(cells[name][clip] for clip in clips) / len(clips)
            comparison.compared.append((name, was, is_))
            if is_ < was - TOLERANCE:
                comparison.worse.append((name, was, is_))
    return comparison


def failures(report, comparison):
    """A line for each thing that must not be so."""
    lines = [
        f"{t['number']}: {t['asks']}: measured {t['measured']}" for t in report["targets"] if t["met"] is False
    ]
    lines += [f"{name}: {was:.3f} in the baseline, now {is_:.3f}" for name, was, is_ in comparison.worse]
    lines += [f"{name}: in the baseline, but not measured" for name in comparison.gone]
    return lines
