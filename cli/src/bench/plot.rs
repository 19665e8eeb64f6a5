//! Plots as inline SVG, in the colours of the page.

use std::fmt::Write;

use super::record::{Profile, Run};
use super::summary::{counted, readable_ms};
use crate::page::{COLOURS, escape};

/// Which of a run's times.
type Time = fn(&Run) -> f64;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 36.0;

/// The numbers of threads, each once, in the order of the runs.
pub(crate) fn series(runs: &[Run]) -> Vec<usize> {
    let mut threads: Vec<usize> = Vec::new();
    for run in runs {
        if !threads.contains(&run.threads) {
            threads.push(run.threads);
        }
    }
    threads
}

/// The distance of the marks on an axis: 1, 2 or 5 of some power of ten, and about four of them.
fn step(largest: f64) -> f64 {
    let rough = (largest / 4.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0];
    let fit = factor
        .into_iter()
        .find(|factor| factor * power >= rough * 0.999);
    fit.unwrap_or(10.0) * power
}

/// A number as short as it can be on an axis whose marks are so far apart.
fn tick(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// The slowest time that the plot shows, before it is rounded up: rare outliers must not press
/// all else to the ground.
fn slowest_shown(runs: &[Run]) -> f64 {
    let most = |of: Time| runs.iter().map(of).fold(0.0, f64::max);
    most(|run| run.p99_ms)
        .min(2.0 * most(|run| run.p90_ms))
        .min(3.0 * most(|run| run.p50_ms))
}

/// The marks of the axis of times: their distance, and the last one.
fn marks(runs: &[Run]) -> (f64, f64) {
    let slowest = slowest_shown(runs);
    let step = step(slowest);
    (step, (slowest / step).ceil().max(1.0) * step)
}

/// Whether a band does not fit into the plot.
pub(crate) fn is_cut(runs: &[Run]) -> bool {
    let (_, top) = marks(runs);
    runs.iter().any(|run| run.p99_ms > top)
}

/// Latency by length: the median as a line, up to p90 and p99 as bands, a colour for each
/// number of threads.
pub(crate) fn latency(runs: &[Run]) -> String {
    let longest = runs.iter().map(|run| run.tokens).max().unwrap_or(1).max(1) as f64;
    let (y_step, top) = marks(runs);
    let x = |tokens: usize| LEFT + tokens as f64 / longest * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| HEIGHT - BOTTOM - (ms / top).min(1.0) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Latency by length of text\">\n"
    );
    let last = (top / y_step).round() as usize;
    for mark in 0..=last {
        let value = mark as f64 * y_step;
        let at = y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            tick(value, y_step)
        );
    }
    let mut last = 0.0;
    let mut lengths: Vec<usize> = runs.iter().map(|run| run.tokens).collect();
    lengths.sort_unstable();
    lengths.dedup();
    for &tokens in &lengths {
        let at = x(tokens);
        let bottom = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{}\"/>",
            bottom + 4.0
        );
        // Labels that would touch are left out.
        if at - last > 22.0 {
            let _ = write!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tokens}</text>",
                bottom + 16.0
            );
            last = at;
        }
        svg.push('\n');
    }
    let _ = writeln!(
        svg,
        "<text x=\"4\" y=\"12\">ms</text><text x=\"{:.1}\" y=\"{:.1}\" \
         text-anchor=\"end\">tokens</text>",
        WIDTH - RIGHT,
        HEIGHT - 4.0
    );

    for (number, threads) in series(runs).into_iter().enumerate() {
        let mut runs: Vec<_> = runs.iter().filter(|run| run.threads == threads).collect();
        runs.sort_by_key(|run| run.tokens);
        let points = |of: Time, backwards: bool| {
            let mut points: Vec<_> = runs
                .iter()
                .map(|run| format!("{:.1},{:.1}", x(run.tokens), y(of(run))))
                .collect();
            if backwards {
                points.reverse();
            }
            points.join(" ")
        };
        let median: Time = |run| run.p50_ms;
        let _ = writeln!(svg, "<g class=\"s{}\">", number % COLOURS);
        let bands: [(&str, Time); 2] = [("p99", |run| run.p99_ms), ("p90", |run| run.p90_ms)];
        for (class, of) in bands {
            let _ = writeln!(
                svg,
                "<polygon class=\"{class}\" points=\"{} {}\"/>",
                points(median, false),
                points(of, true)
            );
        }
        let _ = writeln!(
            svg,
            "<polyline class=\"line\" points=\"{}\"/>",
            points(median, false)
        );
        for run in runs {
            let (at, p50) = (x(run.tokens), y(run.p50_ms));
            let _ = writeln!(
                svg,
                "<line class=\"whisker\" x1=\"{at:.1}\" y1=\"{p50:.1}\" x2=\"{at:.1}\" \
                 y2=\"{:.1}\"/><circle cx=\"{at:.1}\" cy=\"{p50:.1}\" r=\"3\"><title>{}, {}: p50 \
                 {} ms, p90 {}, p99 {}</title></circle>",
                y(run.p99_ms),
                counted(run.tokens, "token"),
                counted(run.threads, "thread"),
                readable_ms(run.p50_ms),
                readable_ms(run.p90_ms),
                readable_ms(run.p99_ms)
            );
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where the time goes: a bar for each operation, the longest first.
pub(crate) fn bars(profile: &Profile) -> String {
    const ROW: f64 = 36.0;
    let mut operations: Vec<_> = profile.operations.iter().collect();
    operations.sort_by(|a, b| b.cost.ms.total_cmp(&a.cost.ms));
    let most = operations.first().map_or(1.0, |first| first.cost.share);
    let height = ROW * operations.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Time by operation\">\n"
    );
    for (row, operation) in operations.into_iter().enumerate() {
        let top = ROW * row as f64;
        let cost = &operation.cost;
        let mut figures = format!("{} ms, {:.1} %", readable_ms(cost.ms), 100.0 * cost.share);
        if cost.gmacs > 0.0 {
            let _ = write!(figures, ", {:.1} GMAC/s", cost.gmacs);
        } else if cost.gb_per_second > 0.0 {
            let _ = write!(figures, ", {:.1} GB/s", cost.gb_per_second);
        }
        let width = cost.share / most.max(f64::MIN_POSITIVE) * WIDTH;
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{text:.1}\" class=\"name\">{}</text>\
             <text x=\"{WIDTH}\" y=\"{text:.1}\" text-anchor=\"end\">{figures}</text>\
             <rect class=\"track\" x=\"0\" y=\"{bar:.1}\" width=\"{WIDTH}\" height=\"8\" rx=\"2\"/>\
             <rect class=\"bar s0\" x=\"0\" y=\"{bar:.1}\" width=\"{width:.1}\" height=\"8\" \
             rx=\"2\"/>",
            escape(&operation.operation),
            text = top + 16.0,
            bar = top + 22.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        for (largest, expected) in [
            (0.07, 0.02),
            (4.0, 1.0),
            (4.1, 2.0),
            (18.0, 5.0),
            (900.0, 500.0),
        ] {
            assert!(
                (step(largest) - expected).abs() < 1e-9 * expected,
                "{largest}"
            );
        }
        assert_eq!(tick(0.04, 0.02), "0.04");
        assert_eq!(tick(1.0, 0.5), "1.0");
        assert_eq!(tick(40.0, 20.0), "40");
    }
}
