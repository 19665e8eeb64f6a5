//! How the products of a checkpoint are quantized: chosen by what their inputs are while texts
//! run.
//!
//! - Every input is balanced: see [`crate::balance`]; then rotated: see [`crate::rotation`].
//! - What rounding the weights takes from an output on average, `Σ_k (W_k - Ŵ_k) mean(x_k)`, is
//!   added to its bias (arXiv 1906.04721): the inputs' columns have means far from zero.
//! - Where there is calibration text, it balances the inputs, weights are rounded with its help,
//!   and their ranges chosen by it: see [`crate::rounding`].
//!
//! The inputs are observed with the runtime's own arithmetic: it gives the same bits on every
//! host, hence so does the file. Without calibration text they are observed on texts of our own,
//! which say enough of how wide the columns are, and not enough of how they go together.

use std::collections::{BTreeSet, HashMap};

use filbert::format::padded;
use filbert::{Input, Model, ObservedInputs, ObservedRows, Options, Runner};

use crate::balance::{balance_errors, balance_sizes};
use crate::checkpoint::{Checkpoint, LayerParameter, Parameter};
use crate::config::Config;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::input::InputRows;
use crate::package::Package;
use crate::parallel::map_in_parallel;
use crate::progress::Progress;
use crate::quantize::{QuantizedRows, quantize_rows};
use crate::rotation::Rotation;
use crate::rounding::{Feedback, dot};
use crate::sensitivity::{self, Sensitivity};

/// What is done to one product's input.
#[derive(Clone, Debug, PartialEq)]
struct QuantizedInput {
    /// `[inputs]`: by what each column is multiplied.
    factors: Vec<f32>,
    /// How it is then rotated.
    rotation: Rotation,
    /// `[inputs]`: the mean of each column of the result.
    means: Vec<f64>,
}

impl QuantizedInput {
    /// Weights `[outputs, inputs]` that read the input as it is, made to read it as it is
    /// quantized.
    fn adapt_weights(&self, matrix: &[f32]) -> Vec<f32> {
        let mut adapted = matrix.to_vec();
        for row in adapted.chunks_exact_mut(self.factors.len()) {
            for (w, factor) in row.iter_mut().zip(&self.factors) {
                *w /= factor;
            }
            self.rotation.apply_to_weights(row);
        }
        adapted
    }
}

/// How a checkpoint's products are quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    inputs: HashMap<ProductInput, QuantizedInput>,
    /// Whether inputs are rotated.
    rotates: bool,
    /// Weights that were rounded with the help of calibration text.
    rounded: HashMap<Parameter, QuantizedRows>,
    /// Whose products are fine: [`filbert::format::tensor_table`].
    fine: BTreeSet<ProductInput>,
    /// What each product of a layer does in 8 bits, if it was measured; the most first.
    sensitivities: Vec<(ProductInput, f64)>,
    /// How far each product with such weights is from what it would be.
    errors: Vec<(ProductInput, ProductError)>,
}

/// An input of one or several products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ProductInput {
    QueryKeyValue(usize),
    /// The context is multiplied by way of the value's scales and biases, which costs nothing.
    AttentionOutput(usize),
    FeedForwardIn(usize),
    FeedForwardOut(usize),
    /// Of the head's first product.
    Head,
}

/// A product's weights as a file has them.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedProduct {
    /// `[outputs, inputs]`.
    pub weights: QuantizedRows,
    /// What rounding took from the weights, if the product is fine.
    pub rest: Option<QuantizedRows>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// How an input is balanced: see `balance.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// So that the expected error is least.
    Errors,
    /// By the sizes of its columns.
    Sizes,
    /// Not at all.
    None,
}

impl Balance {
    /// What a file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Sizes => "sizes",
            Self::None => "none",
        }
    }
}

/// How weights are rounded: see `rounding.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Errors make up for each other, and the range is chosen.
    Feedback,
    /// To the nearest step, and the range is chosen.
    Clipped,
    /// To the nearest step of the whole range.
    Nearest,
}

impl Rounding {
    /// What a file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Clipped => "clipped",
            Self::Nearest => "nearest",
        }
    }
}

/// What quantization does to one product.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductError {
    /// Whose weights: [`Parameter::name`].
    pub name: String,
    /// How its input is balanced.
    pub balance: Balance,
    /// How its weights are rounded.
    pub rounding: Rounding,
    /// The root mean square of the error of its outputs, on calibration text, as a part of that
    /// of the outputs.
    pub relative: f64,
}

impl ProductInput {
    /// All inputs of a model.
    fn all(config: &Config) -> Vec<Self> {
        let layers = (0..config.layers).flat_map(|layer| {
            [
                Self::QueryKeyValue(layer),
                Self::AttentionOutput(layer),
                Self::FeedForwardIn(layer),
                Self::FeedForwardOut(layer),
            ]
        });
        let head = config.task.first_weight().map(|_| Self::Head);
        layers.chain(head).collect()
    }

    /// Those of the encoder's layers.
    pub(crate) fn of_layers(config: &Config) -> Vec<Self> {
        let mut inputs = Self::all(config);
        inputs.retain(|&input| input != Self::Head);
        inputs
    }

    /// What reads it, for people.
    pub(crate) fn product_name(self) -> String {
        match self {
            Self::QueryKeyValue(layer) => format!("layer {layer}, query, key and value"),
            Self::AttentionOutput(layer) => format!("layer {layer}, attention output"),
            Self::FeedForwardIn(layer) => format!("layer {layer}, feed-forward in"),
            Self::FeedForwardOut(layer) => format!("layer {layer}, feed-forward out"),
            Self::Head => "head".to_owned(),
        }
    }

    /// The weights that read it.
    fn weights(self, config: &Config) -> Vec<Parameter> {
        use LayerParameter as L;
        match self {
            Self::QueryKeyValue(layer) => [L::QueryWeight, L::KeyWeight, L::ValueWeight]
                .map(|weight| Parameter::Layer(layer, weight))
                .to_vec(),
            Self::AttentionOutput(layer) => {
                vec![Parameter::Layer(layer, L::AttentionOutputWeight)]
            }
            Self::FeedForwardIn(layer) => vec![Parameter::Layer(layer, L::FeedForwardInWeight)],
            Self::FeedForwardOut(layer) => vec![Parameter::Layer(layer, L::FeedForwardOutWeight)],
            Self::Head => config.task.first_weight().into_iter().collect(),
        }
    }

    /// What these weights read, unless it is as it comes.
    fn of(weight: Parameter, config: &Config) -> Option<Self> {
        use LayerParameter as L;
        match weight {
            Parameter::Layer(layer, L::QueryWeight | L::KeyWeight | L::ValueWeight) => {
                Some(Self::QueryKeyValue(layer))
            }
            Parameter::Layer(layer, L::AttentionOutputWeight) => Some(Self::AttentionOutput(layer)),
            Parameter::Layer(layer, L::FeedForwardInWeight) => Some(Self::FeedForwardIn(layer)),
            Parameter::Layer(layer, L::FeedForwardOutWeight) => Some(Self::FeedForwardOut(layer)),
            _ => (config.task.first_weight() == Some(weight)).then_some(Self::Head),
        }
    }

    fn columns(self, config: &Config) -> usize {
        match self {
            Self::FeedForwardOut(_) => config.intermediate,
            _ => config.hidden,
        }
    }

    /// Its rows among all that was observed.
    fn rows(self, observed: &ObservedInputs) -> &ObservedRows {
        match self {
            Self::QueryKeyValue(layer) => &observed.layers[layer].query_key_value,
            Self::AttentionOutput(layer) => &observed.layers[layer].attention_output,
            Self::FeedForwardIn(layer) => &observed.layers[layer].feed_forward_in,
            Self::FeedForwardOut(layer) => &observed.layers[layer].feed_forward_out,
            Self::Head => &observed.head,
        }
    }
}

/// Rows of each input that calibration text gives: more do not change the figures of
/// docs/accuracy.md.
const CALIBRATION_ROWS: usize = 8192;

/// Bytes that the rows of all inputs may take: with calibration text, and without.
const MOST_BYTES: (usize, usize) = (1 << 30, 1 << 29);

/// Rows on which a product's error is measured.
const ERROR_ROWS: usize = 128;

impl Quantization {
    /// All factors 1, no rotation, all means 0, plain rounding.
    pub fn plain(config: &Config) -> Self {
        let plain = |input: ProductInput| {
            let columns = input.columns(config);
            let plain = QuantizedInput {
                factors: vec![1.0; columns],
                rotation: Rotation::none(columns),
                means: vec![0.0; columns],
            };
            (input, plain)
        };
        Self {
            inputs: ProductInput::all(config).into_iter().map(plain).collect(),
            rotates: false,
            rounded: HashMap::new(),
            fine: BTreeSet::new(),
            sensitivities: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Observes the checkpoint's activations on calibration text, or on texts of our own, and
    /// chooses by them how its products are quantized.
    ///
    /// # Errors
    /// Those of [`Package::build`].
    pub fn choose(
        checkpoint: &Checkpoint,
        calibration: Option<&Dataset>,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let config = checkpoint.config();
        let mut quantization = Self::plain(config);
        let inputs = ProductInput::all(config);
        let mut rows = quantization.observe(checkpoint, &inputs, calibration, progress)?;
        // Weights that are in int8 already stay as they are, so their inputs must, too; and a file
        // rotates all of its inputs or none.
        let weights = inputs.iter().flat_map(|input| input.weights(config));
        quantization.rotates = !weights.into_iter().any(|w| checkpoint.is_quantized(w));
        progress.begin("choosing the quantization", inputs.len() as u64);
        // A few at a time, so that only their weights are in memory as floats.
        for part in inputs.chunks(4) {
            let part = part.iter().map(|&input| {
                let weights = input.weights(config).into_iter();
                let weights: Result<Vec<_>, Error> = weights
                    .map(|weight| Ok((weight, checkpoint.load(weight)?)))
                    .collect();
                let rows = rows.remove(&input).unwrap_or_default();
                Ok((input, rows, weights?))
            });
            let part: Vec<_> = part.collect::<Result<_, Error>>()?;
            let count = part.len() as u64;
            let chosen = map_in_parallel(part, |(input, rows, weights)| {
                let fixed = weights
                    .iter()
                    .any(|(weight, _)| checkpoint.is_quantized(*weight));
                let rotation = match input {
                    ProductInput::AttentionOutput(_) => Rotation::none(rows.columns()),
                    _ if !quantization.rotates => Rotation::none(rows.columns()),
                    _ => Rotation::of(rows.columns()),
                };
                let chosen = choose_input(rows, &weights, rotation, fixed, calibration.is_some());
                (input, chosen)
            });
            for (input, chosen) in chosen {
                quantization.inputs.insert(input, chosen.input);
                for (weight, rounding, rounded, relative) in chosen.rounded {
                    quantization.rounded.insert(weight, rounded);
                    let error = ProductError {
                        name: weight.name(config),
                        balance: chosen.balance,
                        rounding,
                        relative,
                    };
                    quantization.errors.push((input, error));
                }
            }
            progress.advance(count);
        }
        progress.finish();
        quantization
            .errors
            .sort_by(|(_, a), (_, b)| b.relative.total_cmp(&a.relative));
        Ok(quantization)
    }

    /// The rows of every input, of texts that run with plain rounding.
    fn observe(
        &self,
        checkpoint: &Checkpoint,
        inputs: &[ProductInput],
        calibration: Option<&Dataset>,
        progress: &mut dyn Progress,
    ) -> Result<HashMap<ProductInput, InputRows>, Error> {
        let config = checkpoint.config();
        let plain = Package::quantize(
            checkpoint,
            self,
            Vec::new(),
            "preparing to measure",
            progress,
        )?;
        let model = Model::from_vec(plain.into_bytes())?;
        let runner = Runner::new(model, &Options::default())?;
        let texts: Vec<Input<'_>> = match calibration {
            Some(dataset) => dataset
                .examples()
                .iter()
                .map(|example| example.input())
                .collect(),
            None => own_texts(),
        };
        let most_bytes = match calibration {
            Some(_) => MOST_BYTES.0,
            None => MOST_BYTES.1,
        };
        let row_bytes: usize = inputs.iter().map(|input| 4 * input.columns(config)).sum();
        let most = (most_bytes / row_bytes).clamp(1, CALIBRATION_ROWS);
        let mut rows: HashMap<ProductInput, InputRows> = inputs
            .iter()
            .map(|&input| (input, InputRows::new(input.columns(config))))
            .collect();
        progress.begin("measuring activations", most as u64);
        let mut found = 0;
        for text in spread(texts.len()) {
            if found >= most {
                break;
            }
            let observed = runner.observe(&texts[text..text + 1])?;
            let before = found;
            for (&input, to) in &mut rows {
                let from = input.rows(&observed);
                let group = match input {
                    ProductInput::AttentionOutput(_) => config.head_size(),
                    _ => to.columns(),
                };
                for row in from.values.chunks_exact(from.columns) {
                    // Groups of columns are padded to whole panels.
                    let groups = row
                        .chunks_exact(padded(group))
                        .map(|columns| &columns[..group]);
                    to.push_groups(groups);
                }
                found = found.max(to.count());
            }
            progress.advance((found - before).min(most - before) as u64);
        }
        progress.finish();
        Ok(rows)
    }

    /// How far each product whose weights were rounded with the help of calibration text is from
    /// what it would be, without those that are fine; the worst first.
    pub fn errors(&self) -> Vec<ProductError> {
        let errors = self.errors.iter();
        let in_8_bits = errors.filter(|(input, _)| !self.fine.contains(input));
        in_8_bits.map(|(_, error)| error.clone()).collect()
    }

    /// Whether calibration text was used.
    pub fn is_calibrated(&self) -> bool {
        !self.errors.is_empty()
    }

    /// What is left to multiply a product's input by at run time: the context arrives
    /// multiplied.
    pub fn explicit_input(&self, weight: Parameter, config: &Config) -> Option<&[f32]> {
        match ProductInput::of(weight, config)? {
            ProductInput::AttentionOutput(_) => None,
            input => Some(&self.inputs[&input].factors),
        }
    }

    /// The rotations of inputs, each once.
    pub(crate) fn rotations(&self) -> Vec<Rotation> {
        let inputs = self.inputs.values().map(|input| input.rotation);
        let mut rotations: Vec<_> = inputs.filter(|r| r.together() > 1).collect();
        rotations.sort_by_key(|rotation| rotation.columns());
        rotations.dedup();
        rotations
    }

    /// How a product's input is rotated once it is multiplied.
    #[cfg(feature = "onnx")]
    pub(crate) fn rotation(&self, weight: Parameter, config: &Config) -> Option<Rotation> {
        Some(self.inputs[&ProductInput::of(weight, config)?].rotation)
    }

    /// Keeps so many products of the layers in 16 bits: those that move the answers most on
    /// calibration text.
    ///
    /// # Errors
    /// Those of [`Package::build`].
    pub fn refine(
        &mut self,
        checkpoint: &Checkpoint,
        calibration: &Dataset,
        count: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        if self.sensitivities.is_empty() {
            self.sensitivities = sensitivity::measure(checkpoint, self, calibration, progress)?;
        }
        let most = self.sensitivities.iter().take(count);
        self.fine = most.map(|(input, _)| *input).collect();
        Ok(())
    }

    /// What each product of a layer does in 8 bits, if it was measured; the most first.
    pub fn sensitivities(&self) -> Vec<Sensitivity> {
        let sensitivity = |&(input, difference): &(ProductInput, f64)| Sensitivity {
            product: input.product_name(),
            difference,
            is_fine: self.fine.contains(&input),
        };
        self.sensitivities.iter().map(sensitivity).collect()
    }

    /// The inputs whose products are fine.
    pub(crate) fn fine_inputs(&self) -> Vec<ProductInput> {
        self.fine.iter().copied().collect()
    }

    /// Makes the products fine that read these inputs, and no others.
    pub(crate) fn set_fine_inputs(&mut self, inputs: &[ProductInput]) {
        self.fine = inputs.iter().copied().collect();
    }

    /// Whether any product is fine.
    pub(crate) fn has_fine_products(&self) -> bool {
        !self.fine.is_empty()
    }

    /// Whether the product with these weights is fine.
    pub(crate) fn is_fine(&self, weight: Parameter, config: &Config) -> bool {
        ProductInput::of(weight, config).is_some_and(|input| self.fine.contains(&input))
    }

    /// A product as it is stored.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`].
    pub fn quantize_product(
        &self,
        checkpoint: &Checkpoint,
        weight: Parameter,
        bias: Parameter,
    ) -> Result<QuantizedProduct, Error> {
        let mut bias = checkpoint.load(bias)?;
        let is_fine = self.is_fine(weight, checkpoint.config());
        let mut rest = None;
        let mut weights = if checkpoint.is_quantized(weight) {
            let quantized = checkpoint.quantized_rows(weight, 0..bias.len())?;
            if is_fine {
                rest = Some(quantized.quantize_rest(&checkpoint.load(weight)?));
            }
            quantized
        } else {
            let matrix = checkpoint.load(weight)?;
            match ProductInput::of(weight, checkpoint.config()) {
                None => quantize_rows(&matrix, matrix.len() / bias.len()),
                Some(input) => {
                    let input = &self.inputs[&input];
                    let matrix = input.adapt_weights(&matrix);
                    if is_fine {
                        let quantized = quantize_rows(&matrix, input.factors.len());
                        rest = Some(quantized.quantize_rest(&matrix));
                        quantized
                    } else {
                        let quantized = match self.rounded.get(&weight) {
                            Some(rounded) => rounded.clone(),
                            None => quantize_rows(&matrix, input.factors.len()),
                        };
                        correct_bias(&mut bias, &matrix, &quantized, input);
                        quantized
                    }
                }
            }
        };
        if let Parameter::Layer(layer, LayerParameter::ValueWeight) = weight {
            let factors = &self.inputs[&ProductInput::AttentionOutput(layer)].factors;
            let scales = std::iter::once(&mut weights).chain(&mut rest);
            for values in scales.map(|rows| &mut rows.scales).chain([&mut bias]) {
                for (value, factor) in values.iter_mut().zip(factors) {
                    *value *= factor;
                }
            }
        }
        Ok(QuantizedProduct {
            weights,
            rest,
            bias,
        })
    }
}

/// What was chosen for an input and the weights that read it.
struct Chosen {
    input: QuantizedInput,
    balance: Balance,
    /// With the relative errors of the products.
    rounded: Vec<(Parameter, Rounding, QuantizedRows, f64)>,
}

/// The choices are made by the measured errors of the products: first of the balance, with weights
/// that are rounded to the nearest, then of the rounding of each weight.
fn choose_input(
    mut rows: InputRows,
    weights: &[(Parameter, Vec<f32>)],
    rotation: Rotation,
    fixed: bool,
    calibrated: bool,
) -> Chosen {
    let matrices: Vec<&[f32]> = weights.iter().map(|(_, weights)| &weights[..]).collect();
    let balances: &[Balance] = match (fixed, calibrated) {
        (true, _) => &[Balance::None],
        (false, false) => &[Balance::Sizes],
        (false, true) => &[Balance::Errors, Balance::Sizes, Balance::None],
    };
    let prepare = |&balance: &Balance| {
        let factors = match balance {
            Balance::Errors => balance_errors(&rows, &matrices, rotation),
            Balance::Sizes => balance_sizes(&rows, &matrices, rotation),
            Balance::None => vec![1.0; rows.columns()],
        };
        let mut means = rows.means();
        for (mean, &factor) in means.iter_mut().zip(&factors) {
            *mean *= f64::from(factor);
        }
        rotation.apply(&mut means);
        let input = QuantizedInput {
            factors,
            rotation,
            means,
        };
        (balance, input)
    };
    let (balance, input) = match balances {
        [balance] => prepare(balance),
        balances => {
            let few = rows.thinned(ERROR_ROWS);
            let error = |input: &QuantizedInput| {
                let mut few = few.clone();
                few.balance(&input.factors, rotation);
                let errors = matrices.iter().map(|matrix| {
                    let matrix = input.adapt_weights(matrix);
                    relative_error(&few, &matrix, &quantize_rows(&matrix, few.columns()))
                });
                errors.map(|error| error * error).sum::<f64>().sqrt()
            };
            let prepared = balances.iter().map(prepare);
            least(prepared, |(_, input)| error(input))
        }
    };
    let mut rounded = Vec::new();
    if calibrated && !fixed {
        rows.balance(&input.factors, rotation);
        let few = rows.thinned(ERROR_ROWS);
        let feedback = Feedback::new(&rows);
        let none = Feedback::none(&rows);
        for (weight, matrix) in weights {
            let matrix = input.adapt_weights(matrix);
            let feedback = feedback
                .as_ref()
                .map(|feedback| (Rounding::Feedback, feedback.quantize(&matrix)));
            let others = [
                (Rounding::Clipped, none.quantize(&matrix)),
                (Rounding::Nearest, quantize_rows(&matrix, rows.columns())),
            ];
            let candidates = feedback.into_iter().chain(others);
            let measured = candidates.map(|(rounding, quantized)| {
                let relative = relative_error(&few, &matrix, &quantized);
                (*weight, rounding, quantized, relative)
            });
            rounded.push(least(measured, |measured| measured.3));
        }
    }
    Chosen {
        input,
        balance,
        rounded,
    }
}

/// What is left of an error where a choice is better than one that comes before it, at most. The
/// first choices are better on the whole, and a few rows say no more of two that are alike.
const CLEARLY_LESS: f64 = 0.9;

/// The first candidate, unless another has a clearly smaller error.
fn least<T>(candidates: impl Iterator<Item = T>, error: impl Fn(&T) -> f64) -> T {
    let with_errors = candidates.map(|candidate| (error(&candidate), candidate));
    let best = with_errors.reduce(|best, next| match next.0 < CLEARLY_LESS * best.0 {
        true => next,
        false => best,
    });
    best.expect("there is a candidate").1
}

/// Adds what rounding takes from each output on average.
fn correct_bias(
    bias: &mut [f32],
    matrix: &[f32],
    quantized: &QuantizedRows,
    input: &QuantizedInput,
) {
    let inputs = quantized.columns;
    let rows = matrix
        .chunks_exact(inputs)
        .zip(quantized.values.chunks_exact(inputs));
    for ((bias, scale), (exact, rounded)) in bias.iter_mut().zip(&quantized.scales).zip(rows) {
        let mut lost = 0.0;
        for (k, (&w, &q)) in exact.iter().zip(rounded).enumerate() {
            let error = f64::from(w) - f64::from(q) * f64::from(*scale);
            lost += error * input.means[k];
        }
        *bias = (f64::from(*bias) + lost) as f32;
    }
}

/// How far the product of some balanced rows, quantized as the runtime does, and quantized
/// weights is from that of floats, beyond what the bias makes good.
fn relative_error(rows: &InputRows, exact: &[f32], quantized: &QuantizedRows) -> f64 {
    let columns = rows.columns();
    let (mut errors, mut squares) = (0.0, 0.0);
    let rows: Vec<(&[f32], Vec<f32>)> = rows
        .iter()
        .map(|row| (row, round_activations(row)))
        .collect();
    let outputs = exact
        .chunks_exact(columns)
        .zip(quantized.values.chunks_exact(columns));
    for ((weights, values), scale) in outputs.zip(&quantized.scales) {
        let rounded: Vec<f32> = values.iter().map(|&q| f32::from(q) * scale).collect();
        let mut differences = Vec::with_capacity(rows.len());
        for (row, steps) in &rows {
            let (y, z) = (dot(row, weights), dot(steps, &rounded));
            squares += f64::from(y) * f64::from(y);
            differences.push(f64::from(z) - f64::from(y));
        }
        let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        errors += differences
            .iter()
            .map(|d| (d - mean) * (d - mean))
            .sum::<f64>();
    }
    if squares > 0.0 {
        (errors / squares).sqrt()
    } else {
        0.0
    }
}

/// A row as it is after it was quantized to bytes: ARCHITECTURE.md, "Numerics".
fn round_activations(row: &[f32]) -> Vec<f32> {
    let low = row.iter().fold(0.0f32, |least, &x| least.min(x));
    let high = row.iter().fold(0.0f32, |most, &x| most.max(x));
    let step = (high - low) / 255.0;
    if step < 1e-32 {
        return vec![0.0; row.len()];
    }
    row.iter()
        .map(|x| (x / step).round_ties_even() * step)
        .collect()
}

/// The numbers below `count`, so that any first ones are spread over all: a labelled set is often
/// sorted.
pub(crate) fn spread(count: usize) -> Vec<usize> {
    let mut stride = (count as f64 * 0.618_033_988_75) as usize | 1;
    while greatest_common_divisor(stride, count.max(1)) != 1 {
        stride += 2;
    }
    (0..count).map(|i| i * stride % count).collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Our own texts, and pairs of them.
fn own_texts() -> Vec<Input<'static>> {
    let pairs = TEXTS.iter().zip(&TEXTS[1..]).step_by(4);
    let pairs = pairs.map(|(&first, &second)| (first, second).into());
    TEXTS.iter().map(|&text| text.into()).chain(pairs).collect()
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
    fn every_text_comes_once_and_neighbours_apart() {
        for count in [0, 1, 2, 3, 10, 872, 6920] {
            let mut order = spread(count);
            let apart = order
                .windows(2)
                .all(|pair| count < 10 || pair[0].abs_diff(pair[1]) > 1);
            assert!(apart, "{count}");
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn errors_are_a_part_of_what_is_computed() {
        let mut rows = InputRows::new(2);
        for i in 0..40 {
            rows.push(&[i as f32 - 20.0, 3.0 * (i % 7) as f32]);
        }
        let matrix = [1.0, 0.5, -0.25, 1.0];
        let fine = relative_error(&rows, &matrix, &quantize_rows(&matrix, 2));
        assert!(fine > 0.0 && fine < 0.01, "{fine}");
        let mut coarse = quantize_rows(&matrix, 2);
        for q in &mut coarse.values {
            *q = *q / 32 * 32;
        }
        assert!(relative_error(&rows, &matrix, &coarse) > 10.0 * fine);
    }
}
