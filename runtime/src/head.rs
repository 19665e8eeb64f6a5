//! From each text's first token to its logits, and from logits to scores.

use crate::executor::Executor;
use crate::format::{Problem, padded};
use crate::kernels::Kernels;
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::RowOperation;
use crate::linear::{self, QuantizedRows};
use crate::model::Model;
use crate::workspace::Workspace;

/// Writes the logits to the workspace, `[texts, padded labels]`.
pub(crate) fn compute_logits(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    let labels = padded(model.shape().labels as usize);
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
    let logits = workspace.logits.first(rows * labels);
    linear::multiply(
        executor,
        model.classifier(),
        QuantizedRows {
            values: Matrix::new(quantized, hidden),
            scales,
        },
        &[],
        PanelsMut::new(MatrixMut::new(logits, labels)),
    );
}

/// Turns logits into scores, in place.
pub(crate) fn score(kernels: &Kernels, problem: Problem, values: &mut [f32]) {
    match problem {
        Problem::SingleLabel => kernels.run_rows(RowOperation::Probabilities { values }),
        Problem::MultiLabel => kernels.run_rows(RowOperation::Sigmoid { values }),
        Problem::Regression => {}
    }
}
