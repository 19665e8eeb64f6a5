#!/usr/bin/env python3
"""Reads a .filbert file, as docs/format.md and docs/format-vocabulary.md describe it.

    read_filbert.py MODEL.filbert [TEXTS.jsonl]

A second reader, written from the documents alone, in plain Python. It checks everything that
they say about a file, also what the runtime leaves to the writer; then tokenizes the self-test's
texts and those of the other file, each line a list of a text and another text or null; and
computes the values of the self-test's in float64 from the dequantized weights, where that is
not too much for plain Python. With a WordPiece it leaves out texts that are not ASCII. Prints
one JSON object; exits with 1 and a message where the file is not as the documents say.
"""

import itertools
import json
import math
import re
import string
import struct
import sys
import unicodedata
import zlib
from array import array
from operator import mul

MAGIC = bytes.fromhex("89464C420D0A1A0A")
SECTIONS = "shape tensors labels vocabulary selftest provenance accuracy weights".split()
SHAPE = (
    "layers hidden heads head_size intermediate vocabulary positions token_types labels "
    "max_tokens activation head_activation problem layer_norm_eps head head_options"
).split()
BOUNDS = {
    "layers": (1, 256),
    "hidden": (1, 16_384),
    "intermediate": (1, 65_536),
    "vocabulary": (1, 1 << 24),
    "positions": (1, 65_536),
    "token_types": (0, 256),
    "activation": (1, 4),
    "head_activation": (1, 4),
    "problem": (1, 3),
    "head": (0, 4),
}
CLASSIFICATION, TOKEN_CLASSIFICATION, QUESTION_ANSWERING, EMBEDDING, MASKED_WORDS = range(5)
LABELS = {
    CLASSIFICATION: (1, 65_536),
    TOKEN_CLASSIFICATION: (1, 65_536),
    QUESTION_ANSWERING: (2, 2),
    EMBEDDING: (0, 0),
    MASKED_WORDS: (0, 0),
}
# Head options of an embedding.
MEAN, NORMALIZED = 1, 2
# Flags of an added token.
SINGLE_WORD, STRIP_LEFT, STRIP_RIGHT = 1, 2, 4
# Required features.
HEADS, BYTE_LEVEL_BPE, ROTATION, FINE_PRODUCTS = 1, 2, 4, 8
KNOWN_FEATURES = HEADS | BYTE_LEVEL_BPE | ROTATION | FINE_PRODUCTS
# Kinds of the weights of the products that may be fine.
LAYER_PRODUCTS = 16, 18, 21, 24
I8, F32, COLUMNS, I16 = 1, 2, 3, 4
ELEMENT_BYTES = {I8: 1, F32: 4, COLUMNS: 192, I16: 2}
NONE = 0xFFFF_FFFF
WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# Weights of all products times tokens, of the longest text that is computed.
MOST_MULTIPLICATIONS = 10_000_000


def check(condition, message):
    if not condition:
        sys.exit(f"read_filbert.py: {message}")


def align(n, to):
    return -(-n // to) * to


def pad(n):
    return align(n, 16)


def is_zero(data):
    return not data.strip(b"\0")


def utf8(data, what):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        check(False, f"{what}: {error}")


def numbers(code, data):
    """Little-endian numbers of a struct code."""
    values = array({"B": "B", "b": "b", "h": "h", "i": "i", "I": "I", "f": "f"}[code])
    check(values.itemsize == struct.calcsize("<" + code), f"array of {code} on this host")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


class File:
    def __init__(self, data):
        self.data = data
        self.read_head()
        self.read_shape()
        self.read_tensors()
        self.read_labels()
        self.read_vocabulary()
        self.read_self_test()
        for name in ["provenance", "accuracy"]:
            if self.section(name):
                json.loads(utf8(self.section(name), name))
        self.check_weights()

    def read_head(self):
        data = self.data
        check(len(data) >= 320, "shorter than its head")
        magic, major, minor, features, length, count, checksum, reserved = struct.unpack_from(
            "<8sHHIQII32s", data
        )
        check(magic == MAGIC, "magic")
        check(major == 2, f"major version {major}")
        check(features & ~KNOWN_FEATURES == 0, f"required features {features:#x}")
        self.features = features
        check(length == len(data), "file length")
        most = len(SECTIONS) if minor == 0 else 64
        check(len(SECTIONS) <= count <= most, f"{count} sections")
        check(is_zero(reserved), "header, reserved")
        end = 64 + 32 * count
        check(len(data) >= end, "shorter than its section table")
        head = bytearray(data[:end])
        head[28:32] = bytes(4)
        check(zlib.crc32(head) == checksum, "header, checksum")
        self.version = (major, minor)
        self.sections = {}
        # A newer minor version may have sections behind those that this reader knows.
        unknown = [f"of kind {kind}" for kind in range(len(SECTIONS) + 1, count + 1)]
        for index, name in enumerate(SECTIONS + unknown):
            kind, checksum, offset, length, reserved = struct.unpack_from(
                "<IIQQQ", data, 64 + 32 * index
            )
            check(kind == index + 1 and reserved == 0, f"section {name}, kind or reserved")
            check(offset == align(end, 16_384 if name == "weights" else 64), f"section {name}, offset")
            check(is_zero(data[end:offset]), f"padding before section {name}")
            end = offset + length
            check(end <= len(data), f"section {name}, length")
            check(zlib.crc32(data[offset:end]) == checksum, f"section {name}, checksum")
            self.sections[name] = (offset, length)
        check(end == len(data), "bytes after the last section")

    def section(self, name):
        offset, length = self.sections[name]
        return self.data[offset : offset + length]

    def read_shape(self):
        section = self.section("shape")
        check(len(section) == 64, "shape, length")
        shape = dict(zip(SHAPE, struct.unpack_from("<13If2I", section)))
        for name, (least, most) in BOUNDS.items():
            check(least <= shape[name] <= most, f"shape, {name}")
        check(1 <= shape["heads"] <= shape["hidden"], "shape, heads")
        check(shape["heads"] * shape["head_size"] == shape["hidden"], "shape, head_size")
        check(shape["heads"] * pad(shape["head_size"]) <= 65_536, "shape, padded heads")
        check(3 <= shape["max_tokens"] <= shape["positions"], "shape, max_tokens")
        check(0 < shape["layer_norm_eps"] <= 1, "shape, layer_norm_eps")
        head = shape["head"]
        check(bool(self.features & HEADS) == (head != CLASSIFICATION), "required features of the head")
        least, most = LABELS[head]
        check(least <= shape["labels"] <= most, "shape, labels")
        most = {EMBEDDING: MEAN | NORMALIZED, MASKED_WORDS: shape["vocabulary"] - 1}.get(head, 0)
        check(shape["head_options"] <= most, "shape, head_options")
        check(head == CLASSIFICATION or shape["problem"] == 1, "shape, problem of the head")
        self.shape = shape
        if self.features & ROTATION:
            check({self.together(name) for name in ("hidden", "intermediate")} != {1}, "required features of rotation")

    def read_tensors(self):
        """Computes the table that the shape and the fine products imply, and compares."""
        s = self.shape
        hidden, intermediate = pad(s["hidden"]), pad(s["intermediate"])
        attention = s["heads"] * pad(s["head_size"])
        records = self.section("tensors")
        # For each product the first output of its weights, and of what is left of them.
        table, self.products, self.halves = [], {}, {}

        def add(kind, layer, data_type, *dims):
            table.append((kind, layer, data_type, dims))

        def add_product(kind, layer, inputs, outputs):
            panels = outputs // 16
            # The first dimension that the table states, if it is long enough.
            stated = int.from_bytes(records[48 * len(table) + 16 :][:4], "little")
            may_be_fine = self.features & FINE_PRODUCTS and kind in LAYER_PRODUCTS
            halves = 2 if may_be_fine and stated == 2 * panels else 1
            self.products[kind, layer] = (inputs, outputs)
            self.halves[kind, layer] = range(0, halves * outputs, outputs)
            add(kind, layer, I8, halves * panels, -(-inputs // 4), 16, 4)
            add(kind + 1, layer, COLUMNS, halves * panels)

        add(1, 0, I8, s["vocabulary"], hidden)
        add(2, 0, F32, s["vocabulary"])
        add(3, 0, I16, s["positions"], hidden)
        add(4, 0, F32, s["positions"])
        if s["token_types"]:
            add(5, 0, I16, s["token_types"], hidden)
            add(6, 0, F32, s["token_types"])
        add(7, 0, F32, 3, hidden)
        for layer in range(s["layers"]):
            add_product(16, layer, s["hidden"], 3 * attention)
            add_product(18, layer, attention, hidden)
            add(20, layer, F32, 3, hidden)
            add_product(21, layer, s["hidden"], intermediate)
            add(23, layer, F32, intermediate)
            add_product(24, layer, s["intermediate"], hidden)
            add(26, layer, F32, 3, hidden)
        if s["head"] in (CLASSIFICATION, MASKED_WORDS):
            add_product(32, 0, s["hidden"], hidden)
        if s["head"] == MASKED_WORDS:
            add(36, 0, F32, 3, hidden)
        if s["head"] != EMBEDDING:
            add_product(34, 0, s["hidden"], pad(self.classes()))

        is_fine = any(len(halves) == 2 for halves in self.halves.values())
        check(bool(self.features & FINE_PRODUCTS) == is_fine, "required features of fine products")
        check(len(records) == 48 * len(table), "tensor table, length")
        weights = self.section("weights")
        self.tensors, self.summary = {}, []
        end = 0
        for index, (kind, layer, data_type, dims) in enumerate(table):
            offset = align(end, 64)
            length = ELEMENT_BYTES[data_type] * math.prod(dims)
            all_dims = list(dims) + [1] * (4 - len(dims))
            expected = (kind, layer, data_type, len(dims), *all_dims, offset, length)
            stated = struct.unpack_from("<8IQQ", records, 48 * index)
            check(stated == expected, f"tensor table, record {index}: {stated}, not {expected}")
            check(is_zero(weights[end:offset]), f"padding before tensor {index}")
            end = offset + length
            data = weights[offset:end]
            check(len(data) == length, "weights section, length")
            self.tensors[kind, layer] = data
            self.summary.append([kind, layer, offset, length, zlib.crc32(data)])
        check(end == len(weights), "weights section, length")

    def classes(self):
        """Outputs of the classifier, without padding."""
        return self.shape["vocabulary" if self.shape["head"] == MASKED_WORDS else "labels"]

    def floats(self, kind, layer=0):
        values = numbers("f", self.tensors[kind, layer])
        check(all(map(math.isfinite, values)), f"tensor {kind} of layer {layer}: not finite")
        return values

    def texts(self, data, what):
        """Offsets `[count + 1]` and text, behind a head of two numbers."""
        count, length = struct.unpack_from("<II", data)
        offsets = struct.unpack_from(f"<{count + 1}I", data, 8)
        text = data[8 + 4 * (count + 1) :]
        check(len(text) == length, f"{what}, text length")
        return split(text, offsets, what)

    def read_labels(self):
        self.labels = self.texts(self.section("labels"), "labels")
        check(len(self.labels) == self.shape["labels"], "labels, count")

    def read_vocabulary(self):
        data = self.section("vocabulary")
        check(len(data) >= 64, "vocabulary, head")
        byte_level = struct.unpack_from("<I", data, 44)[0] == 1
        check(bool(self.features & BYTE_LEVEL_BPE) == byte_level, "required features of the vocabulary")
        kind = ByteLevelBpe if byte_level else WordPiece
        self.vocabulary = kind(data, self.shape)
        check(self.shape["max_tokens"] >= 2 + self.vocabulary.separators, "shape, max_tokens of a pair")

    def read_self_test(self):
        data = self.section("selftest")
        width = {EMBEDDING: self.shape["hidden"], MASKED_WORDS: 16}.get(
            self.shape["head"], self.shape["labels"]
        )
        count, length = struct.unpack_from("<II", data)
        check(count > 0, "selftest, count")
        text = data[8 + count * (16 + 4 * width) :]
        check(len(text) == length, "selftest, text length")
        self.cases = []
        for case in range(count):
            first, first_length, second, second_length = struct.unpack_from("<4I", data, 8 + 16 * case)
            values = struct.unpack_from(f"<{width}I", data, 8 + 16 * count + 4 * width * case)
            check(first + first_length <= length, "selftest, first text")
            pair = None
            if second_length == NONE:
                check(second == 0, "selftest, second offset")
            else:
                check(second + second_length <= length, "selftest, second text")
                pair = utf8(text[second : second + second_length], "selftest")
            single = utf8(text[first : first + first_length], "selftest")
            self.cases.append((single, pair, values))

    def real_columns(self):
        """Which columns of all heads are no padding."""
        size = self.shape["head_size"]
        return [column % pad(size) < size for column in range(self.shape["heads"] * pad(size))]

    def check_weights(self):
        """No -128, zeros in the padding, and sums that are the weights'."""
        s = self.shape
        hidden, width = s["hidden"], pad(s["hidden"])
        for kind, rows, size in [(1, "vocabulary", 1), (3, "positions", 2), (5, "token_types", 2)]:
            data = self.tensors.get((kind, 0), b"")
            check(size > 1 or b"\x80" not in data, "word rows: -128")
            for row in range(s[rows] if hidden < width else 0):
                check(is_zero(data[(row * width + hidden) * size : (row + 1) * width * size]),
                      f"tensor {kind}, padding of row {row}")
            if data:
                check(min(self.floats(kind + 1)) >= 0, f"scales of tensor {kind}")
        for (kind, layer), _ in self.tensors.items():
            if kind in (7, 20, 26, 36):
                values = self.floats(kind, layer)
                for part in range(3):
                    check(not any(values[part * width + hidden : (part + 1) * width]), "norm, padding")
            if kind == 23:
                check(not any(self.floats(kind, layer)[s["intermediate"] :]), "balance, padding")

        attention = self.real_columns()
        hidden = [column < hidden for column in range(width)]
        inner = [column < s["intermediate"] for column in range(pad(s["intermediate"]))]
        classes = [column < self.classes() for column in range(pad(self.classes()))]
        real = {
            16: (hidden, attention * 3),
            18: (attention, hidden),
            21: (hidden, inner),
            24: (inner, hidden),
            32: (hidden, hidden),
            34: (hidden, classes),
        }
        for (kind, layer), (inputs, outputs) in self.products.items():
            name = f"tensor {kind} of layer {layer}"
            check(b"\x80" not in self.tensors[kind, layer], f"{name}: -128")
            for output in range(len(self.halves[kind, layer]) * outputs):
                weights = self.row(kind, layer, output)
                scale, total, bias = self.column(kind, layer, output)
                check(sum(weights) == total, f"{name}: the sum of output {output}")
                check(math.isfinite(scale) and math.isfinite(bias) and scale >= 0, f"{name}: scale")
                if not real[kind][1][output % outputs]:
                    check(not any(weights) and (scale, bias) == (0, 0), f"{name}: padded output")
                for k, w in enumerate(weights):
                    check(w == 0 or real[kind][0][k], f"{name}: padded input {k}")

    def row(self, kind, layer, output):
        """The int8 weights of one output; behind the outputs, of what is left of their weights."""
        inputs, _ = self.products[kind, layer]
        blocks = -(-inputs // 4)
        values = numbers("b", self.tensors[kind, layer][output // 16 * blocks * 64 :][: blocks * 64])
        weights = [0] * (4 * blocks)
        for k in range(4):
            weights[k::4] = values[output % 16 * 4 + k :: 64]
        return weights

    def column(self, kind, layer, output):
        """Scale, sum and bias of one output."""
        record = self.tensors[kind + 1, layer][output // 16 * 192 :][:192]
        at = 4 * (output % 16)
        return (
            struct.unpack_from("<f", record, at)[0],
            struct.unpack_from("<i", record, 64 + at)[0],
            struct.unpack_from("<f", record, 128 + at)[0],
        )

    # The model's value, in float64.

    def embedding(self, kind, row):
        size = 1 if kind == 1 else 2
        width = pad(self.shape["hidden"]) * size
        data = self.tensors[kind, 0][row * width : (row + 1) * width]
        scale = struct.unpack_from("<f", self.tensors[kind + 1, 0], 4 * row)[0]
        return [q * scale for q in numbers("b" if size == 1 else "h", data)]

    def product(self, kind, layer, rows):
        _, outputs = self.products[kind, layer]
        halves = self.halves[kind, layer]
        result = [[0.0] * outputs for _ in rows]
        for first in halves:
            for output in range(outputs):
                weights = self.row(kind, layer, first + output)
                scale, _, bias = self.column(kind, layer, first + output)
                for row, to in zip(rows, result):
                    # A fine product has two rows for each, which bring the bias twice.
                    to[output] += sum(map(mul, row, weights)) * scale + len(halves) * bias
        return result

    def output_weights(self, kind, layer, output):
        """The weights of one output, dequantized, and what one step of them is worth at most."""
        _, outputs = self.products[kind, layer]
        weights = itertools.repeat(0.0)
        for first in self.halves[kind, layer]:
            scale, _, _ = self.column(kind, layer, first + output)
            row = self.row(kind, layer, first + output)
            weights = [w + q * scale for w, q in zip(weights, row)]
        return weights, scale

    def norm(self, kind, layer, rows):
        """The normalized rows, and what the products read of them."""
        hidden, width = self.shape["hidden"], pad(self.shape["hidden"])
        values = self.floats(kind, layer)
        weight, bias, balance = (values[part * width : (part + 1) * width] for part in range(3))
        plain = []
        for row in rows:
            mean = sum(row[:hidden]) / hidden
            variance = sum((x - mean) ** 2 for x in row[:hidden]) / hidden
            inverse = 1 / math.sqrt(variance + self.shape["layer_norm_eps"])
            plain.append([(x - mean) * inverse * w + b for x, w, b in zip(row, weight, bias)])
        balanced = [list(map(mul, row, balance)) for row in plain]
        return plain, balanced if kind == 36 else [self.rotate("hidden", row) for row in balanced]

    def rotate(self, name, row):
        """A balanced row whose width has this name in the shape."""
        together = self.together(name)
        distance = len(row) // together
        return [
            sum(
                row[i % distance + j * distance] * (-1) ** (i // distance & j).bit_count()
                for j in range(together)
            )
            for i in range(len(row))
        ]

    def together(self, name):
        """Values of it that are rotated together."""
        vectors, rest = divmod(self.shape[name], 16)
        rotates = self.features & ROTATION and rest == 0
        return min(vectors & -vectors, 16) if rotates else 1

    def attention(self, layer, rows):
        s = self.shape
        stride, width = pad(s["head_size"]), s["heads"] * pad(s["head_size"])
        projected = self.product(16, layer, rows)
        context = [[] for _ in rows]
        for head in range(s["heads"]):
            part = slice(head * stride, (head + 1) * stride)
            keys = [row[width : 2 * width][part] for row in projected]
            values = [row[2 * width :][part] for row in projected]
            for row, to in zip(projected, context):
                scores = [sum(map(mul, row[part], key)) / math.sqrt(s["head_size"]) for key in keys]
                most = max(scores)
                powers = [math.exp(score - most) for score in scores]
                total = sum(powers)
                to.extend(
                    sum(p * value[c] for p, value in zip(powers, values)) / total
                    for c in range(stride)
                )
        return context

    def encode(self, ids, token_types):
        """The last layer's rows, and what the head's first product reads of them."""
        s = self.shape
        rows = []
        for position, (token, kind) in enumerate(zip(ids, token_types)):
            row = [a + b for a, b in zip(self.embedding(1, token), self.embedding(3, position))]
            if s["token_types"]:
                other = self.embedding(5, min(kind, s["token_types"] - 1))
                row = [a + b for a, b in zip(row, other)]
            rows.append(row)
        residual, rows = self.norm(7, 0, rows)

        def add(update):
            return [[a + b for a, b in zip(x, y)] for x, y in zip(update, residual)]

        for layer in range(s["layers"]):
            context = self.attention(layer, rows)
            residual, rows = self.norm(20, layer, add(self.product(18, layer, context)))
            balance = self.floats(23, layer)
            inner = [
                self.rotate(
                    "intermediate", [activate(s["activation"], x) * f for x, f in zip(row, balance)]
                )
                for row in self.product(21, layer, rows)
            ]
            residual, rows = self.norm(26, layer, add(self.product(24, layer, inner)))
        return residual, rows

    def head_dense(self, rows):
        function = self.shape["head_activation"]
        return [[activate(function, x) for x in row] for row in self.product(32, 0, rows)]

    def self_test_values(self, ids, token_types):
        s = self.shape
        plain, rows = self.encode(ids, token_types)
        if s["head"] == CLASSIFICATION:
            return self.product(34, 0, self.head_dense(rows[:1]))[0][: s["labels"]]
        if s["head"] == EMBEDDING:
            return self.pool([row[: s["hidden"]] for row in plain])
        if s["head"] == MASKED_WORDS:
            masks = [row for row, id in zip(rows, ids) if id == s["head_options"]]
            if not masks:
                return [0.0] * 16
            _, dense = self.norm(36, 0, self.head_dense(masks[:1]))
            logits = self.product(34, 0, dense)[0]
            return [sum(logits[lane::16]) for lane in range(16)]
        return [sum(column) for column in zip(*self.product(34, 0, rows))][: s["labels"]]

    def pool(self, rows):
        """The embedding of a text."""
        vector = rows[0]
        if self.shape["head_options"] & MEAN:
            vector = [sum(column) / len(rows) for column in zip(*rows)]
        if self.shape["head_options"] & NORMALIZED:
            norm = max(math.sqrt(sum(x * x for x in vector)), 1e-12)
            vector = [x / norm for x in vector]
        return vector

    def multiplications(self, tokens):
        return tokens * sum(inputs * outputs for inputs, outputs in self.products.values())


def activate(function, x):
    if function == 1:
        return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))
    if function == 2:
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return max(x, 0.0) if function == 3 else math.tanh(x)


def split(text, offsets, what):
    check(offsets[0] == 0 and offsets[-1] == len(text), f"{what}, offsets")
    check(all(a <= b for a, b in zip(offsets, offsets[1:])), f"{what}, offsets")
    return [utf8(text[a:b], what) for a, b in zip(offsets, offsets[1:])]


class Vocabulary:
    """What both kinds have."""

    FIELDS = (
        "tokens nodes added_raw added_normalized prefix_text added_text max_word_chars "
        "unknown classification separator flags kind merges"
    ).split()
    # Special tokens between the two texts of a pair.
    separators = 1

    def __init__(self, data, shape):
        head = dict(zip(self.FIELDS, struct.unpack_from("<13I", data)))
        self.head, self.rows, self.max_tokens = head, shape["vocabulary"], shape["max_tokens"]
        check(is_zero(data[52:64]), "vocabulary, reserved")
        check(head["tokens"] <= self.rows, "vocabulary, tokens")
        check(all(head[id] < self.rows for id in ["unknown", "classification", "separator"]),
              "vocabulary, special ids")
        check(head["flags"] < 16, "vocabulary, flags")
        self.id_bytes = 2 if head["tokens"] <= 1 << 16 else 3

    def is_zero(self, *fields):
        for field in fields:
            check(self.head[field] == 0, f"vocabulary, {field}")

    def added_bytes(self):
        return 16 * (self.head["added_raw"] + self.head["added_normalized"])

    def read_added(self, records, added_text):
        self.added = []
        for index in range(len(records) // 16):
            id, offset, length, flags = struct.unpack_from("<4I", records, 16 * index)
            check(id < self.rows and 1 <= length <= 512 and flags < 8, f"added token {index}")
            check(offset + length <= len(added_text), f"added token {index}, text")
            text = utf8(added_text[offset : offset + length], "added token")
            self.added.append((text, id, flags))
        self.raw = self.added[: self.head["added_raw"]]
        self.normalized = self.added[self.head["added_raw"] :]
        for group in [self.raw, self.normalized]:
            texts = [text.encode() for text, _, _ in group]
            check(all(a < b for a, b in zip(texts, texts[1:])), "added tokens, order")

    def words(self, text):
        """The ids of each word and added token, and whether it is a word."""
        for raw in cut(text, self.raw):
            if isinstance(raw, int):
                yield [raw], False
                continue
            for part in cut(self.normalize(raw), self.normalized):
                if isinstance(part, int):
                    yield [part], False
                else:
                    yield from ((ids, True) for ids in self.encode(part))

    def ids_and_length(self, text):
        """The ids of a text, and its length as truncation reckons it."""
        ids, length = [], None
        for word, is_word in self.words(text):
            ids += word
            if length is None and is_word and len(ids) >= self.max_tokens:
                length = len(ids)
        return ids, len(ids) if length is None else length

    def tokenize(self, first, second):
        """Ids and types, truncated longest first."""
        begin, end = [self.head["classification"]], [self.head["separator"]]
        ids, a = self.ids_and_length(first)
        if second is None:
            ids = begin + ids[: self.max_tokens - 2] + end
            return ids, [0] * len(ids)
        others, b = self.ids_and_length(second)
        room = self.max_tokens - 2 - self.separators
        if a + b > room:
            short = min(a, b, room // 2)
            a, b = (short, room - short) if a <= b else (room - short, short)
        ids = begin + ids[:a] + end * self.separators
        others = others[:b] + end
        return ids + others, [0] * len(ids) + [2 - self.separators] * len(others)


class WordPiece(Vocabulary):
    def __init__(self, data, shape):
        super().__init__(data, shape)
        head = self.head
        nodes = head["nodes"]
        self.is_zero("kind", "merges")
        check(1 <= nodes <= 1 << 30, "vocabulary, nodes")
        check(head["prefix_text"] <= 512, "vocabulary, prefix_text")
        degrees, ends, starts, ranks, records, labels, ids, self.prefix, added_text = parts_of(
            data,
            8 * -(-(2 * nodes - 1) // 64),
            8 * -(-nodes // 64),
            4 * -(-nodes // 16),
            4 * -(-nodes // 256),
            self.added_bytes(),
            nodes,
            head["tokens"] * self.id_bytes,
            head["prefix_text"],
            head["added_text"],
        )
        self.read_trie(degrees, ends, numbers("I", starts), numbers("I", ranks), labels, ids)
        self.read_added(records, added_text)

    def read_trie(self, degrees, ends, starts, ranks, labels, ids):
        """The tokens, from the nodes in their order."""
        count = len(labels)
        bit = lambda bits, at: bits[at // 8] >> at % 8 & 1
        texts, at, self.ids = [b""], 0, {}
        width = self.id_bytes
        check(labels[0] == 0, "trie, root")
        for node in range(count):
            if node % 16 == 0:
                check(starts[node // 16] == at, f"trie, start of node {node}")
            if node % 256 == 0:
                check(ranks[node // 256] == len(self.ids), f"trie, rank of node {node}")
            check(node < len(texts), "trie, a node without parent")
            if bit(ends, node):
                start = width * len(self.ids)
                id = int.from_bytes(ids[start : start + width], "little")
                self.ids[texts[node]] = id
            first = len(texts)
            while bit(degrees, at):
                check(len(texts) < count, "trie, more children than nodes")
                texts.append(texts[node] + labels[len(texts) : len(texts) + 1])
                at += 1
            at += 1
            children = labels[first : len(texts)]
            check(list(children) == sorted(set(children)), f"trie, children of node {node}")
        check(at == 2 * count - 1 and len(texts) == count, "trie, nodes")
        for bits, used in [(degrees, at), (ends, count)]:
            check(not any(bit(bits, spare) for spare in range(used, 8 * len(bits))), "trie, bits")
        check(sorted(self.ids.values()) == list(range(self.head["tokens"])), "trie, ids")
        self.tokens = [utf8(text, "tokens") for text in sorted(self.ids, key=self.ids.get)]
        most = self.head["max_word_chars"] + len(self.prefix.decode())
        check(all(len(t.encode()) <= 512 for t in self.tokens if len(t) <= most), "longest token")

    def find(self, text):
        return self.ids.get(text)

    def pieces(self, word):
        if len(word) > self.head["max_word_chars"]:
            return [self.head["unknown"]]
        ids, start = [], 0
        while start < len(word):
            prefix = self.prefix if start else b""
            for end in range(len(word), start, -1):
                id = self.find(prefix + word[start:end].encode())
                if id is not None:
                    break
            else:
                return [self.head["unknown"]]
            ids.append(id)
            start = end
        return ids

    def normalize(self, text):
        """Of a text in ASCII."""
        if self.head["flags"] & 1:
            text = "".join(c if " " <= c < "\x7f" else " " if c in "\t\n\r" else "" for c in text)
        return text.lower() if self.head["flags"] & 8 else text

    def encode(self, text):
        words = "".join(
            " " if c in WHITESPACE else f" {c} " if c in string.punctuation else c for c in text
        )
        return [self.pieces(word) for word in words.split(" ") if word]

    def can_read(self, text):
        return text.isascii()


class ByteLevelBpe(Vocabulary):
    PREFIX_SPACE, DOUBLE_SEPARATOR = 1, 8
    CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
    # Of a text's characters as `character_kind` gives them.
    WORD = re.compile(r" ?L+| ?N+| ?O+|[ S]+(?![^ S])|[ S]+")

    def __init__(self, data, shape):
        super().__init__(data, shape)
        head = self.head
        self.is_zero("nodes", "prefix_text", "max_word_chars", "unknown")
        check(head["merges"] <= 1 << 24, "vocabulary, merges")
        rank_bytes = 2 if head["merges"] <= 1 << 16 else 3
        starts, records, of_bytes, rights, made, ranks, added_text = parts_of(
            data,
            4 * (head["tokens"] + 1),
            self.added_bytes(),
            256 * self.id_bytes,
            head["merges"] * self.id_bytes,
            head["merges"] * self.id_bytes,
            head["merges"] * rank_bytes,
            head["added_text"],
        )
        if head["flags"] & self.DOUBLE_SEPARATOR:
            self.separators = 2
        self.read_added(records, added_text)
        self.of_bytes = integers(of_bytes, self.id_bytes)
        check(max(self.of_bytes) < head["tokens"], "tokens of bytes")
        self.read_merges(
            numbers("I", starts),
            integers(rights, self.id_bytes),
            integers(made, self.id_bytes),
            integers(ranks, rank_bytes),
        )
        self.read_tokens()

    def read_merges(self, starts, rights, made, ranks):
        check(starts[0] == 0 and starts[-1] == len(rights), "merges, first or last start")
        check(all(a <= b for a, b in zip(starts, starts[1:])), "merges, starts")
        check(all(id < self.head["tokens"] for id in rights + made), "merges, tokens")
        check(sorted(ranks) == list(range(len(ranks))), "merges, ranks")
        self.merges = {}
        for left, (start, end) in enumerate(zip(starts, starts[1:])):
            own = rights[start:end]
            check(all(a < b for a, b in zip(own, own[1:])), f"merges of token {left}, order")
            for at in range(start, end):
                self.merges[left, rights[at]] = (ranks[at], made[at])

    def read_tokens(self):
        """The bytes of each token that can be made of bytes; None of the others."""
        texts = [None] * self.head["tokens"]

        def name(id, text):
            new = texts[id] is None
            check(new or texts[id] == text, f"token {id} is made of different bytes")
            texts[id] = text
            return new

        for byte, id in enumerate(self.of_bytes):
            name(id, bytes([byte]))
        more = True
        while more:
            more = False
            for (left, right), (_, made) in self.merges.items():
                if texts[left] is not None and texts[right] is not None:
                    more |= name(made, texts[left] + texts[right])
        # One character for each byte, since JSON has no bytes.
        self.tokens = [None if text is None else text.decode("latin-1") for text in texts]

    def normalize(self, text):
        return text

    def encode(self, text):
        if self.head["flags"] & self.PREFIX_SPACE and not text.startswith(" "):
            text = " " + text
        kinds, at, words = "".join(map(character_kind, text)), 0, []
        while at < len(text):
            lengths = [len(found) for found in self.CONTRACTIONS if text.startswith(found, at)]
            end = at + lengths[0] if lengths else self.WORD.match(kinds, at).end()
            words.append(self.merge(text[at:end].encode()))
            at = end
        return words

    def merge(self, word):
        ids = [self.of_bytes[byte] for byte in word]
        while True:
            pairs = [(self.merges.get(pair), at) for at, pair in enumerate(zip(ids, ids[1:]))]
            found = [(*merge, at) for merge, at in pairs if merge]
            if not found:
                return ids
            _, made, at = min(found, key=lambda merge: (merge[0], merge[2]))
            ids[at : at + 2] = [made]

    def can_read(self, text):
        return True


def parts_of(data, *lengths):
    """The arrays behind the head of a vocabulary."""
    parts, end = [], 64
    for length in lengths:
        parts.append(data[end : end + length])
        end += length
    check(end == len(data), "vocabulary, length")
    return parts


def integers(data, size):
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def character_kind(c):
    """A letter, a number, a space, other whitespace, or none of these."""
    if c == " ":
        return c
    kind = unicodedata.category(c)[0]
    return "S" if c in WHITESPACE else kind if kind in "LN" else "O"


def is_word(c):
    return c.isalnum() or c == "_"


def cut(text, added):
    """The parts of a text: ids of added tokens, and the texts between them."""
    parts, done, at = [], 0, 0
    while at < len(text):
        found = [token for token in added if text.startswith(token[0], at)]
        if not found:
            at += 1
            continue
        match, id, flags = max(found, key=lambda token: len(token[0]))
        start, end = at, at + len(match)
        at = end
        neighbours = text[start - 1 : start] + text[end : end + 1]
        if flags & SINGLE_WORD and any(map(is_word, neighbours)):
            continue
        while flags & STRIP_LEFT and start > done and text[start - 1] in WHITESPACE:
            start -= 1
        while flags & STRIP_RIGHT and end < len(text) and text[end] in WHITESPACE:
            end += 1
        parts += [text[done:start], id]
        done = end
    return [part for part in [*parts, text[done:]] if part != ""]


def tokenize(vocabulary, first, second):
    if not vocabulary.can_read(first + (second or "")):
        return {}
    ids, types = vocabulary.tokenize(first, second)
    return {"ids": ids, "token_types": types}


def main():
    check(len(sys.argv) in (2, 3), "give the name of a model, and of texts if you like")
    with open(sys.argv[1], "rb") as file:
        model = File(file.read())
    vocabulary = model.vocabulary
    texts = []
    if len(sys.argv) == 3:
        with open(sys.argv[2], encoding="utf-8") as file:
            texts = [tokenize(vocabulary, *json.loads(line)) for line in file]
    cases = []
    for first, second, values in model.cases:
        case = {"first": first, "second": second, "value_bits": values}
        case |= tokenize(vocabulary, first, second)
        if "ids" in case and model.multiplications(len(case["ids"])) <= MOST_MULTIPLICATIONS:
            case["float64_values"] = model.self_test_values(case["ids"], case["token_types"])
        cases.append(case)
    # The first weights of the first layer's query as the checkpoint has them: neither rotated nor
    # balanced.
    width = pad(model.shape["hidden"])
    balance = model.floats(7)[2 * width :]
    rotated, step = model.output_weights(16, 0, 0)
    query = list(map(mul, model.rotate("hidden", rotated[:width]), balance))
    summary = {
        "version": model.version,
        "shape": model.shape,
        "sections": [[name, *model.sections[name]] for name in SECTIONS],
        "tensors": model.summary,
        "labels": model.labels,
        "vocabulary": vocabulary.head,
        "tokens": vocabulary.tokens,
        "word_row": model.embedding(1, vocabulary.head["separator"])[: model.shape["hidden"]],
        "query_row": query[: model.shape["hidden"]],
        "query_step": step * max(balance) * model.together("hidden"),
        "selftest": cases,
        "texts": texts,
    }
    json.dump(summary, sys.stdout)
    print()


if __name__ == "__main__":
    main()
