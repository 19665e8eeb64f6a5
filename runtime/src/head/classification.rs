//! From each text's first token to its logits, and from logits to scores: BERT's pooler and
//! classifier, and what other families have in their place.

use super::{multiply_classifier, one_row_a_text};
use crate::executor::Executor;
use crate::format::{Problem, padded};
use crate::kernels::Kernels;
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::RowOperation;
use crate::linear::{self, QuantizedRows};
use crate::model::Model;
use crate::workspace::Workspace;

/// The output of a text is its logits.
pub(super) fn compute(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    let scales = &mut workspace.scales;
    let rows = scales.len();
    let quantized = workspace.quantized.first(rows * hidden);
    let pooled = workspace.pooled.first(rows * hidden);
    linear::multiply(
        executor,
        model.head_dense(),
        QuantizedRows {
            values: Matrix::new(quantized, hidden),
            scales,
        },
        model.classifier().values,
        PanelsMut::new(MatrixMut::new(pooled, hidden)),
    );
    executor.activate(
        Matrix::new(pooled, hidden),
        model.head_activation(),
        None,
        &mut workspace.threads,
        MatrixMut::new(quantized, hidden),
        scales,
    );
    multiply_classifier(executor, model, workspace);
    one_row_a_text(workspace);
}

/// Turns logits into scores, in place.
pub(crate) fn score(kernels: &Kernels, problem: Problem, values: &mut [f32]) {
    match problem {
        Problem::SingleLabel => kernels.run_rows(RowOperation::Probabilities { values }),
        Problem::MultiLabel => kernels.run_rows(RowOperation::Sigmoid { values }),
        Problem::Regression => {}
    }
}
