#!/usr/bin/env python3
"""How much time the rotation of inputs takes: docs/performance.md has the figures.

    compare_rotation.py FILBERT MODEL.filbert [ROUNDS]

FILBERT is the command. Compares the model with a copy of it that states no rotation (whose labels
are nonsense, and whose work is otherwise the same), as `compare_models.py` does.
"""

import struct
import sys
import tempfile
import zlib
from pathlib import Path

from compare_models import compare

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


def main():
    command, model, rounds = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["14"])[0])
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.filbert"
        plain.write_bytes(without_rotation(model.read_bytes()))
        quotients = compare(command, rounds, plain, [model])
    for (_, tokens), quotient in quotients.items():
        print(f"{tokens} tokens: {quotient:.3f}")


if __name__ == "__main__":
    main()
