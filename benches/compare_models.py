#!/usr/bin/env python3
"""How long models take beside another: docs/performance.md has figures.

    compare_models.py FILBERT ROUNDS BASE.filbert OTHER.filbert...

FILBERT is the command. Runs `filbert bench` on all models in turn, each round in another order, and
prints for each of the others the median over all rounds of the quotients of its median time and
that of the first, for each length.
"""

import json
import statistics
import subprocess
import sys

TOKENS = (16, 64, 128)


def measure(command, model):
    """The median time for each length."""
    tokens = ",".join(map(str, TOKENS))
    arguments = [command, "bench", model, "--tokens", tokens, "--seconds", "0.3", "--json"]
    output = subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout
    return {run["tokens"]: run["p50_ms"] for run in json.loads(output)["runs"]}


def compare(command, rounds, base, others):
    """For each of the others and each length, the median quotient."""
    quotients = {(other, tokens): [] for other in others for tokens in TOKENS}
    models = [base, *others]
    for number in range(rounds):
        start = number % len(models)
        times = {model: measure(command, model) for model in models[start:] + models[:start]}
        for other, tokens in quotients:
            quotients[other, tokens].append(times[other][tokens] / times[base][tokens])
    return {key: statistics.median(values) for key, values in quotients.items()}


def main():
    command, rounds, base, *others = sys.argv[1:]
    for (other, tokens), quotient in compare(command, int(rounds), base, others).items():
        print(f"{other}, {tokens} tokens: {quotient:.3f}")


if __name__ == "__main__":
    main()
