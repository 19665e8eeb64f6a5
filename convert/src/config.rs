//! `config.json`: what the checkpoint says about itself.
//!
//! A field that is missing has the default that Hugging Face transformers gives it.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use filbert::format::{Activation, Problem, limits};
use serde_json::{Map, Value};

use crate::Error;
use crate::task::{Pooling, Task, read_max_tokens};

/// The name of the file.
pub const FILE_NAME: &str = "config.json";

/// A family of checkpoints: how its tensors are named and which parts its encoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// BERT (arXiv 1810.04805).
    Bert,
    /// DistilBERT (arXiv 1910.01108): no token types, no pooler.
    DistilBert,
    /// RoBERTa (arXiv 1907.11692): the first rows of its position table are for padding.
    Roberta,
    /// XLM-RoBERTa (arXiv 1911.02116): RoBERTa under another name.
    XlmRoberta,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 4] = [
        Self::Bert,
        Self::DistilBert,
        Self::Roberta,
        Self::XlmRoberta,
    ];

    /// What the names of its classes in transformers begin with.
    pub const fn class_prefix(self) -> &'static str {
        match self {
            Self::Bert => "Bert",
            Self::DistilBert => "DistilBert",
            Self::Roberta => "Roberta",
            Self::XlmRoberta => "XLMRoberta",
        }
    }

    /// The value of `model_type`.
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::DistilBert => "distilbert",
            Self::Roberta => "roberta",
            Self::XlmRoberta => "xlm-roberta",
        }
    }

    /// What the names of the encoder's tensors begin with.
    pub const fn tensor_prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::DistilBert => "distilbert",
            Self::Roberta | Self::XlmRoberta => "roberta",
        }
    }

    /// Its class for a task, as `architectures` has it.
    pub fn class(self, task: Task) -> String {
        format!("{}{}", self.class_prefix(), task.suffix())
    }
}

/// A checkpoint's dimensions and choices, all within what Filbert supports.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// What it was trained for.
    pub task: Task,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// Rows of the position embedding that tokens have.
    pub positions: usize,
    /// Rows before them in the checkpoint's table, which stand for padding.
    pub position_offset: usize,
    /// Rows of the token type embedding; 0 for DistilBERT, which has none.
    pub token_types: usize,
    /// Of the feed-forward layer.
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f32,
    /// The labels' names in the order of the logits; none where the head has no labels.
    pub labels: Vec<String>,
    /// How logits become scores.
    pub problem: Problem,
    /// Whether the head's product with the vocabulary reads the word embedding.
    pub tied: bool,
    /// The longest sequence that files beside the tokenizer's allow, if they say.
    pub max_tokens: Option<usize>,
}

impl Config {
    /// Reads and checks the folder's `config.json`.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE_NAME);
        let bytes = fs::read(&path).map_err(|error| {
            Error::in_file(
                &path,
                format!(
                    "{error}; a Hugging Face checkpoint is a folder with config.json and \
                     model.safetensors"
                ),
            )
        })?;
        let fields: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::in_file(&path, format!("not a JSON object: {error}")))?;
        let fields = Fields { path, fields };
        let (architecture, task) = fields.class(Pooling::read(folder)?)?;
        let mut config = fields.config(architecture, task)?;
        if let Task::Embedding(_) = task {
            config.max_tokens = read_max_tokens(folder)?;
        }
        Ok(config)
    }

    /// The class in transformers, as `architectures` has it.
    pub fn class(&self) -> String {
        self.architecture.class(self.task)
    }

    /// Columns of one attention head.
    pub const fn head_size(&self) -> usize {
        self.hidden / self.heads
    }
}

/// The fields of one file, with lookups whose errors name the file and the field.
struct Fields {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Fields {
    fn config(&self, architecture: Architecture, task: Task) -> Result<Config, Error> {
        self.refuse_variants()?;
        let distil = architecture == Architecture::DistilBert;
        let hidden_names: &[&str] = if distil {
            &["dim", "hidden_size"]
        } else {
            &["hidden_size"]
        };
        let heads_names: &[&str] = if distil {
            &["n_heads", "num_attention_heads"]
        } else {
            &["num_attention_heads"]
        };
        let hidden = self.dimension(hidden_names, 768, limits::HIDDEN)?;
        let heads = self.dimension(heads_names, 12, limits::HIDDEN)?;
        if !hidden.is_multiple_of(heads) {
            return Err(self.error(format!(
                "{} is {hidden}, which is not a multiple of {}, {heads}; correct the one that \
                 does not match the weights",
                hidden_names[0], heads_names[0]
            )));
        }
        let labels = match task.fixed_labels() {
            Some(labels) => labels.iter().map(|&label| label.to_owned()).collect(),
            None => self.labels()?,
        };
        let (positions, position_offset) = self.positions(architecture)?;
        Ok(Config {
            architecture,
            task,
            layers: self.dimension(
                if distil {
                    &["n_layers", "num_hidden_layers"]
                } else {
                    &["num_hidden_layers"]
                },
                if distil { 6 } else { 12 },
                limits::LAYERS,
            )?,
            hidden,
            heads,
            intermediate: self.dimension(
                if distil {
                    &["hidden_dim"]
                } else {
                    &["intermediate_size"]
                },
                3072,
                limits::INTERMEDIATE,
            )?,
            vocabulary: self.dimension(&["vocab_size"], 30522, limits::VOCABULARY)?,
            positions,
            position_offset,
            token_types: if distil {
                0
            } else {
                self.dimension(&["type_vocab_size"], 2, limits::TOKEN_TYPES)?
            },
            activation: self.activation(if distil { "activation" } else { "hidden_act" })?,
            layer_norm_eps: if distil {
                1e-12
            } else {
                self.layer_norm_eps()?
            },
            problem: match task {
                Task::SequenceClassification => self.problem(labels.len())?,
                _ => Problem::SingleLabel,
            },
            labels,
            tied: self.tied()?,
            max_tokens: None,
        })
    }

    fn error(&self, message: impl fmt::Display) -> Error {
        Error::in_file(&self.path, message)
    }

    /// The field, unless it is missing or null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Rows of the position table for tokens, and those before them.
    fn positions(&self, architecture: Architecture) -> Result<(usize, usize), Error> {
        const NAME: &str = "max_position_embeddings";
        let rows = self.dimension(&[NAME], 512, limits::POSITIONS)?;
        if !matches!(
            architecture,
            Architecture::Roberta | Architecture::XlmRoberta
        ) {
            return Ok((rows, 0));
        }
        // The first token's position is the padding token's id plus 1.
        let offset = match self.get("pad_token_id") {
            None => 2,
            Some(value) => value
                .as_u64()
                .and_then(|id| usize::try_from(id).ok()?.checked_add(1))
                .ok_or_else(|| {
                    self.error(format!(
                        "pad_token_id is {}, but must be a whole number from 0",
                        brief(value)
                    ))
                })?,
        };
        match rows.checked_sub(offset) {
            Some(positions) if positions > 0 => Ok((positions, offset)),
            _ => Err(self.error(format!(
                "{NAME} is {rows}, which leaves no position for a token after the first {offset}"
            ))),
        }
    }

    fn tied(&self) -> Result<bool, Error> {
        match self.get("tie_word_embeddings") {
            None => Ok(true),
            Some(Value::Bool(tied)) => Ok(*tied),
            Some(value) => Err(self.error(format!(
                "tie_word_embeddings is {}, but must be true or false",
                brief(value)
            ))),
        }
    }

    /// The family and the task. `pooling` is what `modules.json` says, which makes an encoder an
    /// embedding, whatever it was trained for before.
    fn class(&self, pooling: Option<Pooling>) -> Result<(Architecture, Task), Error> {
        let by_type = self.model_type()?;
        let Some(class) = self.class_name()? else {
            // As transformers does, which then knows the family by model_type alone. Whether
            // it is a classifier shows in the tensors.
            let architecture = by_type.1.ok_or_else(|| {
                self.error(format!(
                    "no architectures, and model_type is {}; {}",
                    by_type
                        .0
                        .map_or("missing".to_owned(), |name| format!("{name:?}")),
                    known_classes()
                ))
            })?;
            let task = pooling.map_or(Task::SequenceClassification, Task::Embedding);
            return Ok((architecture, task));
        };
        let classes = Architecture::ALL
            .into_iter()
            .flat_map(|architecture| Task::ALL.map(|task| (architecture, task)));
        let (architecture, task) = classes
            .filter(|(architecture, task)| task.exists_in(*architecture))
            .find(|(architecture, task)| architecture.class(*task) == class)
            .ok_or_else(|| {
                self.error(format!(
                    "architectures is {class:?}, which is not supported; {}, so fine-tune or save \
                     the model with one of these classes",
                    known_classes()
                ))
            })?;
        match by_type.0 {
            Some(name) if by_type.1 != Some(architecture) => {
                return Err(self.error(format!(
                    "architectures is {class:?} but model_type is {name:?}; correct the one that \
                     does not match the weights"
                )));
            }
            _ => {}
        }
        let task = match (task, pooling) {
            (Task::Embedding(_) | Task::MaskedWords, Some(pooling)) => Task::Embedding(pooling),
            _ => task,
        };
        Ok((architecture, task))
    }

    /// What `model_type` says, and the family that it means.
    fn model_type(&self) -> Result<(Option<&str>, Option<Architecture>), Error> {
        let name = match self.get("model_type") {
            None => None,
            Some(value) => Some(value.as_str().ok_or_else(|| {
                self.error(format!("model_type is {value}, but must be a string"))
            })?),
        };
        let architecture = Architecture::ALL
            .into_iter()
            .find(|architecture| Some(architecture.model_type()) == name);
        Ok((name, architecture))
    }

    /// The one name in `architectures`, if there is any.
    fn class_name(&self) -> Result<Option<&str>, Error> {
        let refuse = |value: &Value| {
            Err(self.error(format!(
                "architectures is {}, but must be a list of one name; {}",
                brief(value),
                known_classes()
            )))
        };
        match self.get("architectures") {
            None => Ok(None),
            Some(value @ Value::Array(classes)) => match classes.as_slice() {
                [] => Ok(None),
                [Value::String(class)] => Ok(Some(class)),
                _ => refuse(value),
            },
            Some(value) => refuse(value),
        }
    }

    /// Refuses what would change the arithmetic.
    fn refuse_variants(&self) -> Result<(), Error> {
        if let Some(value) = self.get("position_embedding_type")
            && value != "absolute"
        {
            return Err(self.error(format!(
                "position_embedding_type is {}; only \"absolute\" is supported",
                brief(value)
            )));
        }
        for name in ["is_decoder", "add_cross_attention"] {
            match self.get(name) {
                None | Some(Value::Bool(false)) => {}
                Some(value) => {
                    return Err(self.error(format!(
                        "{name} is {}; only encoders are supported, where it is false",
                        brief(value)
                    )));
                }
            }
        }
        if let Some(value) = self.get("pruned_heads")
            && !value.as_object().is_some_and(Map::is_empty)
        {
            return Err(self.error(
                "pruned_heads is not empty; only layers with all their heads are supported, so \
                 convert the checkpoint from before pruning",
            ));
        }
        if self.get("quantization_config").is_some() {
            return Err(self.error(
                "quantization_config: the checkpoint is quantized already; convert the float32, \
                 float16 or bfloat16 checkpoint that it came from",
            ));
        }
        Ok(())
    }

    /// A dimension in `1..=limit`, under any of its names.
    fn dimension(&self, names: &[&str], default: usize, limit: u32) -> Result<usize, Error> {
        let mut found: Option<(&str, usize)> = None;
        for name in names {
            let Some(value) = self.get(name) else {
                continue;
            };
            let number = value
                .as_u64()
                .filter(|&number| (1..=u64::from(limit)).contains(&number))
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| {
                    self.error(format!(
                        "{name} is {}, but must be a whole number from 1 to {limit}",
                        brief(value)
                    ))
                })?;
            match found {
                Some((other, before)) if before != number => {
                    return Err(self.error(format!(
                        "{other} is {before} but {name}, the same field, is {number}; remove \
                         the one that does not match the weights"
                    )));
                }
                _ => found = Some((name, number)),
            }
        }
        Ok(found.map_or(default, |(_, number)| number))
    }

    fn activation(&self, name: &str) -> Result<Activation, Error> {
        let Some(value) = self.get(name) else {
            return Ok(Activation::Gelu);
        };
        match value.as_str() {
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            _ => Err(self.error(format!(
                "{name} is {}; gelu, gelu_new, gelu_pytorch_tanh and relu are supported",
                brief(value)
            ))),
        }
    }

    fn layer_norm_eps(&self) -> Result<f32, Error> {
        let Some(value) = self.get("layer_norm_eps") else {
            return Ok(1e-12);
        };
        value
            .as_f64()
            .map(|eps| eps as f32)
            .filter(|eps| (f32::MIN_POSITIVE..=1.0).contains(eps))
            .ok_or_else(|| {
                self.error(format!(
                    "layer_norm_eps is {}, but must be a number above 0 and at most 1",
                    brief(value)
                ))
            })
    }

    /// The labels' names: `id2label`, else `label2id`, else `num_labels` of them.
    fn labels(&self) -> Result<Vec<String>, Error> {
        let by_name = self.label2id()?;
        if let Some(labels) = self.id2label()? {
            let names: HashSet<&String> = labels.iter().collect();
            for (label, id) in by_name.iter().flatten() {
                // A label2id of other names is a leftover and harmless; transformers ignores
                // it. One of the same names in another order is not.
                if names.contains(label) && labels.get(*id) != Some(label) {
                    return Err(self.error(format!(
                        "label2id gives {label:?} the number {id}, which is not what id2label \
                         says; correct the one that is wrong"
                    )));
                }
            }
            return Ok(labels);
        }
        if let Some(mut by_name) = by_name {
            by_name.sort_by_key(|&(_, id)| id);
            if let Some(at) = (0..by_name.len()).find(|&at| by_name[at].1 != at) {
                return Err(self.error(format!(
                    "label2id must number its {} labels from 0 without gaps, but no single \
                     label has the number {at}",
                    by_name.len()
                )));
            }
            return Ok(by_name.into_iter().map(|(label, _)| label).collect());
        }
        let count = self.dimension(&["num_labels", "_num_labels"], 2, limits::LABELS)?;
        Ok((0..count).map(|id| format!("LABEL_{id}")).collect())
    }

    fn id2label(&self) -> Result<Option<Vec<String>>, Error> {
        let Some(map) = self.map("id2label")? else {
            return Ok(None);
        };
        let mut labels = vec![None; map.len()];
        for (id, label) in map {
            let slot = id
                .parse::<usize>()
                .ok()
                .and_then(|id| labels.get_mut(id))
                .filter(|slot| slot.is_none());
            let Some(slot) = slot else {
                return Err(self.error(format!(
                    "id2label has the key {id:?}, but its {} keys must be the numbers from 0 \
                     without gaps",
                    map.len()
                )));
            };
            *slot = Some(match label {
                Value::String(label) => label.clone(),
                Value::Number(number) => number.to_string(),
                _ => {
                    return Err(self.error(format!(
                        "id2label names the label {id} {}, but a name must be a string",
                        brief(label)
                    )));
                }
            });
        }
        Ok(Some(labels.into_iter().flatten().collect()))
    }

    fn label2id(&self) -> Result<Option<Vec<(String, usize)>>, Error> {
        let Some(map) = self.map("label2id")? else {
            return Ok(None);
        };
        let mut labels = Vec::with_capacity(map.len());
        for (label, id) in map {
            let number = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let Some(number) = number else {
                return Err(self.error(format!(
                    "label2id gives {label:?} the number {}, but it must be a whole number from \
                     0",
                    brief(id)
                )));
            };
            labels.push((label.clone(), number));
        }
        Ok(Some(labels))
    }

    /// A non-empty object of at most as many entries as there can be labels.
    fn map(&self, name: &str) -> Result<Option<&Map<String, Value>>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Value::Object(map) = value else {
            return Err(self.error(format!("{name} is {}, but must be an object", brief(value))));
        };
        if map.len() > limits::LABELS as usize {
            return Err(self.error(format!(
                "{name} has {} labels; at most {} are supported",
                map.len(),
                limits::LABELS
            )));
        }
        Ok(Some(map).filter(|map| !map.is_empty()))
    }

    fn problem(&self, labels: usize) -> Result<Problem, Error> {
        let Some(value) = self.get("problem_type") else {
            return Ok(if labels == 1 {
                Problem::Regression
            } else {
                Problem::SingleLabel
            });
        };
        match value.as_str() {
            Some("single_label_classification") => Ok(Problem::SingleLabel),
            Some("multi_label_classification") => Ok(Problem::MultiLabel),
            Some("regression") => Ok(Problem::Regression),
            _ => Err(self.error(format!(
                "problem_type is {}; single_label_classification, multi_label_classification \
                 and regression are supported",
                brief(value)
            ))),
        }
    }
}

/// What is supported, for messages.
fn known_classes() -> String {
    let families: Vec<_> = Architecture::ALL.map(Architecture::class_prefix).to_vec();
    let suffixes: Vec<_> = Task::ALL.map(Task::suffix).to_vec();
    format!(
        "Filbert reads the classes of {} that end in {}",
        families.join(", "),
        suffixes.join(", ")
    )
}

/// A JSON value for a message: cut where it is long.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
