//! Random checkpoints of any shape, for tests and benchmarks.
//!
//! A value depends on the seed, the parameter and its place in it, and on nothing else: the
//! same model in another data type, in shards or under old names has the same values, up to
//! the rounding of the data type.

use std::borrow::Cow;
pub mod pytorch;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use filbert::format::{Activation, Problem};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Value, json};

use crate::Error;
use crate::checkpoint::{LayerParameter, Parameter};
use crate::config::{self, Architecture, Config};
use crate::task::Task;

/// How a synthetic checkpoint stores its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an [`F32`](Self::F32).
    BF16,
}

/// A checkpoint to be written: its shape, its form and the seed of its values.
#[derive(Clone, Debug)]
pub struct SyntheticCheckpoint {
    /// The family: one of [`Self::ARCHITECTURES`].
    pub architecture: Architecture,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Number of tokens, at least 5: the special ones.
    pub vocabulary: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Token types; DistilBERT has none, whatever this says.
    pub token_types: usize,
    /// Number of labels.
    pub labels: usize,
    /// Of the feed-forward layer: `Gelu`, `GeluTanh` or `Relu`.
    pub activation: Activation,
    /// How logits become scores.
    pub problem: Problem,
    /// Of the stored weights.
    pub data_type: DataType,
    /// Number of safetensors files; from two on, with an index.
    pub shards: usize,
    /// Names without the encoder's prefix, `gamma` and `beta`, and tensors that a classifier
    /// does not use.
    pub legacy_names: bool,
    /// Of the values.
    pub seed: u64,
}

impl Default for SyntheticCheckpoint {
    /// A small BERT.
    fn default() -> Self {
        Self {
            architecture: Architecture::Bert,
            layers: 2,
            hidden: 32,
            heads: 4,
            intermediate: 64,
            vocabulary: 100,
            positions: 40,
            token_types: 2,
            labels: 2,
            activation: Activation::Gelu,
            problem: Problem::SingleLabel,
            data_type: DataType::F32,
            shards: 1,
            legacy_names: false,
            seed: 1,
        }
    }
}

impl SyntheticCheckpoint {
    /// The families that can be written.
    pub const ARCHITECTURES: [Architecture; 2] = [Architecture::Bert, Architecture::DistilBert];

    /// Writes the checkpoint into a folder, which is created if need be: config, weights and
    /// tokenizer.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|error| Error::in_file(folder, error))?;
        self.write_weights(folder)?;
        let tokens = self.tokens();
        let files = [
            (config::FILE_NAME, self.config_json().to_string()),
            ("vocab.txt", tokens.join("\n") + "\n"),
            ("tokenizer.json", tokenizer_json(&tokens).to_string()),
            (
                "tokenizer_config.json",
                json!({
                    "do_lower_case": true,
                    "model_max_length": self.positions,
                    "tokenizer_class": "BertTokenizer",
                })
                .to_string(),
            ),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| Error::in_file(&path, error))?;
        }
        Ok(())
    }

    /// The config that reading the folder gives.
    pub fn config(&self) -> Config {
        Config {
            architecture: self.architecture,
            task: Task::SequenceClassification,
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            intermediate: self.intermediate,
            vocabulary: self.vocabulary,
            positions: self.positions,
            position_offset: 0,
            token_types: match self.architecture {
                Architecture::DistilBert => 0,
                _ => self.token_types,
            },
            activation: self.activation,
            layer_norm_eps: 1e-12,
            labels: (0..self.labels).map(|id| format!("label {id}")).collect(),
            problem: self.problem,
            tied: true,
            max_tokens: None,
        }
    }

    /// The values of a parameter, rounded to the data type that they are stored in.
    pub fn values(&self, parameter: Parameter) -> Vec<f32> {
        let config = self.config();
        let shape = parameter.shape(&config);
        let count = shape.iter().product();
        let (mean, spread) = distribution(parameter, &shape);
        let name = parameter.name(&self.config());
        // FNV-1a.
        let stream = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        let mut random = SplitMix64(self.seed ^ stream);
        (0..count)
            .map(|_| {
                let value = mean + spread * random.next_signed();
                match self.data_type {
                    DataType::F32 => value,
                    DataType::F16 => f16::from_f32(value).to_f32(),
                    DataType::BF16 => bf16::from_f32(value).to_f32(),
                }
            })
            .collect()
    }

    fn config_json(&self) -> Value {
        let config = self.config();
        let activation = match self.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
        };
        let labels = || config.labels.iter().enumerate();
        let id2label: BTreeMap<String, &String> = labels()
            .map(|(id, label)| (id.to_string(), label))
            .collect();
        let label2id: BTreeMap<&String, usize> = labels().map(|(id, label)| (label, id)).collect();
        let problem = match self.problem {
            Problem::SingleLabel => "single_label_classification",
            Problem::MultiLabel => "multi_label_classification",
            Problem::Regression => "regression",
        };
        let mut json = json!({
            "architectures": [config.class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "id2label": id2label,
            "label2id": label2id,
            "problem_type": problem,
        });
        let own = match self.architecture {
            Architecture::Bert | Architecture::Roberta | Architecture::XlmRoberta => json!({
                "num_hidden_layers": self.layers,
                "hidden_size": self.hidden,
                "num_attention_heads": self.heads,
                "intermediate_size": self.intermediate,
                "type_vocab_size": self.token_types,
                "hidden_act": activation,
                "layer_norm_eps": 1e-12,
            }),
            Architecture::DistilBert => json!({
                "n_layers": self.layers,
                "dim": self.hidden,
                "n_heads": self.heads,
                "hidden_dim": self.intermediate,
                "activation": activation,
            }),
        };
        if let (Value::Object(json), Value::Object(own)) = (&mut json, own) {
            json.extend(own);
        }
        json
    }

    fn write_weights(&self, folder: &Path) -> Result<(), Error> {
        let config = self.config();
        let mut tensors: Vec<(String, Tensor<'_>)> = Parameter::all(&config)
            .into_iter()
            .map(|parameter| {
                let tensor = Tensor {
                    checkpoint: self,
                    shape: parameter.shape(&config),
                    content: Content::Parameter(parameter),
                };
                (self.stored_name(parameter), tensor)
            })
            .collect();
        if self.legacy_names {
            let extras = [
                (
                    "embeddings.position_ids",
                    Content::Positions,
                    self.positions,
                ),
                ("cls.predictions.bias", Content::Zeros, self.vocabulary),
            ];
            tensors.extend(extras.map(|(name, content, length)| {
                let tensor = Tensor {
                    checkpoint: self,
                    shape: vec![1, length],
                    content,
                };
                (name.to_owned(), tensor)
            }));
        }
        if self.shards <= 1 {
            return write_file(
                &folder.join(crate::weights::safetensors::FILE_NAME),
                tensors,
            );
        }
        let mut weight_map = BTreeMap::new();
        let mut files: Vec<(String, Vec<(String, Tensor<'_>)>)> = (1..=self.shards)
            .map(|number| {
                let file = format!("model-{number:05}-of-{:05}.safetensors", self.shards);
                (file, Vec::new())
            })
            .collect();
        for (number, (name, tensor)) in tensors.into_iter().enumerate() {
            let (file, contents) = &mut files[number % self.shards];
            weight_map.insert(name.clone(), file.clone());
            contents.push((name, tensor));
        }
        for (file, tensors) in files {
            write_file(&folder.join(file), tensors)?;
        }
        let path = folder.join(crate::weights::safetensors::INDEX_FILE_NAME);
        let index = json!({ "metadata": {}, "weight_map": weight_map });
        fs::write(&path, index.to_string()).map_err(|error| Error::in_file(&path, error))
    }

    fn stored_name(&self, parameter: Parameter) -> String {
        let name = parameter.name(&self.config());
        if !self.legacy_names {
            return name;
        }
        let prefix = format!("{}.", self.architecture.tensor_prefix());
        let name = name.strip_prefix(&prefix).unwrap_or(&name);
        let norm = name.contains("LayerNorm") || name.contains("layer_norm");
        match name.rsplit_once('.') {
            Some((module, "weight")) if norm => format!("{module}.gamma"),
            Some((module, "bias")) if norm => format!("{module}.beta"),
            _ => name.to_owned(),
        }
    }

    /// Special tokens, letters, digits, punctuation and their continuations, then words.
    fn tokens(&self) -> Vec<String> {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
        let characters = || ('a'..='z').chain('0'..='9');
        let tokens = special
            .into_iter()
            .chain(characters().map(String::from))
            .chain(characters().map(|character| format!("##{character}")))
            .chain(['.', ',', '!', '?', '\''].map(String::from))
            .chain((0..).map(|number| format!("word{number}")));
        tokens.take(self.vocabulary).collect()
    }
}

/// A `tokenizer.json` of BERT's kind, uncased, with these tokens, of which the first five are
/// `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]`.
pub fn tokenizer_json(tokens: &[String]) -> Value {
    let vocabulary: BTreeMap<&String, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token, id))
        .collect();
    let added: Vec<Value> = tokens
        .iter()
        .take(5)
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            })
        })
        .collect();
    let special = |token: &str, kind: u32| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let sequence = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": true,
            "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [
                special("[CLS]", 0),
                sequence("A", 0),
                special("[SEP]", 0),
                sequence("B", 1),
                special("[SEP]", 1),
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    })
}

/// Mean and half-width of a parameter's uniform distribution: such that activations and
/// logits are of order 1.
fn distribution(parameter: Parameter, shape: &[usize]) -> (f32, f32) {
    use LayerParameter as L;
    match parameter {
        Parameter::EmbeddingNormWeight
        | Parameter::Layer(_, L::AttentionNormWeight | L::FeedForwardNormWeight) => (1.0, 0.2),
        Parameter::WordEmbedding | Parameter::PositionEmbedding | Parameter::TokenTypeEmbedding => {
            (0.0, 0.1)
        }
        _ => match *shape {
            // The variance of a uniform distribution is a third of its half-width's square.
            [_, inputs] => (0.0, (3.0 / inputs as f32).sqrt()),
            _ => (0.0, 0.2),
        },
    }
}

/// A tensor whose bytes are made when they are written.
struct Tensor<'a> {
    checkpoint: &'a SyntheticCheckpoint,
    shape: Vec<usize>,
    content: Content,
}

enum Content {
    Parameter(Parameter),
    /// int64, 0, 1, 2 …
    Positions,
    /// float32.
    Zeros,
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match (&self.content, self.checkpoint.data_type) {
            (Content::Positions, _) => Dtype::I64,
            (Content::Zeros, _) | (Content::Parameter(_), DataType::F32) => Dtype::F32,
            (Content::Parameter(_), DataType::F16) => Dtype::F16,
            (Content::Parameter(_), DataType::BF16) => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let parameter = match self.content {
            Content::Parameter(parameter) => parameter,
            Content::Positions => {
                let positions = 0..self.shape[1] as i64;
                return positions.flat_map(i64::to_le_bytes).collect();
            }
            Content::Zeros => return vec![0; self.data_len()].into(),
        };
        let values = self.checkpoint.values(parameter).into_iter();
        let bytes: Vec<u8> = match self.checkpoint.data_type {
            DataType::F32 => values.flat_map(f32::to_le_bytes).collect(),
            DataType::F16 => values
                .flat_map(|value| f16::from_f32(value).to_le_bytes())
                .collect(),
            DataType::BF16 => values
                .flat_map(|value| bf16::from_f32(value).to_le_bytes())
                .collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

fn write_file(path: &Path, tensors: Vec<(String, Tensor<'_>)>) -> Result<(), Error> {
    serialize_to_file(tensors, None, path).map_err(|error| Error::in_file(path, error))
}

/// Sebastiano Vigna's generator: one addition and a mix.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    fn next_signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
