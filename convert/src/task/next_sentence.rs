//! Whether the second text of a pair follows the first (arXiv 1810.04805, section 3.1): a
//! classification of pairs with labels of its own.

use super::HeadModules;

pub(super) const SUFFIX: &str = "ForNextSentencePrediction";

/// As transformers numbers them.
pub(super) const LABELS: [&str; 2] = ["IS_NEXT", "NOT_NEXT"];

pub(super) fn modules() -> HeadModules {
    HeadModules {
        dense: Some("bert.pooler.dense"),
        classifier: Some("cls.seq_relationship"),
        prefixes: &["bert.pooler.", "cls.seq_relationship."],
        ..HeadModules::default()
    }
}
