//! Graphs that are refused for what they are, before the first node that does not fit.

use super::graph::{Graph, Node};
use crate::Error;

/// Refuses graphs that were fused, or quantized in a way that has no weights to take over.
pub(super) fn check(graph: &Graph) -> Result<(), Error> {
    let mut nodes = graph.nodes.iter();
    nodes.try_for_each(|node| check_node(graph, node))
}

fn check_node(graph: &Graph, node: &Node) -> Result<(), Error> {
    let dynamic = |node: &Node| {
        let input = node.input(0);
        input.is_some_and(|input| graph.operation(input, "DynamicQuantizeLinear").is_some())
    };
    let what = match node.operator.as_str() {
        "MatMulInteger" if !dynamic(node) => {
            "has an input that DynamicQuantizeLinear did not make, as in the int8 that Filbert \
             exports; convert the model that this one was made from"
        }
        "QuantizeLinear" | "QLinearMatMul" | "QLinearConv" => {
            "comes from static quantization, whose activations have fixed ranges; quantize with \
             onnxruntime.quantization.quantize_dynamic, or convert the float32 model"
        }
        "If" | "Loop" | "Scan" => {
            "holds graphs of its own, which no encoder needs; export again, with \
             torch.onnx.export or optimum-cli export onnx"
        }
        operator if operator.starts_with("com.microsoft.") => {
            "is an operator of ONNX Runtime, made by fusing others; export without optimisation: \
             optimum-cli export onnx without --optimize, or convert the file from before \
             optimize_model or quantization"
        }
        operator if operator.contains('.') => {
            "is no operator of ONNX's own; export again with a newer torch.onnx.export, or with \
             optimum-cli export onnx"
        }
        _ => return Ok(()),
    };
    Err(Error::new(format!(
        "the node {:?}, {}, {what}",
        node.name, node.operator
    )))
}
