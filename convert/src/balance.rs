//! How the burden of quantization is shared between inputs and weights (SmoothQuant,
//! arXiv 2211.10438).
//!
//! A row of activations has one scale, so a few wide columns cost all others their precision.
//! Each column `k` of a product's input is therefore multiplied by a factor `f_k` before it is
//! quantized, and the weights that read it are divided by `f_k` before they are: the product
//! is the same, the errors are smaller. `f_k = √(w_k / x_k)`, where `x_k` and `w_k` are the
//! largest magnitudes of the column in the input and in the weights, scaled so that the largest
//! and the smallest factor of a product are each other's inverse.
//!
//! What rounding the weights takes from an output on average, `Σ_k (W_k - Ŵ_k) mean(x_k)`, is
//! added to its bias (arXiv 1906.04721): the inputs' columns have means far from zero.
//!
//! The inputs are observed on texts of our own, with the runtime's own arithmetic: it gives the
//! same bits on every host, hence so does the file.

use filbert::format::padded;
use filbert::{Input, Model, ObservedColumns, Options, Runner};

use crate::checkpoint::{Checkpoint, LayerParameter, Parameter};
use crate::config::Config;
use crate::error::Error;
use crate::package::Package;
use crate::progress::Progress;
use crate::quantize::{QuantizedRows, quantize_rows};

/// What is done to one product's input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputBalance {
    /// `[inputs]`: by what each column is multiplied.
    pub factors: Vec<f32>,
    /// `[inputs]`: the mean of each column, before it is multiplied.
    pub means: Vec<f64>,
}

/// What is done to the inputs of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerBalance {
    /// Of query, key and value.
    pub query_key_value: InputBalance,
    /// Of the attention's output. The context is multiplied by way of the value's scales and
    /// biases, which costs nothing.
    pub attention_output: InputBalance,
    /// Of the feed-forward layer's first product.
    pub feed_forward_in: InputBalance,
    /// Of the feed-forward layer's second product.
    pub feed_forward_out: InputBalance,
}

/// What is done to the inputs of a model's products.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// One for each layer.
    pub layers: Vec<LayerBalance>,
    /// Of the head's first product, which has these weights, if there is any.
    pub head: Option<(Parameter, InputBalance)>,
}

/// Magnitudes below this part of the largest are taken as this: a column that the texts left
/// silent may speak in others.
const SMALLEST_PART: f32 = 1e-2;

impl Balance {
    /// All factors 1, all means 0.
    pub fn none(config: &Config) -> Self {
        let ones = |count| InputBalance {
            factors: vec![1.0; count],
            means: vec![0.0; count],
        };
        let layer = LayerBalance {
            query_key_value: ones(config.hidden),
            attention_output: ones(config.hidden),
            feed_forward_in: ones(config.hidden),
            feed_forward_out: ones(config.intermediate),
        };
        Self {
            layers: vec![layer; config.layers],
            head: (config.task.first_weight()).map(|weight| (weight, ones(config.hidden))),
        }
    }

    /// Observes the checkpoint's activations and balances every product.
    ///
    /// # Errors
    /// Those of [`Package::build`].
    pub fn measure(checkpoint: &Checkpoint, progress: &mut dyn Progress) -> Result<Self, Error> {
        let config = checkpoint.config();
        let none = Self::none(config);
        let plain = Package::quantize(checkpoint, &none, "measuring activations", progress)?;
        let model = Model::from_vec(plain.into_bytes())?;
        let runner = Runner::new(model, &Options::default())?;
        let inputs: Vec<Input<'_>> = TEXTS.iter().map(|&text| text.into()).collect();
        let pairs = TEXTS.iter().zip(&TEXTS[1..]).step_by(4);
        let pairs = pairs.map(|(&first, &second)| (first, second).into());
        let inputs: Vec<Input<'_>> = inputs.into_iter().chain(pairs).collect();
        let observed = runner.observe(&inputs)?;
        drop(runner);

        let balance_input = |observed: &ObservedColumns, weights: &[Parameter]| {
            let mut largest = vec![0.0f32; observed.largest.len()];
            for &weight in weights {
                for row in checkpoint.load(weight)?.chunks_exact(largest.len()) {
                    for (most, w) in largest.iter_mut().zip(row) {
                        *most = most.max(w.abs());
                    }
                }
            }
            let rows = observed.rows as f64;
            Ok::<_, Error>(InputBalance {
                factors: balance(&observed.largest, &largest),
                means: observed.sum.iter().map(|sum| sum / rows).collect(),
            })
        };
        progress.begin("balancing", config.layers as u64);
        let mut layers = Vec::with_capacity(config.layers);
        for (index, layer) in observed.layers.iter().enumerate() {
            use LayerParameter as L;
            let p = |parameter| Parameter::Layer(index, parameter);
            let (hidden, head) = (config.hidden, config.head_size());
            layers.push(LayerBalance {
                query_key_value: balance_input(
                    &unpad(&layer.query_key_value, hidden, hidden),
                    &[p(L::QueryWeight), p(L::KeyWeight), p(L::ValueWeight)],
                )?,
                attention_output: balance_input(
                    &unpad(&layer.attention_output, head, hidden),
                    &[p(L::AttentionOutputWeight)],
                )?,
                feed_forward_in: balance_input(
                    &unpad(&layer.feed_forward_in, hidden, hidden),
                    &[p(L::FeedForwardInWeight)],
                )?,
                feed_forward_out: balance_input(
                    &unpad(
                        &layer.feed_forward_out,
                        config.intermediate,
                        config.intermediate,
                    ),
                    &[p(L::FeedForwardOutWeight)],
                )?,
            });
            progress.advance(1);
        }
        progress.finish();
        let head = unpad(&observed.head, config.hidden, config.hidden);
        let head = match config.task.first_weight() {
            Some(weight) => Some((weight, balance_input(&head, &[weight])?)),
            None => None,
        };
        Ok(Self { layers, head })
    }

    /// What is done to the input that a product's weights read, if anything is.
    fn input(&self, weight: Parameter) -> Option<&InputBalance> {
        use LayerParameter as L;
        match weight {
            Parameter::Layer(layer, L::QueryWeight | L::KeyWeight | L::ValueWeight) => {
                Some(&self.layers[layer].query_key_value)
            }
            Parameter::Layer(layer, L::AttentionOutputWeight) => {
                Some(&self.layers[layer].attention_output)
            }
            Parameter::Layer(layer, L::FeedForwardInWeight) => {
                Some(&self.layers[layer].feed_forward_in)
            }
            Parameter::Layer(layer, L::FeedForwardOutWeight) => {
                Some(&self.layers[layer].feed_forward_out)
            }
            _ => match &self.head {
                Some((first, balance)) if *first == weight => Some(balance),
                _ => None,
            },
        }
    }

    /// What is left to multiply a product's input by at run time: the context arrives
    /// multiplied.
    pub fn explicit_input(&self, weight: Parameter) -> Option<&[f32]> {
        match weight {
            Parameter::Layer(_, LayerParameter::AttentionOutputWeight) => None,
            _ => Some(&self.input(weight)?.factors),
        }
    }

    /// A product's int8 weights `[outputs, inputs]` with their scales, and its bias.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`].
    pub fn quantize_product(
        &self,
        checkpoint: &Checkpoint,
        weight: Parameter,
        bias: Parameter,
    ) -> Result<(QuantizedRows, Vec<f32>), Error> {
        let mut matrix = checkpoint.load(weight)?;
        let mut bias = checkpoint.load(bias)?;
        let inputs = matrix.len() / bias.len();
        let balance = self.input(weight);
        if let Some(balance) = balance {
            for row in matrix.chunks_exact_mut(inputs) {
                for (w, factor) in row.iter_mut().zip(&balance.factors) {
                    *w /= factor;
                }
            }
        }
        let mut quantized = quantize_rows(&matrix, inputs);
        if let Some(balance) = balance {
            correct_bias(&mut bias, &matrix, &quantized, balance);
        }
        if let Parameter::Layer(layer, LayerParameter::ValueWeight) = weight {
            let factors = &self.layers[layer].attention_output.factors;
            let outputs = quantized.scales.iter_mut().zip(&mut bias);
            for ((scale, bias), factor) in outputs.zip(factors) {
                *scale *= factor;
                *bias *= factor;
            }
        }
        Ok((quantized, bias))
    }
}

/// Adds what rounding takes from each output on average.
fn correct_bias(
    bias: &mut [f32],
    matrix: &[f32],
    quantized: &QuantizedRows,
    balance: &InputBalance,
) {
    let inputs = quantized.columns;
    let rows = matrix
        .chunks_exact(inputs)
        .zip(quantized.values.chunks_exact(inputs));
    for ((bias, scale), (exact, rounded)) in bias.iter_mut().zip(&quantized.scales).zip(rows) {
        let mut lost = 0.0;
        for (k, (&w, &q)) in exact.iter().zip(rounded).enumerate() {
            let error = f64::from(w) - f64::from(q) * f64::from(*scale);
            lost += error * balance.means[k] * f64::from(balance.factors[k]);
        }
        *bias = (f64::from(*bias) + lost) as f32;
    }
}

/// The columns that count: of every group of `size`, which is padded to whole panels; `count`
/// in all.
fn unpad(observed: &ObservedColumns, size: usize, count: usize) -> ObservedColumns {
    let columns = || (0..count).map(|column| column / size * padded(size) + column % size);
    ObservedColumns {
        largest: columns().map(|column| observed.largest[column]).collect(),
        sum: columns().map(|column| observed.sum[column]).collect(),
        rows: observed.rows,
    }
}

/// The factors of one product from the largest magnitudes of its inputs and of the weights
/// that read them.
fn balance(inputs: &[f32], weights: &[f32]) -> Vec<f32> {
    let floor = |values: &[f32]| {
        let largest = values.iter().fold(0.0f32, |most, &x| most.max(x));
        values
            .iter()
            .map(|&x| f64::from(x.max(largest * SMALLEST_PART)))
            .collect::<Vec<_>>()
    };
    let (inputs, weights) = (floor(inputs), floor(weights));
    if inputs.contains(&0.0) || weights.contains(&0.0) {
        // Nothing but zeros: there is no burden to share.
        return vec![1.0; inputs.len()];
    }
    // Square roots only, which are the same on every host, unlike a power or a logarithm.
    let factors: Vec<f64> = inputs
        .iter()
        .zip(&weights)
        .map(|(x, w)| (w / x).sqrt())
        .collect();
    let largest = factors.iter().fold(0.0f64, |most, &f| most.max(f));
    let smallest = factors.iter().fold(f64::INFINITY, |least, &f| least.min(f));
    let middle = (largest * smallest).sqrt();
    factors
        .iter()
        .map(|factor| (factor / middle) as f32)
        .collect()
}

/// What the activations are observed on: everyday prose of several kinds, lengths and tongues.
const TEXTS: &[&str] = &[
    "",
    "Good.",
    "bad",
    "Not bad at all!",
    "A gorgeous, witty film that earns every laugh.",
    "The plot is a mess and the acting is worse.",
    "I wanted to like it. I really did.",
    "The battery died after two days, and support never answered.",
    "Delivery was quick; the mug arrived in one piece and my mother loves it.",
    "It's neither the best nor the worst phone I've owned.",
    "An hour too long, yet I never looked at my watch.",
    "Hardly the triumph the trailer promised.",
    "Please call me back before five, the meeting has been moved to Tuesday.",
    "Shares of the company fell 4.2% on Monday after it cut its forecast for the year.",
    "How do I reset my password if I no longer have that e-mail address?",
    "The committee agreed to meet again in March, but no date was set.",
    "Two people were hurt when a lorry hit a bus near the old harbour.",
    "Water boils at a lower temperature on a mountain because the pressure is lower.",
    "lol that was sooo funny, cant wait for the next one!!!",
    "@sam did you see this? http://example.com/a?b=c #monday",
    "The recipe needs 3 eggs, 250 g of flour, a pinch of salt and half a litre of milk.",
    "He said that she had said that nobody had told them anything.",
    "Your parcel 00451-B is late; we are sorry and will refund the postage.",
    "No, no, no. Never again.",
    "Works exactly as described. Five stars!",
    "The second act drags, the songs are forgettable, and the lead sings flat; the dog, though, is wonderful.",
    "If the light blinks twice, hold the button for ten seconds until it turns green.",
    "Ce film est magnifique, j'ai adoré les décors.",
    "Der Kaffee war kalt, schade.",
    "La comida estaba rica, pero el servicio fue lento.",
    "Привет, это просто замечательно!",
    "映画はとても良かったです。",
    "😀 loved it 😍😍",
    "In 1969 three men flew to the Moon and two of them walked on it.",
    "The judge ruled that the contract was void, since neither side had signed the second page.",
    "We stayed four nights. The room was clean, the bed was hard, breakfast was generous, and the \
     man at the desk remembered our names. The street is noisy until two in the morning, so take a \
     room at the back. Would I return? For that price and that view of the river, yes.",
    "The update changes how files are saved. Before it, every change was written at once; now \
     changes are collected and written when the program is idle, or after thirty seconds at the \
     latest. If the power fails in between, what was typed since the last write is lost, so keep \
     the option off on machines without a battery. The setting is found under Tools, in the third \
     group, and takes effect after a restart.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_input_is_narrowed_and_its_weights_widened() {
        let factors = balance(&[8.0, 2.0, 0.5], &[0.5, 0.5, 0.5]);
        assert_eq!(factors, [0.5, 1.0, 2.0]);
    }

    #[test]
    fn silent_columns_are_bounded_and_zeros_have_no_balance() {
        let factors = balance(&[100.0, 0.0], &[1.0, 1.0]);
        assert!((factors[1] / factors[0] - 10.0).abs() < 1e-5, "{factors:?}");
        assert_eq!(balance(&[0.0, 0.0], &[1.0, 2.0]), [1.0, 1.0]);
        assert_eq!(balance(&[3.0, 1.0], &[0.0, 0.0]), [1.0, 1.0]);
    }
}
