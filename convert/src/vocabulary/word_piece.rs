//! BERT's tokenizer: `tokenizer.json` with a WordPiece, or `vocab.txt`.

use std::path::{Path, PathBuf};

use filbert::format::normalizer;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{NormalizedString, Normalizer as _};

use super::folder::{Folder, Role};
use super::json::{Config, Pairs, TokenizerJson, read_text};
use super::template::{PairTemplate, special_ids};
use super::{CONFIG, Model, Settings, TOKENIZER, VOCABULARY, id_of, ordered, type_of, unsupported};
use crate::error::Error;

/// Classes whose fast tokenizer is BERT's, so that a `vocab.txt` alone says what it does.
const BERT_CLASSES: [&str; 6] = [
    "Bert",
    "DistilBert",
    "Electra",
    "MobileBert",
    "ConvBert",
    "LayoutLM",
];

/// What of a tokenizer is BERT's own.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub(super) normalization: Normalization,
    /// Of pieces that continue a word.
    pub(super) prefix: String,
    pub(super) max_word_chars: usize,
    pub(super) unknown: u32,
}

#[derive(Deserialize)]
pub(super) struct WordPieceJson {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: Pairs,
}

/// BERT's normalizer.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Normalization {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

impl Normalization {
    /// What a tokenizer without normalizer does.
    pub(super) const NONE: Self = Self {
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

    pub(super) fn flags(self) -> u32 {
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

    /// With the settings that `tokenizer_config.json` names in place of these.
    fn overruled(self, config: &Config) -> Result<Self, String> {
        let flag = |value: &Option<Value>, name, default| match value {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(format!("{name}: found {other}, expected true or false")),
        };
        let strip_accents = match &config.strip_accents {
            None => self.strip_accents,
            Some(Value::Null) => None,
            some => Some(flag(some, "strip_accents", false)?),
        };
        Ok(Self {
            clean_text: self.clean_text,
            handle_chinese_chars: flag(
                &config.tokenize_chinese_chars,
                "tokenize_chinese_chars",
                self.handle_chinese_chars,
            )?,
            strip_accents,
            lowercase: flag(&config.do_lower_case, "do_lower_case", self.lowercase)?,
        })
    }

    pub(super) fn normalize(self, text: &str) -> Result<String, Error> {
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

/// The settings of a `tokenizer.json` with a WordPiece.
pub(super) fn from_json(
    path: PathBuf,
    json: TokenizerJson<WordPieceJson>,
    config: &Config,
) -> Result<Settings, Error> {
    let normalization = match &json.normalizer {
        Value::Null => Normalization::NONE,
        value if value["type"] == "BertNormalizer" => {
            Normalization::deserialize(value).map_err(|error| {
                Error::in_file(&path, format!("normalizer (BertNormalizer): {error}"))
            })?
        }
        other => {
            let supported = "\"BertNormalizer\" or none";
            return Err(unsupported(&path, "normalizer", type_of(other), supported));
        }
    };
    check_agreement(normalization, config, &path)?;
    if json.pre_tokenizer["type"] != "BertPreTokenizer" {
        return Err(unsupported(
            &path,
            "pre_tokenizer",
            type_of(&json.pre_tokenizer),
            "\"BertPreTokenizer\"",
        ));
    }
    let ids = special_ids(&json.post_processor, &[PairTemplate::Bert], &path)?;
    let tokens = ordered(json.model.vocab, &path)?;
    let unknown = id_of(&tokens, &json.model.unk_token, "model.unk_token", &path)?;
    let model = WordPiece {
        normalization,
        prefix: json.model.continuing_subword_prefix,
        max_word_chars: json.model.max_input_chars_per_word,
        unknown,
    };
    let model = Model::WordPiece(model);
    let mut settings = Settings::new(path, tokens, model, ids.classification, ids.separator);
    settings.add_stated(json.added_tokens)?;
    Ok(settings)
}

/// The settings of a folder with a `vocab.txt`.
pub(super) fn from_folder(folder: &Folder<'_>) -> Result<Settings, Error> {
    let (path, config_path) = (folder.path.join(VOCABULARY), folder.path.join(CONFIG));
    let config = folder.config;
    folder.check_class(&BERT_CLASSES, "BertTokenizer and its kin")?;
    if config.do_basic_tokenize == Some(false) {
        return Err(unsupported(
            &config_path,
            "do_basic_tokenize",
            "false",
            "true",
        ));
    }
    let normalization = Normalization::BERT
        .overruled(config)
        .map_err(|message| Error::in_file(&config_path, message))?;

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

    let unknown = folder.token(Role::Unknown, "[UNK]");
    let separator = folder.token(Role::Separator, "[SEP]");
    let classification = folder.token(Role::Classification, "[CLS]");
    let id = |content: &str, field| id_of(&tokens, content, field, &path);
    let unknown_id = id(&unknown.content, "unk_token")?;
    let separator_id = id(&separator.content, "sep_token")?;
    let classification_id = id(&classification.content, "cls_token")?;

    let mut special = vec![unknown, separator, classification];
    for (role, default) in [(Role::Padding, "[PAD]"), (Role::Mask, "[MASK]")] {
        // A vocabulary without them is complete for a classifier.
        if folder.names(role) || tokens.iter().any(|token| token == default) {
            special.push(folder.token(role, default));
        }
    }
    let model = Model::WordPiece(WordPiece {
        normalization,
        prefix: "##".to_owned(),
        max_word_chars: 100,
        unknown: unknown_id,
    });
    let mut settings = Settings::new(path, tokens, model, classification_id, separator_id);
    folder.add(special, &mut settings)?;
    Ok(settings)
}

/// transformers lets `tokenizer_config.json` overrule `tokenizer.json`, `tokenizers` does not
/// read it: so they must agree.
fn check_agreement(
    normalization: Normalization,
    config: &Config,
    path: &Path,
) -> Result<(), Error> {
    let config_path = path.with_file_name(CONFIG);
    let overruled = normalization
        .overruled(config)
        .map_err(|message| Error::in_file(&config_path, message))?;
    if overruled.flags() == normalization.flags() {
        return Ok(());
    }
    Err(Error::in_file(
        &config_path,
        format!(
            "do_lower_case, strip_accents and tokenize_chinese_chars contradict the normalizer \
             of {TOKENIZER} ({normalization:?}); make them agree with how the model was trained"
        ),
    ))
}
