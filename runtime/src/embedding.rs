//! Tokens to the first rows of the residual stream.

use crate::encoder::layer_norm;
use crate::executor::Executor;
use crate::format::padded;
use crate::kernels::matrix::MatrixMut;
use crate::kernels::rows::RowOperation;
use crate::model::Model;
use crate::workspace::Workspace;

/// Gathers and normalizes the embedding of every token: fills `hidden`, `quantized` and
/// `scales`.
pub(crate) fn embed(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let shape = model.shape();
    let width = padded(shape.hidden as usize);
    let (words, positions, token_types) = (model.words(), model.positions(), model.token_types());
    let norm = layer_norm(shape, model.embedding_norm(), model.rotation(shape.hidden));
    let (ids, types) = (&workspace.encoding.ids, &workspace.encoding.token_types);
    let boundaries = &workspace.boundaries;
    executor.for_each_row_block(
        MatrixMut::new(workspace.hidden.first(ids.len() * width), width),
        &mut workspace.threads,
        MatrixMut::new(workspace.quantized.first(ids.len() * width), width),
        &mut workspace.scales,
        |kernels, mut block| {
            let mut text = boundaries.partition_point(|&start| start <= block.first) - 1;
            for row in 0..block.values.rows() {
                let token = block.first + row;
                while boundaries[text + 1] <= token {
                    text += 1;
                }
                // A model with one token type takes both texts of a pair as that type.
                let token_type = token_types.map(|table| {
                    table.row(usize::from(types[token]).min(shape.token_types as usize - 1))
                });
                kernels.run_rows(RowOperation::Embed {
                    word: words.row(ids[token] as usize),
                    position: positions.row(token - boundaries[text]),
                    token_type,
                    out: block.values.row_mut(row),
                });
            }
            kernels.run_rows(RowOperation::Normalize {
                values: block.values,
                residual: None,
                norm,
                scratch: block.scratch,
                out: block.out,
                scales: block.scales,
            });
        },
    );
}
