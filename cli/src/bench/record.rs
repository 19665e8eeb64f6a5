//! What a measurement came to: the JSON of `filbert bench --json`.
//!
//! Keys that are there keep their names and meanings; docs/benchmarking.md has them.

use filbert::{Head, Model, Shape};
use serde::{Deserialize, Serialize};

use super::comparison::Comparison;

#[derive(Debug, Serialize)]
pub(crate) struct Record {
    pub(crate) cpu: String,
    pub(crate) kernels: String,
    pub(crate) peak_gmacs: f64,
    pub(crate) open_ms: f64,
    pub(crate) first_ms: Option<f64>,
    pub(crate) private_bytes: Option<u64>,
    pub(crate) runs: Vec<Run>,
    pub(crate) process_first_ms: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) throughput: Throughput,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<Vec<Profile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<Comparison>,
    pub(crate) model: ModelRecord,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) seconds: f64,
    pub(crate) version: String,
}

/// The model that was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ModelRecord {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) max_tokens: u32,
    pub(crate) shape: ShapeRecord,
}

/// What the time depends on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ShapeRecord {
    pub(crate) layers: u32,
    pub(crate) hidden: u32,
    pub(crate) heads: u32,
    pub(crate) intermediate: u32,
    pub(crate) vocabulary: u32,
    pub(crate) labels: u32,
    /// What the model is for. Earlier measurements, which do not say, are of classifications.
    #[serde(default = "classification")]
    pub(crate) task: String,
}

fn classification() -> String {
    Head::Classification.name().to_owned()
}

impl ShapeRecord {
    /// What the time from a text ends with.
    pub(crate) fn answer(&self) -> &'static str {
        let named = |head: &Head| head.name() == self.task;
        match Head::ALL.iter().find(|head| named(head)) {
            Some(Head::TokenClassification | Head::QuestionAnswering) => "logits",
            Some(Head::Embedding) => "vector",
            // The texts have no mask, which is what such a head reads.
            Some(Head::MaskedWords) => "last layer",
            _ => "label",
        }
    }
}

impl ModelRecord {
    pub(crate) fn new(name: &str, model: &Model) -> Self {
        let &Shape {
            layers,
            hidden,
            heads,
            intermediate,
            vocabulary,
            labels,
            max_tokens,
            ..
        } = model.shape();
        Self {
            name: name.to_owned(),
            bytes: model.file_length(),
            max_tokens,
            shape: ShapeRecord {
                layers,
                hidden,
                heads,
                intermediate,
                vocabulary,
                labels,
                task: model.head().name().to_owned(),
            },
        }
    }
}

impl std::fmt::Display for ShapeRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, layers {}, hidden {}, heads {}, intermediate {}, vocabulary {}, labels {}",
            self.task,
            self.layers,
            self.hidden,
            self.heads,
            self.intermediate,
            self.vocabulary,
            self.labels
        )
    }
}

/// One length of text on one number of threads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) tokens: usize,
    pub(crate) threads: usize,
    pub(crate) texts: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) gmacs: f64,
    pub(crate) peak_share: f64,
    pub(crate) p50_low_ms: f64,
    pub(crate) p50_high_ms: f64,
    pub(crate) samples: usize,
    pub(crate) tokenize_us: f64,
    pub(crate) workspace_bytes: usize,
    pub(crate) multiplications: u64,
}

/// Texts per second over many lengths.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) source: String,
    pub(crate) texts: usize,
    pub(crate) tokens: usize,
    pub(crate) median_tokens: usize,
    pub(crate) longest_tokens: usize,
    pub(crate) results: Vec<Rate>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) threads: usize,
    pub(crate) batched_texts_per_second: f64,
    pub(crate) single_texts_per_second: f64,
}

/// Where the time of one run goes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Profile {
    pub(crate) tokens: usize,
    pub(crate) threads: usize,
    pub(crate) texts: usize,
    pub(crate) total_ms: f64,
    /// All layers together.
    pub(crate) operations: Vec<Operation>,
    /// Layer by layer, in the order of execution.
    pub(crate) layers: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) operation: String,
    #[serde(flatten)]
    pub(crate) cost: Cost,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Null for what is outside of the layers.
    pub(crate) layer: Option<usize>,
    pub(crate) operation: String,
    #[serde(flatten)]
    pub(crate) cost: Cost,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) ms: f64,
    /// Of the sum of all steps.
    pub(crate) share: f64,
    pub(crate) gmacs: f64,
    /// 10⁹ bytes per second.
    pub(crate) gb_per_second: f64,
    pub(crate) multiplications: u64,
    pub(crate) bytes: u64,
}

impl Cost {
    /// The share is set once the whole is known.
    pub(crate) fn new(ms: f64, multiplications: u64, bytes: u64) -> Self {
        // A step that is too short for the clock has no speed.
        let per_second = |count: u64| match ms > 0.0 {
            true => rounded(count as f64 / (ms * 1e6), 3),
            false => 0.0,
        };
        Self {
            ms: rounded(ms, 6),
            share: 0.0,
            gmacs: per_second(multiplications),
            gb_per_second: per_second(bytes),
            multiplications,
            bytes,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        *self = Self::new(
            self.ms + other.ms,
            self.multiplications + other.multiplications,
            self.bytes + other.bytes,
        );
    }
}

/// Decimals that the clock can tell apart, so that the JSON is short.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
