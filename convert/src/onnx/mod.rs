//! The export to ONNX, in float32 and in int8.
//!
//! Inputs and outputs are named and shaped as Hugging Face Optimum does, so that one export
//! can take the place of the other. The classifier is written once, here; how a table is read
//! and a product computed is a [`Precision`].

mod file;
mod float32;
mod graph;
mod head;
pub mod import;
mod int8;

use std::io::Write;
use std::rc::Rc;

use filbert::format::Activation;
use tract_onnx::pb::tensor_proto::DataType;

use crate::checkpoint::{LayerParameter, Parameter};
use crate::config::{Architecture, Config};
use crate::quantization::Quantization;
use crate::{Checkpoint, Error};

pub(crate) use file::{write_float32, write_int8};
use float32::Float32;
use graph::{Attribute, Extent, Graph, Values};
use int8::Int8;

/// Writes the checkpoint as ONNX with float32 weights.
pub fn export_float32(checkpoint: &Checkpoint, out: &mut dyn Write) -> Result<(), Error> {
    classifier(&Float32, checkpoint.config()).write(checkpoint, out)
}

/// Writes the checkpoint as ONNX with the int8 weights that the `.filbert` file has, if that is
/// made with the same quantization.
///
/// Products quantize their inputs at run time, row by row. Attention, layer norms and
/// activations stay in float32.
pub fn export_int8(
    checkpoint: &Checkpoint,
    quantization: &Quantization,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let quantization = Rc::new(quantization.clone());
    classifier(&Int8 { quantization }, checkpoint.config()).write(checkpoint, out)
}

/// How weights are stored and used.
trait Precision {
    /// Adds constants that the other functions' nodes share.
    fn constants(&self, _graph: &mut Graph) {}

    /// Adds rows of an embedding table.
    fn embed(&self, graph: &mut Graph, config: &Config, table: Parameter, rows: Rows<'_>)
    -> String;

    /// Adds the products of one input with several weights, each with its bias.
    fn products<const N: usize>(
        &self,
        graph: &mut Graph,
        config: &Config,
        input: &str,
        products: [(Parameter, Parameter); N],
    ) -> [String; N];
}

/// Which rows of a table.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// Those with these numbers.
    At(&'a str),
    /// This many from the first on.
    First(&'a str),
}

impl Rows<'_> {
    fn select(self, graph: &mut Graph, scope: &str, table: &str) -> String {
        match self {
            Self::At(numbers) => graph.node(scope, "Gather", &[table, numbers]),
            Self::First(count) => {
                graph.node(scope, "Slice", &[table, FIRST_AXIS, count, FIRST_AXIS])
            }
        }
    }
}

const BATCH: &str = "batch_size";
const SEQUENCE: &str = "sequence_length";

/// Names of the constants that every graph has.
const FIRST_AXIS: &str = "first_axis";
const FIRST_TOKEN: &str = "first_token";
const HEAD_AXES: &str = "head_axes";
const SPLIT_SHAPE: &str = "split_shape";
const MERGED_SHAPE: &str = "merged_shape";
const SCORE_DIVISOR: &str = "score_divisor";
const ATTEND: &str = "attend";
const IGNORE: &str = "ignore";

fn classifier<P: Precision>(precision: &P, config: &Config) -> Graph {
    let mut graph = Graph::new(&config.class());
    let inputs = [Extent::Named(BATCH), Extent::Named(SEQUENCE)];
    let ids = graph.input("input_ids", &inputs);
    let mask = graph.input("attention_mask", &inputs);
    let types = (config.token_types > 0).then(|| graph.input("token_type_ids", &inputs));

    graph.integers(FIRST_AXIS, vec![0]);
    graph.integers(HEAD_AXES, vec![1, 2]);
    // In a shape, 0 stands for "as it is": the batch and the sequence.
    let head_size = config.head_size() as i64;
    graph.integers(SPLIT_SHAPE, vec![0, 0, config.heads as i64, head_size]);
    graph.integers(MERGED_SHAPE, vec![0, 0, config.hidden as i64]);
    graph.scalar(SCORE_DIVISOR, (head_size as f32).sqrt());
    graph.scalar(ATTEND, 0.0);
    // As transformers does: not infinity, which would make a row without any token NaN.
    graph.scalar(IGNORE, f32::MIN);
    graph.initializers(&[(FIRST_TOKEN, DataType::Int64, &[])], |_| {
        Ok(vec![Values::I64(vec![0])])
    });
    precision.constants(&mut graph);

    let mask = attention_bias(&mut graph, config, &mask);
    let mut hidden = embeddings(precision, &mut graph, config, &ids, types.as_deref());
    for layer in 0..config.layers {
        hidden = encoder_layer(precision, &mut graph, config, layer, &hidden, &mask);
    }
    head::add(precision, &mut graph, config, &hidden);
    graph
}

/// What is added to the attention scores: 0 for a token, the lowest float for padding.
fn attention_bias(graph: &mut Graph, config: &Config, mask: &str) -> String {
    let scope = format!("/{}", config.architecture.tensor_prefix());
    let mask = graph.node(&scope, "Unsqueeze", &[mask, HEAD_AXES]);
    let to = Attribute::Int("to", DataType::Bool as i64);
    let mask = graph.node_with(&scope, "Cast", &[&mask], &[to]);
    graph.node(&scope, "Where", &[&mask, ATTEND, IGNORE])
}

fn embeddings<P: Precision>(
    precision: &P,
    graph: &mut Graph,
    config: &Config,
    ids: &str,
    types: Option<&str>,
) -> String {
    let scope = format!("/{}/embeddings", config.architecture.tensor_prefix());
    let mut sum = precision.embed(graph, config, Parameter::WordEmbedding, Rows::At(ids));
    if let Some(types) = types {
        let rows = precision.embed(
            graph,
            config,
            Parameter::TokenTypeEmbedding,
            Rows::At(types),
        );
        sum = graph.node(&scope, "Add", &[&sum, &rows]);
    }
    let extent = [Attribute::Int("start", 1), Attribute::Int("end", 2)];
    let length = graph.node_with(&scope, "Shape", &[ids], &extent);
    let rows = precision.embed(
        graph,
        config,
        Parameter::PositionEmbedding,
        Rows::First(&length),
    );
    let sum = graph.node(&scope, "Add", &[&sum, &rows]);
    layer_norm(
        graph,
        config,
        &sum,
        Parameter::EmbeddingNormWeight,
        Parameter::EmbeddingNormBias,
    )
}

fn encoder_layer<P: Precision>(
    precision: &P,
    graph: &mut Graph,
    config: &Config,
    layer: usize,
    input: &str,
    mask: &str,
) -> String {
    use LayerParameter as L;
    let parameter = |parameter| Parameter::Layer(layer, parameter);
    let scope = match config.architecture {
        Architecture::Bert => format!("/bert/encoder/layer.{layer}"),
        Architecture::Roberta | Architecture::XlmRoberta => {
            format!("/roberta/encoder/layer.{layer}")
        }
        Architecture::DistilBert => format!("/distilbert/transformer/layer.{layer}"),
    };

    let [query, key, value] = precision.products(
        graph,
        config,
        input,
        [
            (parameter(L::QueryWeight), parameter(L::QueryBias)),
            (parameter(L::KeyWeight), parameter(L::KeyBias)),
            (parameter(L::ValueWeight), parameter(L::ValueBias)),
        ],
    );
    let context = attention(graph, &scope, [&query, &key, &value], mask);
    let [output] = precision.products(
        graph,
        config,
        &context,
        [(
            parameter(L::AttentionOutputWeight),
            parameter(L::AttentionOutputBias),
        )],
    );
    let sum = graph.node(&format!("{scope}/attention"), "Add", &[&output, input]);
    let attended = layer_norm(
        graph,
        config,
        &sum,
        parameter(L::AttentionNormWeight),
        parameter(L::AttentionNormBias),
    );

    let [inner] = precision.products(
        graph,
        config,
        &attended,
        [(
            parameter(L::FeedForwardInWeight),
            parameter(L::FeedForwardInBias),
        )],
    );
    let inner = activation(graph, &scope, config.activation, &inner);
    let [output] = precision.products(
        graph,
        config,
        &inner,
        [(
            parameter(L::FeedForwardOutWeight),
            parameter(L::FeedForwardOutBias),
        )],
    );
    let sum = graph.node(&scope, "Add", &[&output, &attended]);
    layer_norm(
        graph,
        config,
        &sum,
        parameter(L::FeedForwardNormWeight),
        parameter(L::FeedForwardNormBias),
    )
}

/// Attention of all heads, in float32: `[batch, sequence, hidden]` to the same.
fn attention(graph: &mut Graph, scope: &str, operands: [&str; 3], mask: &str) -> String {
    let scope = &format!("{scope}/attention");
    let permute = |graph: &mut Graph, value: &str, order: [i64; 4]| -> String {
        let order = Attribute::Ints("perm", order.to_vec());
        graph.node_with(scope, "Transpose", &[value], &[order])
    };
    let [query, key, value] =
        operands.map(|operand| graph.node(scope, "Reshape", &[operand, SPLIT_SHAPE]));
    let query = permute(graph, &query, [0, 2, 1, 3]);
    let key = permute(graph, &key, [0, 2, 3, 1]);
    let value = permute(graph, &value, [0, 2, 1, 3]);
    let scores = graph.node(scope, "MatMul", &[&query, &key]);
    let scores = graph.node(scope, "Div", &[&scores, SCORE_DIVISOR]);
    let scores = graph.node(scope, "Add", &[&scores, mask]);
    let last_axis = Attribute::Int("axis", -1);
    let shares = graph.node_with(scope, "Softmax", &[&scores], &[last_axis]);
    let context = graph.node(scope, "MatMul", &[&shares, &value]);
    let context = permute(graph, &context, [0, 2, 1, 3]);
    graph.node(scope, "Reshape", &[&context, MERGED_SHAPE])
}

fn activation(graph: &mut Graph, scope: &str, function: Activation, input: &str) -> String {
    match function {
        Activation::Gelu => graph.node(scope, "Gelu", &[input]),
        Activation::GeluTanh => {
            let approximate = Attribute::Text("approximate", "tanh");
            graph.node_with(scope, "Gelu", &[input], &[approximate])
        }
        Activation::Relu => graph.node(scope, "Relu", &[input]),
        Activation::Tanh => graph.node(scope, "Tanh", &[input]),
    }
}

fn layer_norm(
    graph: &mut Graph,
    config: &Config,
    input: &str,
    weight: Parameter,
    bias: Parameter,
) -> String {
    let scope = scope(config, weight);
    let weight = add_vector(graph, config, weight);
    let bias = add_vector(graph, config, bias);
    let epsilon = Attribute::Float("epsilon", config.layer_norm_eps);
    graph.node_with(
        &scope,
        "LayerNormalization",
        &[input, &weight, &bias],
        &[epsilon],
    )
}

/// Adds a bias or a layer norm's parameter, which is float32 in every precision.
fn add_vector(graph: &mut Graph, config: &Config, parameter: Parameter) -> String {
    let name = parameter.name(config);
    let shape = parameter.shape(config);
    graph.initializers(&[(&name, DataType::Float, &shape)], move |checkpoint| {
        Ok(vec![Values::F32(checkpoint.load(parameter)?)])
    });
    name
}

/// The module that owns a parameter, as a path: the scope of its nodes.
fn scope(config: &Config, parameter: Parameter) -> String {
    let name = parameter.name(config);
    let module = name.rsplit_once('.').map_or("", |(module, _)| module);
    // A layer's number belongs to the word before it.
    format!("/{}", module.replace('.', "/").replace("layer/", "layer."))
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose<T: Copy>(matrix: &[T], columns: usize) -> Vec<T> {
    (0..columns)
        .flat_map(|column| matrix.iter().skip(column).step_by(columns).copied())
        .collect()
}
