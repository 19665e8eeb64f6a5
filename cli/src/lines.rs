//! Texts that are arguments, or lines of standard input.

use std::io::{self, BufRead, IsTerminal};

use crate::Failure;
use crate::terminal::note;

/// Calls `answer` with each text, in order: the arguments, or without any the lines of standard
/// input, each as soon as it is there.
pub(crate) fn for_each_text(
    texts: &[String],
    mut answer: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !texts.is_empty() {
        return texts.iter().try_for_each(|text| answer(text));
    }
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        note("one text a line; end with Ctrl-D");
    }
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let failed = |error: String| Failure::Failed(format!("standard input: {error}"));
        let read = input.read_until(b'\n', &mut line);
        if read.map_err(|error| failed(error.to_string()))? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = str::from_utf8(text).map_err(|error| {
            let byte = error.valid_up_to() + 1;
            failed(format!("line {number}, byte {byte}: not UTF-8"))
        })?;
        answer(text)?;
    }
    Ok(())
}
