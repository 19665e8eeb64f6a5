//! `filbert fill`: words for the places of mask tokens.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{MaskedWord, Options, Word, WordFiller};
use serde_json::{Value, json};

use crate::terminal::one_line;
use crate::{Failure, help, lines, model};

/// Fill in words that are masked, by a model for masked words
#[derive(Args)]
#[command(
    long_about = "\
Fill in words that are masked, by a model for masked words.

Texts are arguments, or lines of standard input, and have the model's mask token where a word is \
missing: [MASK] for BERT, <mask> for RoBERTa.",
    after_help = "\
Examples:
  filbert fill bert.filbert \"The soup was [MASK].\"
  filbert fill roberta.filbert --top-k 3 --json \"The soup was <mask>.\""
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// Texts; without any, one text a line from standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Print the N best words for each mask
    #[arg(long, value_name = "N", default_value = "5")]
    top_k: NonZeroUsize,
    /// Print one JSON array a text, which has an array of words for each mask
    #[arg(long)]
    json: bool,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = Options::new().threads(arguments.threads.get());
    let filler = WordFiller::new(model::open(&arguments.model)?, &options)?;
    let mut out = io::stdout().lock();
    lines::for_each_text(&arguments.texts, |text| {
        let masks = filler.fill(text, arguments.top_k.get())?;
        if masks.is_empty() {
            return Err(Failure::Failed(format!(
                "{:?} has no mask; write {} where a word is missing",
                one_line(text),
                filler.mask()
            )));
        }
        if arguments.json {
            let all: Vec<Value> = masks.iter().map(|mask| describe(text, mask)).collect();
            writeln!(out, "{}", Value::from(all))?;
        } else {
            for mask in &masks {
                for word in &mask.words {
                    let sequence = fill_in(text, mask, word);
                    writeln!(out, "{:6.2} %  {}", 100.0 * word.score, one_line(&sequence))?;
                }
            }
        }
        Ok(out.flush()?)
    })
}

/// The text with a word in the place of a mask. A piece goes on with the word before it.
fn fill_in(text: &str, mask: &MaskedWord, word: &Word) -> String {
    let (before, after) = (&text[..mask.token.start], &text[mask.token.end..]);
    match word.text.strip_prefix("##") {
        Some(piece) if !piece.is_empty() => format!("{}{piece}{after}", before.trim_end()),
        // RoBERTa's words bring the space before them.
        _ if word.text.starts_with(' ') => format!("{}{}{after}", before.trim_end(), word.text),
        _ => format!("{before}{}{after}", word.text),
    }
}

fn describe(text: &str, mask: &MaskedWord) -> Value {
    let words = mask.words.iter().map(|word| {
        json!({
            "score": word.score,
            "token": word.id,
            "token_str": word.text,
            "sequence": fill_in(text, mask, word),
        })
    });
    words.collect()
}
