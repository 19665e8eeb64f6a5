"""Figures of the comparison: statistics, Markdown tables and the plot. Standard library only.

The results are the dictionary that compare.py writes to results.json. A cell of it is one
model, number of threads and number of tokens, with the median call of each engine in each
round, in nanoseconds.
"""

import html
import math
import statistics

FILBERT = "filbert"


def median(values):
    return statistics.median(values)


def significant(value):
    """Three digits, as tables have them: 0.847, 12.3, 248."""
    if value <= 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    # 9.996 has three digits only before it is rounded.
    digits = max(0, 2 - math.floor(math.log10(round(value, digits))))
    return f"{value:.{digits}f}"


def milliseconds(nanoseconds):
    return significant(nanoseconds / 1e6)


def best_peer(cell):
    """The peer with the lowest median over the rounds, or None."""
    peers = {name: median(rounds) for name, rounds in cell["rounds"].items() if name != FILBERT}
    return min(peers, key=peers.get, default=None)


def ratio(cell):
    """How many times faster Filbert is than the best peer: by the medians, and the lowest and
    highest of the rounds, with the same peer. None without both."""
    peer = best_peer(cell)
    if peer is None or FILBERT not in cell["rounds"]:
        return None
    filbert, other = cell["rounds"][FILBERT], cell["rounds"][peer]
    by_round = [theirs / ours for ours, theirs in zip(filbert, other)]
    return median(other) / median(filbert), min(by_round), max(by_round)


def cells_of(model, threads):
    cells = [cell for cell in model["cells"] if cell["threads"] == threads]
    return sorted(cells, key=lambda cell: cell["tokens"])


def thread_counts(model):
    return sorted({cell["threads"] for cell in model["cells"]})


def times(count, noun):
    return f"{count} {noun}" + ("" if count == 1 else "s")


def row(fields):
    return "| " + " | ".join(fields) + " |"


def table(head, rows):
    return [row(head), row(["---"] + ["---:"] * (len(head) - 1)), *map(row, rows)]


def latency_table(model, threads, labels):
    """One row an engine, one column a length; the best peer of each column in bold."""
    cells = cells_of(model, threads)
    names = [name for name in labels if any(name in cell["rounds"] for cell in cells)]
    rows = []
    for name in names:
        fields = [labels[name]]
        for cell in cells:
            rounds = cell["rounds"].get(name)
            if not rounds:
                fields.append("–")
                continue
            value = milliseconds(median(rounds))
            if name == best_peer(cell):
                value = f"**{value}**"
            fields.append(f"{value} [{milliseconds(min(rounds))}]")
        rows.append(fields)
    ratios = [ratio(cell) for cell in cells]
    if any(ratios):
        fields = ["Filbert is … times faster than the best peer"]
        for values in ratios:
            if values is None:
                fields.append("–")
            else:
                overall, low, high = values
                fields.append(f"**{overall:.2f}** ({low:.2f}–{high:.2f})")
        rows.append(fields)
    head = [f"{model['title']}, {times(threads, 'thread')}"]
    head += [str(cell["tokens"]) for cell in cells]
    return table(head, rows)


def logits_table(models, labels):
    names = [name for name in labels if any(name in model["logits"] for model in models)]
    rows = []
    for name in names:
        fields = [labels[name]]
        for model in models:
            found = model["logits"].get(name)
            fields.append(f"{found['max']:.2g} / {found['mean']:.2g}" if found else "–")
        rows.append(fields)
    return table(["", *[model["title"] for model in models]], rows)


def throughput_table(throughput, labels):
    rows = []
    best = best_throughput(throughput)
    for name in labels:
        if name not in best:
            continue
        variant = best[name]
        speed = throughput["texts"] / median(variant["rounds"]) * 1e9
        peak = throughput["texts"] / min(variant["rounds"]) * 1e9
        rows.append([labels[name], f"{speed:.0f} [{peak:.0f}]", variant["setting"]])
    head = ["", "texts a second", "best setting"]
    return table(head, rows)


def best_throughput(throughput):
    """The fastest variant of each engine."""
    best = {}
    for variant in throughput["variants"]:
        known = best.get(variant["engine"])
        if known is None or median(variant["rounds"]) < median(known["rounds"]):
            best[variant["engine"]] = variant
    return best


def cold_table(cold, labels):
    """Times from the start of the process, and from when a Python host was ready."""
    rows = []
    for name in labels:
        found = cold["engines"].get(name)
        if not found:
            continue
        rows.append(
            [
                labels[name],
                milliseconds(median(found["open"])),
                milliseconds(median(found["from_host"])),
                milliseconds(median(found["from_start"])),
                significant(median(found["from_host"]) / median(found["warm"])),
                significant(median(found["private_kib"]) / 1024),
                significant(median(found["private_long_kib"]) / 1024),
            ]
        )
    head = [
        cold["title"],
        "open, ms",
        "to the first answer, ms",
        "with the Python host's start, ms",
        "first answer / warm one",
        "private dirty memory above the host's, MiB",
        f"after {cold['longer']} tokens, MiB",
    ]
    return table(head, rows)


def markdown(results):
    """The whole report."""
    labels = results["labels"]
    machine, settings = results["machine"], results["settings"]
    models = list(results["models"].values())
    lines = [
        "# Filbert and other engines",
        "",
        f"{machine['cpu']}, {times(machine['cores'], 'core')}, {machine['system']}; "
        f"{results['date']}; Filbert at {results['commit']}.",
        "",
    ]
    if settings["isa"]:
        lines += [f"Engines are held to {settings['isa'].upper()}.", ""]
    if any(model["cells"] for model in models):
        lines += [
            "Milliseconds for one text, median of "
            f"{times(settings['rounds'], 'interleaved round')} [best round], by number of tokens. The best peer in bold. In the last row the "
            "ratio of the medians, and the lowest and highest of the rounds. Filbert "
            "tokenizes the text; the others get its token ids.",
            "",
        ]
    for model in models:
        for threads in thread_counts(model):
            lines += latency_table(model, threads, labels) + [""]
    if any(model["logits"] for model in models):
        lines += [
            "Absolute difference of the logits to ONNX Runtime float32, largest / mean:",
            "",
            *logits_table(models, labels),
            "",
        ]
    throughput = results.get("throughput")
    if throughput:
        lines += [
            f"Throughput: {throughput['texts']} {throughput['source']}, {throughput['title']}, "
            f"{times(throughput['threads'], 'thread')}, each engine at its best batching:",
            "",
            *throughput_table(throughput, labels),
            "",
        ]
    cold = results.get("cold")
    if cold:
        first = next(iter(cold.values()))
        lines += [
            f"Cold start: {first['tokens']} tokens, one thread, page cache warm, median of "
            f"{times(first['starts'], 'start')}, each a fresh process:",
            "",
        ]
        for one in cold.values():
            lines += cold_table(one, labels) + [""]
    lines += ["Models:", ""]
    lines += [f"- {model['title']}: {model['source']}." for model in models]
    lines += ["", "Engines:", ""]
    for name, label in labels.items():
        found = results["engines"].get(name)
        if found:
            lines.append(f"- {label} {found['version']}: {found['settings']}.")
    failures = [
        f"- {labels[name]}{', ' + model['title'] if model else ''}: {reason}"
        for name, model, reason in (
            *[(name, None, reason) for name, reason in results["left_out"].items()],
            *[
                (name, model, reason)
                for model in models
                for name, reason in model["failed"].items()
            ],
        )
    ]
    if failures:
        lines += ["", "Not measured:", "", *failures]
    return "\n".join(lines) + "\n"


# The plot. Colours that stay apart for the colour-blind; float32 engines are dashed.
INK, GREY, RULE = "#1f2328", "#59636e", "#e4e7eb"
COLOURS = {
    "onnxruntime": "#0072b2",
    "openvino": "#d55e00",
    "ctranslate2": "#009e73",
    "rten": "#cc79a7",
    "tract": "#8c6d00",
}
FILBERT_COLOUR = "#1f2328"


def style(name):
    """Colour, dashes and marker of an engine's line."""
    if name == FILBERT:
        return FILBERT_COLOUR, "", "circle"
    colour = COLOURS.get(name.split("-")[0], GREY)
    if name.endswith(("-fused", "-fixed")):
        return colour, "", "diamond"
    if name.endswith("-int8"):
        return colour, "", "square"
    return colour, "3 3", "hollow"


def marker(name, x, y):
    colour, _, shape = style(name)
    if shape == "square":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
    if shape == "diamond":
        return (
            f'<path d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z" '
            f'fill="#fff" stroke="{colour}" stroke-width="1.6"/>'
        )
    if shape == "hollow":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="#fff" stroke="{colour}" '
            'stroke-width="1.4"/>'
        )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def text(x, y, content, size=12, anchor="start", colour=INK, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}" font-weight="{weight}">{html.escape(content)}</text>'
    )


# Where the plot may have a line: ratios that people can read between.
RATIOS = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 1000]


def ticks(low, high):
    """The ratios from the last that is not above `low` to the first not below `high`."""
    first = max((step for step in RATIOS if step <= low), default=RATIOS[0])
    last = min((step for step in RATIOS if step >= high), default=RATIOS[-1])
    return [step for step in RATIOS if first <= step <= last]


def relative(cell, name):
    """An engine's time in Filbert's."""
    return median(cell["rounds"][name]) / median(cell["rounds"][FILBERT])


def svg(results):
    """Each engine's time in Filbert's against tokens, both logarithmic: a panel for each model
    and number of threads. None if nothing was measured beside Filbert."""
    labels = results["labels"]
    isa = results["settings"]["isa"]
    models = [
        {**model, "cells": [cell for cell in model["cells"] if FILBERT in cell["rounds"]]}
        for model in results["models"].values()
    ]
    models = [model for model in models if model["cells"]]
    if not models:
        return None
    threads = sorted({count for model in models for count in thread_counts(model)})
    used = [
        name
        for name in labels
        if any(name in cell["rounds"] for model in models for cell in model["cells"])
    ]
    ratios = [
        relative(cell, name)
        for model in models
        for cell in model["cells"]
        for name in cell["rounds"]
    ]
    marks = ticks(min(ratios), max(ratios))
    width, height, left, top, gap_x, gap_y = 300, 250, 74, 88, 36, 76
    total_width = max(left + len(models) * (width + gap_x), 760)
    panels_end = top + len(threads) * (height + gap_y)
    columns = total_width // 250
    total_height = panels_end + math.ceil(len(used) / columns) * 22
    held = f", held to {isa.upper()}" if isa else ""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" '
        f'width="{total_width}" height="{total_height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f'<rect width="{total_width}" height="{total_height}" fill="#fff"/>',
        text(24, 30, "How many times longer than Filbert?", 18, weight="600"),
        text(
            24,
            50,
            "Time to classify one text, by its number of tokens, in Filbert's time. "
            f"{results['machine']['cpu']}{held}.",
            12,
            colour=GREY,
        ),
    ]
    for column, model in enumerate(models):
        for line, count in enumerate(threads):
            x0, y0 = left + column * (width + gap_x), top + line * (height + gap_y)
            out += panel(model, count, labels, marks, x0, y0, width, height, column == 0)
    for index, name in enumerate(used):
        x = 34 + (index % columns) * ((total_width - 40) / columns)
        y = panels_end - 4 + (index // columns) * 22
        colour, dashes, _ = style(name)
        out.append(
            f'<path d="M{x:.1f} {y:.1f}h26" stroke="{colour}" '
            f'stroke-width="{3 if name == FILBERT else 1.6}" stroke-dasharray="{dashes}"/>'
        )
        out.append(marker(name, x + 13, y))
        weight = "600" if name == FILBERT else "normal"
        out.append(text(x + 33, y + 4, labels[name], 12, weight=weight))
    return "\n".join(out) + "\n</svg>\n"


def panel(model, threads, labels, marks, x0, y0, width, height, first):
    cells = cells_of(model, threads)
    lengths = sorted({cell["tokens"] for cell in model["cells"]})
    low, high = math.log(marks[0]), math.log(marks[-1])
    start, end = math.log(lengths[0]), math.log(lengths[-1])

    def x(tokens):
        place = (math.log(tokens) - start) / (end - start) if end > start else 0.5
        return x0 + 20 + place * (width - 40)

    def y(value):
        place = (math.log(value) - low) / (high - low) if high > low else 0.5
        return y0 + height - place * height

    out = [text(x0, y0 - 10, f"{model['title']}, {times(threads, 'thread')}", 13, weight="600")]
    for mark in marks:
        out.append(f'<path d="M{x0} {y(mark):.1f}h{width}" stroke="{RULE}" stroke-width="1"/>')
        out.append(text(x0 - 6, y(mark) + 4, f"{mark:g}", 11, "end", GREY))
    if first:
        out.append(text(x0 - 6, y0 + height + 17, "tokens", 11, "end", GREY))
        out.append(text(x0 - 6, y0 + height + 33, "Filbert, ms", 11, "end", GREY))
    for cell in cells:
        place, below = x(cell["tokens"]), y0 + height
        own = milliseconds(median(cell["rounds"][FILBERT]))
        out.append(text(place, below + 17, str(cell["tokens"]), 11, "middle", GREY))
        out.append(text(place, below + 33, own, 11, "middle", INK, "600"))
    # Filbert last, on top of the others.
    for name in sorted(labels, key=lambda name: name == FILBERT):
        points = [
            (x(cell["tokens"]), y(relative(cell, name)))
            for cell in cells
            if cell["rounds"].get(name)
        ]
        if not points:
            continue
        colour, dashes, _ = style(name)
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        out.append(
            f'<path d="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{3 if name == FILBERT else 1.6}" stroke-dasharray="{dashes}"/>'
        )
        out += [marker(name, a, b) for a, b in points]
    return out
