//! From each text's first token to its logits, and from logits to scores.

use crate::executor::Executor;
use crate::format::{Problem, padded};
use crate::kernels::Kernels;
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::RowOperation;
use crate::linear;
use crate::model::Model;
use crate::workspace::Workspace;

/// Writes the logits to the workspace, `[texts, padded labels]`.
pub(crate) fn compute_logits(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let hidden = padded(model.shape().hidden as usize);
    let labels = padded(model.shape().labels as usize);
    let scales = &mut workspace.scales;
    let rows = scales.len();
    let quantized = workspace.quantized.first(rows * hidden);
    let wide = workspace.wide.first(rows * hidden);
    linear::multiply(
        executor,
        model.head_dense(),
        Matrix::new(quantized, hidden),
        scales,
        PanelsMut::new(MatrixMut::new(wide, hidden)),
    );
    executor.activate(
        Matrix::new(wide, hidden),
        model.head_activation(),
        None,
        &mut workspace.activated,
        MatrixMut::new(quantized, hidden),
        scales,
    );
    linear::multiply(
        executor,
        model.classifier(),
        Matrix::new(quantized, hidden),
        scales,
        PanelsMut::new(MatrixMut::new(
            workspace.logits.first(rows * labels),
            labels,
        )),
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
