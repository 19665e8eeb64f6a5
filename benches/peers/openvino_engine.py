"""OpenVINO: float32, and int8 by NNCF.

    openvino_engine.py VARIANT MODEL THREADS STREAMS
    openvino_engine.py prepare VARIANT FOLDER

Variants are float32, int8, and fixed-int8: compiled for each length on its own, not for any.
"""

import os
import sys

FILES = {"int8": "openvino-int8.xml"}


def prepare(variant, folder):
    """Quantizes weights and activations, calibrated on the texts in the folder."""
    import nncf
    import openvino
    from worker import read_texts

    model = openvino.Core().read_model(os.path.join(folder, "model.onnx"))
    names = [value.get_any_name() for value in model.inputs]
    texts = read_texts(os.path.join(folder, "calibration.tsv"))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(texts, lambda ids: feed(names, [ids])),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(texts),
    )
    openvino.save_model(
        quantized, os.path.join(folder, FILES[variant]), compress_to_fp16=False
    )


def feed(names, batch):
    import numpy
    from worker import pad

    ids, mask = pad(batch, numpy.int64)
    values = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": numpy.zeros_like(ids),
    }
    return {name: values[name] for name in names}


class OpenVino:
    def __init__(self, variant, model, threads, streams):
        import openvino
        from openvino import properties
        from openvino.properties import hint

        mode = hint.PerformanceMode.LATENCY if streams == 1 else hint.PerformanceMode.THROUGHPUT
        self.core = openvino.Core()
        self.core.set_property(
            "CPU",
            {
                properties.inference_num_threads: threads * streams,
                properties.num_streams: streams,
                hint.performance_mode: mode,
                hint.inference_precision: openvino.Type.f32,
                hint.enable_cpu_pinning: False,
            },
        )
        self.streams = streams
        self.model = self.core.read_model(model)
        self.names = [value.get_any_name() for value in self.model.inputs]
        self.fixed = variant.startswith("fixed")
        if not self.fixed:
            self.requests = self.compile(self.model)
        self.version = openvino.__version__.split("-")[0]
        self.settings = f"{mode.name} hint, float32 precision hint, no pinning"
        if self.fixed:
            self.settings += ", compiled for each length"

    def compile(self, model):
        """A request for each call that runs at once."""
        import queue

        compiled = self.core.compile_model(model, "CPU")
        requests = queue.SimpleQueue()
        for _ in range(self.streams):
            requests.put(compiled.create_infer_request())
        return requests

    def feed(self, batch):
        inputs = feed(self.names, batch)
        if not self.fixed:
            return inputs, self.requests
        model = self.model.clone()
        model.reshape({name: list(value.shape) for name, value in inputs.items()})
        return inputs, self.compile(model)

    def run(self, feed):
        inputs, requests = feed
        request = requests.get()
        try:
            # The inputs are not written to while the call runs.
            return request.infer(inputs, share_inputs=True)["logits"]
        finally:
            requests.put(request)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        from worker import serve

        serve(OpenVino)
