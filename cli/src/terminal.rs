//! What people see: notes and progress on standard error, and text that is safe to show.

use std::borrow::Cow;
use std::io::{self, Write};

use filbert_convert::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Writes one line to standard error.
pub(crate) fn note(message: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr(), "filbert: {}", one_line(message));
}

/// The text without line breaks and other control characters, which could do anything to a
/// terminal: each run of them is a space.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let parts: Vec<&str> = text
        .split(char::is_control)
        .filter(|part| !part.is_empty())
        .collect();
    Cow::Owned(parts.join(" "))
}

/// Bytes in the unit in which they are easy to read.
pub(crate) fn readable_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1000.0;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let decimals = if size < 99.5 { 1 } else { 0 };
    format!("{size:.decimals$} {}", UNITS[unit])
}

/// A progress bar for each task, gone when the task is done. Shows nothing where standard
/// error is not a terminal.
#[derive(Default)]
pub(crate) struct ProgressBars {
    bar: Option<ProgressBar>,
}

impl Progress for ProgressBars {
    fn begin(&mut self, what: &str, steps: u64) {
        self.finish();
        let bar = ProgressBar::new(steps).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %") {
            bar.set_style(style);
        }
        bar.tick();
        self.bar = Some(bar);
    }

    fn advance(&mut self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, message: &str) {
        self.finish();
        note(message);
    }
}

/// An error is not to be written over a bar.
impl Drop for ProgressBars {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spaces() {
        assert_eq!(one_line("plain 😀"), "plain 😀");
        assert_eq!(one_line("a\r\n\tb\u{1b}[2Jc\u{9b}"), "a b [2Jc");
        assert_eq!(one_line("\n"), "");
    }

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_400, "99.4 kB"),
            (123_456, "123 kB"),
            (999_400, "999 kB"),
            (999_600, "1.0 MB"),
            (2_500_000_000, "2.5 GB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(readable_size(bytes), expected);
        }
    }
}
