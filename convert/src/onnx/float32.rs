//! float32 weights: plain products and gathers.

use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Graph, Values};
use super::{Precision, Rows, add_vector, scope, transpose};
use crate::checkpoint::Parameter;
use crate::config::Config;

/// The checkpoint's values under the checkpoint's names.
///
/// The matrix of a product is `[inputs, outputs]`, the transpose of the checkpoint's: that is
/// what `MatMul` reads, what Optimum writes, and what quantizers and fusions look for.
pub(super) struct Float32;

impl Precision for Float32 {
    fn embed(
        &self,
        graph: &mut Graph,
        config: &Config,
        table: Parameter,
        rows: Rows<'_>,
    ) -> String {
        let name = table.name(config);
        graph.initializers(
            &[(&name, DataType::Float, &table.shape(config))],
            move |checkpoint| Ok(vec![Values::F32(checkpoint.load(table)?)]),
        );
        rows.select(graph, &scope(config, table), &name)
    }

    fn products<const N: usize>(
        &self,
        graph: &mut Graph,
        config: &Config,
        input: &str,
        products: [(Parameter, Parameter); N],
    ) -> [String; N] {
        products.map(|(weight, bias)| {
            let scope = scope(config, weight);
            let name = weight.name(config);
            let shape = weight.shape(config);
            let (outputs, inputs) = (shape[0], shape[1]);
            graph.initializers(
                &[(&name, DataType::Float, &[inputs, outputs])],
                move |checkpoint| {
                    let matrix = checkpoint.load(weight)?;
                    Ok(vec![Values::F32(transpose(&matrix, inputs))])
                },
            );
            let bias = add_vector(graph, config, bias);
            let product = graph.node(&scope, "MatMul", &[input, &name]);
            graph.node(&scope, "Add", &[&product, &bias])
        })
    }
}
