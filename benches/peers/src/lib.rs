//! What the Rust workers share: the line protocol that `compare.py` speaks.
//!
//! Fields are separated by tabs, each request has one line of answer, `ok` or `error` first:
//!
//! | request | answer |
//! |---|---|
//! | at the start | `ready`, version, settings, nanoseconds in which the model was opened |
//! | `input NAME TEXT IDS` | `ok` |
//! | `logits NAME` | `ok`, the logits |
//! | `run NAME WARM CALLS MILLISECONDS` | `ok`, nanoseconds of each call |
//! | `throughput PATH BATCH` | `ok`, nanoseconds of all texts |
//! | `tokenize TEXT` | `ok`, ids |
//!
//! `run` makes WARM calls that are not timed, then at least CALLS calls in at least
//! MILLISECONDS. The end of the input ends the worker. The Python workers speak the same.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A result of an engine, whatever its errors are.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A text and its token ids.
#[derive(Clone)]
pub struct Text {
    pub text: String,
    pub ids: Vec<u32>,
}

/// An engine that has a model open.
pub trait Engine: Sync {
    /// What a call takes: as ready as the engine can have it before the clock runs.
    type Feed: Send + Sync;

    /// Prepares a call for texts that are sorted by length, the longest last.
    fn feed(&self, texts: &[Text]) -> Result<Self::Feed>;

    /// The logits of all texts of the call, one after another.
    fn run(&self, feed: &Self::Feed) -> Result<Vec<f32>>;

    /// The ids of a text.
    fn tokenize(&self, _text: &str) -> Result<Vec<u32>> {
        Err("this engine gets token ids".into())
    }
}

/// The arguments of every worker: MODEL THREADS STREAMS.
pub struct Arguments {
    pub model: String,
    /// Threads that work on one call.
    pub threads: usize,
    /// Calls that run at once when throughput is measured.
    pub streams: usize,
}

/// Opens the engine and serves requests until the input ends.
pub fn serve<E: Engine>(open: impl FnOnce(&Arguments) -> Result<(E, String)>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let opened = match &arguments[..] {
        [model, threads, streams] => parse(threads).and_then(|threads| {
            let arguments = Arguments {
                model: model.clone(),
                threads,
                streams: parse(streams)?,
            };
            let (engine, settings) = open(&arguments)?;
            Ok((engine, settings, arguments.streams))
        }),
        _ => Err("usage: WORKER MODEL THREADS STREAMS".into()),
    };
    let (engine, settings, streams) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            answer(&format!("error\t{}", one_line(&*error)));
            std::process::exit(1);
        }
    };
    let open = start.elapsed().as_nanos();
    answer(&format!("ready\t\t{settings}\t{open}"));
    let mut inputs = Vec::new();
    for line in io::stdin().lines() {
        let line = line.expect("the driver writes UTF-8");
        let fields: Vec<&str> = line.split('\t').collect();
        match handle(&engine, streams, &mut inputs, &fields) {
            Ok(values) => answer(&format!("ok\t{values}")),
            Err(error) => answer(&format!("error\t{}", one_line(&*error))),
        }
    }
}

fn handle<E: Engine>(
    engine: &E,
    streams: usize,
    inputs: &mut Vec<(String, E::Feed)>,
    fields: &[&str],
) -> Result<String> {
    let find = |inputs: &[(String, E::Feed)], name: &str| {
        let found = inputs.iter().position(|(known, _)| known == name);
        found.ok_or_else(|| format!("no input {name}"))
    };
    match *fields {
        ["input", name, text, ids] => {
            let text = Text {
                text: text.to_owned(),
                ids: parse_ids(ids)?,
            };
            inputs.retain(|(known, _)| known != name);
            inputs.push((name.to_owned(), engine.feed(&[text])?));
            Ok(String::new())
        }
        ["logits", name] => {
            let index = find(inputs, name)?;
            Ok(join(engine.run(&inputs[index].1)?))
        }
        ["run", name, warm, calls, milliseconds] => {
            let index = find(inputs, name)?;
            let feed = &inputs[index].1;
            let least = Duration::from_millis(parse(milliseconds)? as u64);
            for _ in 0..parse(warm)? {
                engine.run(feed)?;
            }
            let calls = parse(calls)?;
            let mut times = Vec::new();
            let start = Instant::now();
            while times.len() < calls || start.elapsed() < least {
                let start = Instant::now();
                std::hint::black_box(engine.run(feed)?);
                times.push(start.elapsed().as_nanos());
            }
            Ok(join(times))
        }
        ["throughput", path, batch] => {
            let mut texts = read_texts(path)?;
            texts.sort_by_key(|text| text.ids.len());
            let feeds = texts
                .chunks(parse(batch)?)
                .map(|texts| engine.feed(texts))
                .collect::<Result<Vec<_>>>()?;
            // Once without the clock.
            run_all(engine, streams, &feeds)?;
            let start = Instant::now();
            run_all(engine, streams, &feeds)?;
            Ok(start.elapsed().as_nanos().to_string())
        }
        ["tokenize", text] => Ok(join(engine.tokenize(text)?)),
        _ => Err("unknown request".into()),
    }
}

/// Runs the feeds, the longest first, `streams` at a time.
fn run_all<E: Engine>(engine: &E, streams: usize, feeds: &[E::Feed]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(feed) = feeds.iter().rev().nth(next.fetch_add(1, Ordering::Relaxed)) {
            std::hint::black_box(engine.run(feed)?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..streams).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others
            .into_iter()
            .map(|other| other.join().expect("the engine does not panic"))
            .fold(mine, Result::and)
    })
}

/// Lines of a text, a tab and its ids.
fn read_texts(path: &str) -> Result<Vec<Text>> {
    let parse = |line: &str| {
        let (text, ids) = line.split_once('\t').ok_or("a line without a tab")?;
        Ok(Text {
            text: text.to_owned(),
            ids: parse_ids(ids)?,
        })
    };
    fs::read_to_string(path)?.lines().map(parse).collect()
}

/// Ids padded to the longest text, and the mask, both row by row; and the longest length.
pub fn pad<T: From<bool> + TryFrom<u32> + Clone>(texts: &[Text]) -> (Vec<T>, Vec<T>, usize) {
    let length = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for text in texts {
        let values = text.ids.iter();
        ids.extend(values.map(|&id| T::try_from(id).unwrap_or(T::from(false))));
        mask.resize(ids.len(), T::from(true));
        ids.resize(ids.len() + length - text.ids.len(), T::from(false));
        mask.resize(ids.len(), T::from(false));
    }
    (ids, mask, length)
}

fn parse(number: &str) -> Result<usize> {
    number
        .parse()
        .map_err(|_| format!("expected a number, found {number:?}").into())
}

fn parse_ids(ids: &str) -> Result<Vec<u32>> {
    let ids = ids.split(' ').filter(|id| !id.is_empty());
    ids.map(|id| id.parse().map_err(|_| format!("{id:?} is no id").into()))
        .collect()
}

fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(" ")
}

fn one_line(error: &dyn Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn answer(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("the driver reads");
}
