//! `filbert inspect`: what a file holds.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use filbert::format::Activation;
use filbert::{ErrorCode, Head, Model, Options, Problem, Runner, TrainedHead};
use serde_json::{Value, json};

use crate::terminal::{one_line, readable_size};
use crate::{Failure, model};

/// Labels that people see; JSON has them all.
const LABELS_SHOWN: usize = 20;

/// Show what a .filbert file, or the file of a trained head, holds
#[derive(Args)]
#[command(
    long_about = "\
Show what a .filbert file holds: the model's shape and labels, the size of each section, where \
it came from, what int8 cost if that was measured, the kernels that this CPU runs it with, and \
the memory that they work in.",
    after_help = "\
Examples:
  filbert inspect tiny.filbert
  filbert inspect tiny.filbert --json"
)]
pub(crate) struct Arguments {
    /// The .filbert file, or the file of a trained head
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    model::check_file(&arguments.file)?;
    if let Some(head) = open_head(&arguments.file)? {
        return inspect_head(&head, arguments.json);
    }
    let runner = Runner::open(&arguments.file, &Options::new())?;
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        writeln!(out, "{}", description(&runner))?;
    } else {
        write_description(&mut out, &runner)?;
    }
    out.flush()?;
    Ok(())
}

/// The trained head in a file, if it is one.
fn open_head(path: &Path) -> Result<Option<TrainedHead>, Failure> {
    match TrainedHead::open(path) {
        Ok(head) => Ok(Some(head)),
        // A model, or what its reader refuses.
        Err(error) if matches!(error.code(), ErrorCode::NotAModel | ErrorCode::Io) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn inspect_head(head: &TrainedHead, json: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let features = match head.features().is_mean() {
        true => "mean",
        false => "cls",
    };
    let normalized = head.features().is_normalized();
    if json {
        let description = json!({
            "head": "trained",
            "features": features,
            "normalized": normalized,
            "width": head.width(),
            "labels": head.labels().collect::<Vec<_>>(),
            "encoder": head.encoder(),
            "training": json_section(head.report()),
        });
        writeln!(out, "{description}")?;
    } else {
        writeln!(out, "head        trained, over an encoder in another file")?;
        let norm = if normalized { ", normalized" } else { "" };
        writeln!(out, "features    {} ({features}{norm})", head.width())?;
        writeln!(out, "encoder     {}", head.encoder())?;
        write_labels(&mut out, head.labels())?;
        write_section(&mut out, "training", &json_section(head.report()))?;
    }
    out.flush()?;
    Ok(())
}

/// The dimensions, by the names that people know from `config.json`.
fn dimensions(model: &Model) -> [(&'static str, u32); 9] {
    let shape = model.shape();
    [
        ("layers", shape.layers),
        ("hidden", shape.hidden),
        ("heads", shape.heads),
        ("head_size", shape.head_size),
        ("intermediate", shape.intermediate),
        ("vocabulary", shape.vocabulary),
        ("positions", shape.positions),
        ("token_types", shape.token_types),
        ("max_tokens", shape.max_tokens),
    ]
}

/// Lengths of texts, and the bytes of buffers that one thread needs for them.
fn workspaces(runner: &Runner) -> Vec<(usize, usize)> {
    let longest = runner.model().shape().max_tokens as usize;
    let mut lengths = vec![32, 128, longest];
    lengths.retain(|&tokens| tokens <= longest);
    lengths.sort_unstable();
    lengths.dedup();
    let with_bytes = |tokens| (tokens, runner.workspace_bytes(tokens));
    lengths.into_iter().map(with_bytes).collect()
}

fn activation_name(number: u32) -> &'static str {
    match Activation::from_u32(number) {
        Some(Activation::Gelu) => "gelu",
        Some(Activation::GeluTanh) => "gelu_tanh",
        Some(Activation::Relu) => "relu",
        Some(Activation::Tanh) => "tanh",
        None => "unknown",
    }
}

fn problem_name(problem: Problem) -> &'static str {
    match problem {
        Problem::SingleLabel => "single_label_classification",
        Problem::MultiLabel => "multi_label_classification",
        Problem::Regression => "regression",
    }
}

/// A section of JSON; null if it is empty, a string if it is something else.
fn json_section(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn description(runner: &Runner) -> Value {
    let model = runner.model();
    let (major, minor) = model.version();
    let mut shape: serde_json::Map<String, Value> = dimensions(model)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let activation = activation_name(model.shape().activation);
    shape.insert("activation".to_owned(), activation.into());
    let sections: Vec<Value> = model
        .sections()
        .map(|section| {
            json!({
                "name": section.name,
                "offset": section.offset,
                "length": section.length,
            })
        })
        .collect();
    json!({
        "format_version": format!("{major}.{minor}"),
        "file_length": model.file_length(),
        "head": model.head().name(),
        "problem": problem_name(model.problem()),
        "shape": shape,
        "labels": model.labels().collect::<Vec<_>>(),
        "sections": sections,
        "provenance": json_section(model.provenance()),
        "accuracy": json_section(model.accuracy()),
        "kernels": runner.kernels(),
        "workspace": workspaces(runner)
            .iter()
            .map(|(tokens, bytes)| json!({"tokens": tokens, "bytes": bytes}))
            .collect::<Vec<_>>(),
    })
}

fn write_description(out: &mut impl Write, runner: &Runner) -> io::Result<()> {
    let model = runner.model();
    let (major, minor) = model.version();
    writeln!(out, "format      version {major}.{minor}")?;
    writeln!(out, "size        {}", readable_size(model.file_length()))?;
    match model.head() {
        Head::Classification => {
            writeln!(out, "problem     {}", problem_name(model.problem()))?;
        }
        head => writeln!(out, "head        {}", head.name())?,
    }
    writeln!(out, "kernels     {} on this CPU", runner.kernels())?;

    writeln!(out, "\nshape")?;
    for (name, value) in dimensions(model) {
        writeln!(out, "  {name:<13} {value:>9}")?;
    }
    let activation = activation_name(model.shape().activation);
    writeln!(out, "  {:<13} {activation:>9}", "activation")?;

    write_labels(out, model.labels())?;

    writeln!(out, "\nsections")?;
    for section in model.sections() {
        let size = readable_size(section.length);
        writeln!(out, "  {:<11} {size:>11}", section.name)?;
    }
    writeln!(out, "\nworkspace, the only memory that grows")?;
    for (tokens, bytes) in workspaces(runner) {
        let size = readable_size(bytes as u64);
        writeln!(out, "  {tokens:>4} tokens {size:>11}")?;
    }
    write_section(out, "provenance", &json_section(model.provenance()))?;
    write_section(out, "accuracy", &json_section(model.accuracy()))
}

fn write_labels<'a>(
    out: &mut impl Write,
    labels: impl ExactSizeIterator<Item = &'a str>,
) -> io::Result<()> {
    // Embeddings, for one, have none.
    if labels.len() == 0 {
        return Ok(());
    }
    writeln!(out, "\nlabels")?;
    let more = labels.len().saturating_sub(LABELS_SHOWN);
    for (number, label) in labels.enumerate().take(LABELS_SHOWN) {
        writeln!(out, "  {number:>5}  {}", one_line(label))?;
    }
    if more > 0 {
        writeln!(out, "  … and {more} more; --json prints them all")?;
    }
    Ok(())
}

fn write_section(out: &mut impl Write, name: &str, value: &Value) -> io::Result<()> {
    writeln!(out, "\n{name}")?;
    let fields = match value {
        Value::Null => return writeln!(out, "  none in the file"),
        Value::Object(fields) => fields,
        other => return writeln!(out, "  {}", one_line(&other.to_string())),
    };
    for (key, value) in fields {
        let key = one_line(key);
        match value {
            Value::Array(items) => {
                for item in items.iter().take(LABELS_SHOWN) {
                    writeln!(out, "  {key:<19} {}", brief(item))?;
                }
                let more = items.len().saturating_sub(LABELS_SHOWN);
                if more > 0 {
                    writeln!(out, "  {key:<19} … and {more} more")?;
                }
            }
            other => writeln!(out, "  {key:<19} {}", brief(other))?,
        }
    }
    Ok(())
}

/// A value on one line.
fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{key} {}", brief(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    one_line(&text).into_owned()
}
