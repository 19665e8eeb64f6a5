//! What int8 costs, as one page that needs nothing beside itself.

use std::fmt::Write;

use filbert_convert::comparison::ComparedText;
use filbert_convert::dataset::{Dataset, Example};
use filbert_convert::evaluation::{ClassFigures, Evaluation};
use filbert_convert::quantization::ProductError;
use filbert_convert::sensitivity::Sensitivity;

use crate::page::{self, escape};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 16.0;

/// Columns of the histogram.
const COLUMNS: usize = 24;

/// Texts that differ most, of those that keep their label; and products.
const FARTHEST: usize = 10;

/// The page. The texts are those of the data set, which the report in the `.filbert` file does
/// not hold.
pub(super) fn page(
    model: &str,
    evaluation: &Evaluation,
    texts: &[ComparedText],
    (products, sensitivities): (&[ProductError], &[Sensitivity]),
    dataset: &Dataset,
) -> String {
    let title = escape(&format!("{model} on {}", evaluation.dataset));
    let mut page = page::begin(&format!("{title}: what int8 costs"));
    let _ = writeln!(page, "<h1>What int8 costs: {title}</h1>");
    push_facts(&mut page, evaluation);
    push_plots(&mut page, texts);
    if let Some(spans) = &evaluation.spans {
        let reference = spans.reference_per_type.as_deref();
        push_classes(
            &mut page,
            ("Kind by kind", "kind"),
            &spans.per_type,
            reference,
        );
    }
    let reference = evaluation.reference_per_class.as_deref();
    push_classes(
        &mut page,
        ("Label by label", "label"),
        &evaluation.per_class,
        reference,
    );
    push_sensitivities(&mut page, sensitivities);
    push_products(&mut page, products);
    push_texts(&mut page, evaluation, texts, dataset);
    page.push_str("</body>\n</html>\n");
    page
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn push_facts(page: &mut String, evaluation: &Evaluation) {
    let logits = evaluation.mean_abs_diff.zip(evaluation.max_abs_diff);
    let flipped = evaluation.flipped.as_ref().map_or(0, Vec::len);
    let facts = [
        ("Texts", Some(evaluation.count.to_string())),
        (
            "F1 of spans",
            evaluation.spans.as_ref().map(|spans| {
                let float32 = spans.reference_f1.map(percent).unwrap_or_default();
                format!("{}, in float32 {float32}", percent(spans.f1))
            }),
        ),
        ("int8", Some(percent(evaluation.accuracy))),
        ("float32", evaluation.reference_accuracy.map(percent)),
        (
            "Lost",
            evaluation
                .accuracy_drop
                .map(|d| format!("{d:.2} points of accuracy")),
        ),
        (
            "Same label",
            evaluation
                .agreement
                .map(|share| format!("{}, {flipped} differ", percent(share))),
        ),
        (
            "Logits",
            logits.map(|(mean, max)| format!("{mean:.4} apart on average, {max:.4} at most")),
        ),
    ];
    page.push_str("<dl>\n");
    for (name, value) in facts {
        if let Some(value) = value {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
        }
    }
    page.push_str("</dl>\n");
}

/// The distance between the two best float32 logits, or of the one from zero; and the same pair
/// in int8.
fn margins(text: &ComparedText) -> (f64, f64) {
    let (_, best) = text.labels();
    let others = (0..text.float32.len()).filter(|&label| label != best);
    let second = others.max_by(|&a, &b| text.float32[a].total_cmp(&text.float32[b]));
    let margin = |logits: &[f32]| {
        f64::from(logits[best]) - second.map_or(0.0, |second| f64::from(logits[second]))
    };
    (margin(&text.float32), margin(&text.int8))
}

fn push_plots(page: &mut String, texts: &[ComparedText]) {
    let _ = writeln!(
        page,
        "<h2>How far the logits move</h2>\n<figure>{}<figcaption>Differences of the logits, int8 \
         less float32: how many there are of each size.</figcaption></figure>\n\
         <h2>How clear the labels are</h2>\n<figure>{}<figcaption>Each text by the distance of its \
         two best logits: float32 to the right, int8 upwards. On the diagonal nothing changed; \
         below the line at zero the label did.</figcaption></figure>",
        histogram(texts),
        scatter(texts)
    );
}

fn histogram(texts: &[ComparedText]) -> String {
    let differences: Vec<f64> = texts
        .iter()
        .flat_map(|text| text.int8.iter().zip(&text.float32))
        .map(|(int8, float32)| f64::from(*int8) - f64::from(*float32))
        .collect();
    let most = differences
        .iter()
        .fold(1e-6, |most: f64, d| most.max(d.abs()));
    let mut counts = [0usize; COLUMNS];
    for difference in &differences {
        let place = (difference / most + 1.0) / 2.0 * COLUMNS as f64;
        counts[(place as usize).min(COLUMNS - 1)] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let mut svg = begin_svg("Differences of the logits");
    let column = (WIDTH - LEFT) / COLUMNS as f64;
    for (number, &count) in counts.iter().enumerate() {
        let height = count as f64 / highest * (HEIGHT - TOP - BOTTOM);
        let _ = writeln!(
            svg,
            "<rect class=\"bar s0\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
             <title>{count}</title></rect>",
            LEFT + column * number as f64 + 0.5,
            HEIGHT - BOTTOM - height,
            column - 1.0
        );
    }
    for (at, value) in [(0.0, -most), (0.5, 0.0), (1.0, most)] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.3}</text>",
            LEFT + at * (WIDTH - LEFT),
            HEIGHT - BOTTOM + 16.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn scatter(texts: &[ComparedText]) -> String {
    let points: Vec<(f64, f64)> = texts.iter().map(margins).collect();
    let most = points
        .iter()
        .fold(1e-6, |most: f64, (x, y)| most.max(*x).max(y.abs()));
    let least = points.iter().fold(0.0, |least: f64, (_, y)| least.min(*y));
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT);
    let y =
        |value: f64| HEIGHT - BOTTOM - (value - least) / (most - least) * (HEIGHT - TOP - BOTTOM);
    let mut svg = begin_svg("Margins in int8 by those in float32");
    for (from, to) in [((0.0, 0.0), (most, 0.0)), ((0.0, 0.0), (most, most))] {
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            x(from.0),
            y(from.1),
            x(to.0),
            y(to.1)
        );
    }
    for (float32, int8) in points {
        let class = if int8 < 0.0 { "s1" } else { "s0" };
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"/>",
            x(float32),
            y(int8)
        );
    }
    for value in [0.0, most / 2.0, most] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.1}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            x(value),
            HEIGHT - BOTTOM + 16.0,
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn begin_svg(label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\n")
}

/// Figures of classes, each a row, below a title; the first column has a name.
fn push_classes(
    page: &mut String,
    (title, name): (&str, &str),
    classes: &[ClassFigures],
    reference: Option<&[ClassFigures]>,
) {
    let Some(reference) = reference else {
        return;
    };
    let _ = writeln!(
        page,
        "<h2>{title}</h2>\n<div class=\"wide\"><table>\n<tr><th class=\"left\">{name}</th>\
         <th>support</th><th>precision</th><th>in float32</th><th>recall</th><th>in float32</th>\
         <th>F1</th><th>in float32</th></tr>"
    );
    for (int8, float32) in classes.iter().zip(reference) {
        let figure = |of: fn(&ClassFigures) -> f64| {
            format!(
                "<td>{}</td><td>{}</td>",
                percent(of(int8)),
                percent(of(float32))
            )
        };
        let _ = writeln!(
            page,
            "<tr><td class=\"left\">{}</td><td>{}</td>{}{}{}</tr>",
            escape(&int8.label),
            int8.support,
            figure(|class| class.precision),
            figure(|class| class.recall),
            figure(|class| class.f1)
        );
    }
    page.push_str("</table></div>\n");
}

/// The products that move the answers most; nothing where it was not measured.
fn push_sensitivities(page: &mut String, sensitivities: &[Sensitivity]) {
    if sensitivities.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Products that move the answers most</h2>\n<p>On the calibration texts: by how much a \
         logit differs, on average, where this product alone is in 8 bits and the others of the \
         layers in 16.</p>\n<div class=\"wide\"><table>\n\
         <tr><th class=\"left\">product</th><th>difference</th><th>kept in</th></tr>\n",
    );
    for product in sensitivities {
        let _ = writeln!(
            page,
            "<tr><td class=\"left\">{}</td><td>{:.5}</td><td>{} bits</td></tr>",
            escape(&product.product),
            product.difference,
            if product.is_fine { 16 } else { 8 }
        );
    }
    page.push_str("</table></div>\n");
}

/// The products that suffer most; nothing where there was no calibration text to tell by.
fn push_products(page: &mut String, products: &[ProductError]) {
    if products.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Products whose outputs suffer most</h2>\n<p>On the calibration texts: the root mean \
         square of the error as a part of that of the output.</p>\n<div class=\"wide\"><table>\n\
         <tr><th class=\"left\">weights</th><th>error</th></tr>\n",
    );
    for product in products.iter().take(FARTHEST) {
        let _ = writeln!(
            page,
            "<tr><td class=\"left\">{}</td><td>{}</td></tr>",
            escape(&product.name),
            percent(product.relative)
        );
    }
    page.push_str("</table></div>\n");
}

fn push_texts(
    page: &mut String,
    evaluation: &Evaluation,
    texts: &[ComparedText],
    dataset: &Dataset,
) {
    let labels: Vec<&str> = evaluation.per_class.iter().map(|c| &*c.label).collect();
    let mut ordered: Vec<(&ComparedText, String)> = texts
        .iter()
        .filter_map(|text| {
            let examples = dataset.examples();
            let place = examples.binary_search_by_key(&text.line, |example| example.line);
            Some((text, &examples[place.ok()?]))
        })
        .map(|(text, example)| {
            if let Some(word) = text.word {
                return (text, show_word(example, word));
            }
            let second = example.second.as_deref().unwrap_or_default();
            let shown = format!("{} {second}", example.first);
            (text, shown.trim_end().to_owned())
        })
        .collect();
    let what = match evaluation.spans {
        Some(_) => "Words",
        None => "Texts",
    };
    let moved = |text: &ComparedText| {
        let (float32, int8) = margins(text);
        (float32 - int8).abs()
    };
    ordered.sort_by(|(a, _), (b, _)| moved(b).total_cmp(&moved(a)));
    let (flipped, same): (Vec<_>, Vec<_>) = ordered
        .into_iter()
        .partition(|(text, _)| text.labels().0 != text.labels().1);
    let _ = writeln!(
        page,
        "<h2>{what} whose label changed: {}</h2>",
        flipped.len()
    );
    push_table(page, &labels, &flipped);
    let _ = writeln!(
        page,
        "<h2>{what} that moved farthest and kept their label</h2>"
    );
    push_table(page, &labels, &same[..same.len().min(FARTHEST)]);
}

/// A word in its text, in brackets.
fn show_word(example: &Example, word: usize) -> String {
    let text = &example.first;
    match example.words().nth(word - 1) {
        Some(word) => format!(
            "{}[{}]{}",
            &text[..word.start],
            &text[word.clone()],
            &text[word.end..]
        ),
        None => text.clone(),
    }
}

fn push_table(page: &mut String, labels: &[&str], texts: &[(&ComparedText, String)]) {
    if texts.is_empty() {
        page.push_str("<p>None.</p>\n");
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table>\n<tr><th>line</th><th class=\"left\">right</th>\
         <th class=\"left\">int8</th><th class=\"left\">float32</th><th>margin, int8</th>\
         <th>float32</th><th class=\"left\">text</th></tr>\n",
    );
    for (text, shown) in texts {
        let (int8, float32) = text.labels();
        let (float32_margin, int8_margin) = margins(text);
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"left\">{}</td><td class=\"left\">{}</td>\
             <td class=\"left\">{}</td><td>{int8_margin:.3}</td><td>{float32_margin:.3}</td>\
             <td class=\"left\">{}</td></tr>",
            text.line,
            escape(labels[text.target]),
            escape(labels[int8]),
            escape(labels[float32]),
            escape(shown)
        );
    }
    page.push_str("</table></div>\n");
}
