#!/usr/bin/env python3
"""Checks an exported ONNX file with onnx.checker and runs it in ONNX Runtime.

    check_onnx.py MODEL.onnx GOLDEN.jsonl… [--tolerance 1e-4] [--mean-tolerance 1e-4]
        [--padding-tolerance 1e-4]

Every line of a golden file has `input_ids`, `token_type_ids` where the model wants them, and
the `logits` of PyTorch. Each is run alone, at its own length, and again in padded batches,
whose logits must be those of the single runs. Prints the differences; exits with 1 when one
passes its tolerance. Needs the packages onnx, onnxruntime and numpy.
"""

import argparse
import json
import sys

import numpy as np
import onnx
import onnxruntime

BATCH = 16


def check_interface(model: onnx.ModelProto) -> list[str]:
    """What differs from the inputs and outputs that Optimum gives such a model."""
    problems = []

    def shape(value):
        dims = value.type.tensor_type.shape.dim
        return [dim.dim_param or dim.dim_value for dim in dims]

    inputs = {value.name: value for value in model.graph.input}
    expected = ["input_ids", "attention_mask"]
    if len(inputs) > 2:
        expected.append("token_type_ids")
    if list(inputs) != expected:
        problems.append(f"inputs are {list(inputs)}")
    for name, value in inputs.items():
        if value.type.tensor_type.elem_type != onnx.TensorProto.INT64:
            problems.append(f"{name} is not int64")
        if shape(value) != ["batch_size", "sequence_length"]:
            problems.append(f"{name} has the shape {shape(value)}")
    outputs = [value.name for value in model.graph.output]
    if outputs != ["logits"]:
        problems.append(f"outputs are {outputs}")
    elif shape(model.graph.output[0])[0] != "batch_size":
        problems.append(f"logits have the shape {shape(model.graph.output[0])}")
    if model.producer_name != "filbert":
        problems.append(f"the producer is {model.producer_name!r}")
    return problems


def run(session: onnxruntime.InferenceSession, examples: list[dict]) -> np.ndarray:
    """The logits of a batch, padded to the longest example."""
    length = max(len(example["input_ids"]) for example in examples)

    def pad(rows):
        # Padding that is not zeros: a mask that did not mask would show.
        return np.array([row + [1] * (length - len(row)) for row in rows], dtype=np.int64)

    ids = [example["input_ids"] for example in examples]
    feeds = {
        "input_ids": pad(ids),
        "attention_mask": np.array(
            [[1] * len(row) + [0] * (length - len(row)) for row in ids], dtype=np.int64
        ),
    }
    if "token_type_ids" in [value.name for value in session.get_inputs()]:
        feeds["token_type_ids"] = pad([example["token_type_ids"] for example in examples])
    return session.run(["logits"], feeds)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("golden", nargs="+")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--mean-tolerance", type=float, default=1e-4)
    parser.add_argument("--padding-tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    model = onnx.load(arguments.model)
    onnx.checker.check_model(model, full_check=True)
    problems = check_interface(model)
    del model
    options = onnxruntime.SessionOptions()
    # Else its int8 sums saturate on x86-64 CPUs without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        arguments.model, options, providers=["CPUExecutionProvider"]
    )
    for path in arguments.golden:
        with open(path, encoding="utf-8") as lines:
            examples = [json.loads(line) for line in lines if line.strip()]
        if not examples:
            problems.append(f"{path} has no examples")
            continue
        golden = np.array([example["logits"] for example in examples])
        single = np.concatenate([run(session, [example]) for example in examples])
        batched = np.concatenate(
            [
                run(session, examples[start : start + BATCH])
                for start in range(0, len(examples), BATCH)
            ]
        )
        difference = np.abs(single - golden)
        padding = np.abs(single - batched)
        same = np.mean(single.argmax(axis=1) == golden.argmax(axis=1))
        print(
            f"{path}: {len(examples)} examples, to PyTorch max {difference.max():.2e} "
            f"mean {difference.mean():.2e}, same label {same:.4f}, padded batch to single "
            f"max {padding.max():.2e}"
        )
        # Written so that NaN fails.
        if not difference.max() <= arguments.tolerance:
            problems.append(f"{path}: {difference.max():.2e} from PyTorch")
        if not difference.mean() <= arguments.mean_tolerance:
            problems.append(f"{path}: {difference.mean():.2e} from PyTorch on average")
        if not padding.max() <= arguments.padding_tolerance:
            problems.append(f"{path}: {padding.max():.2e} between padded and single runs")
    for problem in problems:
        print(f"{arguments.model}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
