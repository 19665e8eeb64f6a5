//! What a checkpoint was trained for: its head, as transformers names it. One file for each.

mod embedding;
mod masked_words;
mod next_sentence;
mod question_answering;
mod sequence_classification;
mod token_classification;

use filbert::format::{self, Activation, Head};

use crate::checkpoint::Parameter;
use crate::config::Architecture;

pub use embedding::Pooling;
pub(crate) use embedding::read_max_tokens;

/// What a checkpoint was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Labels of a text or pair.
    SequenceClassification,
    /// Whether one sentence follows another.
    NextSentence,
    /// A label for each token.
    TokenClassification,
    /// Where in a text an answer begins and ends.
    QuestionAnswering,
    /// A vector for a text.
    Embedding(Pooling),
    /// Words for the places of mask tokens.
    MaskedWords,
}

/// The modules of a head, as a checkpoint of one family names them: `None` where it has none.
#[derive(Clone, Copy, Debug, Default)]
struct HeadModules {
    /// The first of two products.
    dense: Option<&'static str>,
    /// The layer norm after it.
    norm: Option<&'static str>,
    /// The last product.
    classifier: Option<&'static str>,
    /// Where its bias is, if not in the same module.
    bias: Option<&'static str>,
    /// What the names of all tensors of the head begin with.
    prefixes: &'static [&'static str],
}

impl Task {
    /// Every task; an embedding by its commonest pooling.
    pub const ALL: [Self; 6] = [
        Self::SequenceClassification,
        Self::NextSentence,
        Self::TokenClassification,
        Self::QuestionAnswering,
        Self::Embedding(Pooling::DEFAULT),
        Self::MaskedWords,
    ];

    /// What the names of its classes in transformers end with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::SequenceClassification => sequence_classification::SUFFIX,
            Self::NextSentence => next_sentence::SUFFIX,
            Self::TokenClassification => token_classification::SUFFIX,
            Self::QuestionAnswering => question_answering::SUFFIX,
            Self::Embedding(_) => embedding::SUFFIX,
            Self::MaskedWords => masked_words::SUFFIX,
        }
    }

    /// Whether transformers has a class for it in this family.
    pub const fn exists_in(self, architecture: Architecture) -> bool {
        match self {
            Self::NextSentence => matches!(architecture, Architecture::Bert),
            _ => true,
        }
    }

    /// The runtime's head, and its options. The mask token's id is not known here.
    pub const fn head(self) -> (Head, u32) {
        match self {
            Self::SequenceClassification | Self::NextSentence => (Head::Classification, 0),
            Self::TokenClassification => (Head::TokenClassification, 0),
            Self::QuestionAnswering => (Head::QuestionAnswering, 0),
            Self::Embedding(pooling) => (Head::Embedding, pooling.options()),
            Self::MaskedWords => (Head::MaskedWords, 0),
        }
    }

    /// The labels' names, where they do not depend on the checkpoint.
    pub const fn fixed_labels(self) -> Option<&'static [&'static str]> {
        match self {
            Self::SequenceClassification | Self::TokenClassification => None,
            Self::NextSentence => Some(&next_sentence::LABELS),
            Self::QuestionAnswering => Some(&question_answering::LABELS),
            Self::Embedding(_) | Self::MaskedWords => Some(&[]),
        }
    }

    /// Between the head's two products; `inner` is that of the feed-forward layers. Any, where
    /// there are not two.
    pub const fn head_activation(
        self,
        architecture: Architecture,
        inner: Activation,
    ) -> Activation {
        match self {
            Self::SequenceClassification => sequence_classification::activation(architecture),
            Self::MaskedWords => masked_words::activation(architecture, inner),
            _ => Activation::Tanh,
        }
    }

    /// The first weights of the head, which read the encoder's output.
    pub fn first_weight(self) -> Option<Parameter> {
        match self.head().0 {
            Head::Embedding => None,
            head if head.has_dense() => Some(Parameter::HeadDenseWeight),
            _ => Some(Parameter::ClassifierWeight),
        }
    }

    /// The head's parameters, in the order in which it uses them. The product with the
    /// vocabulary reads the word embedding where `tied`.
    pub fn parameters(self, tied: bool) -> Vec<Parameter> {
        let (head, _) = self.head();
        let mut all = Vec::new();
        if head.has_dense() {
            all.extend([Parameter::HeadDenseWeight, Parameter::HeadDenseBias]);
        }
        if head.has_norm() {
            all.extend([Parameter::HeadNormWeight, Parameter::HeadNormBias]);
        }
        if head != Head::Embedding {
            if !(tied && head == Head::MaskedWords) {
                all.push(Parameter::ClassifierWeight);
            }
            all.push(Parameter::ClassifierBias);
        }
        all
    }

    /// The name that transformers gives one of the head's parameters.
    pub(crate) fn parameter_name(self, architecture: Architecture, parameter: Parameter) -> String {
        let modules = self.modules(architecture);
        let name = |module: Option<&str>, end: &str| module.map(|module| format!("{module}.{end}"));
        let name = match parameter {
            Parameter::HeadDenseWeight => name(modules.dense, "weight"),
            Parameter::HeadDenseBias => name(modules.dense, "bias"),
            Parameter::HeadNormWeight => name(modules.norm, "weight"),
            Parameter::HeadNormBias => name(modules.norm, "bias"),
            Parameter::ClassifierWeight => name(modules.classifier, "weight"),
            Parameter::ClassifierBias => name(modules.bias.or(modules.classifier), "bias"),
            _ => None,
        };
        name.unwrap_or_else(|| format!("{parameter:?} of {}", self.suffix()))
    }

    /// Whether a tensor of this name belongs to the head.
    pub(crate) fn owns(self, architecture: Architecture, name: &str) -> bool {
        let prefixes = self.modules(architecture).prefixes;
        prefixes.iter().any(|prefix| name.starts_with(prefix))
            && !(self == Self::MaskedWords && masked_words::is_tied_copy(name))
    }

    fn modules(self, architecture: Architecture) -> HeadModules {
        match self {
            Self::SequenceClassification => sequence_classification::modules(architecture),
            Self::NextSentence => next_sentence::modules(),
            Self::TokenClassification => token_classification::modules(),
            Self::QuestionAnswering => question_answering::modules(),
            Self::Embedding(_) => HeadModules::default(),
            Self::MaskedWords => masked_words::modules(architecture),
        }
    }
}

impl Pooling {
    const fn options(self) -> u32 {
        let mean = if self.mean {
            format::embedding::MEAN
        } else {
            0
        };
        let normalized = if self.normalized {
            format::embedding::NORMALIZED
        } else {
            0
        };
        mean | normalized
    }
}
