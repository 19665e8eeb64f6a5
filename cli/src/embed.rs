//! `filbert embed`: texts to vectors.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{Embedder, Embedding, Options};
use serde_json::json;

use crate::terminal::{note, one_line};
use crate::{Failure, help, lines, model};

/// Turn texts into vectors, by an embedding model
#[derive(Args)]
#[command(
    long_about = "\
Turn texts into vectors, by an embedding model.

Texts are arguments, or lines of standard input. Each is answered by one JSON array of numbers, or \
with --compare by the cosine of its vector and that of the text given there.",
    after_help = "\
Examples:
  filbert embed embedder.filbert \"a cup of tea\"
  filbert embed embedder.filbert --compare \"How do I pay?\" < questions.txt"
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// Texts; without any, one text a line from standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Print how near each text is to this one: 1 for the same meaning
    #[arg(long, value_name = "TEXT")]
    compare: Option<String>,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = Options::new().threads(arguments.threads.get());
    let embedder = Embedder::new(model::open(&arguments.model)?, &options)?;
    let other: Option<Embedding> = match &arguments.compare {
        Some(text) => Some(embedder.embed(text)?),
        None => None,
    };
    let mut out = io::stdout().lock();
    let mut cut = 0;
    lines::for_each_text(&arguments.texts, |text| {
        let embedding = embedder.embed(text)?;
        cut += usize::from(embedding.truncated());
        match &other {
            Some(other) => {
                writeln!(out, "{:.4}  {}", embedding.cosine(other), one_line(text))?;
            }
            None => writeln!(out, "{}", json!(embedding.vector()))?,
        }
        Ok(out.flush()?)
    })?;
    if cut > 0 {
        let most = embedder.model().shape().max_tokens;
        note(&format!(
            "{cut} texts cut to the {most} tokens that the model takes"
        ));
    }
    Ok(())
}
