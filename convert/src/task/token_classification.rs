//! A label for each token.

use super::HeadModules;

pub(super) const SUFFIX: &str = "ForTokenClassification";

pub(super) fn modules() -> HeadModules {
    HeadModules {
        classifier: Some("classifier"),
        prefixes: &["classifier."],
        ..HeadModules::default()
    }
}
