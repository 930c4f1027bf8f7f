"""What other ways to change the sample rate do to sines, beside what the sweeps say of Tandem's."""

import numpy
import soxr

SOXR = ["LQ", "MQ", "HQ", "VHQ"]
# The chunk in which audio comes, and how long the sines are: seconds.
CHUNK, LENGTH = 0.02, 0.3
AMPLITUDE = 20_000.0


def figures(sweeps):
    """The rows of the table, as cells without PESQ."""
    rows = [("tandem", *tandem(sweeps))]
    rows.append(("linear", 0.1, gain(linear, 8, 24, 3_400), gain(linear, 8, 24, 3_600), None, None))
    for name, width in [("mean of samples", 3), ("samples picked", 1)]:
        down = lambda pcm, _, __, width=width: pcm[: len(pcm) // 3 * 3].reshape(-1, 3)[:, :width].mean(axis=1)  # noqa: E731
        rows.append((name, (width - 1) / 48, None, None, gain(down, 24, 8, 3_400), gain(down, 24, 8, 4_600, 3_400)))
    for quality in SOXR:
        convert = lambda pcm, of, to, quality=quality: soxr.resample(pcm, of, to, quality=quality)  # noqa: E731
        up = [gain(convert, 8, 24, hz) for hz in (3_400, 3_600)]
        down = [gain(convert, 24, 8, 3_400), gain(convert, 24, 8, 4_600, 3_400)]
        rows.append((f"soxr {quality}", withheld(quality), *up, *down))
    columns = ["delay", "8 to 24: 3.4 kHz", "8 to 24: 3.6 kHz", "24 to 8: 3.4 kHz", "24 to 8: alias of 4.6 kHz"]
    return [
        {"table": "resamplers", "row": row, "column": column, "value": round(float(value), 4), "unit": "ms" if column == "delay" else "dB", "tolerance": 0.0}
        for row, *values in rows
        for column, value in zip(columns, values)
        if value is not None
    ]


def tandem(sweeps):
    found = {(sweep["from"], sweep["to"]): sweep for sweep in sweeps}
    up, down = (found.get(pair) for pair in ((8_000, 24_000), (24_000, 8_000)))
    if not up or not down:
        return [None] * 5
    # Images have the frequency they appear at; aliases have that of the sine they come from.
    up_at, down_at = ({hz: level for hz, level in reversed(sweep["response"])} for sweep in (up, down))
    return [max(up["delay_ms"], down["delay_ms"]), up_at[3_400], up_at[3_600], down_at[3_400], down_at[4_600]]


def linear(pcm, of, to):
    places = numpy.arange(len(pcm) * to // of) * (of / to)
    return numpy.interp(places, numpy.arange(len(pcm)), pcm)


def gain(convert, of, to, hz, heard_at=None):
    """How loud a sine of `hz` comes out, in dB; where it folds to another frequency, how loud that is."""
    of, to, heard_at = of * 1_000, to * 1_000, heard_at or hz
    sine = AMPLITUDE * numpy.sin(2 * numpy.pi * hz * numpy.arange(int(of * LENGTH)) / of)
    out = convert(sine, of, to)
    # From 50 to 250 ms: whole periods of each sine.
    places = numpy.arange(to // 20, to // 4)
    found = 2 * numpy.mean(out[places] * numpy.exp(-2j * numpy.pi * heard_at * places / to))
    return 20 * numpy.log10(max(abs(found), 1e-6) / AMPLITUDE)


def withheld(quality):
    """Milliseconds of audio that a stream of 20 ms chunks, 24 to 8 kHz, keeps back in the mean."""
    stream = soxr.ResampleStream(24_000, 8_000, 1, dtype="float64", quality=quality)
    balance, kept = 0.0, []
    for _ in range(500):
        chunk = numpy.zeros(int(24_000 * CHUNK))
        balance += len(chunk) / 24_000 - len(stream.resample_chunk(chunk)) / 8_000
        kept.append(balance)
    return numpy.mean(kept[50:]) * 1_000
