//! Where the special tokens go: the post-processor of `tokenizer.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::{type_of, unsupported};
use crate::error::Error;

/// How a pair of texts is put together. A text alone is `[CLS] A [SEP]`, of type 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairTemplate {
    /// `[CLS] A [SEP] B [SEP]`, of types 0 0 0 1 1.
    Bert,
    /// `<s> A </s> </s> B </s>`, of type 0.
    Roberta,
}

impl PairTemplate {
    fn describe(self) -> &'static str {
        match self {
            Self::Bert => {
                "\"BertProcessing\", or \"TemplateProcessing\" that means `[CLS] A [SEP]` with \
                 types 0 and `[CLS] A [SEP] B [SEP]` with types 0 0 0 1 1"
            }
            Self::Roberta => {
                "\"RobertaProcessing\", or \"TemplateProcessing\" that means `<s> A </s>` and \
                 `<s> A </s> </s> B </s>` with types 0"
            }
        }
    }

    /// The pair of a `TemplateProcessing`, with these names of special tokens.
    fn json(self, cls: &Value, sep: &Value) -> Value {
        match self {
            Self::Bert => json!([
                special(cls, 0),
                text("A", 0),
                special(sep, 0),
                text("B", 1),
                special(sep, 1)
            ]),
            Self::Roberta => json!([
                special(cls, 0),
                text("A", 0),
                special(sep, 0),
                special(sep, 0),
                text("B", 0),
                special(sep, 0)
            ]),
        }
    }
}

fn special(name: &Value, type_id: u32) -> Value {
    json!({"SpecialToken": {"id": name, "type_id": type_id}})
}

fn text(name: &str, type_id: u32) -> Value {
    json!({"Sequence": {"id": name, "type_id": type_id}})
}

/// The special tokens that a post-processor puts around texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecialIds {
    /// `[CLS]`, `<s>`.
    pub(super) classification: u32,
    /// `[SEP]`, `</s>`.
    pub(super) separator: u32,
    pub(super) pair: PairTemplate,
}

/// Reads a post-processor that must put a pair together in one of these ways.
pub(super) fn special_ids(
    processor: &Value,
    supported: &[PairTemplate],
    path: &Path,
) -> Result<SpecialIds, Error> {
    let refuse = |found: String| {
        let supported: Vec<_> = supported.iter().map(|pair| pair.describe()).collect();
        unsupported(path, "post_processor", found, &supported.join("; or "))
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let (pair, ids) = match processor["type"].as_str() {
        Some(kind @ ("BertProcessing" | "RobertaProcessing")) => {
            let pair = match kind {
                "BertProcessing" => PairTemplate::Bert,
                _ => PairTemplate::Roberta,
            };
            if !supported.contains(&pair) {
                return Err(refuse(type_of(processor)));
            }
            (pair, id(&processor["cls"][1]).zip(id(&processor["sep"][1])))
        }
        Some("TemplateProcessing") => {
            let cls = &processor["single"][0]["SpecialToken"]["id"];
            let sep = &processor["single"][2]["SpecialToken"]["id"];
            let single = json!([special(cls, 0), text("A", 0), special(sep, 0)]);
            let pair = supported.iter().copied().find(|pair| {
                processor["single"] == single && processor["pair"] == pair.json(cls, sep)
            });
            let Some(pair) = pair else {
                return Err(refuse(format!(
                    "\"TemplateProcessing\" with single {} and pair {}",
                    processor["single"], processor["pair"]
                )));
            };
            let token = |name: &Value| {
                let ids = &processor["special_tokens"][name.as_str()?]["ids"];
                id(&ids[0]).filter(|_| ids.as_array().is_some_and(|ids| ids.len() == 1))
            };
            (pair, token(cls).zip(token(sep)))
        }
        _ => return Err(refuse(type_of(processor))),
    };
    let (classification, separator) = ids.ok_or_else(|| {
        Error::in_file(
            path,
            "post_processor: does not give one id each for its two special tokens",
        )
    })?;
    Ok(SpecialIds {
        classification,
        separator,
        pair,
    })
}
