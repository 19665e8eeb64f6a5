"""Writes the files that `pytorch.rs` reads, as PyTorch itself does. Run it in this folder."""

import argparse
import os
import zipfile
from collections import OrderedDict

import torch


def state_dict():
    """Every kind of tensor that a model's file may have, with values that are easy to tell."""
    numbers = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    state = OrderedDict(
        contiguous=numbers,
        transposed=numbers.t(),
        row=numbers[1],
        column=numbers[:, 1],
        parameter=torch.nn.Parameter(numbers + 10),
        half=(numbers / 4).half(),
        bfloat16=(numbers / 4).bfloat16(),
        double=numbers.double() / 8,
        scalar=torch.tensor(7.5),
        empty=torch.zeros(0, 3),
        position_ids=torch.arange(4).expand((1, -1)),
        mask=torch.tensor([True, False]),
    )
    # As Module.state_dict() has it.
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/filbert-was-here",)


def rewrite(source, target, compression=zipfile.ZIP_STORED, byteorder=None):
    """The same archive with another compression or byte order."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if byteorder and entry.filename.endswith("/byteorder"):
                data = byteorder
            new.writestr(entry.filename, data)


def main():
    state = state_dict()
    torch.save(state, "archive.bin")
    torch.save(state, "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(state, "protocol4.bin", pickle_protocol=4)
    torch.save({"epoch": 3, "state_dict": state}, "training.bin")
    torch.save({"args": argparse.Namespace(epochs=3), **state}, "namespace.bin")
    torch.save({"weight": Hostile()}, "hostile.bin")
    torch.save({"weight": Hostile()}, "hostile-legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.zeros(1).expand(1000, 1000)}, "expanded.bin")
    torch.save([torch.zeros(1)], "list.bin")
    rewrite("archive.bin", "compressed.bin", compression=zipfile.ZIP_DEFLATED)
    rewrite("archive.bin", "big-endian.bin", byteorder=b"big")


main()
