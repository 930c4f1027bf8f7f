"""Tests of what makes the quality report fail. They need nothing but Python: python3 scripts/quality_test.py"""

import copy
import unittest

import quality_gate as gate


def report():
    """A report that meets every target."""

    def cell(table, row, column, pesq):
        pairs = [{"clip": clip, "seed": seed, "pesq": pesq} for clip in ("a", "b") for seed in (1, 2)]
        return {"table": table, "row": row, "column": column, "pesq": pesq, "pairs": pairs}

    made = {
        "speech": "espeak-ng 1.51",
        "clips": [{"name": "a", "sha256": "1"}, {"name": "b", "sha256": "2"}],
        "measured_with": ["pesq==0.0.4"],
        "cells": [cell("loss", row, "tandem", 3.5) for row in gate.LOSS]
        + [cell("model voice", "24 kHz", "tandem", 4.0), cell("model voice", "24 kHz", "soxr VHQ", 4.005)],
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
        self.assertEqual(len(gate.compare(report(), self.baseline).compared), 6)

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

    def test_clips_that_sound_otherwise_are_left_out_and_named(self):
        made = report()
        made["clips"][0]["sha256"] = "other"
        for cell in made["cells"]:
            for pair in cell["pairs"]:
                if pair["clip"] == "a":
                    pair["pesq"] -= 0.1
        comparison = gate.compare(made, self.baseline)
        self.assertEqual((len(comparison.compared), comparison.worse), (6, []))
        self.assertIn("a", comparison.reason)
        made["clips"][1]["sha256"] = "other"
        self.assertEqual(gate.compare(made, self.baseline).compared, [])

    def test_other_versions_are_not_compared(self):
        made = copy.deepcopy(report())
        made["measured_with"] = ["pesq==0.0.5"]
        comparison = gate.compare(made, self.baseline)
        self.assertTrue(comparison.reason and not comparison.compared)

    def test_what_is_not_there_yet_is_listed_and_does_not_fail(self):
        unmeasured = [t for t in report()["targets"] if t["met"] is None]
        self.assertIn("Q4", [t["number"] for t in unmeasured])
        self.assertTrue(all(t["measured"].startswith("not measured: ") for t in unmeasured))


if __name__ == "__main__":
    unittest.main()
