#!/usr/bin/env python3
"""Measures Filbert beside other engines. `run` prepares everything and calls this.

Every engine, model and number of threads is a process of its own, with its model open before
anything is measured. In each round, for each number of tokens, one engine after another gets
a slice: calls that are not timed, then calls that are. All other processes are stopped by a
signal meanwhile, so that threads which spin or wake up take nothing from the one that is
measured. Standard library only.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import report
from report import FILBERT, median

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target" / "peers"
SHARED = pathlib.Path(os.environ.get("FILBERT_SHARED") or ROOT.parent / "shared")
RUST = ROOT / "target" / "release"
RUST_NATIVE = TARGET / "cargo-native" / "release"

# Float32 engines compute the same function, so they agree but for rounding.
FLOAT_TOLERANCE = 1e-3
# No engine's int8 is this far off with the right weights, at most and on average; the real
# differences are reported.
INT8_TOLERANCE, INT8_MEAN_TOLERANCE = 2.0, 0.5
REFERENCE = "onnxruntime"

ANSWER_SECONDS = 600


@dataclasses.dataclass
class Engine:
    name: str
    label: str
    # The worker: a Python file and its variant, or a Rust program.
    program: str
    variant: str
    # The model's file or folder, in the folder of the model.
    file: str
    # The Python file and variant that make that file, or None: Filbert's converter makes it.
    made_by: tuple | None
    # What holds it to AVX2, or None where nothing does.
    avx2: dict | None
    # Made ready for each length on its own, which takes it long.
    by_length: bool = False

    @property
    def int8(self):
        return self.name == FILBERT or "int8" in self.name

    @property
    def python(self):
        return self.program.endswith(".py")

    def command(self, folder, threads, streams):
        tail = [str(folder / self.file), str(threads), str(streams)]
        if self.python:
            python = str(TARGET / "venv" / "bin" / "python")
            return [python, str(HERE / self.program), self.variant, *tail]
        folder = RUST if self.name == FILBERT else RUST_NATIVE
        return [str(folder / self.program), *tail]


ONEDNN = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}
CT2 = {"CT2_FORCE_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", **ONEDNN}
TRACT = {
    "TRACT_CPU_ISA": "-avx512f,-avx512vnni,-avx512fp16,-avxvnni,-amx-int8,-amx-bf16"
}
ORT_INT8 = ("onnx_runtime.py", "int8")
NNCF = ("openvino_engine.py", "int8")
ENGINES = [
    Engine(FILBERT, "Filbert int8", "filbert_worker", "", "model.filbert", None,
           {"FILBERT_ISA": "avx2"}),
    Engine("onnxruntime-int8", "ONNX Runtime int8", "onnx_runtime.py", "int8",
           "onnxruntime-int8.onnx", ORT_INT8, None),
    Engine("onnxruntime-int8-fused", "ONNX Runtime int8, fused", "onnx_runtime.py", "fused-int8",
           "onnxruntime-fused-int8.onnx", ("onnx_runtime.py", "fused-int8"), None),
    Engine("openvino-int8", "OpenVINO int8 (NNCF)", "openvino_engine.py", "int8",
           "openvino-int8.xml", NNCF, ONEDNN),
    Engine("openvino-int8-fixed", "OpenVINO int8, fixed length", "openvino_engine.py",
           "fixed-int8", "openvino-int8.xml", NNCF, ONEDNN, True),
    Engine("ctranslate2-int8", "CTranslate2 int8", "ctranslate2_engine.py", "int8",
           "ctranslate2-int8", ("ctranslate2_engine.py", "int8"), CT2),
    Engine("rten-int8", "rten int8", "rten_worker", "",
           "onnxruntime-int8.onnx", ORT_INT8, None),
    Engine("onnxruntime", "ONNX Runtime float32", "onnx_runtime.py", "float32",
           "model.onnx", None, None),
    Engine("openvino", "OpenVINO float32", "openvino_engine.py", "float32",
           "model.onnx", None, ONEDNN),
    Engine("ctranslate2", "CTranslate2 float32", "ctranslate2_engine.py", "float32",
           "ctranslate2-float32", ("ctranslate2_engine.py", "float32"), CT2),
    Engine("rten", "rten float32", "rten_worker", "",
           "copy.onnx", ("onnx_runtime.py", "copy"), None),
    Engine("tract", "tract float32", "tract_worker", "", "model.onnx", None, TRACT, True),
]
BY_NAME = {engine.name: engine for engine in ENGINES}

TITLES = {"minilm": "MiniLM-L6", "distilbert": "DistilBERT", "bert-base": "BERT-base"}


class Failure(Exception):
    """What an engine could not do."""


class Worker:
    """A process that has a model open. It is stopped whenever it is not asked anything."""

    # All that are not closed: a stopped process would outlive this one.
    running = set()

    def __init__(self, command, environment, log):
        self.log = log
        try:
            with open(log, "ab") as errors:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, **environment},
                )
        except OSError as error:
            raise Failure(f"cannot start: {error}") from error
        self.pending = b""
        Worker.running.add(self)

    def send(self, *fields):
        try:
            self.process.stdin.write(("\t".join(map(str, fields)) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The end of its output says why.

    def receive(self, seconds=ANSWER_SECONDS):
        """The fields of the next answer after its first word."""
        end = time.monotonic() + seconds
        while b"\n" not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failure(f"no answer in {seconds} s")
            read = os.read(self.process.stdout.fileno(), 1 << 20)
            if not read:
                raise Failure(f"ended with code {self.process.wait()}{self.last_words()}")
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        word, *fields = line.decode().split("\t")
        if word == "error":
            raise Failure(fields[0] if fields else "an error without a message")
        return fields

    def last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    def ask(self, *fields):
        self.process.send_signal(signal.SIGCONT)
        try:
            self.send(*fields)
            (values,) = self.receive()
            return values.split()
        finally:
            self.pause()

    def pause(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)

    def close(self):
        Worker.running.discard(self)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# Preparing models.


def digest(*paths_and_texts):
    total = hashlib.sha256()
    for item in paths_and_texts:
        if isinstance(item, pathlib.Path):
            with open(item, "rb") as file:
                item = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(item.encode() + b"\0")
    return total.hexdigest()


def make(target, key, function):
    """Calls the function, which makes the target, unless it did so before from the same."""
    note = target.with_name(target.name + ".made-from")
    if target.exists() and note.exists() and note.read_text() == key:
        return
    note.unlink(missing_ok=True)
    function()
    note.write_text(key)


def command(*words, log):
    with open(log, "ab") as output:
        done = subprocess.run(list(map(str, words)), stdout=output, stderr=output)
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise Failure(f"{pathlib.Path(words[0]).name}: {lines[-1][:300]}")


WORDS = (
    "the a of and to in is that it was for on with as by at from this have not are but had "
    "one they you were all she there would their we him been has when who will more no out "
    "so said what up its about than into them can only other new some time could these two "
    "may then do first any my now such like our over man me even most made after also did "
    "many before must through years where much your way well down should because each just "
    "those people too state good very make world still own see men work long here get both "
    "between life being under never day same another know while last might us great old year "
    "off come since against go came right used take three film story actor scene music"
).split() + [f"word{number}" for number in range(500)]


class Texts:
    """Texts of known length, made of words that are one token each for the model's own
    tokenizer, and real sentences where there are any."""

    def __init__(self, worker):
        self.worker = worker
        (_, unknown, _) = self.ids("\u2603")
        words = [(word, self.ids(word)) for word in WORDS]
        self.words = [word for word, ids in words if len(ids) == 3 and ids[1] != unknown]
        self.real = "the" in self.words

    def ids(self, text):
        return self.worker.ask("tokenize", text)

    def of_length(self, tokens, seed):
        random_words = random.Random(f"{tokens} {seed}")
        text = " ".join(random_words.choice(self.words) for _ in range(tokens - 2))
        ids = self.ids(text)
        if len(ids) != tokens:
            raise Failure(f"a text of {tokens} tokens has {len(ids)}")
        return text, ids

    def ragged(self, count, part):
        """Sentences and where they are from: median 20 tokens and 85 at most, or nearly so."""
        corpus = SHARED / "data" / "sst2" / f"{part}.tsv"
        if self.real and corpus.exists():
            with open(corpus, encoding="utf-8") as lines:
                texts = [line.split("\t")[0].strip() for line in lines][1:]
            chosen = random.Random(1).sample(texts, count)
            return [(text, self.ids(text)) for text in chosen], f"sentences of SST-2 {part}"
        lengths = random.Random(part)
        spread = [
            min(85, max(4, round(math.exp(lengths.gauss(math.log(20), 0.55)))))
            for _ in range(count)
        ]
        made = [self.of_length(tokens, seed) for seed, tokens in enumerate(spread)]
        return made, "generated sentences"


def write_texts(path, texts):
    lines = [f"{text}\t{' '.join(ids)}\n" for text, ids in texts]
    path.write_text("".join(lines), encoding="utf-8")


class Model:
    """A model on disk, in the form of every engine that can have it."""

    def __init__(self, name, engines, options):
        self.name = name
        self.options = options
        self.folder = TARGET / "models" / name
        self.log = self.folder / "prepare.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failed = {}
        self.prepare_checkpoint()
        self.convert()
        self.filbert = start(BY_NAME[FILBERT], self, 1, 1)[0]
        self.texts = Texts(self.filbert)
        calibration, self.calibrated_on = self.texts.ragged(
            300 if self.texts.real else 100, "train"
        )
        write_texts(self.folder / "calibration.tsv", calibration)
        made_from = digest(
            self.folder / "model.onnx",
            self.folder / "calibration.tsv",
            HERE / "requirements.txt",
        )
        for engine in engines:
            if engine.made_by:
                self.prepare(engine, made_from)

    def prepare_checkpoint(self):
        checkpoint = self.folder / "checkpoint"
        real = SHARED / "models" / "minilm-sst2"
        if self.name == "minilm" and (real / "model.safetensors").exists():
            self.source = "all-MiniLM-L6 fine-tuned on SST-2"
            if not checkpoint.is_symlink() or checkpoint.resolve() != real.resolve():
                remove(checkpoint)
                checkpoint.symlink_to(real.resolve())
            return
        self.source = "random weights of its shape"
        writer = RUST / "write_checkpoint"

        def write():
            remove(checkpoint)
            command(writer, self.name, checkpoint, log=self.log)

        if checkpoint.is_symlink():
            remove(checkpoint)
        sources = (ROOT / "convert/src/synthetic.rs", HERE / "src/bin/write_checkpoint.rs")
        make(checkpoint, digest(*sources), write)

    def convert(self):
        program = RUST / "filbert"
        onnx, output = self.folder / "model.onnx", self.folder / "model.filbert"
        key = digest(program, self.folder / "checkpoint" / "model.safetensors")
        say(f"{self.name}: {self.source}")
        words = (program, "convert", self.folder / "checkpoint", "--onnx", onnx, "-o", output)
        make(output, key, lambda: command(*words, log=self.log))

    def prepare(self, engine, made_from):
        program, variant = engine.made_by
        script = HERE / program
        python = TARGET / "venv" / "bin" / "python"

        def run():
            say(f"{self.name}: making {engine.file}")
            command(python, script, "prepare", variant, self.folder, log=self.log)

        try:
            make(self.folder / engine.file, digest(made_from, script), run)
        except Failure as failure:
            self.failed[engine.name] = f"cannot prepare the model: {failure}"


def remove(path):
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def start(engine, model, threads, streams):
    """A worker that is ready, and its version, its settings and what its host took."""
    environment = {}
    if model.options.isa:
        environment = engine.avx2 or {}
    logs = TARGET / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    worker = Worker(
        engine.command(model.folder, threads, streams),
        environment,
        logs / f"{model.name}-{engine.name}.log",
    )
    try:
        ready = worker.receive()
    except Failure:
        worker.close()
        raise
    worker.pause()
    return worker, ready


# Measuring.


class Comparison:
    def __init__(self, options, engines):
        self.options = options
        self.engines = engines
        self.results = {
            "date": datetime.date.today().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "labels": {engine.name: engine.label for engine in ENGINES},
            "settings": {
                "rounds": options.rounds,
                "isa": options.isa,
                "slice_calls": options.calls,
                "slice_milliseconds": options.milliseconds,
                "environment": {
                    engine.name: engine.avx2 for engine in engines if options.isa
                },
            },
            "engines": {},
            "models": {},
            "left_out": {},
        }

    def note(self, engine, ready):
        version, settings = ready[:2]
        self.results["engines"][engine.name] = {
            "version": version or locked_version(engine),
            "settings": settings,
        }

    def measure(self, name):
        options = self.options
        model = Model(name, self.engines, options)
        texts = [(f"{tokens}", *model.texts.of_length(tokens, 0)) for tokens in options.tokens]
        checks, _ = model.texts.ragged(options.checks, "dev")
        checks = [(f"check {number}", *check) for number, check in enumerate(checks)]
        result = {
            "title": TITLES[name],
            "source": f"{model.source}; OpenVINO calibrated on {model.calibrated_on}",
            "cells": [],
            "logits": {},
            "failed": model.failed,
        }
        self.results["models"][name] = result
        reference = self.reference(model, texts + checks)
        for threads in options.threads if "latency" in options.parts else []:
            workers = self.start_all(model, threads, texts)
            try:
                # The logits do not depend on the number of threads, but prove it.
                self.check(model, workers, texts, checks, reference, result)
                result["cells"] += self.rounds(model, workers, texts, threads)
            finally:
                for worker in workers.values():
                    worker.close()
            self.save()
        if name == "minilm" and "throughput" in options.parts:
            self.throughput(model)
        if "cold" in options.parts:
            self.cold(model)
        model.filbert.close()
        self.save()

    def reference(self, model, texts):
        worker, _ = start(BY_NAME[REFERENCE], model, 1, 1)
        try:
            for text in texts:
                worker.ask("input", *text[:2], " ".join(text[2]))
            return {
                text[0]: list(map(float, worker.ask("logits", text[0]))) for text in texts
            }
        finally:
            worker.close()

    def start_all(self, model, threads, texts):
        """The workers that could open the model and take every text, by name."""
        workers = {}
        for engine in self.engines:
            if engine.name in model.failed:
                continue
            worker = None
            try:
                worker, ready = start(engine, model, threads, 1)
                self.note(engine, ready)
                for text in texts:
                    worker.ask("input", *text[:2], " ".join(text[2]))
            except Failure as failure:
                self.fail(model, engine, failure)
                if worker:
                    worker.close()
                continue
            workers[engine.name] = worker
        return workers

    def fail(self, model, engine, failure):
        if engine.name == FILBERT:
            raise SystemExit(f"{model.name}: Filbert: {failure}")
        say(f"{model.name}: {engine.label}: {failure}")
        model.failed[engine.name] = str(failure)

    def check(self, model, workers, texts, checks, reference, result):
        """Compares logits; fails for the wrong function, and reports the rest."""
        for name, worker in workers.items():
            mine = texts if BY_NAME[name].by_length else texts + checks
            differences = []
            for text in mine:
                if text in checks:
                    worker.ask("input", *text[:2], " ".join(text[2]))
                found = list(map(float, worker.ask("logits", text[0])))
                expected = reference[text[0]]
                if len(found) != len(expected):
                    raise SystemExit(f"{model.name}: {name} gives {len(found)} logits")
                differences += [abs(a - b) for a, b in zip(found, expected)]
            largest, mean = max(differences), sum(differences) / len(differences)
            known = result["logits"].get(name, {"max": 0})
            if largest >= known["max"]:
                result["logits"][name] = {"max": largest, "mean": mean, "texts": len(mine)}
            limits = (FLOAT_TOLERANCE, FLOAT_TOLERANCE)
            if BY_NAME[name].int8:
                limits = (INT8_TOLERANCE, INT8_MEAN_TOLERANCE)
            # Written so that NaN fails.
            if not (largest <= limits[0] and mean <= limits[1]):
                raise SystemExit(
                    f"{model.name}: the logits of {BY_NAME[name].label} are {largest:.3g} from "
                    f"ONNX Runtime float32, {mean:.3g} on average; allowed are "
                    f"{limits[0]} and {limits[1]}"
                )

    def rounds(self, model, workers, texts, threads):
        options = self.options
        cells = {
            text[0]: {
                "threads": threads,
                "tokens": int(text[0]),
                "rounds": {name: [] for name in workers},
                "calls": {name: [] for name in workers},
            }
            for text in texts
        }
        for number in range(options.rounds):
            say(f"{model.name}, {report.times(threads, 'thread')}: round {number + 1}")
            # Each round begins with another engine.
            order = list(workers)
            shift = number % len(order)
            order = order[shift:] + order[:shift]
            for text in texts:
                warm = 2 if int(text[0]) <= 128 else 1
                for name in order:
                    if name in model.failed:
                        continue
                    try:
                        times = workers[name].ask(
                            "run", text[0], warm, options.calls, options.milliseconds
                        )
                    except Failure as failure:
                        self.fail(model, BY_NAME[name], failure)
                        continue
                    times = list(map(int, times))
                    cells[text[0]]["rounds"][name].append(median(times))
                    cells[text[0]]["calls"][name].append(len(times))
        for cell in cells.values():
            for name in model.failed:
                cell["rounds"].pop(name, None)
                cell["calls"].pop(name, None)
        return list(cells.values())

    def throughput(self, model):
        """All texts as fast as can be, with each way to batch them."""
        options = self.options
        texts, source = model.texts.ragged(options.texts, "dev")
        path = model.folder / "throughput.tsv"
        write_texts(path, texts)
        threads = max(options.threads)
        variants = []
        workers = []
        try:
            for engine in self.engines:
                if engine.name in model.failed or engine.by_length or not engine.int8:
                    continue
                # All threads on one call, or calls of one thread each, side by side.
                ways = [(threads, 1)]
                if engine.name != FILBERT and threads > 1:
                    ways.append((1, threads))
                for way in ways:
                    try:
                        worker, ready = start(engine, model, *way)
                    except Failure as failure:
                        self.fail(model, engine, failure)
                        continue
                    self.results["engines"].setdefault(
                        engine.name,
                        {"version": ready[0] or locked_version(engine), "settings": ready[1]},
                    )
                    workers.append(worker)
                    batches = [len(texts)] if engine.name == FILBERT else [1, 8, 32]
                    for batch in batches:
                        setting = describe(engine, way, batch)
                        variant = {"engine": engine.name, "setting": setting, "rounds": []}
                        variants.append((worker, batch, variant))
            for number in range(options.rounds):
                say(f"{model.name}, throughput: round {number + 1}")
                for worker, batch, variant in variants:
                    (nanoseconds,) = worker.ask("throughput", path, batch)
                    variant["rounds"].append(int(nanoseconds))
        finally:
            for worker in workers:
                worker.close()
        self.results["throughput"] = {
            "title": TITLES[model.name],
            "texts": len(texts),
            "source": source,
            "threads": threads,
            "variants": [variant for _, _, variant in variants],
        }

    def cold(self, model):
        """From the start of a process to its first answer, and on to a longer text."""
        tokens, longer = 32, 128
        text, long_text = model.texts.of_length(tokens, 0), model.texts.of_length(longer, 0)
        found = {}
        # The first start of each only brings its files into the page cache.
        for number in range(self.options.starts + 1):
            say(f"{model.name}, cold start: {number} of {self.options.starts}")
            for engine in self.engines:
                if engine.name in model.failed:
                    continue
                try:
                    sample = cold_start(engine, model, text, long_text)
                except Failure as failure:
                    self.fail(model, engine, failure)
                    found.pop(engine.name, None)
                    continue
                if number == 0:
                    found[engine.name] = {key: [] for key in sample}
                else:
                    for key, value in sample.items():
                        found[engine.name][key].append(value)
        self.results.setdefault("cold", {})[model.name] = {
            "title": TITLES[model.name],
            "tokens": tokens,
            "longer": longer,
            "starts": self.options.starts,
            "engines": found,
        }

    def save(self):
        TARGET.mkdir(parents=True, exist_ok=True)
        results = self.results
        name = results_name(self.options)
        (TARGET / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
        (TARGET / f"{name}.md").write_text(report.markdown(results))
        plot = report.svg(results)
        if plot:
            (TARGET / f"{name}.svg").write_text(plot)


def results_name(options):
    return f"results-{options.isa}" if options.isa else "results"


def describe(engine, way, batch):
    threads, streams = way
    if engine.name == FILBERT:
        return "all texts in one call"
    texts = "one text a call" if batch == 1 else f"{batch} texts a call, padded"
    if streams == 1:
        return f"{texts}, {report.times(threads, 'thread')} a call"
    return f"{texts}, {report.times(streams, 'call')} at once"


def cold_start(engine, model, text, long_text):
    begin = time.monotonic_ns()
    environment = (engine.avx2 or {}) if model.options.isa else {}
    log = TARGET / "logs" / f"{model.name}-{engine.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    worker = Worker(engine.command(model.folder, 1, 1), environment, log)
    try:
        worker.send("input", "cold", text[0], " ".join(text[1]))
        worker.send("logits", "cold")
        ready = worker.receive()
        worker.receive()
        worker.receive()
        end = time.monotonic_ns()
        private = private_kib(worker)
        worker.send("input", "long", long_text[0], " ".join(long_text[1]))
        worker.send("logits", "long")
        worker.receive()
        worker.receive()
        private_long = private_kib(worker)
        worker.send("run", "cold", 3, 10, 20)
        (times,) = worker.receive()
    finally:
        worker.close()
    # A Rust worker has no host: all that it takes is its own.
    host_ready, host_kib = map(int, ready[3:5]) if engine.python else (begin, 0)
    return {
        "open": int(ready[2]),
        "from_start": end - begin,
        "from_host": end - host_ready,
        "warm": median([int(time) for time in times.split()]),
        "private_kib": private - host_kib,
        "private_long_kib": private_long - host_kib,
    }


def private_kib(worker):
    """Memory that only this process has written, in KiB."""
    with open(f"/proc/{worker.process.pid}/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def locked_version(engine):
    """The version of a Rust engine in the lock file."""
    if engine.name == FILBERT:
        return commit()
    crate = {"tract": "tract-onnx"}.get(engine.name, "rten")
    with open(HERE / "Cargo.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    return next(package["version"] for package in packages if package["name"] == crate)


def commit():
    def git(*words):
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True
        ).stdout.strip()

    name = git("rev-parse", "--short", "HEAD") or "an unknown commit"
    return name + (" with changes" if git("status", "--porcelain") else "")


def machine():
    cpu, flags = platform.processor(), ""
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8"):
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
            if line.startswith("flags"):
                flags = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "flags": flags,
    }


def numbers(text):
    return [int(number) for number in text.split(",")]


def names(allowed):
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(allowed)}"
            )
        return chosen

    return parse


def parse_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=names(list(TITLES)), default=list(TITLES))
    parser.add_argument("--engines", type=names(list(BY_NAME)), default=list(BY_NAME))
    parser.add_argument("--tokens", type=numbers, default=[16, 32, 64, 128, 256, 384])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=3, help="timed calls of a slice, at least")
    parser.add_argument("--milliseconds", type=int, default=30, help="of a slice, at least")
    parser.add_argument("--checks", type=int, default=24, help="more texts to compare logits on")
    parser.add_argument("--texts", type=int, default=256, help="for throughput")
    parser.add_argument("--starts", type=int, default=30, help="of each process, for --cold")
    parser.add_argument(
        "--parts",
        type=names(["latency", "throughput", "cold"]),
        default=["latency", "throughput"],
    )
    parser.add_argument("--cold", action="store_true", help="measure cold starts too")
    parser.add_argument("--isa", choices=["avx2"], help="hold every engine to it that can be")
    parser.add_argument("--quick", action="store_true", help="MiniLM, two lengths, one round")
    options = parser.parse_args(arguments)
    if options.quick:
        options.models, options.tokens, options.rounds = ["minilm"], [16, 128], 1
    if options.cold and "cold" not in options.parts:
        options.parts.append("cold")
    if not all(3 <= tokens <= 512 for tokens in options.tokens):
        parser.error("--tokens: expected numbers from 3 to 512")
    options.tokens.sort()
    return options


def main(arguments):
    options = parse_options(arguments)
    engines = [BY_NAME[name] for name in BY_NAME if name in options.engines]
    comparison = Comparison(options, engines)
    if options.isa:
        for engine in engines:
            if engine.avx2 is None:
                comparison.results["left_out"][engine.name] = "has no switch that holds it to AVX2"
        comparison.engines = [engine for engine in engines if engine.avx2 is not None]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for name in options.models:
            comparison.measure(name)
    except Failure as failure:
        sys.exit(f"compare: {failure}")
    finally:
        for worker in list(Worker.running):
            worker.close()
    print(report.markdown(comparison.results))
    say(f"written: {TARGET}/{results_name(options)}.json, .md and .svg")


if __name__ == "__main__":
    main(sys.argv[1:])
