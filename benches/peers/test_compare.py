#!/usr/bin/env python3
"""Tests of the comparison's own code on made-up results, in seconds and without engines:

    python3 benches/peers/test_compare.py
"""

import pathlib
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import compare
import report

# A worker that knows no engine: its answers take 1 and 3 and 2 microseconds.
FAKE = """
import sys
print("ready", "1.0", "none", sep="\\t", flush=True)
for line in sys.stdin:
    request = line.split()[0]
    answers = {"run": "ok\\t1000 3000 2000", "logits": "ok\\t0.5 -0.5", "input": "ok\\t"}
    print(answers.get(request, "error\\tunknown request"), flush=True)
"""


def cell(threads, tokens, **rounds):
    return {"threads": threads, "tokens": tokens, "rounds": rounds}


def made_up():
    cells = [
        cell(threads, tokens, filbert=[1e6 * tokens, 1.1e6 * tokens], tract=[9e6 * tokens] * 2)
        for threads in (1, 2)
        for tokens in (16, 32)
    ]
    for one in cells:
        one["rounds"]["rten-int8"] = [2e6 * one["tokens"], 4e6 * one["tokens"]]
    return {
        "date": "2000-01-01",
        "commit": "abc",
        "machine": {"cpu": "A & B <CPU>", "cores": 2, "system": "Linux"},
        "labels": {engine.name: engine.label for engine in compare.ENGINES},
        "settings": {"rounds": 2, "isa": None},
        "engines": {"tract": {"version": "1.0", "settings": "none"}},
        "left_out": {"rten": "has no switch"},
        "models": {
            "minilm": {
                "title": "MiniLM-L6",
                "source": "made up",
                "cells": cells,
                "logits": {"filbert": {"max": 0.25, "mean": 0.0125, "texts": 4}},
                "failed": {"openvino": "cannot read | the model"},
            }
        },
        "throughput": {
            "title": "MiniLM-L6",
            "texts": 100,
            "source": "sentences",
            "threads": 2,
            "variants": [
                {"engine": "filbert", "setting": "all", "rounds": [1e8]},
                {"engine": "rten-int8", "setting": "slow", "rounds": [4e8]},
                {"engine": "rten-int8", "setting": "fast", "rounds": [1.9e8, 2e8, 9e8]},
            ],
        },
        "cold": {
            "minilm": {
                "title": "MiniLM-L6",
                "tokens": 32,
                "longer": 128,
                "starts": 2,
                "engines": {
                    "filbert": {
                        "open": [2e5, 4e5],
                        "from_host": [2e6, 4e6],
                        "from_start": [3e6, 5e6],
                        "warm": [1e6, 1e6],
                        "private_kib": [2048, 4096],
                        "private_long_kib": [4096, 4096],
                    }
                },
            }
        },
    }


class Statistics(unittest.TestCase):
    def test_numbers_have_three_digits(self):
        values = {0.8471: "0.847", 12.34: "12.3", 9.996: "10.0", 248.4: "248", 1234: "1234"}
        for value, expected in values.items():
            self.assertEqual(report.significant(value), expected)

    def test_the_best_peer_is_never_filbert(self):
        one = cell(1, 16, filbert=[1], slow=[9], fast=[5])
        self.assertEqual(report.best_peer(one), "fast")
        self.assertIsNone(report.best_peer(cell(1, 16, filbert=[1])))

    def test_the_ratio_is_of_medians_and_its_spread_of_rounds(self):
        # In the second round another peer is the best one, but `a` is by its median.
        one = cell(1, 16, filbert=[1, 2, 1], a=[2, 8, 3], b=[4, 6, 4])
        self.assertEqual(report.ratio(one), (3, 2, 4))

    def test_without_filbert_or_a_peer_there_is_no_ratio(self):
        self.assertIsNone(report.ratio(cell(1, 16, filbert=[1])))
        self.assertIsNone(report.ratio(cell(1, 16, tract=[1])))


class Report(unittest.TestCase):
    def test_the_latency_table_has_medians_bests_and_ratios(self):
        results = made_up()
        lines = report.latency_table(results["models"]["minilm"], 1, results["labels"])
        self.assertEqual(lines[0], "| MiniLM-L6, 1 thread | 16 | 32 |")
        self.assertEqual(lines[2], "| Filbert int8 | 16.8 [16.0] | 33.6 [32.0] |")
        self.assertIn("| rten int8 | **48.0** [32.0] | **96.0** [64.0] |", lines)
        self.assertTrue(lines[-1].endswith("| **2.86** (2.00–3.64) | **2.86** (2.00–3.64) |"))

    def test_an_engine_that_is_absent_from_a_cell_has_a_dash(self):
        results = made_up()
        model = results["models"]["minilm"]
        del model["cells"][0]["rounds"]["tract"]
        lines = report.latency_table(model, 1, results["labels"])
        self.assertTrue(any(line.startswith("| tract float32 | – | ") for line in lines))

    def test_throughput_is_that_of_the_best_variant(self):
        results = made_up()
        lines = report.throughput_table(results["throughput"], results["labels"])
        self.assertIn("| Filbert int8 | 1000 [1000] | all |", lines)
        self.assertIn("| rten int8 | 500 [526] | fast |", lines)

    def test_the_report_says_what_was_left_out(self):
        text = report.markdown(made_up())
        self.assertIn("- rten float32: has no switch", text)
        self.assertIn("- OpenVINO float32, MiniLM-L6: cannot read", text)
        self.assertIn("| Filbert int8 | 0.300 | 3.00 | 4.00 | 3.00 | 3.00 | 4.00 |", text)

    def test_the_plot_is_xml_with_a_line_for_each_engine_and_panel(self):
        root = xml.etree.ElementTree.fromstring(report.svg(made_up()))
        paths = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path")]
        lines = [path for path in paths if "L" in path]
        self.assertEqual(len(lines), 2 * 3)

    def test_one_length_and_one_value_can_be_plotted(self):
        results = made_up()
        model = results["models"]["minilm"]
        model["cells"] = [cell(1, 16, filbert=[1e6])]
        xml.etree.ElementTree.fromstring(report.svg(results))
        model["cells"] = [cell(1, 16, tract=[1e6])]
        self.assertIsNone(report.svg(results))

    def test_ticks_enclose_the_values(self):
        self.assertEqual(report.ticks(0.8, 3.5), [0.7, 1, 1.5, 2, 3, 4])
        self.assertEqual(report.ticks(1, 1), [1])


class Workers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = pathlib.Path(folder.name) / "log"

    def start(self, program):
        worker = compare.Worker([sys.executable, "-c", program], {}, self.log)
        self.addCleanup(worker.close)
        return worker

    def state(self, worker):
        stat = pathlib.Path(f"/proc/{worker.process.pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0]

    def test_a_worker_answers_and_is_stopped_otherwise(self):
        worker = self.start(FAKE)
        self.assertEqual(worker.receive(), ["1.0", "none"])
        self.assertEqual(worker.ask("run", "a", 1, 3, 0), ["1000", "3000", "2000"])
        self.assertEqual(worker.ask("input", "a", "text", "1 2"), [])
        end = time.monotonic() + 10
        while self.state(worker) != "T" and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(self.state(worker), "T")
        with self.assertRaisesRegex(compare.Failure, "unknown request"):
            worker.ask("nonsense")
        self.assertEqual(worker.ask("logits", "a"), ["0.5", "-0.5"])

    def test_a_worker_that_dies_is_reported_with_its_last_words(self):
        worker = self.start("raise SystemExit('no such model')")
        with self.assertRaisesRegex(compare.Failure, "ended with code 1: no such model"):
            worker.receive()

    def test_a_worker_that_is_not_there_is_reported(self):
        with self.assertRaisesRegex(compare.Failure, "cannot start: .*/no/such/worker"):
            compare.Worker(["/no/such/worker"], {}, self.log)

    def test_a_worker_that_is_silent_is_given_up(self):
        worker = self.start("import time; time.sleep(60)")
        with self.assertRaisesRegex(compare.Failure, "no answer in 0.1 s"):
            worker.receive(0.1)


class Preparation(unittest.TestCase):
    def test_a_target_is_made_once_for_each_key_and_again_when_it_is_gone(self):
        with tempfile.TemporaryDirectory() as folder:
            target, made = pathlib.Path(folder) / "model", []

            def write():
                made.append(1)
                target.write_text("made")

            for key in ("a", "a", "b"):
                compare.make(target, key, write)
            self.assertEqual(len(made), 2)
            target.unlink()
            compare.make(target, "b", write)
            self.assertEqual(len(made), 3)

    def test_every_file_that_an_engine_opens_is_one_that_its_maker_makes(self):
        for engine in compare.ENGINES:
            if engine.made_by:
                program, variant = engine.made_by
                source = (compare.HERE / program).read_text()
                self.assertIn(f'"{variant}": "{engine.file}"', source)

    def test_the_options_are_read(self):
        options = compare.parse_options(["--models", "distilbert", "--tokens", "64,16", "--cold"])
        self.assertEqual(options.tokens, [16, 64])
        self.assertEqual(options.parts, ["latency", "throughput", "cold"])


if __name__ == "__main__":
    unittest.main()
