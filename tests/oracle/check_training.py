"""Compares `filbert train` with scikit-learn's logistic regression on PyTorch's float32 features.

    python tests/oracle/check_training.py FILBERT CHECKPOINT TRAIN_TSV DEV_TSV

FILBERT is the command. Needs torch, transformers and scikit-learn. Prints a table, and fails if
an accuracy on DEV_TSV differs by more than 0.3 points. That takes int8 features and training
together, so use some hundred texts at least: of 300, one text is 0.33 points.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from transformers import AutoModel, AutoTokenizer

STRENGTHS = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0]
LIMIT = 0.003
BATCH = 64


def read(path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()[1:]
    texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
    return list(texts), np.array(labels)


@torch.no_grad()
def compute_features(checkpoint, texts):
    """The first token's row and the mean of all rows of the last layer."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint).eval()
    order = np.argsort([len(text) for text in texts])
    first = np.zeros((len(texts), model.config.hidden_size))
    mean = np.zeros_like(first)
    for start in range(0, len(texts), BATCH):
        batch = order[start : start + BATCH]
        tokens = tokenizer(
            [texts[i] for i in batch], padding=True, truncation=True, return_tensors="pt"
        )
        rows = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        first[batch] = rows[:, 0].numpy()
        mean[batch] = ((rows * mask).sum(1) / mask.sum(1)).numpy()
    return {"cls": first, "mean": mean}


def train(command, model, train_tsv, dev_tsv, kind, strength):
    """The accuracy on the second file, and the strength."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--features", kind, "--strength", strength, "--eval", dev_tsv]
        output = Path(folder) / "trained.filbert-head"
        run = subprocess.run(
            [command, "train", model, train_tsv, "-o", output, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
    accuracy = re.search(r"^accuracy +([0-9.]+) %", run.stdout, re.MULTILINE)
    chosen = re.search(r"^trained +strength ([0-9.e+-]+),", run.stdout, re.MULTILINE)
    return float(accuracy.group(1)) / 100, float(chosen.group(1))


def main():
    command, checkpoint, train_tsv, dev_tsv = sys.argv[1:]
    texts, labels = read(train_tsv)
    dev_texts, dev_labels = read(dev_tsv)
    features = compute_features(checkpoint, texts)
    dev_features = compute_features(checkpoint, dev_texts)
    failed = False
    print("| features | C | scikit-learn | `filbert train` |\n|---|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "encoder.filbert"
        subprocess.run([command, "convert", checkpoint, "-o", model], check=True)
        for kind in ("cls", "mean"):
            for strength in ("0.01", "1", "auto"):
                if strength == "auto":
                    search = LogisticRegressionCV(Cs=STRENGTHS, cv=5, max_iter=5000)
                else:
                    search = LogisticRegression(C=float(strength), max_iter=5000)
                search.fit(features[kind], labels)
                expected = search.score(dev_features[kind], dev_labels)
                found, chosen = train(command, model, train_tsv, dev_tsv, kind, strength)
                name = strength
                if strength == "auto":
                    name = f"{np.ravel(search.C_)[0]:g}, {chosen:g} (cross-validated)"
                print(f"| {kind} | {name} | {100 * expected:.2f} % | {100 * found:.2f} % |")
                failed |= abs(found - expected) > LIMIT
    if failed:
        sys.exit(f"an accuracy differs by more than {100 * LIMIT:.2f} points")


if __name__ == "__main__":
    main()
