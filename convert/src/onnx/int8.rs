//! int8 weights and activations in standard operators.
//!
//! An activation is quantized anew for each row, that is, each token: `lo = min(0, min x)`,
//! `hi = max(0, max x)`, `s = (hi - lo) / 255`, `zp = -round(lo / s)` and
//! `q = clip(round(x / s) + zp, 0, 255)`. `MatMulInteger` accepts no zero point for each row
//! in ONNX Runtime, so it is given none, and `zp` times the sum of a weight's column is
//! subtracted from what it returns.

use std::rc::Rc;

use tract_onnx::pb::tensor_proto::DataType;

use super::float32::Float32;
use super::graph::{Attribute, Graph, Values};
use super::{Precision, Rows, scope, transpose};
use crate::checkpoint::Parameter;
use crate::config::Config;
use crate::quantization::Quantization;
use crate::rotation::Rotation;

/// Each matrix is three initializers: `…_quantized`, `…_scale` and, for products, the sums of
/// its columns in `…_sum`.
pub(super) struct Int8 {
    pub(super) quantization: Rc<Quantization>,
}

impl Precision for Int8 {
    fn embed(
        &self,
        graph: &mut Graph,
        config: &Config,
        table: Parameter,
        rows: Rows<'_>,
    ) -> String {
        if table != Parameter::WordEmbedding {
            // The other tables are small, and every text meets the same few rows.
            return Float32.embed(graph, config, table, rows);
        }
        let scope = scope(config, table);
        let shape = table.shape(config);
        let (count, columns) = (shape[0], shape[1]);
        let name = table.name(config);
        let quantized = format!("{name}_quantized");
        let scale = format!("{name}_scale");
        graph.initializers(
            &[
                (&quantized, DataType::Int8, &[count, columns]),
                (&scale, DataType::Float, &[count, 1]),
            ],
            move |checkpoint| {
                let rows = checkpoint.quantized_rows(table, 0..count)?;
                Ok(vec![Values::I8(rows.values), Values::F32(rows.scales)])
            },
        );
        let selected = rows.select(graph, &scope, &quantized);
        let selected = cast(graph, &scope, &selected, DataType::Float);
        let scales = rows.select(graph, &scope, &scale);
        graph.node(&scope, "Mul", &[&selected, &scales])
    }

    fn products<const N: usize>(
        &self,
        graph: &mut Graph,
        config: &Config,
        input: &str,
        products: [(Parameter, Parameter); N],
    ) -> [String; N] {
        // The quantized input is shared; it is named after the first product.
        let first = products[0].0;
        let scope_of_row = scope(config, first);
        let mut input = input.to_owned();
        if let Some(factors) = self.quantization.explicit_input(first, config) {
            let name = format!("{}_balance", first.name(config));
            let factors = factors.to_vec();
            graph.initializers(&[(&name, DataType::Float, &[factors.len()])], move |_| {
                Ok(vec![Values::F32(factors.clone())])
            });
            input = graph.node(&scope_of_row, "Mul", &[&input, &name]);
        }
        if let Some(rotation) = self.quantization.rotation(first, config) {
            input = rotate(graph, &scope_of_row, &input, rotation);
        }
        let row = QuantizedActivation::new(graph, &scope_of_row, &input);
        // All products that share an input are fine, or none.
        let rest_of_row = self.quantization.is_fine(first, config).then(|| {
            let rest = row.rest(graph, &scope_of_row, &input);
            QuantizedActivation::new(graph, &format!("{scope_of_row}/rest"), &rest)
        });
        products.map(|(weight, bias)| {
            let scope = scope(config, weight);
            let shape = weight.shape(config);
            let (outputs, inputs) = (shape[0], shape[1]);
            let name = weight.name(config);
            let bias_name = bias.name(config);
            let weights = WeightNames::new(&name);
            let rest = rest_of_row
                .as_ref()
                .map(|_| WeightNames::new(&format!("{name}_rest")));
            let mut initializers: Vec<(&str, DataType, &[usize])> = Vec::new();
            let (matrix, vector) = ([inputs, outputs], [outputs]);
            for names in std::iter::once(&weights).chain(&rest) {
                initializers.push((&names.quantized, DataType::Int8, &matrix));
                initializers.push((&names.scale, DataType::Float, &vector));
                initializers.push((&names.sum, DataType::Int32, &vector));
            }
            initializers.push((&bias_name, DataType::Float, &vector));
            let quantization = Rc::clone(&self.quantization);
            graph.initializers(&initializers, move |checkpoint| {
                let product = quantization.quantize_product(checkpoint, weight, bias)?;
                let mut values = Vec::new();
                for rows in std::iter::once(product.weights).chain(product.rest) {
                    let sums = rows.sums();
                    values.push(Values::I8(transpose(&rows.values, inputs)));
                    values.push(Values::F32(rows.scales));
                    values.push(Values::I32(sums));
                }
                values.push(Values::F32(product.bias));
                Ok(values)
            });
            let mut product = row.multiply(graph, &scope, &weights);
            if let (Some(rest_of_row), Some(rest)) = (&rest_of_row, &rest) {
                let scope = &format!("{scope}/rest");
                for other in [
                    rest_of_row.multiply(graph, scope, &weights),
                    row.multiply(graph, scope, rest),
                    rest_of_row.multiply(graph, scope, rest),
                ] {
                    product = graph.node(scope, "Add", &[&product, &other]);
                }
            }
            graph.node(&scope, "Add", &[&product, &bias_name])
        })
    }

    fn constants(&self, graph: &mut Graph) {
        graph.integers(LAST_AXIS, vec![-1]);
        graph.scalar(ZERO, 0.0);
        graph.scalar(LARGEST, 255.0);
        graph.scalar(SMALLEST_SCALE, f32::MIN_POSITIVE);
        for rotation in self.quantization.rotations() {
            let [signs, shape] = rotation_constants(rotation);
            let height = rotation.together();
            graph.initializers(&[(&signs, DataType::Float, &[height, height])], move |_| {
                Ok(vec![Values::F32(rotation.signs())])
            });
            // The batch as it is, and the sequence, where there is one.
            let width = (rotation.columns() / height) as i64;
            graph.integers(&shape, vec![0, -1, height as i64, width]);
        }
    }
}

/// Rotates rows of `columns` values: each is a matrix, from one of the values that are rotated
/// together to the next a row of it, and is multiplied by the signs.
fn rotate(graph: &mut Graph, scope: &str, input: &str, rotation: Rotation) -> String {
    if rotation.together() == 1 {
        return input.to_owned();
    }
    let scope = &format!("{scope}/rotate");
    let [signs, shape] = rotation_constants(rotation);
    let whole = graph.node(scope, "Shape", &[input]);
    let matrices = graph.node(scope, "Reshape", &[input, &shape]);
    let rotated = graph.node(scope, "MatMul", &[&signs, &matrices]);
    graph.node(scope, "Reshape", &[&rotated, &whole])
}

/// Names of the signs, and of the shape of rows as matrices.
fn rotation_constants(rotation: Rotation) -> [String; 2] {
    ["signs", "matrices"].map(|name| format!("{name}_of_{}", rotation.columns()))
}

const LAST_AXIS: &str = "last_axis";
const ZERO: &str = "zero";
const LARGEST: &str = "largest_uint8";
const SMALLEST_SCALE: &str = "smallest_scale";

/// Initializers of the weights of a product.
struct WeightNames {
    quantized: String,
    scale: String,
    sum: String,
}

impl WeightNames {
    fn new(name: &str) -> Self {
        Self {
            quantized: format!("{name}_quantized"),
            scale: format!("{name}_scale"),
            sum: format!("{name}_sum"),
        }
    }
}

/// The values of one activation: uint8, with a scale and an int32 zero point for each row.
struct QuantizedActivation {
    quantized: String,
    scale: String,
    zero_point: String,
}

impl QuantizedActivation {
    /// Its product with these weights.
    fn multiply(&self, graph: &mut Graph, scope: &str, weights: &WeightNames) -> String {
        let inputs = [&self.quantized[..], &weights.quantized];
        let product = graph.node(scope, "MatMulInteger", &inputs);
        let offset = graph.node(scope, "Mul", &[&self.zero_point, &weights.sum]);
        let product = graph.node(scope, "Sub", &[&product, &offset]);
        let product = cast(graph, scope, &product, DataType::Float);
        let scale = graph.node(scope, "Mul", &[&self.scale, &weights.scale]);
        graph.node(scope, "Mul", &[&product, &scale])
    }

    /// What it left of the activation.
    fn rest(&self, graph: &mut Graph, scope: &str, input: &str) -> String {
        let scope = &format!("{scope}/rest");
        let steps = cast(graph, scope, &self.quantized, DataType::Int32);
        let steps = graph.node(scope, "Sub", &[&steps, &self.zero_point]);
        let steps = cast(graph, scope, &steps, DataType::Float);
        let taken = graph.node(scope, "Mul", &[&steps, &self.scale]);
        graph.node(scope, "Sub", &[input, &taken])
    }
}

impl QuantizedActivation {
    fn new(graph: &mut Graph, scope: &str, input: &str) -> Self {
        let scope = &format!("{scope}/quantize");
        let low = graph.node(scope, "ReduceMin", &[input, LAST_AXIS]);
        let low = graph.node(scope, "Min", &[&low, ZERO]);
        let high = graph.node(scope, "ReduceMax", &[input, LAST_AXIS]);
        let high = graph.node(scope, "Max", &[&high, ZERO]);
        let range = graph.node(scope, "Sub", &[&high, &low]);
        let scale = graph.node(scope, "Div", &[&range, LARGEST]);
        // A row of zeros, or of next to nothing, has no finite inverse: it becomes zeros.
        let inverse = graph.node(scope, "Reciprocal", &[&scale]);
        let usable = graph.node(scope, "Greater", &[&scale, SMALLEST_SCALE]);
        let inverse = graph.node(scope, "Where", &[&usable, &inverse, ZERO]);
        let low = graph.node(scope, "Mul", &[&low, &inverse]);
        let low = graph.node(scope, "Round", &[&low]);
        let zero_point = graph.node(scope, "Neg", &[&low]);
        let steps = graph.node(scope, "Mul", &[input, &inverse]);
        let steps = graph.node(scope, "Round", &[&steps]);
        let steps = graph.node(scope, "Add", &[&steps, &zero_point]);
        let steps = graph.node(scope, "Clip", &[&steps, ZERO, LARGEST]);
        Self {
            quantized: cast(graph, scope, &steps, DataType::Uint8),
            scale,
            zero_point: cast(graph, scope, &zero_point, DataType::Int32),
        }
    }
}

fn cast(graph: &mut Graph, scope: &str, value: &str, to: DataType) -> String {
    let to = Attribute::Int("to", to as i64);
    graph.node_with(scope, "Cast", &[value], &[to])
}
