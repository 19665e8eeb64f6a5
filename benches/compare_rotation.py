#!/usr/bin/env python3
"""How much time the rotation of inputs takes: docs/performance.md has the figures.

    compare_rotation.py FILBERT MODEL.filbert [ROUNDS]

FILBERT is the command. Runs `filbert bench` in turn on the model and on a copy of it that states
no rotation (whose labels are nonsense, and whose work is otherwise the same), and prints the
median over all rounds of the quotients of their median times, for each length.
"""

import json
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

TOKENS = (16, 64, 128)
ROTATION = 4


def without_rotation(data):
    """The file with the bit cleared and the checksum of its head renewed: docs/format.md."""
    data = bytearray(data)
    (features,) = struct.unpack_from("<I", data, 12)
    if not features & ROTATION:
        sys.exit("the model rotates nothing")
    struct.pack_into("<I", data, 12, features & ~ROTATION)
    (sections,) = struct.unpack_from("<I", data, 24)
    struct.pack_into("<I", data, 28, 0)
    struct.pack_into("<I", data, 28, zlib.crc32(data[: 64 + 32 * sections]))
    return bytes(data)


def measure(command, model):
    """The median time for each length."""
    tokens = ",".join(map(str, TOKENS))
    arguments = [command, "bench", model, "--tokens", tokens, "--seconds", "0.3", "--json"]
    output = subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout
    return {run["tokens"]: run["p50_ms"] for run in json.loads(output)["runs"]}


def main():
    command, model, rounds = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["14"])[0])
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.filbert"
        plain.write_bytes(without_rotation(model.read_bytes()))
        quotients = {tokens: [] for tokens in TOKENS}
        for number in range(rounds):
            order = [model, plain] if number % 2 else [plain, model]
            times = {path: measure(command, path) for path in order}
            for tokens in TOKENS:
                quotients[tokens].append(times[model][tokens] / times[plain][tokens])
    for tokens in TOKENS:
        print(f"{tokens} tokens: {statistics.median(quotients[tokens]):.3f}")


if __name__ == "__main__":
    main()
