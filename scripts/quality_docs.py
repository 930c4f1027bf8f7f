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
    "mean of samples": "mean of samples",
    "linear": "linear interpolation",
    "ideal": "ideal filter",
    "no FEC": "decoder's concealment, no FEC",
    "FEC": "in-band FEC always",
    "PCM, silence": "no codec, silence",
}
LOSSES = [0, 1, 3, 5, 10, 20]
WIDE = {"opus": ["tandem", "no FEC", "FEC", "PCM, silence"], "g722": ["tandem", "one-sided", "repeat", "silence"]}


def write(root, report):
    """The plots, and the generated part of docs/audio.md."""
    folder = root / "docs" / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    plot_loss(report, folder / "loss.png")
    plot_wideband(report, folder / "wideband.png")
    plot_noise(report, folder / "noise.png")
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
            "### Loss with Opus",
            "PESQ wideband (MOS-LQO), Opus at 16 kHz, from one leg to another, packets of 20 ms. Tandem is told of the loss by RTCP and sends "
            "in-band error correction (FEC) from 2 % on, within the same 36 kbit/s. The columns beside it never and always send it. In "
            "brackets: standard deviation over clips and seeds.",
            scores(report, "opus", WIDE["opus"], spread=True),
            "### Loss with G.722",
            "As above; the gaps are concealed between the samples that were decoded.",
            scores(report, "g722", WIDE["g722"], spread=True),
            "![PESQ wideband against loss](quality/wideband.png)",
            "### Codecs",
            "The model's voice at the codec's rate, over two legs: PESQ wideband, Opus at 8 kHz narrowband (not to be compared with the "
            "others). The first two seeds only.",
            scores(report, "codecs"),
            "### Wideband without a codec",
            "PESQ wideband: the resampler alone.",
            scores(report, "wideband"),
            "### Where the caller's audio breaks off and goes on",
            "Power above 2 kHz in the 8 ms around the seam, in dB beside the same speech where it was not cut: more than 0 dB is a click. G.711; "
            "the mean, and what one seam in twenty exceeds. A hard cut at the same places beside it.",
            figures(report, "seams", 1),
            "### Noise around the caller",
            "PESQ narrowband beside the speech without noise, mu-law, by the noise and how far it is below the speech. `denoise` off and on.",
            scores(report, "noise"),
            "![PESQ in noise](quality/noise.png)",
            "### Level of the caller",
            "With `gain_control` at its defaults (to -24 dB, by 12 dB at most): where speech of a level comes to, lowest and highest of the voices in "
            "dB of overload, and what PESQ narrowband says of it, which levels both sides.",
            joined(figures(report, "level", 1), scores(report, "level")),
            f"An offset of 2,000 of 32,768 comes out {value(report, 'offset', 'offset of 2,000', 'left', 1)} dB beside what it was.",
            "### Comfort noise",
            "What a peer describes once (RFC 3389) and the model hears for 4 s, over the leg: the worst of four levels from -30 to -60 dBov, and of "
            "four octaves of a spectrum that falls. In dB.",
            figures(report, "comfort noise", 2),
            "### The echo of a loudspeaker",
            "The agent's voice comes back that much quieter, 20 to 400 ms late, with a room's reverberation of 300 ms and without. False: runs of nine "
            "seconds in which it was taken for the caller at least once. Found: callers who interrupt after 3 s, as loud as the agent, and are "
            "noticed within 800 ms, with the median of the time. In %, and ms.",
            figures(report, "echo", 0),
            "### The resampler",
            sweeps(report),
            "Beside others. dB at the end of the pass band up and down, the alias of 4.6 kHz, and PESQ narrowband of the way from 24 kHz to mu-law. "
            "The delay of soxr is what it keeps back of a stream in 20 ms chunks in the mean.",
            resamplers(report),
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


def figures(report, name, digits):
    found = [f for f in report["figures"] if f["table"] == name]
    rows = list(dict.fromkeys(f["row"] for f in found))
    columns = list(dict.fromkeys(f["column"] for f in found))
    known = {(f["row"], f["column"]): f["value"] for f in found}
    return table(
        ["", *(NAMES.get(column, column).replace("tandem", "Tandem").replace("hard", "hard cut") for column in columns)],
        [
            [row, *(number(known.get((row, column)), digits) for column in columns)]
            for row in rows
        ],
    )


def number(value, digits):
    # Rounded first, and + 0.0: there is no -0.0.
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def value(report, table_, row, column, digits):
    found = (f["value"] for f in report["figures"] if (f["table"], f["row"], f["column"]) == (table_, row, column))
    return number(next(found, None), digits)


def joined(left, right):
    """Two tables with the same rows as one."""
    cells = [line.split("|", 2)[2] for line in right.splitlines()]
    return "\n".join(line + cells[n] for n, line in enumerate(left.splitlines()))


def resamplers(report):
    pesq = {c["column"]: f"{c['pesq']:.3f}" for c in report["cells"] if (c["table"], c["row"]) == ("model voice", "24 kHz")}
    found = [f for f in report["figures"] if f["table"] == "resamplers"]
    columns = ["delay", "8 to 24: 3.4 kHz", "8 to 24: 3.6 kHz", "24 to 8: 3.4 kHz", "24 to 8: alias of 4.6 kHz"]
    known = {(f["row"], f["column"]): number(f["value"], 1) for f in found}
    rows = list(dict.fromkeys(f["row"] for f in found))
    return table(
        ["", "delay ms", *(f"{column}, dB" for column in columns[1:]), "24 kHz to mu-law"],
        [[NAMES.get(row, row), *(known.get((row, c), "-") for c in columns), pesq.get(row, "-")] for row in rows],
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


def plot_wideband(report, path):
    cells = {(c["table"], c["row"], c["column"]): c["pesq"] for c in report["cells"]}
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, dpi=100)
    for axis, (name, columns) in zip(axes, WIDE.items()):
        for column in columns:
            for shape, style in [("random", "-"), ("burst", ":")]:
                # The same colour for both shapes.
                color = f"C{columns.index(column)}"
                clean = shape == "random" and (name, "0 %", column) in cells
                points = [(0, cells[name, "0 %", column])] if clean else []
                points += [(p, cells[key]) for p in LOSSES if (key := (name, f"{p} % {shape}", column)) in cells]
                width = 2.5 if column == "tandem" else 1.2
                label = NAMES[column] if shape == "random" else None
                if points:
                    axis.plot(*zip(*points), marker="o", markersize=4, linewidth=width, linestyle=style, color=color, label=label)
        axis.set_title({"opus": "Opus at 16 kHz", "g722": "G.722"}[name])
        axis.set_xlabel("packets lost, %; dotted: in bursts")
        axis.set_xticks([0, 5, 10, 15, 20])
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right", fontsize=9)
    for row, least in quality_gate.OPUS.items():
        axes[0].plot(int(row.split(" % ")[0].removesuffix(" %")), least, marker="_", markersize=16, color="black", linestyle="none")
    axes[0].set_ylabel("PESQ wideband, MOS-LQO")
    axes[0].annotate("black bars: targets", (0.03, 0.04), xycoords="axes fraction", fontsize=9)
    save(figure, path)


def plot_noise(report, path):
    cells = {(c["row"], c["column"]): c["pesq"] for c in report["cells"] if c["table"] == "noise"}
    rows = list(dict.fromkeys(row for row, _ in cells))
    figure, axis = pyplot.subplots(figsize=(10, 3.6), dpi=100)
    for n, column in enumerate(["as it comes", "suppressed"]):
        places = [place + 0.4 * (n - 0.5) for place in range(len(rows))]
        axis.bar(places, [cells[row, column] for row in rows], width=0.38, label=column)
    axis.set_xticks(range(len(rows)), [row.replace(", ", "\n") for row in rows], fontsize=9)
    axis.set_ylim(1, 4.5)
    axis.set_ylabel("PESQ narrowband")
    axis.grid(alpha=0.3, axis="y")
    axis.legend(loc="upper left")
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
