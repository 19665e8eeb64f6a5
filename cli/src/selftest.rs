//! `filbert selftest`: whether this machine computes what the converter's did, and what other
//! machines do.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::slice;

use clap::Args;
use filbert::{Input, Options, Runner};

use crate::{Failure, model};

/// Check that this CPU computes the very bits that the converter's did
#[derive(Args)]
#[command(
    long_about = "\
Check that this CPU computes the very bits that the converter's did.

A .filbert file carries some texts and the logits that the converter computed for them. Every \
CPU must reproduce them, to the last bit. Set FILBERT_ISA to try another of the kernel sets \
that this CPU can run.

With --texts, the logits of other texts are computed too, and a fingerprint of all their bits is \
printed: it is the same on every machine. (It is FNV-1a, 64 bits, of the logits as little-endian \
float32, in the order of the texts.)",
    after_help = "\
Examples:
  filbert selftest tiny.filbert
  filbert selftest tiny.filbert --texts reviews.txt
  filbert selftest tiny.filbert --texts reviews.txt --threads 1,2,3,8
  FILBERT_ISA=scalar filbert selftest tiny.filbert --texts reviews.txt"
)]
pub(crate) struct Arguments {
    /// The .filbert file
    file: PathBuf,
    /// Print a fingerprint of the logits of these texts: one text a line, or two with a tab
    /// between
    ///
    /// Empty lines are texts too. Without --threads, each text is computed alone on one thread.
    #[arg(long, value_name = "TEXTS")]
    texts: Option<PathBuf>,
    /// Check that TEXTS have the same logits on each of these numbers of threads
    ///
    /// On each, every text is computed alone, all of them in one batch, and all in one batch in
    /// another order.
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "texts")]
    threads: Vec<NonZeroUsize>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file;
    model::check_file(file)?;
    let texts = arguments.texts.as_deref().map(read_texts).transpose()?;
    let runner = Runner::open(file, &Options::new())?;
    let kernels = runner.kernels();
    let failed = |message: String| {
        Failure::Failed(format!(
            "{}: with the {kernels} kernels: {message}",
            file.display()
        ))
    };
    let cases = runner
        .self_test()
        .map_err(|error| failed(error.to_string()))?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: the {kernels} kernels reproduce all {cases} texts to the bit",
        file.display()
    )?;
    let Some(texts) = texts else {
        return Ok(());
    };

    let inputs: Vec<Input<'_>> = texts.iter().map(Text::input).collect();
    let expected = alone(&runner, &inputs)?;
    for &threads in &arguments.threads {
        let runner = Runner::open(file, &Options::new().threads(threads.get()))?;
        for (way, found) in every_way(&runner, &inputs)? {
            if let Some(line) = first_difference(&expected, &found) {
                return Err(failed(format!(
                    "line {line} of the texts, {way} on {}, has other logits than alone on 1 \
                     thread",
                    number_of_threads(&[threads])
                )));
            }
        }
    }
    let plural = if texts.len() == 1 { "" } else { "s" };
    write!(
        out,
        "{}: the {kernels} kernels give the logits of {} text{plural} the fingerprint {:016x}",
        file.display(),
        texts.len(),
        fingerprint(&expected)
    )?;
    if !arguments.threads.is_empty() {
        let threads = number_of_threads(&arguments.threads);
        write!(out, ", alone, together and in another order, on {threads}")?;
    }
    writeln!(out)?;
    Ok(())
}

/// A text, or two.
struct Text {
    first: String,
    second: Option<String>,
}

impl Text {
    fn input(&self) -> Input<'_> {
        match &self.second {
            None => self.first.as_str().into(),
            Some(second) => (self.first.as_str(), second.as_str()).into(),
        }
    }
}

/// Reads a file with one text a line.
fn read_texts(path: &Path) -> Result<Vec<Text>, Failure> {
    let in_file = |message: String| Failure::Failed(format!("{}: {message}", path.display()));
    let bytes = fs::read(path).map_err(|error| in_file(error.to_string()))?;
    // What some editors put first.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Err(in_file(
            "the file is empty; expected one text a line".to_owned(),
        ));
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n').zip(1..);
    let texts = lines.map(|(line, number)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = str::from_utf8(line).map_err(|error| {
            in_file(format!(
                "line {number}, byte {}: not UTF-8; save the file as UTF-8",
                error.valid_up_to() + 1
            ))
        })?;
        let mut parts = line.split('\t').map(str::to_owned);
        let text = Text {
            first: parts.next().unwrap_or_default(),
            second: parts.next(),
        };
        match parts.count() {
            0 => Ok(text),
            more => Err(in_file(format!(
                "line {number}: expected one text, or two with a tab between; found {} tabs",
                more + 1
            ))),
        }
    });
    texts.collect()
}

/// The bits of the logits of one text.
type Bits = Vec<u32>;

/// Every text in one batch.
fn together(runner: &Runner, inputs: &[Input<'_>]) -> Result<Vec<Bits>, Failure> {
    let outputs = runner.run(inputs)?;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    Ok(outputs.iter().map(|output| bits(&output.values)).collect())
}

/// Each text in a call of its own.
fn alone(runner: &Runner, inputs: &[Input<'_>]) -> Result<Vec<Bits>, Failure> {
    let mut texts = Vec::with_capacity(inputs.len());
    for input in inputs {
        texts.extend(together(runner, slice::from_ref(input))?);
    }
    Ok(texts)
}

/// The texts in their order, whichever way they were computed, and the way's name.
fn every_way(
    runner: &Runner,
    inputs: &[Input<'_>],
) -> Result<[(&'static str, Vec<Bits>); 3], Failure> {
    let order = other_order(inputs.len());
    let reordered: Vec<Input<'_>> = order.iter().map(|&text| inputs[text]).collect();
    let mut in_another_order = vec![Bits::new(); inputs.len()];
    for (&text, bits) in order.iter().zip(together(runner, &reordered)?) {
        in_another_order[text] = bits;
    }
    Ok([
        ("alone", alone(runner, inputs)?),
        ("in one batch", together(runner, inputs)?),
        ("in one batch in another order", in_another_order),
    ])
}

/// An order in which the texts have other neighbours: backwards, in steps.
fn other_order(texts: usize) -> Vec<usize> {
    const STEP: usize = 7;
    let order = (0..STEP).flat_map(|start| (start..texts).step_by(STEP));
    order.rev().collect()
}

/// The first line, from 1, whose bits are others.
fn first_difference(expected: &[Bits], found: &[Bits]) -> Option<usize> {
    let mut lines = expected.iter().zip(found).zip(1..);
    let different = lines.find(|((expected, found), _)| expected != found);
    different.map(|(_, line)| line)
}

/// FNV-1a, 64 bits.
fn fingerprint(texts: &[Bits]) -> u64 {
    let bytes = texts.iter().flatten().flat_map(|bits| bits.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Such as "1, 2 and 8 threads".
fn number_of_threads(threads: &[NonZeroUsize]) -> String {
    let numbers: Vec<String> = threads.iter().map(NonZeroUsize::to_string).collect();
    match numbers.as_slice() {
        [one] if one == "1" => "1 thread".to_owned(),
        [before @ .., last] if !before.is_empty() => {
            format!("{} and {last} threads", before.join(", "))
        }
        _ => format!("{} threads", numbers.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_fnv_1a() {
        let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let (first, second) = (word(b"chon"), word(b"go w"));
        let expected = 0xd1ed_d10b_5073_44d0;
        assert_eq!(fingerprint(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(&[vec![first, second]]), expected);
        assert_eq!(fingerprint(&[vec![first], vec![second]]), expected);
    }

    #[test]
    fn other_order_has_every_text_once() {
        for texts in [1, 2, 6, 7, 8, 100] {
            let mut order = other_order(texts);
            assert!(texts == 1 || !order.is_sorted(), "{order:?}");
            order.sort_unstable();
            assert!(order.into_iter().eq(0..texts));
        }
    }

    #[test]
    fn first_difference_is_a_line() {
        let texts = [vec![1, 2], vec![3, 4], vec![5, 6]];
        assert_eq!(first_difference(&texts, &texts), None);
        let mut others = texts.clone();
        others[1][1] = 0;
        others[2][0] = 0;
        assert_eq!(first_difference(&texts, &others), Some(2));
    }

    #[test]
    fn threads_are_counted() {
        let text = |threads: &[usize]| {
            let threads: Option<Vec<_>> = threads.iter().copied().map(NonZeroUsize::new).collect();
            number_of_threads(&threads.unwrap())
        };
        assert_eq!(text(&[1]), "1 thread");
        assert_eq!(text(&[8]), "8 threads");
        assert_eq!(text(&[1, 2]), "1 and 2 threads");
        assert_eq!(text(&[1, 2, 3, 8]), "1, 2, 3 and 8 threads");
    }
}
