"""What the report must meet: the targets, and nothing worse than in the baseline."""

from dataclasses import dataclass, field

# A cell may be so much below its baseline.
TOLERANCE = 0.05

# Which cells of the loss table must reach what: PESQ narrowband, mean of all clips and seeds.
LOSS = {"5 % random": 3.35, "10 % random": 2.90, "5 % burst": 3.15, "10 % burst": 2.55}
# How far the way through our resampler may lie below the one through soxr's best.
RESAMPLER_GAP = 0.01
RIPPLE_DB, REJECTION_DB, DELAY_MS = 0.1, 80.0, 2.0

# Opus at 16 kHz as we send it: PESQ wideband.
OPUS = {"0 %": 4.26, "5 % random": 3.20}
# What is measured otherwise, where we ask for something of it: what, (table, row, column), and the most it may be.
FIGURES = [
    ("comfort noise, G.711: level within 1 dB", ("comfort noise", "G.711", "level, worst error"), 1.0),
    ("comfort noise, G.722: level within 1 dB", ("comfort noise", "G.722", "level, worst error"), 1.0),
    ("an offset falls by 40 dB", ("offset", "offset of 2,000", "left"), -40.0),
    ("no click where the caller interrupts: 1 dB at one seam in twenty", ("seams", "the caller interrupts", "tandem, worst 5 %"), 1.0),
    ("no click where playout is held", ("seams", "playout is held", "tandem, worst 5 %"), 1.0),
    ("no click where playout goes on", ("seams", "playout goes on", "tandem, worst 5 %"), 1.0),
    ("no click where the model goes on after it ran dry", ("seams", "the model goes on", "tandem, worst 5 %"), 1.0),
    ("echo guard: a handset has no false barge-in", ("echo", "none: a handset", "false"), 0.0),
]

# What is not measured, and why.
NOT_MEASURED = [
    ("", "spandsp, speex and ITU-T G.711 Appendix I beside ours", "not shipped: licences"),
    ("Q5", "libopus with the test vectors of RFC 6716", "a download of their own, in no package"),
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
        measured = "no such cell" if score is None else f"{score:.3f}"
        if score is not None and len({pair["seed"] for pair in whole[key]["pairs"]}) > 1:
            measured += f" +- {seed_error(whole[key]):.3f}"
        add(number, f"{asks} >= {least:.2f}", measured, met)

    for row, least in LOSS.items():
        at_least("Q1", f"loss on the model leg, {row}: PESQ", ("loss", row, "tandem"), least)
    for fact in report["facts"]:
        number = "Q5" if "G.191" in fact["name"] else "Q4" if "Opus" in fact["name"] else "Q2"
        add(number, fact["name"], "yes" if fact["holds"] else "no", fact["holds"])
    for row, least in OPUS.items():
        at_least("Q4", f"Opus at 16 kHz, {row}: PESQ wideband", ("opus", row, "tandem"), least)
    tests = report["libopus"]
    if tests is None or tests["reason"]:
        add("Q5", "libopus passes its own tests", f"not measured: {tests['reason'] if tests else 'not run'}", None)
    else:
        met = tests["passed"] == tests["tests"] > 0
        add("Q5", "libopus passes its own tests", f"{tests['passed']} of {tests['tests']}, libopus {tests['version']}", met)
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
    figures = {(f["table"], f["row"], f["column"]): f for f in report["figures"]}
    for asks, key, most in FIGURES:
        figure = figures.get(key)
        measured = "no such figure" if figure is None else f"{figure['value']:.2f} {figure['unit']}"
        add("", asks, measured, figure is not None and figure["value"] <= most)
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
        # More of it is worse by `tolerance`, or less where that is negative.
        "figures": [f for f in report["figures"] if f["tolerance"]],
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
    compare_figures(report, baseline, changed, comparison)
    return comparison


def compare_figures(report, baseline, changed, comparison):
    """.. and each figure, which is of all clips together: where one has changed, none is compared."""
    now = {name_of(figure): figure["value"] for figure in report["figures"]}
    for before in baseline.get("figures", []):
        name, was, tolerance = name_of(before), before["value"], before["tolerance"]
        is_ = now.get(name)
        if is_ is None:
            comparison.gone.append(name)
        elif not changed and (is_ - was) * (1 if tolerance > 0 else -1) > abs(tolerance):
            comparison.worse.append((name, was, is_))


def failures(report, comparison):
    """A line for each thing that must not be so."""
    lines = [
        f"{t['number']}: {t['asks']}: measured {t['measured']}" for t in report["targets"] if t["met"] is False
    ]
    lines += [f"{name}: {was:.3f} in the baseline, now {is_:.3f}" for name, was, is_ in comparison.worse]
    lines += [f"{name}: in the baseline, but not measured" for name in comparison.gone]
    return lines
