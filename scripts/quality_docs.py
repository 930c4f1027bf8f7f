"""What is shown of a report: docs/audio.md between its markers, plots in docs/quality/, a few lines for the terminal."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

import quality_gate  # noqa: E402

BEGIN = "<!-- begin: made by `make quality`, changes are overwritten -->"
END = "<!-- end -->"
NAMES = {
    "tandem": "Tandem",
    "one-sided": "one-sided concealment",
    "repeat": "last packet repeated",
    "repeat + fade": "repeated and faded",
    "silence": "silence",
    "samples picked": "samples picked, no filter",
    "ideal": "ideal filter",
}
LOSSES = [0, 1, 3, 5, 10]


def write(root, report):
    """The plots, and the generated part of docs/audio.md."""
    folder = root / "docs" / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    plot_loss(report, folder / "loss.png")
    plot_response(report, folder / "resampler.png")
    page = root / "docs" / "audio.md"
    text = page.read_text()
    head, found, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{page} has lost its markers {BEGIN!r} and {END!r}")
    page.write_text(f"{head}{BEGIN}\n\n{generated(report)}\n{END}{tail}")


def terminal(report, comparison):
    lines = [f"{mark(t['met'])}  {t['number']:2}  {t['asks']}: {t['measured']}" for t in report["targets"]]
    if comparison.compared:
        name, was, is_ = min(comparison.compared, key=lambda cell: cell[2] - cell[1])
        lines.append(
            f"{len(comparison.compared)} cells compared with the baseline; the largest drop is {max(was - is_, 0):.3f} ({name})"
        )
    if comparison.reason:
        lines.append(f"NOT COMPARED with the baseline{', in part' if comparison.compared else ''}: {comparison.reason}")
    return "\n".join(lines)


def generated(report):
    return "\n\n".join(
        [
            "### Targets",
            table(
                ["", "target", "measured", ""],
                [[t["number"], t["asks"], t["measured"], mark(t["met"])] for t in report["targets"]],
            ),
            "+- is the standard error over the seeds: what other losses of the same number would change.",
            "### Loss on the way to the model",
            "PESQ narrowband (MOS-LQO), mu-law, packets of 20 ms, the same losses in each row. In brackets: standard deviation "
            "over clips and seeds.",
            scores(report, "loss", ["tandem", "one-sided", "repeat", "repeat + fade", "silence"], spread=True),
            "![PESQ against loss](quality/loss.png)",
            "By voice, Tandem:",
            voices(report),
            "### What the model takes",
            "PESQ narrowband. A-law passes as it is; PCM goes through the resampler, and for the comparison through an ideal one "
            "back to 8 kHz. The first two seeds only.",
            scores(report, "formats"),
            "### The model's voice on its way to the telephone",
            "PESQ narrowband after mu-law, by the rate at which the model speaks.",
            scores(report, "model voice"),
            "### Wideband",
            "PESQ wideband, no codec: the resampler alone.",
            scores(report, "wideband"),
            "### The resampler",
            sweeps(report),
            "![Response of the resampler](quality/resampler.png)",
            "### Made from",
            f"{report['speech']}; " + ", ".join(report["measured_with"]) + ".",
            table(
                ["clip", "seconds", "SHA-256 at 48 kHz"],
                [[c["name"], f"{c['seconds']:.2f}", f"`{c['sha256'][:16]}`"] for c in report["clips"]],
            ),
        ]
    ) + "\n"


def mark(met):
    return {True: "met", False: "**missed**", None: "-"}[met]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def scores(report, name, columns=None, spread=False):
    cells = [c for c in report["cells"] if c["table"] == name]
    rows = list(dict.fromkeys(c["row"] for c in cells))
    columns = columns or list(dict.fromkeys(c["column"] for c in cells))
    known = {(c["row"], c["column"]): c for c in cells}

    def show(cell):
        if cell is None:
            return "-"
        return f"{cell['pesq']:.2f} ({deviation(cell):.2f})" if spread else f"{cell['pesq']:.3f}"

    return table(
        ["", *(NAMES.get(column, column) for column in columns)],
        [[row, *(show(known.get((row, column))) for column in columns)] for row in rows],
    )


def voices(report):
    cells = [c for c in report["cells"] if c["table"] == "loss" and c["column"] == "tandem"]
    clips = [clip["name"] for clip in report["clips"]]
    return table(
        ["", *clips],
        [[cell["row"], *(f"{quality_gate.by_clip(cell)[clip]:.2f}" for clip in clips)] for cell in cells],
    )


def sweeps(report):
    return table(
        ["kHz", "pass band", "ripple dB", "stop band from", "down by dB", "delay ms", "SNR of 1 kHz, dB"],
        [
            [
                f"{s['from'] // 1000} to {s['to'] // 1000}",
                f"{s['pass_hz']} Hz",
                f"{s['ripple_db']:.3f}",
                f"{s['stop_hz']} Hz",
                f"{s['rejection_db']:.1f}",
                f"{s['delay_ms']:.2f}",
                f"{s['snr_db']:.1f}",
            ]
            for s in report["sweeps"]
        ],
    )


def deviation(cell):
    values = [pair["pesq"] for pair in cell["pairs"]]
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5


def plot_loss(report, path):
    cells = {(c["row"], c["column"]): c["pesq"] for c in report["cells"] if c["table"] == "loss"}
    clean = cells[("0 %", "tandem")]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, dpi=100)
    for axis, shape in zip(axes, ["random", "burst"]):
        for column in ["tandem", "one-sided", "repeat", "repeat + fade", "silence"]:
            points = [(0, clean)]
            points += [(p, cells[row]) for p in LOSSES if (row := (f"{p} % {shape}", column)) in cells]
            width = 2.5 if column == "tandem" else 1.2
            axis.plot(*zip(*points), marker="o", markersize=4, linewidth=width, label=NAMES[column])
        for row, least in quality_gate.LOSS.items():
            percent, of_shape = row.split(" % ")
            if of_shape == shape:
                axis.plot(int(percent), least, marker="_", markersize=16, color="black", linestyle="none")
        axis.set_title({"random": "single packets lost", "burst": "bursts of 3 packets in the mean"}[shape])
        axis.set_xlabel("packets lost, %")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PESQ narrowband, MOS-LQO")
    axes[0].legend(loc="lower left", fontsize=9)
    axes[1].annotate("black bars: targets", (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=9)
    save(figure, path)


def plot_response(report, path):
    figure, (whole, pass_band) = pyplot.subplots(1, 2, figsize=(10, 4), dpi=100)
    for sweep in report["sweeps"]:
        label = f"{sweep['from'] // 1000} to {sweep['to'] // 1000} kHz"
        if (sweep["from"], sweep["to"]) in [(24_000, 8_000), (8_000, 24_000), (24_000, 16_000), (8_000, 16_000)]:
            # Several images lie at one frequency; the loudest counts.
            loudest = {}
            for hz, level in sweep["response"]:
                loudest[hz] = max(level, loudest.get(hz, -200))
            whole.plot([hz / 1000 for hz in sorted(loudest)], [loudest[hz] for hz in sorted(loudest)], linewidth=1, label=label)
        flat = [(hz / 1000, level) for hz, level in sweep["response"] if hz <= sweep["pass_hz"]]
        pass_band.plot(*zip(*flat), linewidth=0.8, color="tab:blue", alpha=0.6)
    whole.axhline(-80, color="black", linewidth=0.8, linestyle="--")
    whole.set_ylim(-125, 5)
    whole.set_title("gain; beyond Nyquist: aliases and images")
    whole.set_ylabel("dB")
    whole.legend(fontsize=8)
    for limit in (-0.1, 0.1):
        pass_band.axhline(limit, color="black", linewidth=0.8, linestyle="--")
    pass_band.set_ylim(-0.15, 0.15)
    pass_band.set_title("pass band of all pairs of rates")
    for axis in (whole, pass_band):
        axis.set_xlabel("kHz")
        axis.grid(alpha=0.3)
    save(figure, path)


def save(figure, path):
    figure.tight_layout()
    # Without a date or version in it, the same scores give the same file.
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
