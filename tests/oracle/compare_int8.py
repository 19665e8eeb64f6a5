#!/usr/bin/env python3
"""Compares Filbert's int8 ONNX in ONNX Runtime with Filbert, and with what `quantize_dynamic` makes.

    compare_int8.py FLOAT32.onnx INT8.onnx TEXTS.jsonl [--agreement 0.995]

A line of TEXTS.jsonl has `input_ids`, `token_type_ids` where the model wants them, the number of
the right `label`, and the `logits` of Filbert. INT8.onnx must have Filbert's best label for the
given share of the texts, else this exits with 1. `quantize_dynamic` is ONNX Runtime's own: weights
in int8, one scale an output channel, of the products alone: the embeddings stay in float32.

Prints a line of a table for each int8 model: accuracy, the share of texts with float32's best
label, and the mean and largest absolute difference of a logit to float32, where float32 is
FLOAT32.onnx in ONNX Runtime. Needs the packages onnx, onnxruntime and numpy.
"""

import argparse
import json
import logging
import os
import sys
import tempfile

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

def logits(path: str, examples: list[dict]) -> np.ndarray:
    """Of each text alone: the scale of an activation that `quantize_dynamic` quantizes is one for
    the whole input, so in a batch a text would depend on the others."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Else int8 sums saturate on x86-64 CPUs without VNNI, those of `quantize_dynamic` as well.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(example):
        values = dict(example, attention_mask=[1] * len(example["input_ids"]))
        feeds = {name: np.array([values[name]], dtype=np.int64) for name in names}
        return session.run(["logits"], feeds)[0]

    return np.concatenate([run(example) for example in examples])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float32")
    parser.add_argument("int8")
    parser.add_argument("texts")
    parser.add_argument("--agreement", type=float, default=0.995)
    arguments = parser.parse_args()
    # It advises on every model to prepare it first, which changes nothing for these.
    logging.getLogger().setLevel(logging.ERROR)

    with open(arguments.texts, encoding="utf-8") as lines:
        examples = [json.loads(line) for line in lines]
    targets = np.array([example["label"] for example in examples])
    filbert = np.array([example["logits"] for example in examples])
    float32 = logits(arguments.float32, examples)
    exported = logits(arguments.int8, examples)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "dynamic.onnx")
        quantize_dynamic(
            arguments.float32,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        dynamic = logits(path, examples)
    models = {
        "Filbert": filbert,
        "Filbert's int8 ONNX": exported,
        "`quantize_dynamic`": dynamic,
    }

    def same(a, b):
        return np.mean(a.argmax(axis=1) == b.argmax(axis=1))

    def accuracy(values):
        return 100 * np.mean(values.argmax(axis=1) == targets)

    print(f"{len(examples)} texts, accuracy in float32 {accuracy(float32):.2f} %")
    for name, values in models.items():
        difference = np.abs(values - float32)
        print(
            f"| {name} | {accuracy(values):.2f} % | {100 * same(values, float32):.2f} % "
            f"| {difference.mean():.4f} | {difference.max():.2f} |"
        )
    agreement = same(exported, filbert)
    print(
        f"the ONNX and Filbert: same label {100 * agreement:.2f} %, "
        f"mean difference {np.abs(exported - filbert).mean():.4f}"
    )
    # Written so that NaN fails.
    if not agreement >= arguments.agreement or not np.isfinite(exported).all():
        print(f"{arguments.int8}: same label as Filbert for {agreement:.4f}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
