//! Shapes of published models, with random weights: speed depends on the shape, not on what the
//! weights have learned, so a device can be judged before there is a model.

use filbert::format::{Activation, Problem};

use crate::checkpoint::Checkpoint;
use crate::config::Architecture;
use crate::error::Error;
use crate::package::Package;
use crate::progress::Progress;
use crate::quantization::Quantization;
use crate::synthetic::{DataType, SyntheticCheckpoint};

/// A model's shape, under the name by which people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedShape {
    /// Such as `bert-base`.
    pub name: String,
    /// The family.
    pub architecture: Architecture,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
}

/// Name, family, layers, hidden size, heads, feed-forward size.
type Row = (&'static str, Architecture, [usize; 4]);

const NAMED: &[Row] = &[
    // arXiv 1810.04805.
    ("bert-base", Architecture::Bert, [12, 768, 12, 3072]),
    ("bert-large", Architecture::Bert, [24, 1024, 16, 4096]),
    // arXiv 1910.01108.
    (
        "distilbert-base",
        Architecture::DistilBert,
        [6, 768, 12, 3072],
    ),
    // arXiv 2002.10957.
    ("minilm-l6", Architecture::Bert, [6, 384, 12, 1536]),
    ("minilm-l12", Architecture::Bert, [12, 384, 12, 1536]),
    // arXiv 1909.10351.
    ("tinybert-4l-312", Architecture::Bert, [4, 312, 12, 1200]),
    ("tinybert-6l-768", Architecture::Bert, [6, 768, 12, 3072]),
    // arXiv 1908.08962, where these four of the miniatures have names.
    ("bert-tiny", Architecture::Bert, [2, 128, 2, 512]),
    ("bert-mini", Architecture::Bert, [4, 256, 4, 1024]),
    ("bert-small", Architecture::Bert, [4, 512, 8, 2048]),
    ("bert-medium", Architecture::Bert, [8, 512, 8, 2048]),
];

/// The layers of the miniatures of arXiv 1908.08962: each goes with each of the widths.
const MINIATURE_LAYERS: [usize; 6] = [2, 4, 6, 8, 10, 12];
const MINIATURE_HIDDEN: [usize; 4] = [128, 256, 512, 768];
/// Columns of a head in the miniatures.
const MINIATURE_HEAD: usize = 64;

impl PublishedShape {
    /// Every shape that has a name: those that people call by one, then the miniatures by their
    /// layers and hidden size, such as `bert-l6-h256`.
    pub fn all() -> Vec<Self> {
        let named = NAMED.iter().map(
            |&(name, architecture, [layers, hidden, heads, intermediate])| Self {
                name: name.to_owned(),
                architecture,
                layers,
                hidden,
                heads,
                intermediate,
            },
        );
        let miniatures = MINIATURE_LAYERS.into_iter().flat_map(|layers| {
            MINIATURE_HIDDEN.into_iter().map(move |hidden| Self {
                name: format!("bert-l{layers}-h{hidden}"),
                architecture: Architecture::Bert,
                layers,
                hidden,
                heads: hidden / MINIATURE_HEAD,
                intermediate: 4 * hidden,
            })
        });
        named.chain(miniatures).collect()
    }

    /// The shape of this name.
    ///
    /// # Errors
    /// If there is none: the message has the names.
    pub fn find(name: &str) -> Result<Self, Error> {
        let all = Self::all();
        if let Some(shape) = all.iter().find(|shape| shape.name == name) {
            return Ok(shape.clone());
        }
        let names: Vec<_> = all.iter().map(|shape| shape.name.as_str()).collect();
        Err(Error::new(format!(
            "{name:?} is not a published shape; there are {}",
            names.join(", ")
        )))
    }

    /// A checkpoint of this shape with BERT's vocabulary size and positions, and two labels.
    pub fn checkpoint(&self) -> SyntheticCheckpoint {
        SyntheticCheckpoint {
            architecture: self.architecture,
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            intermediate: self.intermediate,
            vocabulary: 30_522,
            positions: 512,
            token_types: 2,
            labels: 2,
            activation: Activation::Gelu,
            problem: Problem::SingleLabel,
            data_type: DataType::F16,
            shards: 1,
            legacy_names: false,
            seed: 1,
        }
    }

    /// Writes the checkpoint to a temporary folder, converts it and removes it. Activations are
    /// not observed: random columns need no balance.
    ///
    /// # Errors
    /// If the disk is full, or those of [`Package::build`].
    pub fn build(&self, progress: &mut dyn Progress) -> Result<Package, Error> {
        let folder = tempfile::Builder::new()
            .prefix("filbert-")
            .tempdir()
            .map_err(|error| Error::in_file(&std::env::temp_dir(), error))?;
        progress.begin("drawing random weights", 1);
        self.checkpoint().write(folder.path())?;
        progress.finish();
        let checkpoint = Checkpoint::open(folder.path())?;
        let quantization = Quantization::plain(checkpoint.config());
        Package::build_quantized(&checkpoint, &quantization, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;
    use filbert::{Classifier, Options};

    #[test]
    fn names_are_unique_and_heads_divide_the_width() {
        let all = PublishedShape::all();
        for (index, shape) in all.iter().enumerate() {
            assert_eq!(PublishedShape::find(&shape.name).unwrap(), *shape);
            assert!(all[..index].iter().all(|other| other.name != shape.name));
            assert_eq!(shape.hidden % shape.heads, 0, "{}", shape.name);
        }
        let error = PublishedShape::find("gpt-2").unwrap_err().to_string();
        assert!(error.contains("\"gpt-2\""), "{error}");
        assert!(error.contains("bert-base") && error.contains("bert-l6-h256"));
    }

    #[test]
    fn the_smallest_shape_becomes_a_model() {
        let shape = PublishedShape::find("bert-tiny").unwrap();
        let package = shape.build(&mut Quiet).unwrap();
        let classifier = Classifier::from_bytes(package.bytes(), &Options::default()).unwrap();
        let model = classifier.model().shape();
        assert_eq!(
            (model.layers, model.hidden, model.max_tokens),
            (2, 128, 512)
        );
        assert_eq!(classifier.self_test().unwrap(), 7);
    }
}
