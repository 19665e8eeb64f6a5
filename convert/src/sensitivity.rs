//! What 8 bits in one product do to what a model answers, and which products are therefore kept
//! in 16 (fine products: [`filbert::format::tensor_table`]).
//!
//! The model runs with all products of its layers fine, and then, for each, with this one alone
//! in 8 bits. What the answers then differ by is the product's own doing: beside 16 bits, nothing
//! else rounds otherwise. What attention does within a head is in 8 bits throughout.

use filbert::{Input, Model, Options, RawOutput, Runner};

use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::package::Package;
use crate::progress::{Progress, Quiet};
use crate::quantization::{ProductInput, Quantization, spread};

/// What one product does, where it is in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Its layer and what it is there, such as `layer 3, feed-forward out`.
    pub product: String,
    /// By how much it moves a logit, or a value of an embedding, on average.
    pub difference: f64,
    /// Whether it is kept in 16 bits.
    pub is_fine: bool,
}

/// Multiplications that all runs together may take, about: 10 seconds of a core. Beside them each
/// run quantizes the model anew, and a model with many layers takes longer for its least tokens.
const MULTIPLICATIONS: u64 = 1_000_000_000_000;

/// Tokens of calibration text that are run at least, and at most.
const TOKENS: (u64, u64) = (512, 8192);

/// The inputs of all products of layers, with the difference that 8 bits make in the products
/// that read them; the largest first.
pub(crate) fn measure(
    checkpoint: &Checkpoint,
    quantization: &mut Quantization,
    calibration: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Vec<(ProductInput, f64)>, Error> {
    let inputs = ProductInput::of_layers(checkpoint.config());
    progress.begin("measuring what each product does", inputs.len() as u64 + 1);
    let before = quantization.fine_inputs();
    let measured = measure_each(checkpoint, quantization, calibration, &inputs, progress);
    quantization.set_fine_inputs(&before);
    let mut measured = measured?;
    progress.finish();
    measured.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(measured)
}

fn measure_each(
    checkpoint: &Checkpoint,
    quantization: &mut Quantization,
    calibration: &Dataset,
    inputs: &[ProductInput],
    progress: &mut dyn Progress,
) -> Result<Vec<(ProductInput, f64)>, Error> {
    quantization.set_fine_inputs(inputs);
    let all_fine = runner(checkpoint, quantization)?;
    let texts = choose_texts(&all_fine, calibration, inputs.len() as u64 + 1)?;
    let expected = all_fine.run(&texts)?;
    drop(all_fine);
    if expected.iter().all(|output| output.values.is_empty()) {
        return Err(Error::new(
            "the calibration texts have no mask token, so the model answers nothing: put one into \
             each, to see what its products do",
        ));
    }
    progress.advance(1);
    let mut measured = Vec::with_capacity(inputs.len());
    for &input in inputs {
        let others: Vec<_> = inputs.iter().copied().filter(|&i| i != input).collect();
        quantization.set_fine_inputs(&others);
        let found = runner(checkpoint, quantization)?.run(&texts)?;
        measured.push((input, mean_difference(&found, &expected)));
        progress.advance(1);
    }
    Ok(measured)
}

fn runner(checkpoint: &Checkpoint, quantization: &Quantization) -> Result<Runner, Error> {
    let package = Package::quantize(checkpoint, quantization, Vec::new(), "", &mut Quiet)?;
    let model = Model::from_vec(package.into_bytes())?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    Ok(Runner::new(model, &Options::default().threads(threads))?)
}

/// Texts from all over the set, until they have the tokens that there is time for.
fn choose_texts<'a>(
    runner: &Runner,
    calibration: &'a Dataset,
    runs: u64,
) -> Result<Vec<Input<'a>>, Error> {
    let shape = runner.model().shape();
    let a_token = 4 * u64::from(shape.layers) * shape.layer_multiplications();
    let most = (MULTIPLICATIONS / (runs * a_token.max(1))).clamp(TOKENS.0, TOKENS.1);
    let examples = calibration.examples();
    let (mut texts, mut tokens) = (Vec::new(), 0);
    for index in spread(examples.len()) {
        if tokens >= most {
            break;
        }
        let input = examples[index].input();
        tokens += runner.tokenize(input)?.len() as u64;
        texts.push(input);
    }
    Ok(texts)
}

fn mean_difference(found: &[RawOutput], expected: &[RawOutput]) -> f64 {
    let values = |outputs: &[RawOutput]| -> Vec<f32> {
        let values = outputs.iter().flat_map(|output| &output.values);
        values.copied().collect()
    };
    let (found, expected) = (values(found), values(expected));
    let pairs = found.iter().zip(&expected);
    let sum: f64 = pairs
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .sum();
    sum / expected.len().max(1) as f64
}
