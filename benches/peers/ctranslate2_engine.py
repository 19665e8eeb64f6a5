"""CTranslate2: float32 and int8, with the classifier's last product in numpy.

    ctranslate2_engine.py VARIANT MODEL THREADS STREAMS
    ctranslate2_engine.py prepare VARIANT FOLDER

Variants are float32 and int8. CTranslate2's own converter needs PyTorch; this builds the same
description of the model from the safetensors.
"""

import os
import sys

FILES = {"float32": "ctranslate2-float32", "int8": "ctranslate2-int8"}

# The parameters of a layer, by architecture: query, key, value, the attention's output and
# norm, the feed-forward products, the last norm.
LAYERS = {
    "bert": (
        "bert.encoder.layer.{}.",
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        ("attention.output.dense", "attention.output.LayerNorm"),
        ("intermediate.dense", "output.dense", "output.LayerNorm"),
    ),
    "distilbert": (
        "distilbert.transformer.layer.{}.",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        ("attention.out_lin", "sa_layer_norm"),
        ("ffn.lin1", "ffn.lin2", "output_layer_norm"),
    ),
}


def prepare(variant, folder):
    import json
    import shutil

    import numpy
    from ctranslate2.specs import common_spec, transformer_spec
    from safetensors.numpy import load_file

    checkpoint = os.path.join(folder, "checkpoint")
    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    tensors = load_file(os.path.join(checkpoint, "model.safetensors"))
    kind = config["model_type"]
    bert = kind == "bert"
    activation = config["hidden_act" if bert else "activation"]
    if activation != "gelu":
        raise ValueError(f"expected the activation gelu, found {activation}")

    def tensor(name):
        return tensors[name].astype(numpy.float32)

    def linear(spec, *names):
        spec.weight = numpy.concatenate([tensor(name + ".weight") for name in names])
        spec.bias = numpy.concatenate([tensor(name + ".bias") for name in names])

    def norm(spec, name):
        spec.gamma = tensor(name + ".weight")
        spec.beta = tensor(name + ".bias")

    encoder = transformer_spec.TransformerEncoderSpec(
        config["num_hidden_layers" if bert else "n_layers"],
        config["num_attention_heads" if bert else "n_heads"],
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2 if bert else 1,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    # The pooler of BERT, and DistilBERT's product before the classifier, which is the same
    # with another activation.
    pooling = common_spec.Activation.Tanh if bert else common_spec.Activation.RELU
    spec = transformer_spec.TransformerEncoderModelSpec(
        encoder, pooling_layer=True, pooling_activation=pooling
    )
    linear(spec.pooler_dense, "bert.pooler.dense" if bert else "pre_classifier")
    encoder.scale_embeddings = False
    embeddings = kind + ".embeddings."
    encoder.embeddings[0].weight = tensor(embeddings + "word_embeddings.weight")
    if bert:
        encoder.embeddings[1].weight = tensor(embeddings + "token_type_embeddings.weight")
    encoder.position_encodings.encodings = tensor(embeddings + "position_embeddings.weight")
    norm(encoder.layernorm_embedding, embeddings + "LayerNorm")
    prefix, qkv, (output, output_norm), (first, second, last_norm) = LAYERS[kind]
    for number, layer in enumerate(encoder.layer):
        prefix_here = prefix.format(number)
        attention = layer.self_attention
        linear(attention.linear[0], *[prefix_here + name for name in qkv])
        linear(attention.linear[1], prefix_here + output)
        norm(attention.layer_norm, prefix_here + output_norm)
        linear(layer.ffn.linear_0, prefix_here + first)
        linear(layer.ffn.linear_1, prefix_here + second)
        norm(layer.ffn.layer_norm, prefix_here + last_norm)
    with open(os.path.join(checkpoint, "vocab.txt"), encoding="utf-8") as lines:
        spec.register_vocabulary([line.rstrip("\n") for line in lines])
    spec.config.unk_token = "[UNK]"
    spec.config.layer_norm_epsilon = config.get("layer_norm_eps", 1e-12)
    spec.validate()
    spec.optimize(quantization=variant)
    target = os.path.join(folder, FILES[variant])
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    spec.save(target)
    # The classifier, which CTranslate2 has no place for.
    numpy.savez(
        os.path.join(target, "classifier.npz"),
        weight=tensor("classifier.weight").T,
        bias=tensor("classifier.bias"),
        token_types=bert,
    )


def has_avx512():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"} <= set(flags)


class CTranslate2:
    def __init__(self, variant, model, threads, streams):
        # Left alone, it does not use AVX-512 on every CPU that has it.
        if "CT2_FORCE_CPU_ISA" not in os.environ and has_avx512():
            os.environ["CT2_FORCE_CPU_ISA"] = "AVX512"
        import ctranslate2
        import numpy

        self.encoder = ctranslate2.Encoder(
            model,
            device="cpu",
            compute_type=variant,
            intra_threads=threads,
            inter_threads=streams,
        )
        head = numpy.load(os.path.join(model, "classifier.npz"))
        self.weight = numpy.ascontiguousarray(head["weight"])
        self.bias = head["bias"]
        self.token_types = bool(head["token_types"])
        self.array = numpy.asarray
        self.view = ctranslate2.StorageView
        self.version = ctranslate2.__version__
        isa = os.environ.get("CT2_FORCE_CPU_ISA", "chosen by itself")
        self.settings = f"compute type {variant}, kernels {isa}; classifier in numpy"

    def feed(self, batch):
        import numpy
        from worker import pad

        ids, _ = pad(batch, numpy.int32)
        lengths = numpy.array([len(ids) for ids in batch], numpy.int32)
        types = [[0] * len(ids) for ids in batch] if self.token_types else None
        # The views do not own the arrays, so both are kept.
        return self.view.from_array(ids), self.view.from_array(lengths), types, ids, lengths

    def run(self, feed):
        ids, lengths, types, *_ = feed
        output = self.encoder.forward_batch(ids, lengths, types)
        return self.array(output.pooler_output) @ self.weight + self.bias


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        from worker import serve

        serve(CTranslate2)
