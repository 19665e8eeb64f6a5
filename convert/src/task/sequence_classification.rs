//! Labels of a text or pair, by its first token.

use filbert::format::Activation;

use super::HeadModules;
use crate::config::Architecture;

pub(super) const SUFFIX: &str = "ForSequenceClassification";

pub(super) const fn activation(architecture: Architecture) -> Activation {
    match architecture {
        Architecture::DistilBert => Activation::Relu,
        Architecture::Bert | Architecture::Roberta | Architecture::XlmRoberta => Activation::Tanh,
    }
}

pub(super) fn modules(architecture: Architecture) -> HeadModules {
    let (dense, classifier, prefixes): (_, _, &[&str]) = match architecture {
        Architecture::Bert => (
            "bert.pooler.dense",
            "classifier",
            &["bert.pooler.", "classifier."],
        ),
        Architecture::DistilBert => (
            "pre_classifier",
            "classifier",
            &["pre_classifier.", "classifier."],
        ),
        Architecture::Roberta | Architecture::XlmRoberta => {
            ("classifier.dense", "classifier.out_proj", &["classifier."])
        }
    };
    HeadModules {
        dense: Some(dense),
        classifier: Some(classifier),
        prefixes,
        ..HeadModules::default()
    }
}
