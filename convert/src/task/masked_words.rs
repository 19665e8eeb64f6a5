//! Words for the places of mask tokens. The last product is the word embedding itself, unless
//! the config says otherwise.

use filbert::format::Activation;

use super::HeadModules;
use crate::config::Architecture;

pub(super) const SUFFIX: &str = "ForMaskedLM";

pub(super) const fn activation(architecture: Architecture, inner: Activation) -> Activation {
    match architecture {
        Architecture::Bert | Architecture::DistilBert => inner,
        Architecture::Roberta | Architecture::XlmRoberta => Activation::Gelu,
    }
}

pub(super) fn modules(architecture: Architecture) -> HeadModules {
    let [dense, norm, classifier, bias] = match architecture {
        Architecture::Bert => [
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            "cls.predictions",
        ],
        Architecture::DistilBert => [
            "vocab_transform",
            "vocab_layer_norm",
            "vocab_projector",
            "vocab_projector",
        ],
        Architecture::Roberta | Architecture::XlmRoberta => [
            "lm_head.dense",
            "lm_head.layer_norm",
            "lm_head.decoder",
            "lm_head",
        ],
    };
    HeadModules {
        dense: Some(dense),
        norm: Some(norm),
        classifier: Some(classifier),
        bias: Some(bias),
        prefixes: match architecture {
            Architecture::Bert => &["cls.predictions."],
            Architecture::DistilBert => {
                &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."]
            }
            Architecture::Roberta | Architecture::XlmRoberta => &["lm_head."],
        },
    }
}

/// Whether transformers fills this tensor from another one, wherever it was saved.
pub(super) fn is_tied_copy(name: &str) -> bool {
    let copies = [
        "cls.predictions.decoder.",
        "vocab_projector.weight",
        "lm_head.decoder.",
    ];
    copies.iter().any(|copy| name.starts_with(copy))
}
