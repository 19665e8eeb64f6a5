//! A vector for a text, as sentence-transformers makes it: `modules.json` beside the checkpoint
//! says how the tokens' rows become one. A checkpoint without it is pooled as that library pools
//! it: by the mean.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Error;

pub(super) const SUFFIX: &str = "Model";

const MODULES: &str = "modules.json";
const TRANSFORMER_CONFIG: &str = "sentence_bert_config.json";

/// How the tokens' rows become a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Their mean; else the first token's row.
    pub mean: bool,
    /// Divided by its Euclidean norm.
    pub normalized: bool,
}

impl Pooling {
    /// The mean as it is.
    pub const DEFAULT: Self = Self {
        mean: true,
        normalized: false,
    };

    /// What `modules.json` says, if there is one.
    ///
    /// # Errors
    /// If a module does what the runtime does not.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MODULES);
        let Some(json) = read_json(&path)? else {
            return Ok(None);
        };
        let refuse = |message: String| Err(Error::in_file(&path, message));
        let Some(modules) = json.as_array() else {
            return refuse("not a list of modules".to_owned());
        };
        let (mut pooling, mut normalized) = (None, false);
        for (place, module) in modules.iter().enumerate() {
            let text = |name: &str| module.get(name).and_then(Value::as_str).unwrap_or_default();
            let (class, at) = (text("type"), text("path"));
            match (place, class.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") if at.is_empty() => {}
                (0, "Transformer") => {
                    return refuse(format!(
                        "module 0 lies in {at:?}, but only one that lies in the folder itself is \
                         read; save the model with a current sentence-transformers"
                    ));
                }
                (1, "Pooling") => pooling = Some(read_pooling(folder, at)?),
                (2.., "Normalize") => normalized = true,
                _ => {
                    return refuse(format!(
                        "module {place} is {class:?}; supported are Transformer, then Pooling, \
                         then Normalize or nothing"
                    ));
                }
            }
        }
        match pooling {
            Some(mean) => Ok(Some(Self { mean, normalized })),
            None => refuse(
                "there is no module Pooling, which makes one vector of the tokens'".to_owned(),
            ),
        }
    }
}

/// Whether the vectors are averaged.
fn read_pooling(folder: &Path, module: &str) -> Result<bool, Error> {
    if module.split(['/', '\\']).any(|part| part == "..") || Path::new(module).is_absolute() {
        return Err(Error::in_file(
            &folder.join(MODULES),
            format!("the path {module:?} leads out of the folder"),
        ));
    }
    let path = folder.join(module).join("config.json");
    let refuse = |message: String| Err(Error::in_file(&path, message));
    let Some(json) = read_json(&path)? else {
        return refuse("the file is missing, though modules.json names it".to_owned());
    };
    const PREFIX: &str = "pooling_mode_";
    let mut modes: Vec<&str> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| **value == Value::Bool(true))
        .filter_map(|(name, _)| name.strip_prefix(PREFIX))
        .collect();
    modes.extend(json.get("pooling_mode").and_then(Value::as_str));
    match modes.as_slice() {
        ["mean_tokens" | "mean"] => Ok(true),
        ["cls_token" | "cls"] => Ok(false),
        _ => refuse(format!(
            "the pooling is {modes:?}; mean_tokens alone and cls_token alone are supported"
        )),
    }
}

/// The longest sequence that sentence-transformers gives the model, if it says.
pub(crate) fn read_max_tokens(folder: &Path) -> Result<Option<usize>, Error> {
    let path = folder.join(TRANSFORMER_CONFIG);
    let Some(json) = read_json(&path)? else {
        return Ok(None);
    };
    if json.get("do_lower_case") == Some(&Value::Bool(true)) {
        return Err(Error::in_file(
            &path,
            "do_lower_case is true: texts are made lowercase before the tokenizer sees them, \
             which is not supported; set lowercase in the tokenizer instead, and false here",
        ));
    }
    match json.get("max_seq_length") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(tokens) if tokens > 0 => Ok(Some(tokens)),
            _ => Err(Error::in_file(
                &path,
                format!("max_seq_length is {value}, but must be a whole number above 0"),
            )),
        },
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|error| Error::in_file(path, error))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::in_file(path, format!("not JSON: {error}")))
}
