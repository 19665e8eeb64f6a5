//! Embeddings: the sum of rows of two or three tables.

use super::graph::{Graph, Value};
use super::linear::{Matrix, rows_of_table, table};
use crate::Error;

/// The tables that the first rows come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Embeddings {
    pub(super) words: Matrix,
    pub(super) positions: Matrix,
    pub(super) numbering: Numbering,
    pub(super) token_types: Option<TokenTypes>,
}

/// The table of token types.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenTypes {
    pub(super) table: Matrix,
    /// Whether the graph has them as an input. If not, all are 0.
    pub(super) given: bool,
}

/// How tokens are numbered for the table of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// From 0, as BERT's and DistilBERT's.
    FromZero,
    /// From one more than the id of the padding token, as RoBERTa's.
    AfterPadding(usize),
}

impl Numbering {
    /// The number of a text's first token.
    pub(super) fn offset(self) -> usize {
        match self {
            Self::FromZero => 0,
            Self::AfterPadding(padding) => padding + 1,
        }
    }
}

const EXPECTED: &str = "rows of an embedding: Gather from a constant table, in floats or in the \
     int8 of quantize_dynamic; there are those of words, of positions and, for BERT, of token types";

/// The embeddings whose sum is a value.
pub(super) fn embeddings(graph: &Graph, sum: Value) -> Result<Embeddings, Error> {
    let (mut words, mut positions, mut token_types) = (None, None, None);
    for term in terms(graph, sum)? {
        let (table, role, index) = match first_rows(graph, term) {
            Some(table) => (table, Role::Positions(Numbering::FromZero), term),
            None => {
                let (table, index) =
                    rows_of_table(graph, term).ok_or_else(|| graph.refuse(term, EXPECTED))?;
                (table, role(graph, index)?, index)
            }
        };
        let twice = match role {
            Role::Input if words.is_none() => words.replace((table, index)).is_some(),
            Role::Input => {
                let given = true;
                token_types
                    .replace((TokenTypes { table, given }, index))
                    .is_some()
            }
            Role::Zeros => {
                let given = false;
                token_types
                    .replace((TokenTypes { table, given }, index))
                    .is_some()
            }
            Role::Positions(numbering) => positions.replace((table, numbering)).is_some(),
        };
        if twice {
            return Err(graph.refuse(term, EXPECTED));
        }
    }
    let (Some((mut words, word_index)), Some((positions, numbering))) = (words, positions) else {
        return Err(graph.refuse(sum, EXPECTED));
    };
    // Both are inputs of the graph; the larger vocabulary is that of words.
    if let Some((types, type_index)) = &mut token_types
        && types.given
        && is_types_first(graph, (words, word_index), (types.table, *type_index))
    {
        std::mem::swap(&mut words, &mut types.table);
    }
    Ok(Embeddings {
        words,
        positions,
        numbering,
        token_types: token_types.map(|(types, _)| types),
    })
}

/// The values that a sum adds.
fn terms(graph: &Graph, sum: Value) -> Result<Vec<Value>, Error> {
    const MOST: usize = 3;
    let mut terms = Vec::new();
    let mut rest = vec![sum];
    while let Some(value) = rest.pop() {
        match graph.operands(value, "Add") {
            Some([first, second]) => rest.extend([second, first]),
            None => terms.push(graph.origin(value)),
        }
        if terms.len() + rest.len() > MOST {
            return Err(graph.refuse(sum, EXPECTED));
        }
    }
    Ok(terms)
}

/// What the index of a table is.
enum Role {
    Input,
    Positions(Numbering),
    Zeros,
}

/// The table whose first rows a value has, as Filbert exports positions.
fn first_rows(graph: &Graph, value: Value) -> Option<Matrix> {
    let node = graph.operation(value, "Slice")?;
    let is_zero = |index| {
        graph
            .integers(node.input(index)?)
            .filter(|list| list == &[0])
    };
    is_zero(1)?;
    is_zero(3)?;
    table(graph, node.input(0)?)
}

fn role(graph: &Graph, index: Value) -> Result<Role, Error> {
    let origin = graph.integer_origin(index);
    if graph.inputs.contains(&origin) {
        return Ok(match graph.name(origin) {
            "position_ids" => Role::Positions(Numbering::FromZero),
            _ => Role::Input,
        });
    }
    if let Some(offset) = after_padding(graph, origin) {
        return Ok(Role::Positions(Numbering::AfterPadding(offset)));
    }
    match constant_behind(graph, origin) {
        Some(Sequence::Zeros) => Ok(Role::Zeros),
        Some(Sequence::Counting) => Ok(Role::Positions(Numbering::FromZero)),
        None => Err(graph.refuse(
            index,
            "the rows' numbers: an input of the graph, 0, 1, 2 and so on, the numbering after the \
             padding token of RoBERTa, or zeros",
        )),
    }
}

/// RoBERTa's numbering, `cumsum(ids ≠ padding) · (ids ≠ padding) + padding`: the padding's id.
fn after_padding(graph: &Graph, value: Value) -> Option<usize> {
    let [first, second] = graph.operands(value, "Add")?;
    let (counted, padding) = match (graph.scalar(first), graph.scalar(second)) {
        (None, Some(padding)) => (first, padding),
        (Some(padding), None) => (second, padding),
        _ => return None,
    };
    let counted = graph.integer_origin(counted);
    let [first, second] = graph.operands(counted, "Mul")?;
    let counts = |value| {
        let node = graph.producer(graph.integer_origin(value))?;
        (node.operator == "CumSum").then_some(())
    };
    counts(first).or_else(|| counts(second))?;
    (padding >= 0.0 && padding < f64::from(u16::MAX)).then_some(padding as usize)
}

/// What is known of a list of integers.
enum Sequence {
    Zeros,
    /// 0, 1, 2 and so on.
    Counting,
}

/// The largest number of nodes between a constant list and the table that it numbers rows of.
const MOST_STEPS: usize = 16;

/// The constant list that a value repeats, or is the beginning of.
fn constant_behind(graph: &Graph, mut value: Value) -> Option<Sequence> {
    let mut in_order = true;
    for _ in 0..MOST_STEPS {
        value = graph.integer_origin(value);
        if let Some(list) = graph.integers(value) {
            let sequence = sequence(&list)?;
            return (in_order || matches!(sequence, Sequence::Zeros)).then_some(sequence);
        }
        let node = graph.producer(value)?;
        match node.operator.as_str() {
            "Expand" | "Unsqueeze" | "Squeeze" | "Reshape" => {}
            "Gather" | "GatherElements" => in_order = false,
            "Slice" => {
                let starts = graph.list(node, "starts", 1)?;
                if starts.iter().any(|&start| start != 0) {
                    return None;
                }
            }
            "Range" => {
                let is = |index, number| {
                    let input = node.input(index)?;
                    (graph.scalar(input) == Some(number)).then_some(())
                };
                return is(0, 0.0)
                    .and(is(2, 1.0))
                    .filter(|()| in_order)
                    .map(|()| Sequence::Counting);
            }
            "ConstantOfShape" => {
                let value = node.tensor("value");
                let zero = value.is_none_or(|tensor| {
                    !tensor.is_float() && tensor.read_integers(&graph.files, 0..tensor.len()) == [0]
                });
                return zero.then_some(Sequence::Zeros);
            }
            _ => return None,
        }
        value = node.input(0)?;
    }
    None
}

fn sequence(list: &[i64]) -> Option<Sequence> {
    if list.iter().all(|&number| number == 0) {
        return Some(Sequence::Zeros);
    }
    let counting = list.iter().zip(0..).all(|(&number, count)| number == count);
    counting.then_some(Sequence::Counting)
}

/// Whether of two tables that inputs number, the first is that of token types: by the names of
/// the inputs where they are the usual ones, else by size.
fn is_types_first(graph: &Graph, first: (Matrix, Value), second: (Matrix, Value)) -> bool {
    let name = |(_, index): (Matrix, Value)| graph.name(graph.integer_origin(index));
    match (name(first), name(second)) {
        ("token_type_ids", _) | (_, "input_ids") => true,
        ("input_ids", _) | (_, "token_type_ids") => false,
        _ => first.0.rows < second.0.rows,
    }
}
