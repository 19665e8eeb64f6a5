"""ONNX Runtime: float32, int8, and int8 after the transformer optimizer's fusion.

    onnx_runtime.py VARIANT MODEL THREADS STREAMS
    onnx_runtime.py prepare VARIANT FOLDER

Variants are float32, int8 and fused-int8. `prepare` knows one more, copy: the float32 file
as Python's onnx package writes it. It writes lists of integers unpacked, and rten reads no
others.
"""

import os
import sys

FILES = {
    "float32": "model.onnx",
    "int8": "onnxruntime-int8.onnx",
    "fused-int8": "onnxruntime-fused-int8.onnx",
    "copy": "copy.onnx",
}


def prepare(variant, folder):
    """Quantizes the float32 ONNX dynamically: weights int8 by channel, no calibration."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = os.path.join(folder, "model.onnx")
    if variant == "copy":
        onnx.save(onnx.load(model), os.path.join(folder, FILES[variant]))
        return
    if variant == "fused-int8":
        model = fuse(folder, model)
    quantize_dynamic(
        model,
        os.path.join(folder, FILES[variant]),
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Shape inference does not know the outputs of fused operators.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def fuse(folder, path):
    """Runs the transformer optimizer, and returns the path of what it made."""
    import json

    import numpy
    import onnx
    from onnx import numpy_helper
    from onnxruntime.transformers import optimizer

    model = onnx.load(path)
    nodes = model.graph.node
    # The optimizer knows attention by the way in which PyTorch's exporter writes the mask,
    # (1 - mask) * lowest float. Filbert writes a Where; the two compute the same.
    (where,) = [node for node in nodes if node.op_type == "Where"]
    index = list(nodes).index(where)
    constants = {
        "peers_one": numpy.float32(1),
        "peers_lowest": numpy.finfo("float32").min,
        "peers_axis_1": numpy.array([1]),
        "peers_axis_2": numpy.array([2]),
    }
    for name, value in constants.items():
        array = numpy.asarray(value)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    make = onnx.helper.make_node
    mask = [
        make("Unsqueeze", ["attention_mask", "peers_axis_1"], ["peers_mask_3"]),
        make("Unsqueeze", ["peers_mask_3", "peers_axis_2"], ["peers_mask_4"]),
        make("Cast", ["peers_mask_4"], ["peers_mask"], to=onnx.TensorProto.FLOAT),
        make("Sub", ["peers_one", "peers_mask"], ["peers_ignored"]),
        make("Mul", ["peers_ignored", "peers_lowest"], list(where.output)),
    ]
    for node in mask:
        node.name = node.output[0] + "_node"
    rest = list(nodes)
    rest[index : index + 1] = mask
    del nodes[:]
    nodes.extend(rest)

    with open(os.path.join(folder, "checkpoint", "config.json"), encoding="utf-8") as config:
        config = json.load(config)
    layers = config.get("num_hidden_layers") or config["n_layers"]
    rewritten = os.path.join(folder, "onnxruntime-mask.onnx")
    fused = os.path.join(folder, "onnxruntime-fused.onnx")
    onnx.save(model, rewritten)
    # Only the fusions: what ONNX Runtime itself optimizes, it does when it loads the model.
    optimized = optimizer.optimize_model(
        rewritten,
        "bert",
        num_heads=config.get("num_attention_heads") or config["n_heads"],
        hidden_size=config.get("hidden_size") or config["dim"],
        opt_level=0,
    )
    os.remove(rewritten)
    count = optimized.get_fused_operator_statistics()["Attention"]
    if count != layers:
        raise RuntimeError(f"attention was fused in {count} of {layers} layers")
    optimized.save_model_to_file(fused)
    return fused


class OnnxRuntime:
    def __init__(self, variant, model, threads, streams):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Calls that run at once share the session: with one thread each, a call computes on
        # the thread that makes it.
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.names = [value.name for value in self.session.get_inputs()]
        self.version = onnxruntime.__version__
        self.settings = "all graph optimizations, one inter-op thread"
        if variant == "fused-int8":
            self.settings += "; attention fused before quantization"

    def feed(self, batch):
        import numpy
        from worker import pad

        ids, mask = pad(batch, numpy.int64)
        values = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": numpy.zeros_like(ids),
        }
        return {name: values[name] for name in self.names}

    def run(self, feed):
        return self.session.run(["logits"], feed)[0]


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        from worker import serve

        serve(OnnxRuntime)
