//! A checkpoint's tokenizer, as the vocabulary section of a `.filbert` file.
//!
//! `tokenizer.json` says everything. A folder without it has a `vocab.txt`, and settings in
//! `tokenizer_config.json` that default to those of transformers' `BertTokenizer`. Whatever
//! the runtime would tokenize otherwise than Hugging Face is refused here, by name.

mod section;
mod trie;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use filbert::format::normalizer;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{NormalizedString, Normalizer as _};

use crate::error::Error;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const VOCABULARY: &str = "vocab.txt";

/// Classes whose fast tokenizer is BERT's, so that a `vocab.txt` alone says what it does.
const BERT_CLASSES: [&str; 6] = [
    "Bert",
    "DistilBert",
    "Electra",
    "MobileBert",
    "ConvBert",
    "LayoutLM",
];

/// The tokenizer of a checkpoint, checked and ready to be written.
#[derive(Debug)]
pub struct VocabularySource {
    section: Vec<u8>,
    max_tokens: Option<usize>,
}

impl VocabularySource {
    /// Reads the tokenizer of a Hugging Face folder. `vocabulary_size` is `vocab_size` of its
    /// `config.json`: every id must be less.
    pub fn read(folder: &Path, vocabulary_size: usize) -> Result<Self, Error> {
        let config_path = folder.join(CONFIG);
        let config: Config = read_json(&config_path)?.unwrap_or_default();
        if config.truncation_side.as_deref() == Some("left") {
            return Err(unsupported(
                &config_path,
                "truncation_side",
                "\"left\"",
                "\"right\"",
            ));
        }
        let path = folder.join(TOKENIZER);
        let settings = if path.exists() {
            let settings = Settings::from_tokenizer_json(path, vocabulary_size)?;
            settings.agree(&config, &config_path)?;
            settings
        } else {
            Settings::from_vocabulary(folder, &config, vocabulary_size)?
        };
        Ok(Self {
            section: settings.section(vocabulary_size)?,
            max_tokens: config.max_tokens(),
        })
    }

    /// The longest sequence that the tokenizer was made for, if it says.
    pub fn max_tokens(&self) -> Option<usize> {
        self.max_tokens
    }

    /// The bytes of the vocabulary section.
    pub fn section(&self) -> Vec<u8> {
        self.section.clone()
    }
}

/// `tokenizer_config.json`, as far as it matters.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default, deserialize_with = "present")]
    do_lower_case: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    strip_accents: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    tokenize_chinese_chars: Option<Value>,
    do_basic_tokenize: Option<bool>,
    model_max_length: Option<f64>,
    truncation_side: Option<String>,
    tokenizer_class: Option<String>,
    added_tokens_decoder: Option<BTreeMap<u32, AddedTokenJson>>,
    #[serde(flatten)]
    special: SpecialTokens,
}

/// Keeps apart what is null and what is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Config {
    /// transformers writes 10^30 for "no limit".
    fn max_tokens(&self) -> Option<usize> {
        self.model_max_length
            .filter(|length| (1.0..1e9).contains(length))
            .map(|length| length as usize)
    }

    /// The settings that it names, over those of `base`.
    fn over(&self, base: Normalization) -> Result<Normalization, String> {
        let flag = |value: &Option<Value>, name, default| match value {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(format!("{name}: found {other}, expected true or false")),
        };
        let strip_accents = match &self.strip_accents {
            None => base.strip_accents,
            Some(Value::Null) => None,
            some => Some(flag(some, "strip_accents", false)?),
        };
        Ok(Normalization {
            clean_text: base.clean_text,
            handle_chinese_chars: flag(
                &self.tokenize_chinese_chars,
                "tokenize_chinese_chars",
                base.handle_chinese_chars,
            )?,
            strip_accents,
            lowercase: flag(&self.do_lower_case, "do_lower_case", base.lowercase)?,
        })
    }
}

/// The special tokens of `tokenizer_config.json` and `special_tokens_map.json`.
#[derive(Clone, Debug, Default, Deserialize)]
struct SpecialTokens {
    unk_token: Option<TokenJson>,
    sep_token: Option<TokenJson>,
    pad_token: Option<TokenJson>,
    cls_token: Option<TokenJson>,
    mask_token: Option<TokenJson>,
    additional_special_tokens: Option<Vec<TokenJson>>,
}

/// A token as text, or with its properties.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TokenJson {
    Text(String),
    Token(AddedTokenJson),
}

impl TokenJson {
    fn into_added(self) -> AddedTokenJson {
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
struct AddedTokenJson {
    id: Option<u32>,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

/// `tokenizer.json`.
#[derive(Deserialize)]
struct TokenizerJson {
    truncation: Option<TruncationJson>,
    #[serde(default)]
    added_tokens: Vec<AddedTokenJson>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: ModelJson,
}

#[derive(Deserialize)]
struct TruncationJson {
    direction: Option<String>,
}

#[derive(Deserialize)]
struct ModelJson {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: Pairs,
}

/// The kind of model, read before the model since each kind has other fields.
#[derive(Deserialize)]
struct ModelKind {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
}

/// A JSON object's members, duplicates and all.
struct Pairs(Vec<(String, u64)>);

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

/// BERT's normalizer.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Normalization {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

impl Normalization {
    /// What a tokenizer without normalizer does.
    const NONE: Self = Self {
        clean_text: false,
        handle_chinese_chars: false,
        strip_accents: None,
        lowercase: false,
    };
    /// transformers' defaults.
    const BERT: Self = Self {
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: None,
        lowercase: true,
    };

    fn flags(self) -> u32 {
        [
            (normalizer::CLEAN_TEXT, self.clean_text),
            (normalizer::SPACE_IDEOGRAPHS, self.handle_chinese_chars),
            (
                normalizer::STRIP_ACCENTS,
                self.strip_accents.unwrap_or(self.lowercase),
            ),
            (normalizer::LOWERCASE, self.lowercase),
        ]
        .iter()
        .filter(|flag| flag.1)
        .map(|flag| flag.0)
        .sum()
    }

    fn normalize(self, text: &str) -> Result<String, Error> {
        let mut normalized = NormalizedString::from(text);
        BertNormalizer::new(
            self.clean_text,
            self.handle_chinese_chars,
            self.strip_accents,
            self.lowercase,
        )
        .normalize(&mut normalized)
        .map_err(|error| Error::new(format!("normalizing {text:?}: {error}")))?;
        Ok(normalized.get().to_owned())
    }
}

/// What the section says.
struct Settings {
    /// The file to name in errors.
    path: PathBuf,
    /// By id.
    tokens: Vec<String>,
    added: BTreeMap<u32, AddedTokenJson>,
    normalization: Normalization,
    prefix: String,
    max_word_chars: usize,
    unknown: u32,
    classification: u32,
    separator: u32,
}

fn unsupported(path: &Path, field: &str, found: impl fmt::Display, supported: &str) -> Error {
    Error::in_file(
        path,
        format!("{field}: found {found}; supported is {supported}"),
    )
}

/// A JSON file, or `None` where there is none.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::in_file(path, error))
}

fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::in_file(path, error))
}

fn type_of(value: &Value) -> String {
    match value.get("type") {
        Some(Value::String(name)) => format!("\"{name}\""),
        _ if value.is_null() => "none".to_owned(),
        _ => "an object without type".to_owned(),
    }
}

impl Settings {
    fn from_tokenizer_json(path: PathBuf, vocabulary_size: usize) -> Result<Self, Error> {
        let text = read_text(&path)?;
        let broken = |error: serde_json::Error| Error::in_file(&path, error);
        let kind: ModelKind = serde_json::from_str(&text).map_err(broken)?;
        match kind.model.r#type.as_deref() {
            None | Some("WordPiece") => {}
            Some(other) => {
                let found = format!("\"{other}\"");
                return Err(unsupported(&path, "model.type", found, "\"WordPiece\""));
            }
        }
        let json: TokenizerJson = serde_json::from_str(&text).map_err(broken)?;
        if let Some(direction) = json.truncation.and_then(|truncation| truncation.direction)
            && direction != "Right"
        {
            let found = format!("\"{direction}\"");
            return Err(unsupported(
                &path,
                "truncation.direction",
                found,
                "\"Right\"",
            ));
        }
        let normalization = match &json.normalizer {
            Value::Null => Normalization::NONE,
            value if value["type"] == "BertNormalizer" => Normalization::deserialize(value)
                .map_err(|error| {
                    Error::in_file(&path, format!("normalizer (BertNormalizer): {error}"))
                })?,
            other => {
                let supported = "\"BertNormalizer\" or none";
                return Err(unsupported(&path, "normalizer", type_of(other), supported));
            }
        };
        if json.pre_tokenizer["type"] != "BertPreTokenizer" {
            let found = type_of(&json.pre_tokenizer);
            return Err(unsupported(
                &path,
                "pre_tokenizer",
                found,
                "\"BertPreTokenizer\"",
            ));
        }
        let (classification, separator) = template(&json.post_processor, &path)?;
        let tokens = ordered(json.model.vocab, &path)?;
        let unknown = id_of(&tokens, &json.model.unk_token, "model.unk_token", &path)?;

        let mut settings = Self {
            path,
            tokens,
            added: BTreeMap::new(),
            normalization,
            prefix: json.model.continuing_subword_prefix,
            max_word_chars: json.model.max_input_chars_per_word,
            unknown,
            classification,
            separator,
        };
        for (token, id) in settings.add(json.added_tokens) {
            if token.id.is_some_and(|stated| stated != id) {
                return Err(settings.error(format!(
                    "added_tokens: {:?} states id {}, but the vocabulary makes it {id}; \
                     save the tokenizer again with transformers",
                    token.content,
                    token.id.unwrap_or_default(),
                )));
            }
        }
        settings.check_ids(vocabulary_size)?;
        Ok(settings)
    }

    fn from_vocabulary(
        folder: &Path,
        config: &Config,
        vocabulary_size: usize,
    ) -> Result<Self, Error> {
        let path = folder.join(VOCABULARY);
        let config_path = folder.join(CONFIG);
        if !path.exists() {
            return Err(Error::in_file(
                folder,
                format!("has neither {TOKENIZER} nor {VOCABULARY}"),
            ));
        }
        let class = config.tokenizer_class.as_deref().unwrap_or("BertTokenizer");
        let family = class.trim_end_matches("Fast").trim_end_matches("Tokenizer");
        if !BERT_CLASSES.contains(&family) {
            let found = format!("\"{class}\" without {TOKENIZER}");
            let supported = format!("BertTokenizer and its kin, or a {TOKENIZER}");
            return Err(unsupported(
                &config_path,
                "tokenizer_class",
                found,
                &supported,
            ));
        }
        if config.do_basic_tokenize == Some(false) {
            return Err(unsupported(
                &config_path,
                "do_basic_tokenize",
                "false",
                "true",
            ));
        }
        let normalization = config
            .over(Normalization::BERT)
            .map_err(|message| Error::in_file(&config_path, message))?;
        let legacy: Option<BTreeMap<String, u32>> = read_json(&folder.join(ADDED_TOKENS))?;
        if config.added_tokens_decoder.is_none() && legacy.is_some_and(|map| !map.is_empty()) {
            return Err(Error::in_file(
                &folder.join(ADDED_TOKENS),
                format!(
                    "does not say how its tokens match; load the tokenizer in transformers and \
                     save it again, which writes {TOKENIZER}"
                ),
            ));
        }
        let map: SpecialTokens = read_json(&folder.join(SPECIAL_TOKENS))?.unwrap_or_default();

        let text = read_text(&path)?;
        let mut lines: Vec<&str> = text.split('\n').collect();
        if lines.last() == Some(&"") {
            lines.pop();
        }
        let pairs = (0..)
            .zip(&lines)
            .map(|(id, line)| (line.trim_end_matches('\r').to_owned(), id))
            .collect();
        let tokens = ordered(Pairs(pairs), &path)?;

        let special = &config.special;
        let named = |of_config: &Option<TokenJson>, of_map: &Option<TokenJson>| {
            let token = of_config.clone().or_else(|| of_map.clone());
            token.map(TokenJson::into_added)
        };
        let or_default = |token: &Option<AddedTokenJson>, content: &str| {
            token
                .clone()
                .unwrap_or_else(|| TokenJson::Text(content.to_owned()).into_added())
        };
        let unknown = or_default(&named(&special.unk_token, &map.unk_token), "[UNK]");
        let separator = or_default(&named(&special.sep_token, &map.sep_token), "[SEP]");
        let classification = or_default(&named(&special.cls_token, &map.cls_token), "[CLS]");
        let ids = [
            (&unknown, "unk_token"),
            (&separator, "sep_token"),
            (&classification, "cls_token"),
        ]
        .map(|(token, field)| id_of(&tokens, &token.content, field, &path));
        let [unknown_id, separator_id, classification_id] = ids;

        let mut added: Vec<_> = config
            .added_tokens_decoder
            .clone()
            .unwrap_or_default()
            .into_iter()
            .map(|(id, token)| AddedTokenJson {
                id: Some(id),
                ..token
            })
            .collect();
        let mut special_tokens = vec![unknown, separator, classification];
        for (of_config, of_map, default) in [
            (&special.pad_token, &map.pad_token, "[PAD]"),
            (&special.mask_token, &map.mask_token, "[MASK]"),
        ] {
            // A vocabulary without them is complete for a classifier.
            match named(of_config, of_map) {
                None if !tokens.iter().any(|token| token == default) => {}
                token => special_tokens.push(or_default(&token, default)),
            }
        }
        let additional = special
            .additional_special_tokens
            .clone()
            .or(map.additional_special_tokens)
            .unwrap_or_default();
        special_tokens.extend(additional.into_iter().map(TokenJson::into_added));
        for token in special_tokens {
            if !added.iter().any(|known| known.content == token.content) {
                added.push(token);
            }
        }

        let mut settings = Self {
            path,
            tokens,
            added: BTreeMap::new(),
            normalization,
            prefix: "##".to_owned(),
            max_word_chars: 100,
            unknown: unknown_id?,
            classification: classification_id?,
            separator: separator_id?,
        };
        for (token, id) in settings.add(added) {
            if token.id.is_some_and(|stated| stated != id) {
                return Err(Error::in_file(
                    &config_path,
                    format!(
                        "added_tokens_decoder: {:?} has another id than in {VOCABULARY} ({id})",
                        token.content
                    ),
                ));
            }
        }
        settings.check_ids(vocabulary_size)?;
        Ok(settings)
    }

    fn error(&self, message: impl fmt::Display) -> Error {
        Error::in_file(&self.path, message)
    }

    /// Adds tokens as `tokenizers` does: a token of the vocabulary keeps its id, others follow
    /// the vocabulary, and of two with one id the later counts. Returns the ids.
    fn add(&mut self, tokens: Vec<AddedTokenJson>) -> Vec<(AddedTokenJson, u32)> {
        let mut ids: HashMap<String, u32> = (0..)
            .zip(&self.tokens)
            .map(|(id, token)| (token.clone(), id))
            .collect();
        let mut next = self.tokens.len() as u32;
        let mut added = Vec::new();
        for token in tokens {
            if token.content.is_empty() {
                continue;
            }
            let id = *ids.entry(token.content.clone()).or_insert_with(|| {
                next += 1;
                next - 1
            });
            self.added.insert(id, token.clone());
            added.push((token, id));
        }
        added
    }

    fn check_ids(&self, vocabulary_size: usize) -> Result<(), Error> {
        if self.tokens.len() > vocabulary_size {
            return Err(self.error(format!(
                "has {} tokens, but config.json says vocab_size {vocabulary_size}: the model \
                 has no embedding for the others",
                self.tokens.len()
            )));
        }
        let beyond = |id: u32| id as usize >= vocabulary_size;
        if let Some((id, token)) = self.added.iter().find(|(id, _)| beyond(**id)) {
            return Err(self.error(format!(
                "added token {:?} has id {id}, but config.json says vocab_size \
                 {vocabulary_size}: resize the model's embedding, or remove the token",
                token.content
            )));
        }
        for (name, id) in [
            ("classification ([CLS])", self.classification),
            ("separator ([SEP])", self.separator),
        ] {
            if beyond(id) {
                return Err(self.error(format!(
                    "post_processor: the {name} token has id {id}, but config.json says \
                     vocab_size {vocabulary_size}"
                )));
            }
        }
        Ok(())
    }

    /// transformers lets `tokenizer_config.json` overrule `tokenizer.json`, `tokenizers` does
    /// not read it: so they must agree.
    fn agree(&self, config: &Config, config_path: &Path) -> Result<(), Error> {
        let overruled = config
            .over(self.normalization)
            .map_err(|message| Error::in_file(config_path, message))?;
        if overruled.flags() == self.normalization.flags() {
            return Ok(());
        }
        Err(Error::in_file(
            config_path,
            format!(
                "do_lower_case, strip_accents and tokenize_chinese_chars contradict the \
                 normalizer of {TOKENIZER} ({:?}); make them agree with how the model was trained",
                self.normalization
            ),
        ))
    }
}

/// The ids of `[CLS]` and `[SEP]`, if the post-processor puts them where BERT does.
fn template(processor: &Value, path: &Path) -> Result<(u32, u32), Error> {
    const SUPPORTED: &str = "\"BertProcessing\", or \"TemplateProcessing\" that means \
         `[CLS] A [SEP]` with types 0 and `[CLS] A [SEP] B [SEP]` with types 0 0 0 1 1";
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match processor["type"].as_str() {
        Some("BertProcessing") => id(&processor["cls"][1]).zip(id(&processor["sep"][1])),
        Some("TemplateProcessing") => {
            let special = |name: &Value, type_id: u32| json!({"SpecialToken": {"id": name, "type_id": type_id}});
            let text = |name, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
            let cls = &processor["single"][0]["SpecialToken"]["id"];
            let sep = &processor["single"][2]["SpecialToken"]["id"];
            let single = json!([special(cls, 0), text("A", 0), special(sep, 0)]);
            let pair = json!([
                special(cls, 0),
                text("A", 0),
                special(sep, 0),
                text("B", 1),
                special(sep, 1)
            ]);
            let token = |name: &Value| {
                let ids = &processor["special_tokens"][name.as_str()?]["ids"];
                id(&ids[0]).filter(|_| ids.as_array().is_some_and(|ids| ids.len() == 1))
            };
            if processor["single"] == single && processor["pair"] == pair {
                token(cls).zip(token(sep))
            } else {
                let found = format!(
                    "\"TemplateProcessing\" with single {} and pair {}",
                    processor["single"], processor["pair"]
                );
                return Err(unsupported(path, "post_processor", found, SUPPORTED));
            }
        }
        _ => {
            return Err(unsupported(
                path,
                "post_processor",
                type_of(processor),
                SUPPORTED,
            ));
        }
    };
    ids.ok_or_else(|| {
        Error::in_file(
            path,
            "post_processor: does not give one id each for its two special tokens",
        )
    })
}

/// The tokens in the order of their ids, which must be 0, 1, 2 and so on.
fn ordered(Pairs(mut pairs): Pairs, path: &Path) -> Result<Vec<String>, Error> {
    pairs.sort_by_key(|pair| pair.1);
    let mut seen = HashMap::new();
    for (expected, (token, id)) in (0..).zip(&pairs) {
        if let Some(other) = seen.insert(token, *id) {
            return Err(Error::in_file(
                path,
                format!("token {token:?} occurs twice, with ids {other} and {id}"),
            ));
        }
        if *id != expected {
            let message = if *id < expected {
                format!("id {id} belongs to two tokens, one of them {token:?}")
            } else {
                format!("no token has id {expected}; ids must be without gaps")
            };
            return Err(Error::in_file(path, message));
        }
    }
    Ok(pairs.into_iter().map(|pair| pair.0).collect())
}

fn id_of(tokens: &[String], token: &str, field: &str, path: &Path) -> Result<u32, Error> {
    tokens
        .iter()
        .position(|known| known == token)
        .map(|id| id as u32)
        .ok_or_else(|| Error::in_file(path, format!("{field}: {token:?} is not in the vocabulary")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small tokenizer of BERT's kind.
    fn bert() -> Value {
        let special =
            |name: &str, type_id: u32| json!({"SpecialToken": {"id": name, "type_id": type_id}});
        let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [
                {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false,
                 "rstrip": false, "normalized": false, "special": true},
            ],
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)],
                "pair": [special("[CLS]", 0), text("A", 0), special("[SEP]", 0),
                    text("B", 1), special("[SEP]", 1)],
                "special_tokens": {
                    "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                    "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
                },
            },
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "good": 3, "##s": 4},
            },
        })
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Result<VocabularySource, Error> {
        VocabularySource::read(folder(files).path(), 5)
    }

    fn ids(source: &VocabularySource, text: &str) -> Vec<u32> {
        let truncation = filbert::Truncation::default();
        filbert::tokenize_section(&source.section(), 5, text, None, 512, truncation)
            .unwrap()
            .iter()
            .map(|token| token.id)
            .collect()
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)], words: &[&str]) {
        let message = read(files).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }

    /// Refused once the value at `pointer` is `value`.
    #[track_caller]
    fn refused_with(pointer: &str, value: Value, words: &[&str]) {
        let mut json = bert();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value;
        refused(
            &[(TOKENIZER, &json.to_string())],
            &[&[TOKENIZER], words].concat(),
        );
    }

    #[test]
    fn reads_tokenizer_json() {
        let source = read(&[(TOKENIZER, &bert().to_string())]).unwrap();
        assert_eq!(ids(&source, "Goods [CLS] x"), [1, 3, 4, 1, 0, 2]);
        assert_eq!(source.max_tokens(), None);
    }

    #[test]
    fn refuses_what_would_tokenize_otherwise() {
        refused_with(
            "/model/type",
            json!("BPE"),
            &["model.type", "\"BPE\"", "\"WordPiece\""],
        );
        refused_with(
            "/normalizer",
            json!({"type": "Sequence", "normalizers": []}),
            &["normalizer", "\"Sequence\"", "\"BertNormalizer\""],
        );
        refused_with(
            "/pre_tokenizer",
            json!({"type": "Whitespace"}),
            &["pre_tokenizer", "\"Whitespace\"", "\"BertPreTokenizer\""],
        );
        refused_with("/pre_tokenizer", Value::Null, &["pre_tokenizer", "none"]);
        refused_with("/post_processor", Value::Null, &["post_processor", "none"]);
        refused_with(
            "/post_processor/type",
            json!("RobertaProcessing"),
            &["post_processor", "\"RobertaProcessing\""],
        );
        refused_with(
            "/post_processor/pair",
            json!([]),
            &["post_processor", "pair"],
        );
        refused_with(
            "/post_processor/special_tokens",
            json!({"[CLS]": {"ids": [1, 1]}, "[SEP]": {"ids": [2]}}),
            &["post_processor", "one id"],
        );
        refused_with(
            "/truncation",
            json!({"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}),
            &["truncation.direction", "\"Left\""],
        );
    }

    #[test]
    fn refuses_broken_vocabularies() {
        let vocab = "/model/vocab";
        refused_with(vocab, json!({"[UNK]": 0, "a": 2}), &["no token has id 1"]);
        refused_with(
            vocab,
            json!({"[UNK]": 0, "a": 1, "b": 1}),
            &["id 1 belongs to two"],
        );
        refused_with(vocab, json!({"[CLS]": 0}), &["unk_token", "[UNK]"]);
        refused_with(
            vocab,
            json!({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5}),
            &["6 tokens", "vocab_size 5"],
        );
        refused_with(
            "/post_processor/special_tokens/[SEP]/ids",
            json!([7]),
            &["[SEP]", "id 7", "vocab_size 5"],
        );
        let twice = bert()
            .to_string()
            .replace("\"good\":3", "\"good\":3,\"good\":5");
        refused(&[(TOKENIZER, &twice)], &["\"good\" occurs twice"]);
    }

    #[test]
    fn refuses_added_tokens_that_have_no_place() {
        let added = |id: u32, content: &str, normalized: bool| {
            json!([{"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": normalized, "special": false}])
        };
        let field = "/added_tokens";
        refused_with(
            field,
            added(5, "[NEW]", false),
            &["[NEW]", "id 5", "vocab_size 5"],
        );
        refused_with(
            field,
            added(4, "good", false),
            &["\"good\"", "id 4", "makes it 3"],
        );
        for (content, words) in [
            ("\u{200D}", "empty once normalized"),
            (&"x".repeat(600), "600 bytes"),
        ] {
            let mut json = bert();
            json["added_tokens"] = added(5, content, true);
            let folder = folder(&[(TOKENIZER, &json.to_string())]);
            let error = VocabularySource::read(folder.path(), 6).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn refuses_a_config_that_contradicts() {
        let json = bert().to_string();
        for (config, fine) in [
            (r#"{"do_lower_case": true, "strip_accents": null}"#, true),
            (
                r#"{"strip_accents": true, "model_max_length": 1000000000000000019884624838656}"#,
                true,
            ),
            (r#"{"do_lower_case": false}"#, false),
            (r#"{"tokenize_chinese_chars": false}"#, false),
            (r#"{"strip_accents": false}"#, false),
            (r#"{"truncation_side": "left"}"#, false),
        ] {
            let result = read(&[(TOKENIZER, &json), (CONFIG, config)]);
            assert_eq!(result.is_ok(), fine, "{config} {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().contains(CONFIG), "{error}");
            }
        }
    }

    #[test]
    fn reads_vocab_txt() {
        let text = "[UNK]\r\n[CLS]\r\n[SEP]\r\ngood\r\n##s\r\n";
        let config =
            r#"{"model_max_length": 128, "do_lower_case": false, "never_split": ["good"]}"#;
        let source = read(&[(VOCABULARY, text), (CONFIG, config)]).unwrap();
        assert_eq!(source.max_tokens(), Some(128));
        assert_eq!(ids(&source, "goods Good [UNK]!"), [1, 3, 4, 0, 0, 0, 2]);

        let named = "<u>\n<c>\n<s>\ngood\n##s";
        let config = r###"{"unk_token": "<u>", "cls_token": {"content": "<c>", "lstrip": true},
            "sep_token": "<s>", "added_tokens_decoder": {"4": {"content": "##s"}}}"###;
        let source = read(&[(VOCABULARY, named), (CONFIG, config)]).unwrap();
        assert_eq!(ids(&source, "##s  <c>!"), [1, 4, 1, 0, 2]);
    }

    #[test]
    fn refuses_folders_and_vocab_txt() {
        refused(&[], &[TOKENIZER, VOCABULARY]);
        let text = "[UNK]\n[CLS]\n[SEP]\n";
        let vocab = (VOCABULARY, text);
        refused(
            &[(VOCABULARY, "[UNK]\n[CLS]\n")],
            &["sep_token", "\"[SEP]\""],
        );
        refused(
            &[(VOCABULARY, "[UNK]\n[UNK]\n")],
            &["occurs twice", "0 and 1"],
        );
        let config = |json| (CONFIG, json);
        refused(
            &[
                vocab,
                config(r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#),
            ],
            &["tokenizer_class", "BertJapaneseTokenizer"],
        );
        refused(
            &[vocab, config(r#"{"do_basic_tokenize": false}"#)],
            &["do_basic_tokenize"],
        );
        refused(&[vocab, (ADDED_TOKENS, r#"{"<x>": 3}"#)], &[ADDED_TOKENS]);
        refused(
            &[vocab, config(r#"{"do_lower_case": 1}"#)],
            &["do_lower_case"],
        );
        refused(&[vocab, config("{")], &[CONFIG]);
    }
}
