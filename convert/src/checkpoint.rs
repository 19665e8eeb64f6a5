//! A Hugging Face checkpoint: `config.json` and the weights, or a model in ONNX.
//!
//! Opening checks that every parameter is there once, with the shape that the config implies
//! and a data type that can be read, so that what follows can only meet values that are not
//! finite. Old spellings are accepted: `gamma` and `beta` for a layer norm's weight and bias,
//! and names without the encoder's prefix.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::config::{Architecture, Config};
use crate::hub::Origin;
#[cfg(feature = "onnx")]
use crate::onnx::import::Imported;
use crate::quantize::{QuantizedRows, quantize_rows};
use crate::task::Task;
use crate::weights::{self, Values, WeightFile};

/// One tensor of the model, whatever the checkpoint calls it.
///
/// The matrix of a product is `[outputs, inputs]`, as PyTorch stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Parameter {
    WordEmbedding,
    PositionEmbedding,
    /// BERT only.
    TokenTypeEmbedding,
    EmbeddingNormWeight,
    EmbeddingNormBias,
    Layer(usize, LayerParameter),
    /// The first product of a head that has two: BERT's pooler, DistilBERT's `pre_classifier`.
    HeadDenseWeight,
    HeadDenseBias,
    /// Of a head for masked words.
    HeadNormWeight,
    HeadNormBias,
    /// The last product of the head.
    ClassifierWeight,
    ClassifierBias,
}

/// One tensor of an encoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LayerParameter {
    QueryWeight,
    QueryBias,
    KeyWeight,
    KeyBias,
    ValueWeight,
    ValueBias,
    AttentionOutputWeight,
    AttentionOutputBias,
    AttentionNormWeight,
    AttentionNormBias,
    FeedForwardInWeight,
    FeedForwardInBias,
    FeedForwardOutWeight,
    FeedForwardOutBias,
    FeedForwardNormWeight,
    FeedForwardNormBias,
}

impl LayerParameter {
    /// Every parameter of a layer, in the order in which a layer uses them.
    pub const ALL: [Self; 16] = [
        Self::QueryWeight,
        Self::QueryBias,
        Self::KeyWeight,
        Self::KeyBias,
        Self::ValueWeight,
        Self::ValueBias,
        Self::AttentionOutputWeight,
        Self::AttentionOutputBias,
        Self::AttentionNormWeight,
        Self::AttentionNormBias,
        Self::FeedForwardInWeight,
        Self::FeedForwardInBias,
        Self::FeedForwardOutWeight,
        Self::FeedForwardOutBias,
        Self::FeedForwardNormWeight,
        Self::FeedForwardNormBias,
    ];

    /// The name within its layer.
    const fn name(self, architecture: Architecture) -> &'static str {
        use LayerParameter as P;
        match architecture {
            Architecture::Bert | Architecture::Roberta | Architecture::XlmRoberta => match self {
                P::QueryWeight => "attention.self.query.weight",
                P::QueryBias => "attention.self.query.bias",
                P::KeyWeight => "attention.self.key.weight",
                P::KeyBias => "attention.self.key.bias",
                P::ValueWeight => "attention.self.value.weight",
                P::ValueBias => "attention.self.value.bias",
                P::AttentionOutputWeight => "attention.output.dense.weight",
                P::AttentionOutputBias => "attention.output.dense.bias",
                P::AttentionNormWeight => "attention.output.LayerNorm.weight",
                P::AttentionNormBias => "attention.output.LayerNorm.bias",
                P::FeedForwardInWeight => "intermediate.dense.weight",
                P::FeedForwardInBias => "intermediate.dense.bias",
                P::FeedForwardOutWeight => "output.dense.weight",
                P::FeedForwardOutBias => "output.dense.bias",
                P::FeedForwardNormWeight => "output.LayerNorm.weight",
                P::FeedForwardNormBias => "output.LayerNorm.bias",
            },
            Architecture::DistilBert => match self {
                P::QueryWeight => "attention.q_lin.weight",
                P::QueryBias => "attention.q_lin.bias",
                P::KeyWeight => "attention.k_lin.weight",
                P::KeyBias => "attention.k_lin.bias",
                P::ValueWeight => "attention.v_lin.weight",
                P::ValueBias => "attention.v_lin.bias",
                P::AttentionOutputWeight => "attention.out_lin.weight",
                P::AttentionOutputBias => "attention.out_lin.bias",
                P::AttentionNormWeight => "sa_layer_norm.weight",
                P::AttentionNormBias => "sa_layer_norm.bias",
                P::FeedForwardInWeight => "ffn.lin1.weight",
                P::FeedForwardInBias => "ffn.lin1.bias",
                P::FeedForwardOutWeight => "ffn.lin2.weight",
                P::FeedForwardOutBias => "ffn.lin2.bias",
                P::FeedForwardNormWeight => "output_layer_norm.weight",
                P::FeedForwardNormBias => "output_layer_norm.bias",
            },
        }
    }

    fn shape(self, config: &Config) -> Vec<usize> {
        use LayerParameter as P;
        match self {
            P::QueryWeight | P::KeyWeight | P::ValueWeight | P::AttentionOutputWeight => {
                vec![config.hidden, config.hidden]
            }
            P::FeedForwardInWeight => vec![config.intermediate, config.hidden],
            P::FeedForwardInBias => vec![config.intermediate],
            P::FeedForwardOutWeight => vec![config.hidden, config.intermediate],
            P::QueryBias
            | P::KeyBias
            | P::ValueBias
            | P::AttentionOutputBias
            | P::AttentionNormWeight
            | P::AttentionNormBias
            | P::FeedForwardOutBias
            | P::FeedForwardNormWeight
            | P::FeedForwardNormBias => vec![config.hidden],
        }
    }
}

impl Parameter {
    /// Every parameter of a model, in the order in which it uses them.
    pub fn all(config: &Config) -> Vec<Self> {
        let mut all = vec![Self::WordEmbedding, Self::PositionEmbedding];
        if config.token_types > 0 {
            all.push(Self::TokenTypeEmbedding);
        }
        all.extend([Self::EmbeddingNormWeight, Self::EmbeddingNormBias]);
        for layer in 0..config.layers {
            all.extend(LayerParameter::ALL.map(|parameter| Self::Layer(layer, parameter)));
        }
        all.extend(config.task.parameters(config.tied));
        all
    }

    /// The name that transformers gives it today.
    pub fn name(self, config: &Config) -> String {
        let architecture = config.architecture;
        let within = match self {
            Self::WordEmbedding => "embeddings.word_embeddings.weight".to_owned(),
            Self::PositionEmbedding => "embeddings.position_embeddings.weight".to_owned(),
            Self::TokenTypeEmbedding => "embeddings.token_type_embeddings.weight".to_owned(),
            Self::EmbeddingNormWeight => "embeddings.LayerNorm.weight".to_owned(),
            Self::EmbeddingNormBias => "embeddings.LayerNorm.bias".to_owned(),
            Self::Layer(layer, parameter) => {
                let module = match architecture {
                    Architecture::DistilBert => "transformer",
                    Architecture::Bert | Architecture::Roberta | Architecture::XlmRoberta => {
                        "encoder"
                    }
                };
                format!("{module}.layer.{layer}.{}", parameter.name(architecture))
            }
            Self::HeadDenseWeight
            | Self::HeadDenseBias
            | Self::HeadNormWeight
            | Self::HeadNormBias
            | Self::ClassifierWeight
            | Self::ClassifierBias => return config.task.parameter_name(architecture, self),
        };
        format!("{}.{within}", architecture.tensor_prefix())
    }

    /// The shape that the config implies, of what [`Checkpoint::load`] returns.
    pub fn shape(self, config: &Config) -> Vec<usize> {
        let outputs = match config.task {
            Task::MaskedWords => config.vocabulary,
            _ => config.labels.len(),
        };
        match self {
            Self::WordEmbedding => vec![config.vocabulary, config.hidden],
            Self::PositionEmbedding => vec![config.positions, config.hidden],
            Self::TokenTypeEmbedding => vec![config.token_types, config.hidden],
            Self::EmbeddingNormWeight
            | Self::EmbeddingNormBias
            | Self::HeadDenseBias
            | Self::HeadNormWeight
            | Self::HeadNormBias => vec![config.hidden],
            Self::Layer(_, parameter) => parameter.shape(config),
            Self::HeadDenseWeight => vec![config.hidden, config.hidden],
            Self::ClassifierWeight => vec![outputs, config.hidden],
            Self::ClassifierBias => vec![outputs],
        }
    }

    /// Rows of the stored tensor before those that the model reads.
    fn skipped_rows(self, config: &Config) -> usize {
        match self {
            Self::PositionEmbedding => config.position_offset,
            _ => 0,
        }
    }

    /// The shape of the stored tensor.
    fn stored_shape(self, config: &Config) -> Vec<usize> {
        let mut shape = self.shape(config);
        shape[0] += self.skipped_rows(config);
        shape
    }

    /// The parameter that is stored in the place of this one.
    fn stored(self, config: &Config) -> Self {
        match self {
            Self::ClassifierWeight if config.tied && config.task == Task::MaskedWords => {
                Self::WordEmbedding
            }
            _ => self,
        }
    }
}

/// An open checkpoint, checked: every parameter is there, with its shape.
pub struct Checkpoint {
    folder: PathBuf,
    config: Config,
    source: Source,
    origin: Option<Origin>,
}

/// Where the parameters come from.
enum Source {
    /// Files of named tensors.
    Tensors {
        files: Vec<WeightFile>,
        parameters: HashMap<Parameter, StoredTensor>,
    },
    /// The constants of a graph.
    #[cfg(feature = "onnx")]
    Onnx(Imported),
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("folder", &self.folder)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Where a parameter lies.
struct StoredTensor {
    /// Of the weights' files, the one that has it.
    file: usize,
    /// As the file has it.
    name: String,
    values: Values,
}

impl Checkpoint {
    /// Opens a folder, or an ONNX file with the folder that it lies in, and checks everything
    /// but the values: names, shapes and data types.
    ///
    /// Of a folder that has both, the weights of PyTorch are read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(model) = onnx_file(path) {
            return Self::open_onnx(&model);
        }
        let config = Config::read(path)?;
        let files = weights::open(path)?;
        let parameters = find_parameters(path, &config, &files)?;
        Ok(Self {
            folder: path.to_owned(),
            config,
            source: Source::Tensors { files, parameters },
            origin: None,
        })
    }

    #[cfg(feature = "onnx")]
    fn open_onnx(path: &Path) -> Result<Self, Error> {
        let imported = Imported::open(path)?;
        Ok(Self {
            folder: imported.folder().to_owned(),
            config: imported.config().clone(),
            source: Source::Onnx(imported),
            origin: None,
        })
    }

    #[cfg(not(feature = "onnx"))]
    fn open_onnx(path: &Path) -> Result<Self, Error> {
        Err(Error::in_file(
            path,
            "this build has no ONNX; convert the model with a build that has it, or convert the \
             Hugging Face checkpoint that it was exported from",
        ))
    }

    /// The same, known to come from the hub: the file will say so.
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Where on the hub it comes from, if that is known.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The checkpoint's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder that holds the config and the tokenizer.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that the parameters take as float32.
    pub fn float32_length(&self) -> u64 {
        let values = |parameter: &Parameter| -> u64 {
            let shape = parameter.shape(&self.config);
            shape.iter().map(|&extent| extent as u64).product()
        };
        4 * Parameter::all(&self.config).iter().map(values).sum::<u64>()
    }

    /// The files that hold the weights: their paths and their bytes.
    pub fn weight_files(&self) -> Vec<(&Path, &[u8])> {
        match &self.source {
            Source::Tensors { files, .. } => files
                .iter()
                .map(|file| (file.path.as_path(), &file.map[..]))
                .collect(),
            #[cfg(feature = "onnx")]
            Source::Onnx(imported) => imported.weight_files().collect(),
        }
    }

    /// The values of a parameter, row-major as PyTorch stores them.
    ///
    /// Refuses values that are not finite, and parameters that the model does not have.
    pub fn load(&self, parameter: Parameter) -> Result<Vec<f32>, Error> {
        let rows = parameter.shape(&self.config)[0];
        self.load_rows(parameter, 0..rows)
    }

    /// Some rows of a parameter, as [`Checkpoint::load`] gives them all: for a table that is
    /// large beside the rest of the model.
    ///
    /// # Panics
    /// If the parameter does not have these rows.
    pub fn load_rows(&self, parameter: Parameter, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let parameter = parameter.stored(&self.config);
        let columns: usize = parameter.shape(&self.config)[1..].iter().product();
        let first = rows.start * columns;
        let (path, name, values) = self.read_rows(parameter, rows).ok_or_else(|| {
            Error::in_file(
                &self.folder,
                format!("the model has no parameter {parameter:?}"),
            )
        })?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::in_file(
                path,
                format!(
                    "the tensor {name} holds {} at index {}; every weight must be finite, so \
                     the training went wrong or the file is damaged",
                    values[index],
                    first + index
                ),
            ));
        }
        Ok(values)
    }

    /// Some rows of a parameter, with the file and the name that it has there.
    fn read_rows(
        &self,
        parameter: Parameter,
        rows: Range<usize>,
    ) -> Option<(&Path, &str, Vec<f32>)> {
        match &self.source {
            Source::Tensors { files, parameters } => {
                let stored = parameters.get(&parameter)?;
                let file = &files[stored.file];
                let row: usize = parameter.shape(&self.config)[1..].iter().product();
                let skipped = parameter.skipped_rows(&self.config);
                let rows = rows.start + skipped..rows.end + skipped;
                let values = stored
                    .values
                    .read(&file.map, rows.start * row..rows.end * row);
                Some((&file.path, &stored.name, values))
            }
            #[cfg(feature = "onnx")]
            Source::Onnx(imported) => {
                let values = imported.load_rows(parameter, rows)?;
                Some((imported.path(), imported.name(parameter)?, values))
            }
        }
    }

    /// Whether the file has a parameter in int8, so that its values are taken over.
    #[cfg_attr(
        not(feature = "onnx"),
        expect(unused_variables, reason = "tensors in int8 come from ONNX")
    )]
    pub fn is_quantized(&self, parameter: Parameter) -> bool {
        match &self.source {
            Source::Tensors { .. } => false,
            #[cfg(feature = "onnx")]
            Source::Onnx(imported) => imported.is_quantized(parameter),
        }
    }

    /// Some rows of a matrix in int8: those of the file where it has them, and what
    /// [`quantize_rows`] makes of floats.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`].
    ///
    /// # Panics
    /// If the parameter does not have these rows.
    pub fn quantized_rows(
        &self,
        parameter: Parameter,
        rows: Range<usize>,
    ) -> Result<QuantizedRows, Error> {
        #[cfg(feature = "onnx")]
        if let Source::Onnx(imported) = &self.source
            && let Some(quantized) = imported.quantized_rows(parameter, rows.clone())
        {
            return Ok(quantized);
        }
        let columns = parameter.shape(&self.config)[1..].iter().product();
        Ok(quantize_rows(&self.load_rows(parameter, rows)?, columns))
    }

    /// What people should know of how the file was read, if there is something.
    pub fn note(&self) -> Option<String> {
        match &self.source {
            Source::Tensors { .. } => None,
            #[cfg(feature = "onnx")]
            Source::Onnx(imported) => imported.note(),
        }
    }
}

/// The ONNX file at this path: itself, or `model.onnx` in a folder without other weights.
fn onnx_file(path: &Path) -> Option<PathBuf> {
    if path.extension() == Some("onnx".as_ref()) && !path.is_dir() {
        return Some(path.to_owned());
    }
    let model = path.join("model.onnx");
    (model.exists() && !weights::is_in(path)).then_some(model)
}

/// Finds and checks every parameter among the files' tensors.
fn find_parameters(
    folder: &Path,
    config: &Config,
    files: &[WeightFile],
) -> Result<HashMap<Parameter, StoredTensor>, Error> {
    let architecture = config.architecture;
    let mut wanted: HashMap<String, Parameter> = Parameter::all(config)
        .into_iter()
        .map(|parameter| (parameter.name(config), parameter))
        .collect();
    let mut parameters: HashMap<Parameter, StoredTensor> = HashMap::with_capacity(wanted.len());
    let mut found: HashMap<String, String> = HashMap::new();
    for (number, file) in files.iter().enumerate() {
        for (name, tensor) in &file.tensors {
            let in_tensor = |message: String| {
                Error::in_file(&file.path, format!("the tensor {name} {message}"))
            };
            let modern = modern_name(architecture, name);
            if let Some(other) = found.get(&modern) {
                return Err(in_tensor(format!(
                    "is there twice, the other time as {other}; remove one"
                )));
            }
            found.insert(modern.clone(), name.clone());
            let Some(parameter) = wanted.remove(&modern) else {
                if changes_result(config, &modern) {
                    return Err(in_tensor(format!(
                        "is no part of a {} of {} layers; correct the config, or save the model \
                         without adapters, pruning or quantization",
                        config.class(),
                        config.layers
                    )));
                }
                continue;
            };
            let shape = parameter.stored_shape(config);
            if tensor.shape != shape {
                return Err(in_tensor(format!(
                    "has the shape {:?}, but config.json implies {shape:?}; correct the config \
                     or convert the checkpoint that belongs to it",
                    tensor.shape
                )));
            }
            let values = tensor.values.clone().map_err(|data_type| {
                in_tensor(format!(
                    "has the data type {data_type}; F64, F32, F16 and BF16 are supported, so save \
                     the model in one of them"
                ))
            })?;
            parameters.insert(
                parameter,
                StoredTensor {
                    file: number,
                    name: name.clone(),
                    values,
                },
            );
        }
    }
    let first_missing = Parameter::all(config)
        .into_iter()
        .find(|parameter| !parameters.contains_key(parameter));
    match first_missing {
        None => Ok(parameters),
        Some(parameter) => Err(Error::in_file(
            folder,
            format!(
                "the weights lack {} of the tensors of a {} of {} layers, first {}; correct \
                 config.json, or save the whole fine-tuned model",
                wanted.len(),
                config.class(),
                config.layers,
                parameter.name(config)
            ),
        )),
    }
}

/// The name that transformers gives a tensor today: with the encoder's prefix, and `weight`
/// and `bias` for what layer norms called `gamma` and `beta`.
fn modern_name(architecture: Architecture, stored: &str) -> String {
    let mut name = stored.to_owned();
    let mut modules = encoder_modules(architecture)
        .iter()
        .chain(["pooler."].iter());
    if modules.any(|module| stored.starts_with(module)) {
        name.insert(0, '.');
        name.insert_str(0, architecture.tensor_prefix());
    }
    for (old, new) in [(".gamma", ".weight"), (".beta", ".bias")] {
        if let Some(stem) = name.strip_suffix(old) {
            name = format!("{stem}{new}");
        }
    }
    name
}

/// The modules of the encoder that Filbert computes.
const fn encoder_modules(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::Bert | Architecture::Roberta | Architecture::XlmRoberta => {
            &["embeddings.", "encoder."]
        }
        Architecture::DistilBert => &["embeddings.", "transformer."],
    }
}

/// Whether a tensor that is no [`Parameter`] would take part in the model: one inside the
/// modules that are computed, unless it is a buffer of constants. Others, such as the heads of
/// pre-training, do not touch the logits.
fn changes_result(config: &Config, modern: &str) -> bool {
    let architecture = config.architecture;
    let buffer = modern.ends_with(".position_ids") || modern.ends_with(".token_type_ids");
    let in_encoder = modern
        .strip_prefix(architecture.tensor_prefix())
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|rest| {
            encoder_modules(architecture)
                .iter()
                .any(|module| rest.starts_with(module))
        });
    !buffer && (in_encoder || config.task.owns(architecture, modern))
}
