//! A checkpoint's tokenizer, as the vocabulary section of a `.filbert` file.
//!
//! `tokenizer.json` says everything. A folder without it has a `vocab.txt`, or a `vocab.json` and
//! a `merges.txt`, and settings in `tokenizer_config.json` that default to those of transformers'
//! `BertTokenizer` or `RobertaTokenizerFast`. Whatever the runtime would tokenize otherwise than
//! Hugging Face is refused here, by name.

mod byte_level;
mod folder;
mod json;
mod section;
mod template;
mod trie;
mod word_piece;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use filbert::format;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::byte_level::ByteLevelBpe;
use self::folder::{Folder, Role};
use self::json::{AddedTokenJson, Config, ModelKind, Pairs, TokenizerJson, read_json, read_text};
use self::word_piece::WordPiece;
use crate::error::Error;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const VOCABULARY: &str = "vocab.txt";
const BPE_VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// The tokenizer of a checkpoint, checked and ready to be written.
#[derive(Debug)]
pub struct VocabularySource {
    section: Vec<u8>,
    max_tokens: Option<usize>,
    mask: Option<(u32, String)>,
    required_features: u32,
    special_tokens: usize,
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
        // Beside `tokenizer.json` it says nothing.
        let map = match path.exists() {
            true => None,
            false => read_json(&folder.join(SPECIAL_TOKENS))?,
        };
        let beside = Folder {
            path: folder,
            config: &config,
            map: &map.unwrap_or_default(),
        };
        let settings = if path.exists() {
            Settings::from_tokenizer_json(path, &config)?
        } else if folder.join(VOCABULARY).exists() {
            word_piece::from_folder(&beside)?
        } else if folder.join(BPE_VOCABULARY).exists() {
            byte_level::from_folder(&beside)?
        } else {
            return Err(Error::in_file(
                folder,
                format!("has neither {TOKENIZER} nor {VOCABULARY} nor {BPE_VOCABULARY}"),
            ));
        };
        settings.check_ids(vocabulary_size)?;
        let mask = settings.mask(&beside);
        Ok(Self {
            section: settings.section(vocabulary_size)?,
            max_tokens: config.max_tokens(),
            mask,
            required_features: settings.model.required_features(),
            special_tokens: settings.model.special_tokens(),
        })
    }

    /// The longest sequence that the tokenizer was made for, if it says.
    pub fn max_tokens(&self) -> Option<usize> {
        self.max_tokens
    }

    /// The most special tokens that it puts around texts, those of a pair: a model must take as
    /// many tokens at least.
    pub fn special_tokens(&self) -> usize {
        self.special_tokens
    }

    /// The bits of the header's `required_features` that a file with this vocabulary has.
    pub fn required_features(&self) -> u32 {
        self.required_features
    }

    /// The token that stands for a word to be guessed, `[MASK]` or `<mask>`, if the tokenizer has
    /// one: its id and its text.
    pub fn mask(&self) -> Option<(u32, &str)> {
        self.mask.as_ref().map(|(id, text)| (*id, text.as_str()))
    }

    /// The bytes of the vocabulary section.
    pub fn section(&self) -> Vec<u8> {
        self.section.clone()
    }
}

/// What the section says.
struct Settings {
    /// The file to name in errors.
    path: PathBuf,
    /// By id.
    tokens: Vec<String>,
    added: BTreeMap<u32, AddedTokenJson>,
    /// `[CLS]`, `<s>`.
    classification: u32,
    /// `[SEP]`, `</s>`.
    separator: u32,
    model: Model,
}

/// What one kind of tokenizer has of its own.
#[derive(Debug)]
enum Model {
    WordPiece(WordPiece),
    ByteLevelBpe(ByteLevelBpe),
}

impl Model {
    fn required_features(&self) -> u32 {
        match self {
            Self::WordPiece(_) => 0,
            Self::ByteLevelBpe(_) => format::features::BYTE_LEVEL_BPE,
        }
    }

    fn special_tokens(&self) -> usize {
        match self {
            Self::ByteLevelBpe(bpe) if bpe.doubles_separator() => 4,
            _ => 3,
        }
    }

    /// The text by which an added token is looked for in normalized text.
    fn normalize(&self, text: &str) -> Result<String, Error> {
        match self {
            Self::WordPiece(word_piece) => word_piece.normalization.normalize(text),
            Self::ByteLevelBpe(_) => Ok(text.to_owned()),
        }
    }
}

fn unsupported(path: &Path, field: &str, found: impl fmt::Display, supported: &str) -> Error {
    Error::in_file(
        path,
        format!("{field}: found {found}; supported is {supported}"),
    )
}

fn type_of(value: &Value) -> String {
    match value.get("type") {
        Some(Value::String(name)) => format!("\"{name}\""),
        _ if value.is_null() => "none".to_owned(),
        _ => "an object without type".to_owned(),
    }
}

impl Settings {
    fn new(
        path: PathBuf,
        tokens: Vec<String>,
        model: Model,
        classification: u32,
        separator: u32,
    ) -> Self {
        Self {
            path,
            tokens,
            added: BTreeMap::new(),
            classification,
            separator,
            model,
        }
    }

    fn from_tokenizer_json(path: PathBuf, config: &Config) -> Result<Self, Error> {
        let text = read_text(&path)?;
        let kind: ModelKind = read_tokenizer(&text, &path)?;
        match kind.model.r#type.as_deref() {
            None | Some("WordPiece") => {
                let json = read_tokenizer(&text, &path)?;
                check_truncation(&json, &path)?;
                word_piece::from_json(path, json, config)
            }
            Some("BPE") => {
                let json = read_tokenizer(&text, &path)?;
                check_truncation(&json, &path)?;
                byte_level::from_json(path, json, config)
            }
            Some(other) => {
                let mut supported = "\"WordPiece\", and \"BPE\" of bytes".to_owned();
                if other == "Unigram" {
                    supported += ". Models with SentencePiece (XLM-RoBERTa, ALBERT, CamemBERT, \
                                  DeBERTa v3, mT5) cannot be converted: take one of BERT's or \
                                  RoBERTa's kin, such as bert-base-multilingual-cased for many \
                                  languages";
                }
                let found = format!("\"{other}\"");
                Err(unsupported(&path, "model.type", found, &supported))
            }
        }
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

    /// Adds the tokens of `tokenizer.json`, whose ids must be those that it states.
    fn add_stated(&mut self, tokens: Vec<AddedTokenJson>) -> Result<(), Error> {
        for (token, id) in self.add(tokens) {
            if let Some(stated) = token.id.filter(|&stated| stated != id) {
                return Err(self.error(format!(
                    "added_tokens: {:?} states id {stated}, but the vocabulary makes it {id}; \
                     save the tokenizer again with transformers",
                    token.content,
                )));
            }
        }
        Ok(())
    }

    /// The id of the mask, by the name that the folder gives it or the usual one.
    fn mask(&self, folder: &Folder<'_>) -> Option<(u32, String)> {
        let default = match self.model {
            Model::WordPiece(_) => "[MASK]",
            Model::ByteLevelBpe(_) => "<mask>",
        };
        let mask = folder.token(Role::Mask, default).content;
        let added = self.added.iter().find(|(_, token)| token.content == mask);
        let known = || (0..).zip(&self.tokens).find(|(_, token)| **token == mask);
        let id = added
            .map(|(&id, _)| id)
            .or_else(|| known().map(|(id, _)| id))?;
        Some((id, mask))
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
            ("classification ([CLS], <s>)", self.classification),
            ("separator ([SEP], </s>)", self.separator),
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
}

fn read_tokenizer<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::in_file(path, error))
}

fn check_truncation<T>(json: &TokenizerJson<T>, path: &Path) -> Result<(), Error> {
    let truncation = json.truncation.as_ref();
    match truncation.and_then(|truncation| truncation.direction.as_deref()) {
        None | Some("Right") => Ok(()),
        Some(direction) => Err(unsupported(
            path,
            "truncation.direction",
            format!("\"{direction}\""),
            "\"Right\"",
        )),
    }
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
    use serde_json::json;

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
            json!("Unigram"),
            &["model.type", "\"Unigram\"", "\"WordPiece\"", "XLM-RoBERTa"],
        );
        refused_with(
            "/model/type",
            json!("WordLevel"),
            &["model.type", "\"WordLevel\"", "\"BPE\" of bytes"],
        );
        refused_with("/model/type", json!("BPE"), &["merges"]);
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
