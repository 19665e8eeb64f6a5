//! What the inputs of every product were as some texts ran: the converter chooses by it how
//! weights are quantized.

use crate::kernels::matrix::Matrix;

/// The inputs of a model's products.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedInputs {
    /// One for each layer of the encoder.
    pub layers: Vec<ObservedLayer>,
    /// Of the head's first product.
    pub head: ObservedRows,
}

/// The inputs of one layer's products.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedLayer {
    /// Of query, key and value.
    pub query_key_value: ObservedRows,
    /// Of the attention's output; padded by head.
    pub attention_output: ObservedRows,
    /// Of the feed-forward layer's first product.
    pub feed_forward_in: ObservedRows,
    /// Of the feed-forward layer's second product.
    pub feed_forward_out: ObservedRows,
}

/// The rows of one product's input, as they were before they were balanced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedRows {
    /// Values of a row, the padded ones included.
    pub columns: usize,
    /// `[rows, columns]`.
    pub values: Vec<f32>,
}

impl ObservedInputs {
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            layers: vec![ObservedLayer::default(); layers],
            head: ObservedRows::default(),
        }
    }

    /// The input of this layer, or of the head, which follows the last.
    pub(crate) fn layer_input(&mut self, layer: usize) -> &mut ObservedRows {
        match self.layers.get_mut(layer) {
            Some(layer) => &mut layer.query_key_value,
            None => &mut self.head,
        }
    }
}

impl ObservedRows {
    /// Adds rows.
    pub(crate) fn add(&mut self, values: Matrix<'_, f32>) {
        self.columns = values.columns();
        for row in 0..values.rows() {
            self.values.extend_from_slice(values.row(row));
        }
    }
}
