//! The words that fit in the places of mask tokens.

use std::path::Path;

use crate::cancellation::Stop;
use crate::classifier::Options;
use crate::encoder::layer_norm;
use crate::error::Error;
use crate::executor::Executor;
use crate::format::{Head, padded};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{RowOperation, RowScale};
use crate::linear::{self, QuantizedRows};
use crate::model::Model;
use crate::session::{Input, Output, Request, Session};
use crate::tokenizer::{EncodeOptions, Encoded, Encoding, Scratch, Token};
use crate::workspace::Workspace;

/// The output of a text is a row for each of its mask tokens: what the product with the
/// vocabulary reads. That is made for one row at a time ([`multiply_vocabulary`]), since a row of
/// logits is as long as the vocabulary.
pub(super) fn compute(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    gather_masks(model, hidden, workspace);
    let rows = workspace.gathered_scales.len();
    let gathered = workspace.gathered.first(rows * hidden);
    let outputs = workspace.outputs.first(rows * hidden);
    let scales = &mut workspace.gathered_scales[..];
    linear::multiply(
        executor,
        model.head_dense(),
        QuantizedRows {
            values: Matrix::new(gathered, hidden),
            scales,
        },
        model.classifier().values,
        PanelsMut::new(MatrixMut::new(outputs, hidden)),
    );
    executor.kernels.run_rows(RowOperation::Map {
        values: MatrixMut::new(outputs, hidden),
        activation: model.head_activation(),
    });
    executor.kernels.run_rows(RowOperation::Normalize {
        values: MatrixMut::new(outputs, hidden),
        residual: None,
        norm: layer_norm(model.shape(), model.head_norm(), 1),
        scratch: workspace.threads[0].balanced.first(hidden),
        out: MatrixMut::new(gathered, hidden),
        scales,
    });
}

/// Copies the quantized rows of the mask tokens, and notes how many each text has.
fn gather_masks(model: &Model, hidden: usize, workspace: &mut Workspace) {
    let mask = model.shape().head_options;
    let ids = &workspace.encoding.ids;
    let count = ids.iter().filter(|&&id| id == mask).count();
    let quantized = workspace.quantized.first(ids.len() * hidden);
    let gathered = workspace.gathered.first(count * hidden);
    workspace.gathered_scales.clear();
    workspace.output_boundaries.clear();
    workspace.output_boundaries.push(0);
    for text in workspace.boundaries.windows(2) {
        for token in (text[0]..text[1]).filter(|&token| ids[token] == mask) {
            let row = &quantized[token * hidden..][..hidden];
            let place = workspace.gathered_scales.len() * hidden;
            gathered[place..][..hidden].copy_from_slice(row);
            workspace.gathered_scales.push(workspace.scales[token]);
        }
        workspace
            .output_boundaries
            .push(workspace.gathered_scales.len());
    }
}

/// The logits of all tokens of the vocabulary, padded, for one row, `[hidden]`, of the head's
/// output.
pub(crate) fn multiply_vocabulary(session: &Session, row: &[f32], logits: &mut Vec<f32>) {
    let model = &session.model;
    let hidden = padded(model.shape().hidden as usize);
    let mut values = row.to_vec();
    values.resize(hidden, 0.0);
    let mut quantized = vec![0; hidden];
    let mut scales = [RowScale::default()];
    session.kernels.run_rows(RowOperation::Activate {
        values: Matrix::new(&values, hidden),
        activation: None,
        balance: Some(layer_norm(model.shape(), model.head_norm(), 1).balance),
        scratch: &mut vec![0.0; hidden],
        out: MatrixMut::new(&mut quantized, hidden),
        scales: &mut scales,
    });
    let width = model.classifier().shape.outputs;
    logits.clear();
    logits.resize(width, 0.0);
    linear::multiply(
        session.executor(Stop::default()),
        model.classifier(),
        QuantizedRows {
            values: Matrix::new(&quantized, hidden),
            scales: &scales,
        },
        &[],
        PanelsMut::new(MatrixMut::new(logits, width)),
    );
}

/// A model that fills in words that are masked, such as the `[MASK]` of BERT.
///
/// It may be used from many threads at once.
pub struct WordFiller {
    session: Session,
}

/// A word, or a piece of one, for the place of a mask token.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The token's id.
    pub id: u32,
    /// Its text, as the vocabulary has it: a piece that continues a word begins with `##`.
    pub text: String,
    /// Its probability among all tokens.
    pub score: f32,
}

/// A mask token of a text, and what fits there.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedWord {
    /// The mask token; its offsets are where the words belong.
    pub token: Token,
    /// The words, the best first.
    pub words: Vec<Word>,
}

impl std::fmt::Debug for WordFiller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "WordFiller")
    }
}

impl WordFiller {
    /// Maps a `.filbert` file. Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`WordFiller::new`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Uses a model that is open.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), if the model is for something else, or
    /// for options that this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        model.check_head(Head::MaskedWords, "WordFiller")?;
        Session::new(model, options).map(|session| Self { session })
    }

    /// The model's shape and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The text that stands for a word to find, such as `[MASK]`.
    pub fn mask(&self) -> String {
        self.text_of(self.model().shape().head_options)
    }

    /// For each mask token of a text, as many words as `count` says, the best first. A text
    /// without one has none.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`](crate::ErrorCode), if the text has more tokens than the model
    /// takes and the options do not let it be cut.
    pub fn fill(&self, text: &str, count: usize) -> Result<Vec<MaskedWord>, Error> {
        let mut masks = Vec::new();
        self.for_each_mask(text, |token, logits| {
            let words = self.choose(logits, count);
            masks.push(MaskedWord { token, words });
        })?;
        Ok(masks)
    }

    /// The logits `[masks, vocabulary]` of a text's mask tokens.
    ///
    /// # Errors
    /// As for [`WordFiller::fill`].
    pub fn logits(&self, text: &str) -> Result<Vec<f32>, Error> {
        let mut all = Vec::new();
        self.for_each_mask(text, |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    fn for_each_mask(
        &self,
        text: &str,
        mut take: impl FnMut(Token, &mut [f32]),
    ) -> Result<(), Error> {
        let mut rows = [MaskRows::default()];
        let request = Texts { filler: self, text };
        self.session.answer(&request, None, &mut rows)?;
        let [rows] = rows;
        let shape = self.model().shape();
        let mut logits = Vec::new();
        for (token, row) in rows
            .tokens
            .into_iter()
            .zip(rows.values.chunks_exact(shape.hidden as usize))
        {
            multiply_vocabulary(&self.session, row, &mut logits);
            take(token, &mut logits[..shape.vocabulary as usize]);
        }
        Ok(())
    }

    /// The best words; of equal ones those with the lower ids. The logits become scores.
    fn choose(&self, logits: &mut [f32], count: usize) -> Vec<Word> {
        let scores = logits;
        self.session
            .kernels
            .run_rows(RowOperation::Probabilities { values: scores });
        let mut best: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let count = count.min(best.len());
        if 0 < count && count < best.len() {
            best.select_nth_unstable_by(count - 1, order);
        }
        best.truncate(count);
        best.sort_unstable_by(order);
        let word = |(id, score): (usize, f32)| Word {
            id: id as u32,
            text: self.text_of(id as u32),
            score,
        };
        best.into_iter().map(word).collect()
    }

    /// A token's text; empty for a row of the table that no token has.
    fn text_of(&self, id: u32) -> String {
        let text = self.model().tokenizer().token_text(id);
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// Ends the calls that run on other threads: see
    /// [`Classifier::close`](crate::Classifier::close).
    pub fn close(&self) {
        self.session.close();
    }
}

/// What the head made of a text's mask tokens.
#[derive(Default)]
struct MaskRows {
    tokens: Vec<Token>,
    /// `[masks, hidden]`.
    values: Vec<f32>,
}

/// A text with masks.
struct Texts<'a> {
    filler: &'a WordFiller,
    text: &'a str,
}

impl Request for Texts<'_> {
    type Answer = MaskRows;

    fn len(&self) -> usize {
        1
    }

    fn bytes(&self, _: usize) -> usize {
        self.text.len()
    }

    fn encode(
        &self,
        text: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error> {
        let session = &self.filler.session;
        let options = EncodeOptions {
            offsets: true,
            ..session.encode_options()
        };
        session.encode((text, Input::from(self.text)), &options, encoding, scratch)
    }

    fn write(&self, output: Output<'_>, _: &mut Vec<f32>, answer: &mut MaskRows) {
        let shape = self.filler.model().shape();
        answer.tokens = output.tokens();
        answer.tokens.retain(|token| token.id == shape.head_options);
        for row in output.rows.chunks_exact(output.width) {
            answer
                .values
                .extend_from_slice(&row[..shape.hidden as usize]);
        }
    }

    fn clear(answer: &mut MaskRows) {
        *answer = MaskRows::default();
    }
}
