//! How long it takes until there is a first answer, and what memory that costs.
//!
//! Both are measured in processes of their own, which have never seen the model: `filbert
//! bench` starts itself with the hidden option `--first-label`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use filbert::Input;
use filbert_convert::progress::Progress;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::memory::Memory;
use super::record::rounded;
use super::statistics::median;
use super::texts::Writer;
use crate::Failure;
use crate::terminal::note;

/// How often the file is opened, in this process.
const OPENS: usize = 21;
/// How many processes are started.
const STARTS: usize = 7;

/// What a started process works on.
pub(crate) struct Load<'a> {
    pub(crate) path: &'a Path,
    pub(crate) threads: usize,
    /// Lengths of the texts that it answers for the memory that this takes.
    pub(crate) tokens: &'a [usize],
    /// Texts in a batch.
    pub(crate) texts: usize,
}

/// What the started processes came to; nothing where none can be started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    pub(crate) first_ms: Option<f64>,
    pub(crate) process_first_ms: Option<f64>,
    pub(crate) private_bytes: Option<u64>,
    pub(crate) peak_rss_bytes: Option<u64>,
}

/// The first line that a started process writes, as soon as it has an answer.
#[derive(Deserialize, Serialize)]
struct FirstLabel {
    first_ms: f64,
}

/// The second line, when it has answered texts of all lengths.
#[derive(Deserialize, Serialize)]
struct MemoryLine {
    private_bytes: Option<u64>,
    peak_rss_bytes: Option<u64>,
}

/// Milliseconds in which the file is opened, its pages being in memory.
pub(crate) fn open_ms(path: &Path, threads: usize) -> Result<f64, Failure> {
    let mut times = Vec::with_capacity(OPENS);
    for _ in 0..OPENS {
        let start = Instant::now();
        let engine = Engine::open(path, threads)?;
        times.push(1e3 * start.elapsed().as_secs_f64());
        drop(engine);
    }
    Ok(rounded(median(&times), 6))
}

/// Starts processes, one after another. Where that is impossible, says so and knows nothing.
pub(crate) fn measure(load: &Load<'_>, text: &str, progress: &mut dyn Progress) -> Start {
    // Pages of a file that are not on the disk yet would count as dirty memory of whoever maps
    // them. Where this fails, they do.
    let _ = File::open(load.path).and_then(|file| file.sync_all());
    progress.begin("starting processes", STARTS as u64);
    let mut first = Vec::new();
    let mut process_first = Vec::new();
    let mut memory = None;
    for number in 0..STARTS {
        // Memory does not vary, and takes longer.
        match start_process(load, text, number == 0) {
            Ok((inside, outside, line)) => {
                first.push(inside);
                process_first.push(outside);
                memory = memory.or(line);
            }
            Err(error) => {
                progress.finish();
                note(&format!(
                    "the time to the first answer and the memory are unknown: {error}"
                ));
                return Start::default();
            }
        }
        progress.advance(1);
    }
    progress.finish();
    Start {
        first_ms: Some(rounded(median(&first), 6)),
        process_first_ms: Some(rounded(median(&process_first), 6)),
        private_bytes: memory.as_ref().and_then(|line| line.private_bytes),
        peak_rss_bytes: memory.as_ref().and_then(|line| line.peak_rss_bytes),
    }
}

/// A process that is waited for, whatever happens.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds to the first answer as the process itself sees them and as this one does, and
/// the memory if it is asked for.
fn start_process(
    load: &Load<'_>,
    text: &str,
    with_memory: bool,
) -> io::Result<(f64, f64, Option<MemoryLine>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("bench")
        .arg("--first-label")
        .arg(text)
        .args(["--threads", &load.threads.to_string()])
        .args(["--texts", &load.texts.to_string()]);
    if with_memory {
        let tokens: Vec<_> = load.tokens.iter().map(usize::to_string).collect();
        command.args(["--tokens", &tokens.join(",")]);
    }
    command
        .arg("--")
        .arg(load.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut line = String::new();
    let start = Instant::now();
    let mut child = Reaped(command.spawn()?);
    let Some(out) = child.0.stdout.take() else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let mut out = BufReader::new(out);
    out.read_line(&mut line)?;
    let outside = 1e3 * start.elapsed().as_secs_f64();
    let label: FirstLabel = serde_json::from_str(&line)?;
    let mut memory = None;
    if with_memory {
        line.clear();
        out.read_line(&mut line)?;
        memory = Some(serde_json::from_str(&line)?);
    }
    child.0.wait()?;
    Ok((label.first_ms, outside, memory))
}

/// What a started process does.
pub(crate) fn answer(load: &Load<'_>, text: &str) -> Result<(), Failure> {
    let before = Memory::read();
    let start = Instant::now();
    let engine = Engine::open(load.path, load.threads)?;
    engine.answer(&[text.into()])?;
    let first_ms = 1e3 * start.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    write_line(&mut out, &FirstLabel { first_ms })?;
    if load.tokens.is_empty() {
        return Ok(());
    }
    let mut writer = Writer::new(&engine)?;
    let mut batches = Vec::new();
    for &tokens in load.tokens {
        let texts: Result<Vec<String>, Failure> =
            (0..load.texts).map(|_| writer.text(tokens)).collect();
        batches.push(texts?);
    }
    for _ in 0..2 {
        for batch in &batches {
            let inputs: Vec<Input<'_>> = batch.iter().map(|text| text.as_str().into()).collect();
            engine.answer(&inputs)?;
        }
    }
    let after = Memory::read();
    let grown = after.private_dirty.zip(before.private_dirty);
    let line = MemoryLine {
        private_bytes: grown.map(|(after, before)| after.saturating_sub(before)),
        peak_rss_bytes: after.peak_resident,
    };
    write_line(&mut out, &line)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(line).map_err(|error| Failure::Failed(error.to_string()))?;
    writeln!(out, "{json}")?;
    out.flush()?;
    Ok(())
}
