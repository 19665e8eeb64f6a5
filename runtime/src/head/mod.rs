//! The last part of a model: from the encoder's rows to what it answers. One file for each kind
//! of head; [`Head`] names them.

pub(crate) mod answers;
pub(crate) mod classification;
pub(crate) mod embedding;
pub(crate) mod tokens;
pub(crate) mod trained;
pub(crate) mod words;

use crate::executor::Executor;
use crate::format::{Head, padded};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::linear::{self, QuantizedRows};
use crate::model::Model;
use crate::workspace::Workspace;
use embedding::Features;

/// Which rows of the last layer a head reads. The encoder computes no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadRows {
    /// The first token of each text.
    First,
    /// Every token.
    All,
}

impl HeadRows {
    /// Of this model's head.
    pub(crate) fn of(model: &Model) -> Self {
        match model.head() {
            Head::Classification => Self::First,
            Head::Embedding => Features::of(model).rows(),
            _ => Self::All,
        }
    }
}

/// Values of a row of the head's output, padded.
pub(crate) fn output_width(model: &Model) -> usize {
    let shape = model.shape();
    match model.head() {
        Head::Classification | Head::TokenClassification | Head::QuestionAnswering => {
            padded(shape.labels as usize)
        }
        Head::Embedding | Head::MaskedWords => padded(shape.hidden as usize),
    }
}

/// Multiplications of the head's products for one row.
pub(crate) fn multiplications(model: &Model) -> usize {
    let shape = model.shape();
    let hidden = shape.hidden as usize;
    let dense = match model.head().has_dense() {
        true => hidden * hidden,
        false => 0,
    };
    match model.head() {
        // The product with the vocabulary is made later, for one row at a time.
        Head::MaskedWords => dense,
        _ => dense + hidden * shape.labels as usize,
    }
}

/// Writes the head's output to the workspace: `outputs`, `[rows, output width]`, and in
/// `output_boundaries` where the rows of each text begin and those of the last end.
pub(crate) fn compute(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    match model.head() {
        Head::Classification => classification::compute(executor, model, workspace),
        Head::TokenClassification | Head::QuestionAnswering => {
            tokens::compute(executor, model, workspace);
        }
        Head::Embedding => embedding::compute(model, Features::of(model), workspace),
        Head::MaskedWords => words::compute(executor, model, workspace),
    }
}

/// One row of output for each text.
fn one_row_a_text(workspace: &mut Workspace) {
    let texts = workspace.boundaries.len() - 1;
    workspace.output_boundaries.clear();
    workspace.output_boundaries.extend(0..=texts);
}

/// Multiplies the quantized rows of the encoder's output with the head's last product.
fn multiply_classifier(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    let width = output_width(model);
    let rows = workspace.scales.len();
    let quantized = workspace.quantized.first(rows * hidden);
    let outputs = workspace.outputs.first(rows * width);
    linear::multiply(
        executor,
        model.classifier(),
        QuantizedRows {
            values: Matrix::new(quantized, hidden),
            scales: &workspace.scales,
        },
        &[],
        PanelsMut::new(MatrixMut::new(outputs, width)),
    );
}
