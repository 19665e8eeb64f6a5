//! What a tokenizer's JSON files hold, as far as it matters.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::error::Error;

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default, deserialize_with = "present")]
    pub(super) do_lower_case: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) strip_accents: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) tokenize_chinese_chars: Option<Value>,
    pub(super) do_basic_tokenize: Option<bool>,
    pub(super) add_prefix_space: Option<bool>,
    pub(super) trim_offsets: Option<bool>,
    pub(super) model_max_length: Option<f64>,
    pub(super) truncation_side: Option<String>,
    pub(super) tokenizer_class: Option<String>,
    pub(super) added_tokens_decoder: Option<BTreeMap<u32, AddedTokenJson>>,
    #[serde(flatten)]
    pub(super) special: SpecialTokens,
}

/// Keeps apart what is null and what is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Config {
    /// transformers writes 10^30 for "no limit".
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.model_max_length
            .filter(|length| (1.0..1e9).contains(length))
            .map(|length| length as usize)
    }
}

/// The special tokens of `tokenizer_config.json` and `special_tokens_map.json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct SpecialTokens {
    pub(super) bos_token: Option<TokenJson>,
    pub(super) eos_token: Option<TokenJson>,
    pub(super) unk_token: Option<TokenJson>,
    pub(super) sep_token: Option<TokenJson>,
    pub(super) pad_token: Option<TokenJson>,
    pub(super) cls_token: Option<TokenJson>,
    pub(super) mask_token: Option<TokenJson>,
    pub(super) additional_special_tokens: Option<Vec<TokenJson>>,
}

/// A token as text, or with its properties.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenJson {
    Text(String),
    Token(AddedTokenJson),
}

impl TokenJson {
    pub(super) fn into_added(self) -> AddedTokenJson {
        match self {
            Self::Text(content) => AddedTokenJson {
                content,
                ..AddedTokenJson::default()
            },
            Self::Token(token) => token,
        }
    }
}

/// An added token of `tokenizer.json` or of `added_tokens_decoder`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct AddedTokenJson {
    pub(super) id: Option<u32>,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
}

/// `tokenizer.json`, whose model is of a kind that [`ModelKind`] told.
#[derive(Deserialize)]
pub(super) struct TokenizerJson<Model> {
    pub(super) truncation: Option<TruncationJson>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedTokenJson>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    pub(super) model: Model,
}

#[derive(Deserialize)]
pub(super) struct TruncationJson {
    pub(super) direction: Option<String>,
}

/// The kind of model, read before the model since each kind has other fields.
#[derive(Deserialize)]
pub(super) struct ModelKind {
    pub(super) model: Kind,
}

#[derive(Deserialize)]
pub(super) struct Kind {
    pub(super) r#type: Option<String>,
}

/// A JSON object's members, duplicates and all.
pub(super) struct Pairs(pub(super) Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tokens to ids")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// A JSON file, or `None` where there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::in_file(path, error))
}

pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::in_file(path, error))
}
