//! A graph as it is searched: which node makes a value, and which values are constants.
//!
//! Reading checks that every node comes after those whose values it takes, so that following
//! values backwards ends.

use std::collections::HashMap;
use std::ops::Range;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, OperatorSetIdProto, ValueInfoProto};

use super::files::Files;
use super::tensor::Tensor;
use super::wire::{self, Field, fields, walk};
use crate::Error;

/// Fields of the messages that are walked, by their numbers in onnx.proto.
mod number {
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const MODEL_OPERATOR_SETS: u32 = 8;
    pub(super) const GRAPH_NODE: u32 = 1;
    pub(super) const GRAPH_INITIALIZER: u32 = 5;
    pub(super) const GRAPH_INPUT: u32 = 11;
    pub(super) const GRAPH_OUTPUT: u32 = 12;
    pub(super) const NODE_INPUT: u32 = 1;
    pub(super) const NODE_OUTPUT: u32 = 2;
    pub(super) const NODE_NAME: u32 = 3;
    pub(super) const NODE_OPERATOR: u32 = 4;
    pub(super) const NODE_ATTRIBUTE: u32 = 5;
    pub(super) const NODE_DOMAIN: u32 = 7;
    pub(super) const ATTRIBUTE_TENSOR: u32 = 5;
    /// Of an attribute: its name, one number or text, a list of them, and its type.
    pub(super) const ATTRIBUTE_PLAIN: [u32; 7] = [1, 2, 3, 4, 7, 8, 20];
}

/// The operator sets that are read: the first in which an encoder could be written as exporters
/// still do, and the newest that exporters write.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 11..=26;

/// The most nodes, initializers, inputs and outputs of a graph. The largest encoder has some
/// thousand.
const MOST_PARTS: usize = 1 << 16;

/// The most attributes of a node. The operators that are read have fewer than ten.
const MOST_ATTRIBUTES: usize = 64;

/// One value of a graph: an input, an initializer or the output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value(usize);

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The operator; with its domain, if that is not ONNX's own.
    pub(super) operator: String,
    /// One that is left out is `None`.
    pub(super) inputs: Vec<Option<Value>>,
    pub(super) outputs: Vec<Value>,
    attributes: Vec<(String, Attribute)>,
}

#[derive(Debug)]
enum Attribute {
    Int(i64),
    Float(f32),
    Text(Vec<u8>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Tensor(Tensor),
    /// Of no use here, such as a graph.
    Other,
}

/// The graph of a model, and its files.
pub(super) struct Graph {
    pub(super) files: Files,
    /// Of ONNX's own operators.
    pub(super) operator_set: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<Value>,
    values: Values,
    constants: HashMap<Value, Tensor>,
}

/// The names of values, and which node makes each.
#[derive(Default)]
struct Values {
    numbers: HashMap<String, Value>,
    names: Vec<String>,
    producers: Vec<Option<usize>>,
    /// What each value is, before nodes that only pass floats on.
    origins: Vec<Value>,
    /// What each value is, before nodes that only pass integers on.
    integer_origins: Vec<Value>,
}

impl Values {
    /// Adds a value, whose name must be new.
    fn add(&mut self, name: &str, producer: Option<usize>) -> Result<Value, Error> {
        let value = Value(self.names.len());
        if self.numbers.insert(name.to_owned(), value).is_some() {
            return Err(Error::new(format!(
                "not a valid graph: two values have the name {name:?}; export the model again"
            )));
        }
        self.names.push(name.to_owned());
        self.producers.push(producer);
        self.origins.push(value);
        self.integer_origins.push(value);
        Ok(value)
    }
}

impl Node {
    /// An input that is there.
    pub(super) fn input(&self, index: usize) -> Option<Value> {
        self.inputs.get(index).copied().flatten()
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        let (_, attribute) = self.attributes.iter().find(|(known, _)| known == name)?;
        Some(attribute)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            Attribute::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name)? {
            Attribute::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&[u8]> {
        match self.attribute(name)? {
            Attribute::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            Attribute::Ints(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attribute(name)? {
            Attribute::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Whether its first output is its first input: if that has floats, and if it has integers.
    fn passes_on(&self) -> [bool; 2] {
        use DataType as T;
        match self.operator.as_str() {
            // Dropout does nothing outside training.
            "Identity" | "Dropout" => [true, true],
            "Cast" => {
                let to = self.int("to").and_then(|to| i32::try_from(to).ok());
                match to.and_then(|to| DataType::try_from(to).ok()) {
                    Some(T::Float | T::Float16 | T::Bfloat16 | T::Double) => [true, false],
                    Some(T::Int32 | T::Int64) => [false, true],
                    _ => [false, false],
                }
            }
            _ => [false, false],
        }
    }

    /// What a `Constant` node holds.
    fn constant(&self) -> Option<Tensor> {
        let [(name, attribute)] = self.attributes.as_slice() else {
            return None;
        };
        Some(match attribute {
            Attribute::Tensor(tensor) => tensor.clone(),
            Attribute::Int(value) => Tensor::integers(name, vec![], &[*value]),
            Attribute::Ints(values) => Tensor::integers(name, vec![values.len()], values),
            Attribute::Float(value) => Tensor::floats(name, vec![], &[*value]),
            Attribute::Floats(values) => Tensor::floats(name, vec![values.len()], values),
            Attribute::Text(_) | Attribute::Other => return None,
        })
    }
}

impl Graph {
    /// Reads a model's graph, and checks its order.
    pub(super) fn read(mut files: Files) -> Result<Self, Error> {
        let (place, operator_set) = read_model(files.model())?;
        let mut values = Values::default();
        let mut constants = HashMap::new();
        let mut inputs = Vec::new();
        let (mut nodes, mut outputs) = (Vec::new(), Vec::new());
        let parts: Vec<Field> = walk(files.model(), place)
            .filter(|field| !matches!(field, Ok(field) if !is_read(field.number)))
            .take(MOST_PARTS + 1)
            .collect::<Result<_, _>>()?;
        if parts.len() > MOST_PARTS {
            return Err(Error::new(format!(
                "not an encoder: the graph has more than {MOST_PARTS} nodes and constants"
            )));
        }
        for part in &parts {
            let place = part.value.clone();
            match part.number {
                number::GRAPH_NODE => nodes.push(place),
                number::GRAPH_OUTPUT => outputs.push(read_name(files.model(), place)?),
                number::GRAPH_INPUT => inputs.push(read_name(files.model(), place)?),
                _ => {
                    let fields = fields(files.model(), place)?;
                    let tensor = Tensor::read(&mut files, &fields)?;
                    constants.insert(values.add(&tensor.name, None)?, tensor);
                }
            }
        }
        let mut graph = Self {
            files,
            operator_set,
            nodes: Vec::with_capacity(nodes.len()),
            inputs: Vec::new(),
            outputs: Vec::new(),
            values,
            constants,
        };
        for name in inputs {
            // Old files list their initializers among the inputs.
            if !graph.values.numbers.contains_key(&name) {
                let value = graph.values.add(&name, None)?;
                graph.inputs.push(value);
            }
        }
        for place in nodes {
            graph.add_node(place)?;
        }
        for name in outputs {
            let value = graph.values.numbers.get(&name).copied().ok_or_else(|| {
                Error::new(format!(
                    "not a valid graph: no node makes its output {name:?}; export the model again"
                ))
            })?;
            graph.outputs.push(value);
        }
        Ok(graph)
    }

    fn add_node(&mut self, place: Range<usize>) -> Result<(), Error> {
        let mut node = Node {
            name: String::new(),
            operator: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
        };
        let (mut domain, mut outputs) = (String::new(), Vec::new());
        for field in fields(self.files.model(), place)? {
            let place = field.value.clone();
            let text = || read_text(self.files.model(), place.clone());
            match field.number {
                number::NODE_INPUT => {
                    let name = text()?;
                    let value = self.values.numbers.get(&name).copied();
                    if value.is_none() && !name.is_empty() {
                        return Err(Error::new(format!(
                            "not a valid graph: nothing before the node {:?} makes {name:?}, \
                             which it takes; export the model again",
                            node.name
                        )));
                    }
                    node.inputs.push(value);
                }
                number::NODE_OUTPUT => outputs.push(text()?),
                number::NODE_NAME => node.name = text()?,
                number::NODE_OPERATOR => node.operator = text()?,
                number::NODE_DOMAIN => domain = text()?,
                number::NODE_ATTRIBUTE => {
                    if node.attributes.len() == MOST_ATTRIBUTES {
                        return Err(Error::new(format!(
                            "not an encoder: the node {:?} has more than {MOST_ATTRIBUTES} \
                             attributes",
                            node.name
                        )));
                    }
                    let attribute = read_attribute(&mut self.files, place)?;
                    node.attributes.push(attribute);
                }
                _ => {}
            }
        }
        if !domain.is_empty() && domain != "ai.onnx" {
            node.operator = format!("{domain}.{}", node.operator);
        }
        // An output without a name is left out; those that are read are never.
        for name in outputs.into_iter().filter(|name| !name.is_empty()) {
            let value = self.values.add(&name, Some(self.nodes.len()))?;
            node.outputs.push(value);
        }
        if let (Some(input), Some(output)) = (node.input(0), node.outputs.first()) {
            let [floats, integers] = node.passes_on();
            if floats {
                self.values.origins[output.0] = self.values.origins[input.0];
            }
            if integers {
                self.values.integer_origins[output.0] = self.values.integer_origins[input.0];
            }
        }
        if node.operator == "Constant"
            && let (Some(tensor), [output]) = (node.constant(), node.outputs.as_slice())
        {
            self.constants.insert(*output, tensor);
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The name of a value.
    pub(super) fn name(&self, value: Value) -> &str {
        &self.values.names[value.0]
    }

    /// The value that this one is, before nodes that only pass floats on.
    pub(super) fn origin(&self, value: Value) -> Value {
        self.values.origins[value.0]
    }

    /// The value that this one is, before nodes that only pass integers on.
    pub(super) fn integer_origin(&self, value: Value) -> Value {
        self.values.integer_origins[value.0]
    }

    /// The node that makes this very value, if one does.
    pub(super) fn producer(&self, value: Value) -> Option<&Node> {
        self.values.producers[value.0].map(|node| &self.nodes[node])
    }

    /// The node that computes a value, if it has this operator.
    pub(super) fn operation(&self, value: Value, operator: &str) -> Option<&Node> {
        self.producer(self.origin(value))
            .filter(|node| node.operator == operator)
    }

    /// The inputs of the node that computes a value, if it has this operator and two inputs.
    pub(super) fn operands(&self, value: Value, operator: &str) -> Option<[Value; 2]> {
        let node = self.operation(value, operator)?;
        match node.inputs.as_slice() {
            [Some(first), Some(second)] => Some([*first, *second]),
            _ => None,
        }
    }

    /// A value that is a constant.
    pub(super) fn constant(&self, value: Value) -> Option<&Tensor> {
        self.constants.get(&self.origin(value))
    }

    /// A constant of floats, and its number.
    pub(super) fn float_constant(&self, value: Value) -> Option<(Value, &Tensor)> {
        let value = self.origin(value);
        let tensor = self.constants.get(&value)?;
        tensor.is_float().then_some((value, tensor))
    }

    /// A constant of one number.
    pub(super) fn scalar(&self, value: Value) -> Option<f64> {
        let tensor = self.constant(value).filter(|tensor| tensor.len() == 1)?;
        Some(if tensor.is_float() {
            tensor.read_floats(&self.files, 0..1)[0].into()
        } else {
            tensor.read_integers(&self.files, 0..1)[0] as f64
        })
    }

    /// A constant list of few integers, or one.
    pub(super) fn integers(&self, value: Value) -> Option<Vec<i64>> {
        const MOST: usize = 1 << 20;
        let tensor = self.constants.get(&self.integer_origin(value))?;
        if tensor.is_float() || tensor.len() > MOST {
            return None;
        }
        Some(tensor.read_integers(&self.files, 0..tensor.len()))
    }

    /// An error about what computes a value.
    pub(super) fn refuse(&self, value: Value, expected: &str) -> Error {
        let name = self.name(value);
        Error::new(match self.producer(value) {
            Some(node) => format!(
                "the node {:?}, {} with the output {name:?}, is not what Filbert can read there: \
                 expected {expected}",
                node.name, node.operator
            ),
            None if self.constants.contains_key(&value) => {
                format!("the constant {name:?} is where Filbert expected {expected}")
            }
            None => format!("the input {name:?} is where Filbert expected {expected}"),
        })
    }

    /// A list that an operator has as an attribute in old operator sets, and as an input in
    /// newer ones.
    pub(super) fn list(&self, node: &Node, attribute: &str, input: usize) -> Option<Vec<i64>> {
        match node.ints(attribute) {
            Some(values) => Some(values.to_vec()),
            None => self.integers(node.input(input)?),
        }
    }
}

const fn is_read(field: u32) -> bool {
    matches!(
        field,
        number::GRAPH_NODE | number::GRAPH_INITIALIZER | number::GRAPH_INPUT | number::GRAPH_OUTPUT
    )
}

/// Where the graph of a model lies, and its operator set.
fn read_model(file: &[u8]) -> Result<(Range<usize>, i64), Error> {
    let mut graph = None;
    let mut operator_set = None;
    for field in walk(file, 0..file.len()) {
        let field = field?;
        match field.number {
            number::MODEL_GRAPH => graph = Some(field.value),
            number::MODEL_OPERATOR_SETS => {
                let fields = fields(file, field.value)?;
                let set: OperatorSetIdProto = wire::decode(file, &fields, |_| true)?;
                if set.domain.is_empty() || set.domain == "ai.onnx" {
                    operator_set = Some(set.version);
                }
            }
            _ => {}
        }
    }
    let (Some(graph), Some(operator_set)) = (graph, operator_set) else {
        return Err(Error::new(
            "not an ONNX model: it has no graph, or no version of ONNX's operators; export it \
             again",
        ));
    };
    if !OPERATOR_SETS.contains(&operator_set) {
        return Err(Error::new(format!(
            "has version {operator_set} of ONNX's operators; {} to {} are read, so export it with \
             opset {}",
            OPERATOR_SETS.start(),
            OPERATOR_SETS.end(),
            17
        )));
    }
    Ok((graph, operator_set))
}

fn read_text(file: &[u8], place: Range<usize>) -> Result<String, Error> {
    let start = place.start;
    str::from_utf8(&file[place])
        .map(str::to_owned)
        .map_err(|_| {
            Error::new(format!(
                "not a valid ONNX file: the name at byte {start} is no UTF-8; export it again"
            ))
        })
}

/// The name of an input or output.
fn read_name(file: &[u8], place: Range<usize>) -> Result<String, Error> {
    const NAME: u32 = 1;
    let fields = fields(file, place)?;
    let info: ValueInfoProto = wire::decode(file, &fields, |number| number == NAME)?;
    Ok(info.name)
}

fn read_attribute(files: &mut Files, place: Range<usize>) -> Result<(String, Attribute), Error> {
    use tract_onnx::pb::attribute_proto::AttributeType as T;
    let parts = fields(files.model(), place)?;
    let proto: AttributeProto = wire::decode(files.model(), &parts, |number| {
        number::ATTRIBUTE_PLAIN.contains(&number)
    })?;
    let attribute = match proto.r#type() {
        T::Int => Attribute::Int(proto.i),
        T::Float => Attribute::Float(proto.f),
        T::String => Attribute::Text(proto.s),
        T::Ints => Attribute::Ints(proto.ints),
        T::Floats => Attribute::Floats(proto.floats),
        T::Tensor => {
            let mut tensors = parts
                .iter()
                .filter(|part| part.number == number::ATTRIBUTE_TENSOR);
            match tensors.next_back() {
                Some(tensor) => {
                    let fields = fields(files.model(), tensor.value.clone())?;
                    Attribute::Tensor(Tensor::read(files, &fields)?)
                }
                None => Attribute::Other,
            }
        }
        _ => Attribute::Other,
    };
    Ok((proto.name, attribute))
}
