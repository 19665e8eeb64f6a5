//! The runtime's tokenizer against the `tokenizers` crate on every labelled text that is here,
//! with the vocabulary of every model that is here.
//!
//! What no labelled text has is compared in `convert/tests/tokenizer_differential.rs`. Without
//! the shared folder the tests are reported as ignored.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use filbert::{Truncation, tokenize_section};
use filbert_convert::vocabulary::VocabularySource;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// More ids than any vocabulary here has.
const ROWS: u32 = 1 << 20;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = shared::shared();
    let absent = found.is_none();
    let folder = found.unwrap_or_default();
    let trials = [
        ("labelled_texts_have_the_tokens_of_tokenizers", false),
        (
            "labelled_texts_have_the_tokens_of_tokenizers_where_case_is_kept",
            true,
        ),
    ];
    let trials = trials.map(|(name, cased)| {
        let folder = folder.clone();
        Trial::test(name, move || check_all(&folder, cased)).with_ignored_flag(absent)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A text, or a pair.
type Texts = Vec<(String, Option<String>)>;

fn check_all(folder: &Path, cased: bool) -> Result<(), Failed> {
    let mut texts = Texts::new();
    for set in entries(&folder.join("data"))? {
        for file in entries(&set)? {
            if file.extension().is_some_and(|extension| extension == "tsv") {
                read_texts(&file, &mut texts)?;
            }
        }
    }
    // Several models have the same vocabulary.
    let mut done: Vec<Vec<u8>> = Vec::new();
    for model in entries(&folder.join("models"))? {
        let Some(json) = read_tokenizer(&model, cased)? else {
            continue;
        };
        let section = read_section(&json)?;
        if done.contains(&section) {
            continue;
        }
        let theirs: Tokenizer = json.parse().map_err(|error| format!("{error}"))?;
        let mut tokens = 0;
        for (first, second) in &texts {
            tokens += check(&section, &theirs, first, second.as_deref())?;
        }
        println!(
            "{}: {} texts and pairs, {tokens} tokens",
            model.display(),
            texts.len()
        );
        done.push(section);
    }
    if texts.is_empty() || done.is_empty() {
        return Err(format!("{} holds no texts or no tokenizer", folder.display()).into());
    }
    Ok(())
}

/// What lies in a folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// Every text of a file by itself, and every pair.
fn read_texts(file: &Path, texts: &mut Texts) -> Result<(), Failed> {
    let content = std::fs::read_to_string(file)?;
    let mut lines = content.lines();
    let header: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name| header.iter().position(|&column| column == name);
    for line in lines {
        let fields: Vec<_> = line.split('\t').collect();
        let field = |name| column(name).and_then(|at| fields.get(at)).copied();
        for name in ["text", "text_a", "text_b"] {
            texts.extend(field(name).map(|text| (text.to_owned(), None)));
        }
        if let (Some(first), Some(second)) = (field("text_a"), field("text_b")) {
            texts.push((first.to_owned(), Some(second.to_owned())));
        }
    }
    Ok(())
}

/// A model's `tokenizer.json`, if it is WordPiece; `cased` if case and accents are to be kept
/// whatever it says.
fn read_tokenizer(model: &Path, cased: bool) -> Result<Option<String>, Failed> {
    let file = model.join("tokenizer.json");
    if !file.is_file() {
        return Ok(None);
    }
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    if json["model"]["type"] != "WordPiece" {
        return Ok(None);
    }
    // Its own limits are for batches, not for this.
    json["truncation"] = Value::Null;
    json["padding"] = Value::Null;
    if cased {
        json["normalizer"]["lowercase"] = json!(false);
        json["normalizer"]["strip_accents"] = json!(false);
    }
    Ok(Some(json.to_string()))
}

fn read_section(json: &str) -> Result<Vec<u8>, Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("tokenizer.json"), json)?;
    let source = VocabularySource::read(folder.path(), ROWS as usize)?;
    Ok(source.section())
}

/// Compares ids, types and offsets, and counts the tokens.
fn check(
    section: &[u8],
    theirs: &Tokenizer,
    first: &str,
    second: Option<&str>,
) -> Result<usize, Failed> {
    let expected = match second {
        Some(second) => theirs.encode((first, second), true),
        None => theirs.encode(first, true),
    };
    let expected = expected.map_err(|error| format!("{error}"))?;
    let truncation = Truncation::default();
    let found = tokenize_section(section, ROWS, first, second, usize::MAX, truncation)?;
    let others = expected.get_type_ids().iter().zip(expected.get_offsets());
    let tokens = expected.get_ids().iter().zip(others);
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(tokens)
            .all(|(token, (&id, (&kind, &range)))| {
                token.id == id
                    && u32::from(token.token_type) == kind
                    && (token.start, token.end) == range
            });
    if !same {
        return Err(format!("{first:?} {second:?}: {found:?}, expected {expected:?}").into());
    }
    Ok(found.len())
}
