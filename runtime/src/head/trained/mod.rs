//! A head of its own file, over an encoder that it shares with other heads: what training makes.

mod file;

use std::path::Path;

use crate::error::{Error, ErrorCode};
use crate::head::embedding::Features;
use crate::model::{EncoderId, Model, open_and_map};

/// The largest magnitude of a weight: with features that [`Model`] has checked, no logit can
/// leave the range of `f32`.
pub(crate) const LARGEST_WEIGHT: f32 = (1u64 << 50) as f32;

/// The labels of texts by a linear function of an encoder's features.
///
/// It lies in a small file of its own, beside the encoder's: [`TrainedHead::open`]. A
/// [`Classifier`](crate::Classifier) is made of both.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedHead {
    features: Features,
    encoder: EncoderId,
    labels: Vec<String>,
    /// `[labels, features]`.
    weights: Vec<f32>,
    /// `[labels]`.
    bias: Vec<f32>,
    report: Vec<u8>,
}

impl TrainedHead {
    /// Of these weights, `[labels, features]`, and intercepts, `[labels]`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], if a weight is no number of a usual size.
    pub(crate) fn new(
        encoder: &Model,
        features: Features,
        labels: Vec<String>,
        (weights, bias): (&[f64], &[f64]),
    ) -> Result<Self, Error> {
        let round = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let head = Self {
            features,
            encoder: encoder.encoder_id(),
            labels,
            weights: round(weights),
            bias: round(bias),
            report: Vec::new(),
        };
        match head.find_unusable() {
            None => Ok(head),
            Some((place, found)) => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{place}: expected a weight of at most 2^50, found {found}; train with a smaller strength"
                ),
            )),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorCode::Io`], and what [`TrainedHead::from_bytes`] returns.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = open_and_map(path)
            .map_err(|error| Error::new(ErrorCode::Io, error.to_string()).in_file(path))?;
        Self::from_bytes(&bytes).map_err(|error| error.in_file(path))
    }

    /// The labels, in the order of the logits.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.labels.iter().map(String::as_str)
    }

    pub(crate) fn label(&self, index: usize) -> &str {
        &self.labels[index]
    }

    /// What of a text the weights are for.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Features of a text: the width of its encoder.
    pub fn width(&self) -> usize {
        self.weights.len() / self.labels.len()
    }

    /// The encoder that it was trained on, for people: the lengths and checksums of the sections
    /// of its file that features depend on.
    pub fn encoder(&self) -> String {
        self.encoder.to_string()
    }

    /// What was told of the training, as JSON; empty, if nothing was. The runtime does not read
    /// it.
    pub fn report(&self) -> &[u8] {
        &self.report
    }

    /// Has the file tell this of the training.
    #[must_use]
    pub fn with_report(mut self, report: Vec<u8>) -> Self {
        self.report = report;
        self
    }

    /// Checks that this is the encoder that the head was trained on.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`].
    pub fn check_encoder(&self, encoder: &Model) -> Result<(), Error> {
        let found = encoder.encoder_id();
        if self.encoder == found && self.width() == encoder.shape().hidden as usize {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "the head was trained on another encoder: expected {}, found {found}; use that encoder, or train a head on this one",
                self.encoder
            ),
        ))
    }

    /// Appends the logits of a text, `[labels]`, by its features.
    pub(crate) fn push_logits(&self, features: &[f32], logits: &mut Vec<f32>) {
        let rows = self.weights.chunks_exact(self.width()).zip(&self.bias);
        logits.extend(rows.map(|(weights, bias)| dot(weights, features) + bias));
    }

    /// The first weight or intercept that is not finite or too large, and where it is.
    fn find_unusable(&self) -> Option<(String, f32)> {
        let is_unusable = |value: &f32| value.is_nan() || value.abs() > LARGEST_WEIGHT;
        let weight = self.weights.iter().position(is_unusable).map(|place| {
            let (label, feature) = (place / self.width(), place % self.width());
            let name = format!("weights, feature {feature} of label {label}");
            (name, self.weights[place])
        });
        let bias = || {
            let label = self.bias.iter().position(is_unusable)?;
            Some((format!("bias, label {label}"), self.bias[label]))
        };
        weight.or_else(bias)
    }
}

/// The sum of products over 16 lanes and one tree, each operation rounded once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}
