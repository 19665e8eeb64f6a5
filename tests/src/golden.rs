//! PyTorch's answers: the lines of `golden.jsonl` and `golden-own.jsonl`.

use std::path::Path;

use serde_json::Value;

/// One text, or pair of texts, and what PyTorch's float32 model says of it.
pub struct Golden {
    /// The text, or the first of a pair.
    pub first: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Token types; empty for a model without.
    pub token_types: Vec<u8>,
    /// `[labels]`.
    pub logits: Vec<f32>,
}

/// Reads a file of golden lines.
///
/// # Panics
/// If the file is missing or is not of this form.
pub fn read(path: &Path) -> Vec<Golden> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            let numbers = |key: &str| line[key].as_array().cloned().unwrap_or_default();
            Golden {
                first: text("text").or_else(|| text("text_a")).expect("a text"),
                second: text("text_b"),
                ids: numbers("input_ids")
                    .iter()
                    .map(|n| n.as_u64().unwrap() as u32)
                    .collect(),
                token_types: numbers("token_type_ids")
                    .iter()
                    .map(|n| n.as_u64().unwrap() as u8)
                    .collect(),
                logits: numbers("logits")
                    .iter()
                    .map(|n| n.as_f64().unwrap() as f32)
                    .collect(),
            }
        })
        .collect()
}
