//! Where in a text the answer to a question begins and ends.

use super::HeadModules;

pub(super) const SUFFIX: &str = "ForQuestionAnswering";

/// Of the two logits of a token.
pub(super) const LABELS: [&str; 2] = ["start", "end"];

pub(super) fn modules() -> HeadModules {
    HeadModules {
        classifier: Some("qa_outputs"),
        prefixes: &["qa_outputs."],
        ..HeadModules::default()
    }
}
