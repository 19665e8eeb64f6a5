"""Makes the models of this folder: random classifiers as torch and ONNX Runtime write them,
where those of tests/fixtures have no such form.

Needs torch, transformers, onnx, onnxscript and onnxruntime. Each folder has the ONNX file, its
config and, where the model is one that Filbert takes, what ONNX Runtime computes for some ids.

    python make.py
"""

import json
import pathlib
import shutil
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_static,
)
from transformers import (
    BertConfig,
    BertForSequenceClassification,
)

HERE = pathlib.Path(__file__).parent
VOCABULARY, POSITIONS, LAYERS = 40, 20, 2


class Logits(torch.nn.Module):
    """A classifier whose output is a tensor, with inputs in a fixed order."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return self.model(**dict(zip(self.names, inputs)), return_dict=True).logits


def bert(**options):
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-7,
        **{"attn_implementation": "sdpa", "num_labels": 3, **options},
    )
    return spread(BertForSequenceClassification(config))


def spread(model):
    """Weights large enough that every part of the model shows in the logits."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(0.4 * noise)
    return model.eval()


def export(name, model, names, dynamo, opset=17):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = str(folder / "model.onnx")
    ids = torch.randint(5, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    arguments = tuple(given[name] for name in names)
    wrapped = Logits(model, names)
    options = dict(input_names=names, output_names=["logits"], opset_version=opset)
    if dynamo:
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=POSITIONS)}
        torch.onnx.export(
            wrapped, arguments, path, dynamo=True, dynamic_shapes=(tuple(axes for _ in names),), **options
        )
    else:
        axes = {name: {0: "batch", 1: "sequence"} for name in names}
        torch.onnx.export(wrapped, arguments, path, dynamo=False, dynamic_axes=axes, **options)
    strip(path)
    config = model.config
    config.architectures = [type(model).__name__]
    config.id2label = {id: f"label {id}" for id in range(config.num_labels)}
    config.label2id = {label: id for id, label in config.id2label.items()}
    config.to_json_file(folder / "config.json")
    return folder


def strip(path):
    """Removes what tells where in Python a node comes from."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for part in [model, model.graph, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        part.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    onnx.save(model, path)


def golden(folder):
    """What ONNX Runtime computes. Token types are those of a pair, if the model takes any."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [input.name for input in session.get_inputs()]
    generator = np.random.default_rng(0)
    examples = []
    for length in (2, 7, 13):
        ids = generator.integers(5, VOCABULARY, (1, length))
        types = (np.arange(length) >= length // 2).astype(np.int64)[None]
        if "token_type_ids" not in names:
            types[:] = 0
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        logits = session.run(None, {name: given[name] for name in names})[0][0]
        examples.append(
            {"input_ids": ids[0].tolist(), "token_type_ids": types[0].tolist(), "logits": logits.tolist()}
        )
    lines = "".join(json.dumps(example) + "\n" for example in examples)
    (folder / "golden.jsonl").write_text(lines)


class Calibration(CalibrationDataReader):
    def __init__(self):
        ids = np.full((1, 5), 7)
        self.given = iter(
            [{"input_ids": ids, "attention_mask": np.ones_like(ids)}]
        )

    def get_next(self):
        return next(self.given, None)


def main():
    warnings.filterwarnings("ignore")
    three = ["input_ids", "attention_mask", "token_type_ids"]
    # Attention as one operator.
    golden(export("opset23", bert(num_labels=1), three, dynamo=True, opset=23))
    # Token types that are always 0.
    script = export("two-inputs", bert(), three[:2], dynamo=False)
    golden(script)
    export("refused-decoder", bert(is_decoder=True), three, dynamo=False)
    folder = HERE / "refused-static"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(script / "config.json", folder)
    quantize_static(
        str(script / "model.onnx"),
        str(folder / "model.onnx"),
        Calibration(),
        quant_format=QuantFormat.QDQ,
    )


if __name__ == "__main__":
    main()
