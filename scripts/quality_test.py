"""Tests of what makes the quality report fail. They need nothing but Python: python3 scripts/quality_test.py"""

import copy
import unittest

import quality_gate as gate


def report():
    """A report that meets every target."""

    def cell(table, row, column, pesq):
        pairs = [{"clip": clip, "seed": seed, "pesq": pesq} for clip in ("a", "b") for seed in (1, 2)]
        return {"table": table, "row": row, "column": column, "pesq": pesq, "pairs": pairs}

    def figure(table, row, column, value, tolerance):
        return {"table": table, "row": row, "column": column, "value": value, "unit": "dB", "tolerance": tolerance}

    made = {
        "speech": "espeak-ng 1.51",
        "clips": [{"name": "a", "sha256": "1"}, {"name": "b", "sha256": "2"}],
        "measured_with": ["pesq==0.0.4"],
        "cells": [cell("loss", row, "tandem", 3.5) for row in gate.LOSS]
        + [cell("opus", row, "tandem", 4.3) for row in gate.OPUS]
        + [cell("model voice", "24 kHz", "tandem", 4.0), cell("model voice", "24 kHz", "soxr VHQ", 4.005)],
        "figures": [figure(*key, most - 0.5, 0.5) for _, key, most in gate.FIGURES]
        + [figure("echo", "-20 dB", "found", 99.0, -3.0), figure("seams", "dry", "hard, mean", 9.0, 0.0)],
        "libopus": {"version": "1.6.1", "passed": 5, "tests": 5, "reason": ""},
        "facts": [{"name": "bit for bit", "holds": True}],
        "sweeps": [{"ripple_db": 0.07, "rejection_db": 82.0, "delay_ms": 1.96}],
    }
    made["targets"] = gate.targets(made)
    return made


def score(made, row, column, pesq):
    cell = next(c for c in made["cells"] if (c["row"], c["column"]) == (row, column))
    cell["pesq"] = pesq
    for pair in cell["pairs"]:
        pair["pesq"] = pesq


def failures(made, baseline):
    made["targets"] = gate.targets(made)
    return gate.failures(made, gate.compare(made, baseline))


class Gate(unittest.TestCase):
    def setUp(self):
        self.baseline = gate.baseline_of(report())

    def test_the_same_again_passes(self):
        self.assertEqual(failures(report(), self.baseline), [])
        self.assertEqual(len(gate.compare(report(), self.baseline).compared), 8)

    def test_a_drop_beyond_the_tolerance_fails_though_the_target_is_met(self):
        for score_now, count in [(3.46, 0), (3.44, 1), (4.0, 0)]:
            made = report()
            score(made, "5 % random", "tandem", score_now)
            self.assertEqual(len(failures(made, self.baseline)), count, score_now)

    def test_a_missed_target_fails_without_any_baseline(self):
        for change in [
            lambda made: score(made, "10 % burst", "tandem", 2.54),
            lambda made: score(made, "24 kHz", "tandem", 3.99),
            lambda made: made["facts"][0].update(holds=False),
            lambda made: made["sweeps"][0].update(ripple_db=0.11),
            lambda made: made["sweeps"][0].update(rejection_db=79.9),
            lambda made: made["sweeps"][0].update(delay_ms=2.01),
            lambda made: made["sweeps"].clear(),
            lambda made: made["cells"].pop(0),
            lambda made: score(made, "0 %", "tandem", 4.25),
            lambda made: made["figures"][0].update(value=1.01),
            lambda made: made["figures"].pop(0),
            lambda made: made["libopus"].update(passed=4),
            lambda made: made["libopus"].update(passed=0, tests=0),
        ]:
            made = report()
            change(made)
            self.assertGreaterEqual(len(failures(made, None)), 1)

    def test_a_cell_or_clip_that_is_no_longer_measured_fails(self):
        # A row that is no target.
        self.baseline["cells"].append({**self.baseline["cells"][0], "row": "1 % random"})
        self.assertEqual(len(failures(report(), self.baseline)), 1)
        made = report()
        made["cells"][0]["pairs"] = made["cells"][0]["pairs"][:2]
        self.assertEqual(len(failures(made, gate.baseline_of(report()))), 1)

    def test_a_figure_that_became_worse_fails_on_the_side_where_worse_is(self):
        for row, value, count in [("-20 dB", 95.9, 1), ("-20 dB", 96.1, 0), ("-20 dB", 100.0, 0), ("dry", 30.0, 0)]:
            made = report()
            next(f for f in made["figures"] if f["row"] == row)["value"] = value
            self.assertEqual(len(failures(made, self.baseline)), count, value)
        made = report()
        made["figures"][0]["value"] += 0.49
        self.assertEqual(failures(made, self.baseline), [])
        made["figures"] = [f for f in made["figures"] if f["row"] != "-20 dB"]
        self.assertEqual(len(failures(made, self.baseline)), 1)

    def test_libopus_that_was_not_tested_is_said_and_does_not_fail(self):
        for tests in [None, {"version": "1.6.1", "passed": 0, "tests": 0, "reason": "no cmake"}]:
            made = report()
            made["libopus"] = tests
            self.assertEqual(failures(made, self.baseline), [])
            self.assertIn("libopus passes its own tests", [t["asks"] for t in made["targets"] if t["met"] is None])

    def test_clips_that_sound_otherwise_are_left_out_and_named(self):
        made = report()
        made["clips"][0]["sha256"] = "other"
        for cell in made["cells"]:
            for pair in cell["pairs"]:
                if pair["clip"] == "a":
                    pair["pesq"] -= 0.1
        comparison = gate.compare(made, self.baseline)
        self.assertEqual((len(comparison.compared), comparison.worse), (8, []))
        self.assertIn("a", comparison.reason)
        made["clips"][1]["sha256"] = "other"
        self.assertEqual(gate.compare(made, self.baseline).compared, [])

    def test_other_versions_are_not_compared(self):
        made = copy.deepcopy(report())
        made["measured_with"] = ["pesq==0.0.5"]
        comparison = gate.compare(made, self.baseline)
        self.assertTrue(comparison.reason and not comparison.compared)

    def test_what_is_not_measured_is_listed_and_does_not_fail(self):
        unmeasured = [t for t in report()["targets"] if t["met"] is None]
        self.assertEqual(len(unmeasured), len(gate.NOT_MEASURED))
        self.assertTrue(all(t["measured"].startswith("not measured: ") for t in unmeasured))


if __name__ == "__main__":
    unittest.main()
