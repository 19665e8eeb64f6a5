//! RoBERTa's tokenizer: `tokenizer.json` with a byte-level BPE, or `vocab.json` and `merges.txt`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use filbert::format::byte_level;
use serde::Deserialize;
use serde_json::Value;

use super::folder::{Folder, Role};
use super::json::{Config, Pairs, TokenizerJson, read_json, read_text};
use super::template::{PairTemplate, SpecialIds, special_ids};
use super::{
    BPE_VOCABULARY, CONFIG, MERGES, Model, Settings, TOKENIZER, id_of, ordered, type_of,
    unsupported,
};
use crate::error::Error;

/// Classes whose fast tokenizer is RoBERTa's, so that `vocab.json` and `merges.txt` alone say
/// what it does.
const ROBERTA_CLASSES: [&str; 4] = ["Roberta", "Bart", "Longformer", "LED"];

/// What of a tokenizer is RoBERTa's own.
#[derive(Debug)]
pub(super) struct ByteLevelBpe {
    /// The token of each of the 256 bytes.
    pub(super) bytes: Vec<u32>,
    /// In the order of their left token, then of their right one.
    pub(super) merges: Vec<Merge>,
    /// Of [`byte_level`].
    pub(super) flags: u32,
}

/// Two tokens that make one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) made: u32,
    /// The least is done first. Ranks are 0, 1, 2 and so on, once each.
    pub(super) rank: u32,
}

#[derive(Deserialize)]
pub(super) struct BpeJson {
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    ignore_merges: Option<bool>,
    vocab: Pairs,
    merges: Vec<MergeJson>,
}

/// Both spellings of a merge.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeJson {
    Text(String),
    Pair(String, String),
}

/// `ByteLevel`, as pre-tokenizer and as post-processor.
#[derive(Deserialize)]
struct ByteLevelJson {
    add_prefix_space: bool,
    trim_offsets: bool,
    use_regex: Option<bool>,
}

/// What becomes of the offsets.
struct Offsets {
    trim: bool,
    /// Whether the one space before the first token is left.
    keep_first_space: bool,
}

impl ByteLevelBpe {
    fn new(
        tokens: &[String],
        merges: impl Iterator<Item = Result<(String, String), String>>,
        path: &Path,
    ) -> Result<Self, Error> {
        let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
        let token = |byte: u8| {
            let text = character(byte).to_string();
            ids.get(&*text).copied().ok_or_else(|| {
                Error::in_file(
                    path,
                    format!(
                        "has no token {text:?} for the byte {byte:#04x}; supported is byte-level \
                         BPE with a token for each of the 256 bytes"
                    ),
                )
            })
        };
        let bytes = (0..=u8::MAX).map(token).collect::<Result<_, _>>()?;
        Ok(Self {
            bytes,
            merges: ranked(&ids, merges).map_err(|message| Error::in_file(path, message))?,
            flags: 0,
        })
    }

    fn set(&mut self, flag: u32, on: bool) {
        if on {
            self.flags |= flag;
        }
    }

    /// Whether two separators divide a pair.
    pub(super) fn doubles_separator(&self) -> bool {
        self.flags & byte_level::DOUBLE_SEPARATOR != 0
    }
}

/// The character that stands for a byte in the texts of tokens: itself, if it can be seen, or
/// else the next of those from U+0100 on. GPT-2's `bytes_to_unicode`.
fn character(byte: u8) -> char {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if seen(&byte) {
        return char::from(byte);
    }
    let unseen = (0..byte).filter(|byte| !seen(byte)).count();
    char::from_u32(0x100 + unseen as u32).unwrap_or_default()
}

/// The merges, in the order of their tokens. Of several for the same two tokens, the last counts.
fn ranked(
    ids: &HashMap<&str, u32>,
    merges: impl Iterator<Item = Result<(String, String), String>>,
) -> Result<Vec<Merge>, String> {
    let mut by_pair = BTreeMap::new();
    for (rank, merge) in merges.enumerate() {
        let (left, right) = merge?;
        let id = |token: &str| {
            ids.get(token).copied().ok_or_else(|| {
                format!(
                    "merge {rank}, of {left:?} and {right:?}: {token:?} is not in the vocabulary"
                )
            })
        };
        let made = id(&format!("{left}{right}"))?;
        by_pair.insert((id(&left)?, id(&right)?), (rank, made));
    }
    let mut merges: Vec<_> = by_pair
        .into_iter()
        .map(|((left, right), (rank, made))| (rank, left, right, made))
        .collect();
    // Ranks without gaps.
    merges.sort_unstable();
    let ranked = (0..).zip(merges);
    let mut merges: Vec<_> = ranked
        .map(|(rank, (_, left, right, made))| Merge {
            left,
            right,
            made,
            rank,
        })
        .collect();
    merges.sort_unstable_by_key(|merge| (merge.left, merge.right));
    Ok(merges)
}

/// The two tokens of a merge that is written as text.
fn parts(text: &str, rank: usize) -> Result<(String, String), String> {
    match text.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => Err(format!(
            "merge {rank} is {text:?}; expected are two tokens and one space between them"
        )),
    }
}

/// The settings of a `tokenizer.json` with a BPE.
pub(super) fn from_json(
    path: PathBuf,
    json: TokenizerJson<BpeJson>,
    config: &Config,
) -> Result<Settings, Error> {
    check_model(&json.model, &path)?;
    if !json.normalizer.is_null() {
        let found = type_of(&json.normalizer);
        return Err(unsupported(&path, "normalizer", found, "none"));
    }
    let before = byte_level_json(&json.pre_tokenizer, "pre_tokenizer", &path)?;
    if before.use_regex == Some(false) {
        return Err(unsupported(
            &path,
            "pre_tokenizer.use_regex",
            "false",
            "true",
        ));
    }
    let (ids, offsets) = post_processor(&json.post_processor, &path)?;
    check_agreement(&before, &offsets, config, &path)?;

    let tokens = ordered(json.model.vocab, &path)?;
    // As `tokenizers` counts them.
    let written =
        json.model.merges.into_iter().filter(
            |merge| !matches!(merge, MergeJson::Text(text) if text.starts_with("#version")),
        );
    let merges = written.enumerate().map(|(rank, merge)| match merge {
        MergeJson::Text(text) => parts(&text, rank),
        MergeJson::Pair(left, right) => Ok((left, right)),
    });
    let mut bpe = ByteLevelBpe::new(&tokens, merges, &path)?;
    bpe.set(byte_level::PREFIX_SPACE, before.add_prefix_space);
    bpe.set(byte_level::TRIM_OFFSETS, offsets.trim);
    bpe.set(byte_level::KEEP_FIRST_SPACE, offsets.keep_first_space);
    bpe.set(
        byte_level::DOUBLE_SEPARATOR,
        ids.pair == PairTemplate::Roberta,
    );
    let model = Model::ByteLevelBpe(bpe);
    let mut settings = Settings::new(path, tokens, model, ids.classification, ids.separator);
    settings.add_stated(json.added_tokens)?;
    Ok(settings)
}

/// Checks what would merge otherwise. `unk_token`, `fuse_unk` and `byte_fallback` have no effect,
/// since each byte has a token.
fn check_model(model: &BpeJson, path: &Path) -> Result<(), Error> {
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return Err(unsupported(path, "model.dropout", dropout, "none"));
    }
    for (field, affix) in [
        (
            "model.continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(path, field, format!("{affix:?}"), "none"));
        }
    }
    if model.ignore_merges == Some(true) {
        return Err(unsupported(path, "model.ignore_merges", "true", "false"));
    }
    Ok(())
}

fn byte_level_json(value: &Value, field: &str, path: &Path) -> Result<ByteLevelJson, Error> {
    if value["type"] != "ByteLevel" {
        return Err(unsupported(path, field, type_of(value), "\"ByteLevel\""));
    }
    ByteLevelJson::deserialize(value)
        .map_err(|error| Error::in_file(path, format!("{field} (ByteLevel): {error}")))
}

/// Where the special tokens go, and what becomes of the offsets.
fn post_processor(value: &Value, path: &Path) -> Result<(SpecialIds, Offsets), Error> {
    const TEMPLATES: [PairTemplate; 2] = [PairTemplate::Roberta, PairTemplate::Bert];
    let ids = |value| special_ids(value, &TEMPLATES, path);
    match value["type"].as_str() {
        Some("RobertaProcessing") => {
            let flag = |name: &str| {
                value[name].as_bool().ok_or_else(|| {
                    let field = format!("post_processor.{name}");
                    unsupported(path, &field, &value[name], "true or false")
                })
            };
            let offsets = Offsets {
                trim: flag("trim_offsets")?,
                keep_first_space: flag("add_prefix_space")?,
            };
            Ok((ids(value)?, offsets))
        }
        Some("Sequence") => {
            let processors = value["processors"].as_array().map(Vec::as_slice);
            let Some([first, second]) = processors else {
                let found = format!("\"Sequence\" of {}", value["processors"]);
                let supported = "\"Sequence\" of \"ByteLevel\" and \"TemplateProcessing\"";
                return Err(unsupported(path, "post_processor", found, supported));
            };
            let byte_level = byte_level_json(first, "post_processor.processors[0]", path)?;
            if second["type"] != "TemplateProcessing" {
                return Err(unsupported(
                    path,
                    "post_processor.processors[1]",
                    type_of(second),
                    "\"TemplateProcessing\"",
                ));
            }
            let offsets = Offsets {
                trim: byte_level.trim_offsets,
                keep_first_space: byte_level.add_prefix_space,
            };
            Ok((ids(second)?, offsets))
        }
        _ => {
            let offsets = Offsets {
                trim: false,
                keep_first_space: false,
            };
            Ok((ids(value)?, offsets))
        }
    }
}

/// transformers lets `tokenizer_config.json` overrule `tokenizer.json`, `tokenizers` does not
/// read it: so they must agree.
fn check_agreement(
    before: &ByteLevelJson,
    offsets: &Offsets,
    config: &Config,
    path: &Path,
) -> Result<(), Error> {
    let refuse = |field: &str, stated: bool| {
        Error::in_file(
            &path.with_file_name(CONFIG),
            format!(
                "{field}: found {stated}, which contradicts {TOKENIZER}; make them agree with \
                 how the model was trained"
            ),
        )
    };
    if let Some(stated) = config.add_prefix_space
        && (before.add_prefix_space != stated
            || (offsets.trim && offsets.keep_first_space != stated))
    {
        return Err(refuse("add_prefix_space", stated));
    }
    match config.trim_offsets {
        Some(stated) if stated != offsets.trim => Err(refuse("trim_offsets", stated)),
        _ => Ok(()),
    }
}

/// The settings of a folder with `vocab.json` and `merges.txt`.
pub(super) fn from_folder(folder: &Folder<'_>) -> Result<Settings, Error> {
    folder.check_class(&ROBERTA_CLASSES, "RobertaTokenizer and its kin")?;
    let (path, merges_path) = (folder.path.join(BPE_VOCABULARY), folder.path.join(MERGES));
    if !merges_path.exists() {
        return Err(Error::in_file(
            folder.path,
            format!("has {BPE_VOCABULARY}, but neither {MERGES} nor {TOKENIZER}"),
        ));
    }
    let pairs: Option<Pairs> = read_json(&path)?;
    let tokens = ordered(pairs.unwrap_or(Pairs(Vec::new())), &path)?;
    let text = read_text(&merges_path)?;
    let lines = text.lines().filter(|line| !line.starts_with("#version"));
    let merges = lines.enumerate().map(|(rank, line)| parts(line, rank));
    let mut bpe = ByteLevelBpe::new(&tokens, merges, &merges_path)?;
    let prefix_space = folder.config.add_prefix_space.unwrap_or(false);
    bpe.set(byte_level::PREFIX_SPACE, prefix_space);
    bpe.set(byte_level::KEEP_FIRST_SPACE, prefix_space);
    bpe.set(
        byte_level::TRIM_OFFSETS,
        folder.config.trim_offsets.unwrap_or(true),
    );
    bpe.set(byte_level::DOUBLE_SEPARATOR, true);

    let separator = folder.token(Role::Separator, "</s>");
    let classification = folder.token(Role::Classification, "<s>");
    let separator_id = id_of(&tokens, &separator.content, "sep_token", &path)?;
    let classification_id = id_of(&tokens, &classification.content, "cls_token", &path)?;
    let mut special = vec![separator, classification];
    for (role, default) in [
        (Role::Beginning, "<s>"),
        (Role::End, "</s>"),
        (Role::Unknown, "<unk>"),
        (Role::Padding, "<pad>"),
        (Role::Mask, "<mask>"),
    ] {
        // A vocabulary without them is complete for a classifier.
        if folder.names(role) || tokens.iter().any(|token| token == default) {
            let mut token = folder.token(role, default);
            // As RobertaTokenizerFast has the mask, if only its text is given.
            token.lstrip |= matches!(role, Role::Mask) && !folder.describes(role);
            special.push(token);
        }
    }
    let model = Model::ByteLevelBpe(bpe);
    let mut settings = Settings::new(path, tokens, model, classification_id, separator_id);
    folder.add(special, &mut settings)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::VocabularySource;
    use super::*;

    const ROWS: usize = 3 + 256 + 3;

    /// A small tokenizer of RoBERTa's kind.
    fn roberta() -> Value {
        let tokens = ["<s>", "</s>", "<mask>"].map(str::to_owned).into_iter();
        let tokens = tokens.chain((0..=u8::MAX).map(|byte| character(byte).to_string()));
        let tokens = tokens.chain(["Ġa", "bc", "Ġabc"].map(str::to_owned));
        let vocab: BTreeMap<String, u32> = tokens.zip(0..).collect();
        json!({
            "added_tokens": [{"id": 2, "content": "<mask>", "single_word": false, "lstrip": true,
                "rstrip": false, "normalized": false, "special": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
            "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
                "trim_offsets": true, "add_prefix_space": true},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "unk_token": "<unk>", "continuing_subword_prefix": "",
                "end_of_word_suffix": null, "dropout": null, "fuse_unk": false, "vocab": vocab,
                "merges": [["Ġ", "a"], ["b", "c"], ["Ġa", "bc"]]},
        })
    }

    fn read(files: &[(&str, &str)]) -> Result<VocabularySource, Error> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        VocabularySource::read(folder.path(), ROWS)
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
        let mut json = roberta();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value;
        refused(
            &[(TOKENIZER, &json.to_string())],
            &[&[TOKENIZER], words].concat(),
        );
    }

    fn ids(source: &VocabularySource, first: &str, second: Option<&str>) -> Vec<u32> {
        let truncation = filbert::Truncation::default();
        let section = source.section();
        let tokens =
            filbert::tokenize_section(&section, ROWS as u32, first, second, 64, truncation);
        tokens.unwrap().iter().map(|token| token.id).collect()
    }

    #[test]
    fn reads_tokenizer_json() {
        let source = read(&[(TOKENIZER, &roberta().to_string())]).unwrap();
        assert_eq!(ids(&source, "abc <mask>", None), [0, 261, 2, 1]);
        assert_eq!(ids(&source, "abc", Some(" abc")), [0, 261, 1, 1, 261, 1]);
        assert_eq!(source.special_tokens(), 4);
        assert_eq!(source.mask(), Some((2, "<mask>")));
        assert_eq!(
            source.required_features(),
            filbert::format::features::BYTE_LEVEL_BPE
        );
    }

    #[test]
    fn characters_are_those_of_gpt2() {
        assert_eq!(
            [b' ', b'\n', b'a', 0, 0xFF].map(character),
            ['Ġ', 'Ċ', 'a', 'Ā', 'ÿ']
        );
        assert_eq!([0x7F, 0xA0, 0xAD].map(character), ['ġ', 'ł', 'Ń']);
    }

    #[test]
    fn refuses_what_would_tokenize_otherwise() {
        refused_with(
            "/model/dropout",
            json!(0.1),
            &["model.dropout", "0.1", "none"],
        );
        refused_with(
            "/model/continuing_subword_prefix",
            json!("##"),
            &["model.continuing_subword_prefix", "\"##\""],
        );
        refused_with(
            "/model/end_of_word_suffix",
            json!("</w>"),
            &["model.end_of_word_suffix", "\"</w>\""],
        );
        refused_with(
            "/model/ignore_merges",
            json!(true),
            &["model.ignore_merges", "true"],
        );
        refused_with(
            "/normalizer",
            json!({"type": "NFC"}),
            &["normalizer", "\"NFC\"", "none"],
        );
        refused_with(
            "/pre_tokenizer",
            json!({"type": "Metaspace"}),
            &["pre_tokenizer", "\"Metaspace\"", "\"ByteLevel\""],
        );
        refused_with(
            "/pre_tokenizer/use_regex",
            json!(false),
            &["use_regex", "false"],
        );
        refused_with(
            "/pre_tokenizer/trim_offsets",
            json!(1),
            &["pre_tokenizer", "boolean"],
        );
        refused_with(
            "/post_processor",
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}),
            &["post_processor", "\"ByteLevel\"", "\"RobertaProcessing\""],
        );
        refused_with(
            "/post_processor/trim_offsets",
            Value::Null,
            &["post_processor.trim_offsets"],
        );
        refused_with(
            "/post_processor",
            json!({"type": "Sequence", "processors": []}),
            &["post_processor", "\"Sequence\" of []"],
        );
        refused_with(
            "/post_processor/sep",
            json!(["</s>", 999]),
            &["</s>", "id 999"],
        );
    }

    #[test]
    fn refuses_broken_vocabularies() {
        let merge = |left: &str, right: &str| json!([[left, right]]);
        let merges = "/model/merges";
        refused_with(
            merges,
            merge("Ġ", "b"),
            &["merge 0", "\"Ġb\"", "not in the vocabulary"],
        );
        refused_with(
            merges,
            json!(["b c", "Ġ a b"]),
            &["merge 1", "\"Ġ a b\"", "one space"],
        );
        let mut json = roberta();
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("Ġ").unwrap();
        vocab.insert("space".to_owned(), id);
        refused(
            &[(TOKENIZER, &json.to_string())],
            &["\"Ġ\"", "0x20", "256 bytes"],
        );
    }

    #[test]
    fn the_last_of_equal_merges_counts() {
        let mut json = roberta();
        // Once the first does not count, the order is the same.
        json["model"]["merges"] = json!(["#version: 0.2", "b c", "Ġ a", "b c", "Ġa bc"]);
        let twice = read(&[(TOKENIZER, &json.to_string())]).unwrap();
        let once = read(&[(TOKENIZER, &roberta().to_string())]).unwrap();
        assert!(twice.section() == once.section());
    }

    #[test]
    fn refuses_a_config_that_contradicts() {
        let json = roberta().to_string();
        for (config, fine) in [
            (r#"{"add_prefix_space": true, "do_lower_case": true}"#, true),
            (r#"{"add_prefix_space": false}"#, false),
            (r#"{"trim_offsets": false}"#, false),
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
    fn reads_vocab_json_and_merges() {
        let vocab = roberta()["model"]["vocab"].to_string();
        let vocab = (BPE_VOCABULARY, vocab.as_str());
        let merges = (MERGES, "#version: 0.2\nĠ a\r\nb c\nĠa bc\n");
        let config = (CONFIG, r#"{"add_prefix_space": true}"#);
        let source = read(&[vocab, merges, config]).unwrap();
        let of_json = read(&[(TOKENIZER, &roberta().to_string())]).unwrap();
        for text in ["abc  <mask>", "<s>abc</s>", "x"] {
            // Here the special tokens of the folder are added tokens.
            let special = text.contains("<s>");
            assert_eq!(
                ids(&source, text, None) == ids(&of_json, text, None),
                !special
            );
        }
        refused(&[vocab], &[BPE_VOCABULARY, MERGES, TOKENIZER]);
        refused(
            &[vocab, (MERGES, "a  b\n")],
            &[MERGES, "merge 0", "one space"],
        );
        refused(
            &[
                vocab,
                merges,
                (CONFIG, r#"{"tokenizer_class": "GPT2Tokenizer"}"#),
            ],
            &["tokenizer_class", "GPT2Tokenizer", "RobertaTokenizer"],
        );
    }
}
