"""What the Python workers share: the line protocol that compare.py speaks.

The requests are described in src/lib.rs, whose Rust workers speak the same. A worker file
defines a class with `settings`, `version`, `feed(batch of ids)` and `run(feed)`, and the
function that prepares its model from the float32 ONNX or the checkpoint.
"""

import os
import sys
import time

# The little that numpy computes must not start threads of its own beside an engine's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import concurrent.futures

import numpy


def private_kib():
    """Memory that only this process has written, in KiB."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


# What any Python program with numpy costs, before an engine is imported: not the engine's.
HOST_READY = time.monotonic_ns()
HOST_KIB = private_kib()


def pad(batch, dtype):
    """Ids padded to the longest text, and the mask."""
    length = max(map(len, batch))
    ids = numpy.zeros((len(batch), length), dtype)
    mask = numpy.zeros((len(batch), length), dtype)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


def read_texts(path):
    """The ids of each text, from lines of a text, a tab and its ids."""
    with open(path, encoding="utf-8") as lines:
        return [list(map(int, line.rstrip("\n").split("\t")[1].split())) for line in lines]


def answer(*fields):
    print(*fields, sep="\t", flush=True)


def one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


class Server:
    def __init__(self, engine, streams):
        self.engine = engine
        self.streams = streams
        self.inputs = {}

    def input(self, name, _text, ids):
        self.inputs[name] = self.engine.feed([list(map(int, ids.split()))])
        return ()

    def logits(self, name):
        return [f"{value:.9g}" for value in numpy.ravel(self.engine.run(self.inputs[name]))]

    def run(self, name, warm, calls, milliseconds):
        feed, run, clock = self.inputs[name], self.engine.run, time.perf_counter_ns
        for _ in range(int(warm)):
            run(feed)
        calls, least = int(calls), int(milliseconds) * 1_000_000
        times = []
        first = clock()
        while len(times) < calls or clock() - first < least:
            start = clock()
            run(feed)
            times.append(clock() - start)
        return times

    def throughput(self, path, batch):
        batch = int(batch)
        texts = sorted(read_texts(path), key=len)
        feeds = [
            self.engine.feed(texts[start : start + batch])
            for start in range(0, len(texts), batch)
        ]
        # The longest first.
        feeds.reverse()
        with concurrent.futures.ThreadPoolExecutor(self.streams) as pool:
            run = map if self.streams == 1 else pool.map
            # Once without the clock.
            list(run(self.engine.run, feeds))
            start = time.perf_counter_ns()
            list(run(self.engine.run, feeds))
            return [time.perf_counter_ns() - start]


def serve(open_engine):
    """Opens the engine for VARIANT MODEL THREADS STREAMS and serves until the input ends."""
    variant, model, threads, streams = sys.argv[1:]
    # What a library prints must not be taken for an answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(answers, "w", encoding="utf-8")
    start = time.perf_counter_ns()
    try:
        engine = open_engine(variant, model, int(threads), int(streams))
    except Exception as error:  # Whatever it is, the driver reports it.
        answer("error", one_line(error))
        sys.exit(1)
    opened = time.perf_counter_ns() - start
    answer("ready", engine.version, engine.settings, opened, HOST_READY, HOST_KIB)
    server = Server(engine, int(streams))
    for line in sys.stdin:
        request, *fields = line.rstrip("\n").split("\t")
        try:
            if request not in ("input", "logits", "run", "throughput"):
                raise ValueError(f"unknown request {request}")
            answer("ok", *[" ".join(map(str, getattr(server, request)(*fields)))])
        except Exception as error:
            answer("error", one_line(error))
