//! A classifier read from ONNX, as `torch.onnx` and Optimum export it, in float32 or in the
//! int8 of ONNX Runtime's `quantize_dynamic`.
//!
//! Nothing is run, and names mean nothing: the graph is followed backwards from its output, and
//! every step must be one that an exporter writes for BERT. `head` finds the encoder's last
//! rows, `encoder` its layers down to the `embeddings`; `linear`, `norm`, `activation`,
//! `attention` and `mask` each know the forms that one thing has. What does not fit is refused
//! by its node.

mod activation;
mod agreement;
mod attention;
mod embeddings;
mod encoder;
mod files;
mod graph;
mod head;
mod linear;
mod mask;
mod model;
mod norm;
mod parameter;
mod refusal;
mod tensor;
mod wire;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::Parameter;
use crate::config::{self, Config};
use crate::quantize::QuantizedRows;
use encoder::encoder;
use files::Files;
use graph::Graph;
use head::head;
use parameter::Stored;

/// The name that Optimum gives the file.
pub const FILE_NAME: &str = "model.onnx";

/// A model whose parameters lie in an ONNX file and in the files that it names.
pub struct Imported {
    folder: PathBuf,
    config: Config,
    files: Files,
    parameters: HashMap<Parameter, Stored>,
}

impl Imported {
    /// Reads a model and its `config.json`, if that is there. It and the tokenizer lie beside
    /// the file, or in the folder above one that is called `onnx`.
    ///
    /// # Errors
    /// If a file cannot be read, if the graph is not that of a supported classifier, or if the
    /// config says something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = folder_of(path);
        let files = Files::open(path)?;
        let mut imported =
            Self::read(files, folder).map_err(|error| Error::in_file(path, error))?;
        if imported.folder.join(config::FILE_NAME).exists() {
            let config = Config::read(&imported.folder)?;
            agreement::check(&config, &imported.config)
                .map_err(|error| Error::in_file(&imported.folder.join(config::FILE_NAME), error))?;
            imported.config = Config {
                token_types: imported.config.token_types,
                tied: false,
                ..config
            };
        }
        Ok(imported)
    }

    /// Reads a model in memory, without a config or other files.
    ///
    /// # Errors
    /// As for [`Imported::open`].
    pub fn from_bytes(model: Vec<u8>) -> Result<Self, Error> {
        Self::read(Files::from_bytes(model), PathBuf::new())
    }

    fn read(files: Files, folder: PathBuf) -> Result<Self, Error> {
        let graph = Graph::read(files)?;
        refusal::check(&graph)?;
        let head = head(&graph)?;
        let encoder = encoder(&graph, head.hidden)?;
        let config = model::config(&graph, &encoder, &head)?;
        let parameters = model::parameters(&graph, &encoder, &head);
        model::check_shapes(&config, &parameters)?;
        Ok(Self {
            folder,
            config,
            files: graph.files,
            parameters,
        })
    }

    /// What the graph and `config.json` say of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder that holds the tokenizer.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ONNX file.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// The files that hold the weights: their paths and their bytes.
    pub fn weight_files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter()
    }

    /// What the graph calls a parameter; none if the model does not have it.
    pub fn name(&self, parameter: Parameter) -> Option<&str> {
        Some(self.parameters.get(&parameter)?.name())
    }

    /// Some rows of a parameter, in float32 even if the file has them in int8; none if the
    /// model does not have it.
    ///
    /// # Panics
    /// If the parameter does not have these rows.
    pub fn load_rows(&self, parameter: Parameter, rows: Range<usize>) -> Option<Vec<f32>> {
        Some(self.parameters.get(&parameter)?.read(&self.files, rows))
    }

    /// Some rows of a parameter that the file has in int8, with the file's own values and
    /// scales; rows with a value beyond 127 steps from the zero point are quantized again. None
    /// if the parameter is not in int8.
    ///
    /// # Panics
    /// If the parameter does not have these rows.
    pub fn quantized_rows(
        &self,
        parameter: Parameter,
        rows: Range<usize>,
    ) -> Option<QuantizedRows> {
        self.parameters
            .get(&parameter)?
            .quantized(&self.files, rows)
    }

    /// Whether the file has a parameter in int8.
    pub fn is_quantized(&self, parameter: Parameter) -> bool {
        self.parameters
            .get(&parameter)
            .is_some_and(Stored::is_quantized)
    }

    /// What people should know of the file's int8, if it has any.
    pub fn note(&self) -> Option<String> {
        let quantized = || {
            self.parameters
                .values()
                .filter(|stored| stored.is_quantized())
        };
        let rows: usize = quantized().map(|stored| stored.shape()[0]).sum();
        let again: usize = quantized().map(|stored| stored.misfits(&self.files)).sum();
        let path = self.path().display();
        match (rows, again) {
            (0, _) => None,
            (_, 0) => Some(format!(
                "{path}: its int8 weights are taken over as they are"
            )),
            _ => Some(format!(
                "{path}: its int8 weights are taken over as they are, but for {again} of {rows} \
                 rows: they have values more than 127 steps from their zero point, and are \
                 quantized again"
            )),
        }
    }
}

/// Where the config and the tokenizer of a model lie.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    let above = folder.parent().filter(|above| {
        folder.file_name() == Some("onnx".as_ref())
            && !folder.join(config::FILE_NAME).exists()
            && above.join(config::FILE_NAME).exists()
    });
    above.unwrap_or(folder).to_owned()
}
