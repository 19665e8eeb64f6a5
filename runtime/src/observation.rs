//! What the inputs of every product look like over some texts: the converter balances weights
//! and corrects biases by it.

use crate::kernels::matrix::Matrix;

/// The inputs of a model's products.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedInputs {
    /// One for each layer of the encoder.
    pub layers: Vec<ObservedLayer>,
    /// Of the head's first product.
    pub head: ObservedColumns,
}

/// The inputs of one layer's products.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedLayer {
    /// Of query, key and value.
    pub query_key_value: ObservedColumns,
    /// Of the attention's output; padded by head.
    pub attention_output: ObservedColumns,
    /// Of the feed-forward layer's first product.
    pub feed_forward_in: ObservedColumns,
    /// Of the feed-forward layer's second product.
    pub feed_forward_out: ObservedColumns,
}

/// The columns of one product's input, the padded ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedColumns {
    /// The largest magnitude of each column.
    pub largest: Vec<f32>,
    /// The sum of each column's values.
    pub sum: Vec<f64>,
    /// How many rows there were.
    pub rows: usize,
}

impl ObservedInputs {
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            layers: vec![ObservedLayer::default(); layers],
            head: ObservedColumns::default(),
        }
    }

    /// The input of this layer, or of the head, which follows the last.
    pub(crate) fn layer_input(&mut self, layer: usize) -> &mut ObservedColumns {
        match self.layers.get_mut(layer) {
            Some(layer) => &mut layer.query_key_value,
            None => &mut self.head,
        }
    }
}

impl ObservedColumns {
    /// Adds rows.
    pub(crate) fn add(&mut self, values: Matrix<'_, f32>) {
        self.largest.resize(values.columns(), 0.0);
        self.sum.resize(values.columns(), 0.0);
        self.rows += values.rows();
        for row in 0..values.rows() {
            for (column, &x) in values.row(row).iter().enumerate() {
                self.largest[column] = self.largest[column].max(x.abs());
                self.sum[column] += f64::from(x);
            }
        }
    }
}
