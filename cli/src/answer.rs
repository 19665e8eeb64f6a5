//! `filbert answer`: the part of a text that answers a question.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{Answer, Options, QuestionAnswerer};
use serde_json::{Value, json};

use crate::terminal::one_line;
use crate::{Failure, help, model};

/// Find the answer to a question in a text, by a model for question answering
#[derive(Args)]
#[command(
    long_about = "\
Find the answer to a question in a text, by a model for question answering.

A long text is read in windows that overlap. The score of an answer is the probability that it \
begins and ends there; parts with the same words count together.",
    after_help = "\
Examples:
  filbert answer qa.filbert \"Who flew?\" \"Marta flew from Oslo to Lima.\"
  filbert answer qa.filbert \"When is the rent due?\" --top-k 3 --json < contract.txt"
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// The question
    question: String,
    /// The text; without it, all of standard input
    text: Option<String>,
    /// Print the N best answers
    #[arg(long, value_name = "N")]
    top_k: Option<NonZeroUsize>,
    /// Print one JSON object, or an array of them with --top-k; start and end count characters
    #[arg(long)]
    json: bool,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = Options::new().threads(arguments.threads.get());
    let answerer = QuestionAnswerer::new(model::open(&arguments.model)?, &options)?;
    let text = match &arguments.text {
        Some(text) => text.clone(),
        None => read_text()?,
    };
    let count = arguments.top_k.map_or(1, NonZeroUsize::get);
    let answers = answerer.answer(&arguments.question, &text, count)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        let all: Vec<Value> = answers.iter().map(describe).collect();
        let json = match arguments.top_k {
            Some(_) => Value::from(all),
            None => all.into_iter().next().unwrap_or_default(),
        };
        writeln!(out, "{json}")?;
    } else {
        for answer in &answers {
            writeln!(
                out,
                "{:6.2} %  {}",
                100.0 * answer.score,
                one_line(answer.text)
            )?;
        }
    }
    Ok(out.flush()?)
}

fn read_text() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let failed = |error: String| Failure::Failed(format!("standard input: {error}"));
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        failed(format!("byte {byte}: not UTF-8"))
    })
}

fn describe(answer: &Answer<'_>) -> Value {
    json!({
        "score": answer.score,
        "start": answer.characters.start,
        "end": answer.characters.end,
        "answer": answer.text,
    })
}
