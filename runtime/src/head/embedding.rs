//! A vector for a text: its first token's row, or the mean of all its tokens' rows.

use std::path::Path;

use super::{HeadRows, one_row_a_text};
use crate::cancellation::Cancellation;
use crate::classifier::Options;
use crate::error::Error;
use crate::format::{self, Head, padded};
use crate::model::Model;
use crate::session::{Input, Output, Request, Session};
use crate::tokenizer::{Encoded, Encoding, Scratch};
use crate::workspace::Workspace;

/// What of a text an encoder's vector for it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    bits: u32,
}

impl Features {
    /// The last row of the first token: BERT's `[CLS]`.
    pub const fn first_token() -> Self {
        Self { bits: 0 }
    }

    /// The mean of the last rows of all tokens, special tokens included.
    pub const fn mean() -> Self {
        Self {
            bits: format::embedding::MEAN,
        }
    }

    /// Divided by their Euclidean norm.
    #[must_use]
    pub const fn normalized(self) -> Self {
        Self {
            bits: self.bits | format::embedding::NORMALIZED,
        }
    }

    /// Whether they are the mean of all tokens.
    pub const fn is_mean(self) -> bool {
        self.bits & format::embedding::MEAN != 0
    }

    /// Whether they are divided by their Euclidean norm.
    pub const fn is_normalized(self) -> bool {
        self.bits & format::embedding::NORMALIZED != 0
    }

    /// Those of a model for embeddings.
    pub(crate) fn of(model: &Model) -> Self {
        Self {
            bits: model.shape().head_options,
        }
    }

    /// By their bits in a file.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        (bits & !format::embedding::ALL == 0).then_some(Self { bits })
    }

    pub(crate) fn bits(self) -> u32 {
        self.bits
    }

    /// The encoder's rows that they are made of.
    pub(crate) fn rows(self) -> HeadRows {
        match self.is_mean() {
            true => HeadRows::All,
            false => HeadRows::First,
        }
    }
}

/// The output of a text is its vector.
pub(crate) fn compute(model: &Model, features: Features, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    let texts = workspace.boundaries.len() - 1;
    let rows = workspace.scales.len();
    let values = workspace.hidden.first(rows * hidden);
    let outputs = workspace.outputs.first(texts * hidden);
    match features.rows() {
        HeadRows::First => outputs.copy_from_slice(values),
        HeadRows::All => {
            let boundaries = workspace.boundaries.windows(2);
            for (ends, output) in boundaries.zip(outputs.chunks_exact_mut(hidden)) {
                let tokens = &values[ends[0] * hidden..ends[1] * hidden];
                average_rows(tokens, output);
            }
        }
    }
    if features.is_normalized() {
        outputs.chunks_exact_mut(hidden).for_each(normalize);
    }
    one_row_a_text(workspace);
}

/// The mean of rows: their sum in order from 0, divided by how many there are.
fn average_rows(rows: &[f32], mean: &mut [f32]) {
    mean.fill(0.0);
    let mut count = 0.0f32;
    for row in rows.chunks_exact(mean.len()) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += value;
        }
        count += 1.0;
    }
    for sum in mean {
        *sum /= count;
    }
}

/// Divides a row by its Euclidean norm, whose squares are added in order. As PyTorch's
/// `normalize`, by no less than 1e-12.
fn normalize(row: &mut [f32]) {
    let squares = row.iter().fold(0.0f32, |sum, value| sum + value * value);
    let norm = squares.sqrt().max(1e-12);
    for value in row {
        *value /= norm;
    }
}

/// A model that turns a text into a vector, such as one of sentence-transformers. Texts that mean
/// the same have vectors that point the same way.
///
/// It may be used from many threads at once.
pub struct Embedder {
    session: Session,
}

/// The vector of a text.
///
/// The default is an empty one, whose memory [`Embedder::embed_batch_into`] uses again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    vector: Vec<f32>,
    tokens: usize,
    truncated: bool,
}

impl Embedding {
    /// `[hidden]`.
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The cosine of the angle to another vector of the same model: 1 where both point the same
    /// way. 0 for a vector of zeros.
    pub fn cosine(&self, other: &Self) -> f32 {
        let dot = |a: &Self, b: &Self| {
            let products = a.vector.iter().zip(&b.vector);
            products.fold(0.0f64, |sum, (x, y)| sum + f64::from(*x) * f64::from(*y))
        };
        let norms = (dot(self, self) * dot(other, other)).sqrt();
        match norms > 0.0 {
            true => (dot(self, other) / norms) as f32,
            false => 0.0,
        }
    }

    /// Tokens that the model saw, special tokens included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether the text was cut to what the model takes.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "Embedder")
    }
}

impl Embedder {
    /// Maps a `.filbert` file. Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`Embedder::new`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Uses a model that is open.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), if the model is for something else, or
    /// for options that this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        model.check_head(Head::Embedding, "Embedder")?;
        Session::new(model, options).map(|session| Self { session })
    }

    /// Uses the encoder of a model of any kind: a vector is then what its last layer says of the
    /// text, and the model's own head is not computed.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), for options that this machine cannot
    /// serve.
    pub fn of_encoder(model: Model, features: Features, options: &Options) -> Result<Self, Error> {
        let session = Session::new(model, options)?;
        Ok(Self {
            session: session.with_features(features),
        })
    }

    /// The model, which is no longer used.
    pub fn into_model(self) -> Model {
        self.session.model
    }

    /// The model's shape and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The vector of a text.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`](crate::ErrorCode), if the text has more tokens than the model
    /// takes and the options do not let it be cut.
    pub fn embed(&self, text: &str) -> Result<Embedding, Error> {
        let mut embeddings = [Embedding::default()];
        let texts = Texts {
            embedder: self,
            inputs: &[text.into()],
        };
        self.session.answer(&texts, None, &mut embeddings)?;
        let [embedding] = embeddings;
        Ok(embedding)
    }

    /// The vectors of many texts, each as it would be alone, to the bit.
    ///
    /// # Errors
    /// As for [`Embedder::embed`]; the first text that fails ends the batch.
    pub fn embed_batch(&self, inputs: &[Input<'_>]) -> Result<Vec<Embedding>, Error> {
        let mut embeddings = Vec::new();
        self.embed_batch_into(inputs, None, &mut embeddings)?;
        Ok(embeddings)
    }

    /// As [`Embedder::embed_batch`], into vectors that were there before, of which there are then
    /// as many as texts, unless it is cancelled on another thread.
    ///
    /// # Errors
    /// As for [`Embedder::embed`], and [`ErrorCode::Cancelled`](crate::ErrorCode); the vectors
    /// are then empty.
    pub fn embed_batch_into(
        &self,
        inputs: &[Input<'_>],
        cancellation: Option<&Cancellation>,
        embeddings: &mut Vec<Embedding>,
    ) -> Result<(), Error> {
        embeddings.resize_with(inputs.len(), Embedding::default);
        let texts = Texts {
            embedder: self,
            inputs,
        };
        self.session.answer(&texts, cancellation, embeddings)
    }

    /// Ends the calls that run on other threads: see
    /// [`Classifier::close`](crate::Classifier::close).
    pub fn close(&self) {
        self.session.close();
    }
}

/// Texts to embed.
struct Texts<'a> {
    embedder: &'a Embedder,
    inputs: &'a [Input<'a>],
}

impl Request for Texts<'_> {
    type Answer = Embedding;

    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn bytes(&self, text: usize) -> usize {
        self.inputs[text].bytes()
    }

    fn encode(
        &self,
        text: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error> {
        let session = &self.embedder.session;
        let options = session.encode_options();
        session.encode((text, self.inputs[text]), &options, encoding, scratch)
    }

    fn write(&self, output: Output<'_>, _: &mut Vec<f32>, answer: &mut Embedding) {
        let hidden = self.embedder.model().shape().hidden as usize;
        answer.vector.clear();
        answer.vector.extend_from_slice(&output.rows[..hidden]);
        answer.tokens = output.encoded.tokens;
        answer.truncated = output.encoded.is_truncated();
    }

    fn clear(answer: &mut Embedding) {
        answer.vector.clear();
        (answer.tokens, answer.truncated) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_norms() {
        let mut mean = [9.0; 2];
        average_rows(&[1.0, 2.0, 3.0, 6.0], &mut mean);
        assert_eq!(mean, [2.0, 4.0]);
        let mut row = [3.0, 4.0];
        normalize(&mut row);
        assert_eq!(row, [0.6, 0.8]);
        let mut zeros = [0.0; 3];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }

    #[test]
    fn cosines() {
        let embedding = |vector: &[f32]| Embedding {
            vector: vector.to_vec(),
            ..Embedding::default()
        };
        let (x, y) = (embedding(&[2.0, 0.0]), embedding(&[0.0, 1.0]));
        assert_eq!(x.cosine(&x), 1.0);
        assert_eq!(x.cosine(&y), 0.0);
        assert_eq!(x.cosine(&embedding(&[-1.0, 0.0])), -1.0);
        assert_eq!(x.cosine(&embedding(&[0.0, 0.0])), 0.0);
    }
}
