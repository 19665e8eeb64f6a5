//! `filbert entities`: names, places and the like in texts.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{Entity, Options, TokenClassifier};
use serde_json::{Value, json};

use crate::terminal::{note, one_line};
use crate::{Failure, help, lines, model};

/// Find the entities of a text, by a model for token classification
#[derive(Args)]
#[command(
    long_about = "\
Find the entities of a text, by a model for token classification.

Neighbouring tokens of one kind are one entity, as in the token-classification pipeline of \
transformers with aggregation_strategy \"simple\". Texts are arguments, or lines of standard input.",
    after_help = "\
Examples:
  filbert entities ner.filbert \"Marta flew from Oslo to Lima.\"
  filbert entities ner.filbert --json < letters.txt"
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// Texts; without any, one text a line from standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Print one JSON array a text; start and end count characters
    #[arg(long)]
    json: bool,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = Options::new().threads(arguments.threads.get());
    let classifier = TokenClassifier::new(model::open(&arguments.model)?, &options)?;
    let mut out = io::stdout().lock();
    let mut cut = 0;
    lines::for_each_text(&arguments.texts, |text| {
        let result = classifier.classify(text)?;
        cut += usize::from(result.truncated());
        let entities = classifier.group(text, &result);
        if arguments.json {
            let entities: Vec<Value> = entities.iter().map(|e| describe(text, e)).collect();
            writeln!(out, "{}", Value::from(entities))?;
        } else {
            for entity in &entities {
                writeln!(
                    out,
                    "{}\t{:.2} %\t{}",
                    one_line(entity.label),
                    100.0 * entity.score,
                    one_line(&text[entity.bytes.clone()])
                )?;
            }
        }
        Ok(out.flush()?)
    })?;
    if cut > 0 {
        let most = classifier.model().shape().max_tokens;
        note(&format!(
            "{cut} texts cut to the {most} tokens that the model takes"
        ));
    }
    Ok(())
}

fn describe(text: &str, entity: &Entity<'_>) -> Value {
    json!({
        "entity_group": entity.label,
        "score": entity.score,
        "word": &text[entity.bytes.clone()],
        "start": entity.characters.start,
        "end": entity.characters.end,
    })
}
