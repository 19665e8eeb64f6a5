//! `filbert convert`: a checkpoint to files.

#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "onnx")]
mod report;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use filbert_convert::conversion::{Conversion, Format, Outcome};

use crate::Failure;
use crate::help::{self, ALWAYS, ONNX};
use crate::terminal::{ProgressBars, readable_size};

const ABOUT: &str = if ONNX {
    "Convert a Hugging Face checkpoint to a .filbert file, ONNX, or both"
} else {
    "Convert a Hugging Face checkpoint to a .filbert file"
};
const OUTPUT: &str = if ONNX {
    "Where to write the .filbert file; may be left out if ONNX is asked for"
} else {
    "Where to write the .filbert file"
};
const DETAILS: &str = "
The checkpoint is a folder with config.json, model.safetensors or pytorch_model.bin (or their \
shards) and tokenizer.json or vocab.txt, as save_pretrained of transformers writes it: \
BertForSequenceClassification or DistilBertForSequenceClassification.

Or it is such a model in ONNX: a file, or a folder with model.onnx and no other weights, as Optimum \
or torch.onnx.export writes it, in float32 or in the int8 of quantize_dynamic; config.json, for \
the labels, and the tokenizer lie beside it. A build without ONNX refuses it.

Or it is the name of such a model on the Hugging Face hub: hf:org/name, or hf:org/name@revision. \
It is fetched into the cache that Hugging Face's own libraries use, once. HF_HOME, HF_HUB_CACHE, \
HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.

Files appear under their names when everything is done, or not at all. The same checkpoint gives \
the same bytes, on every machine.";
const EXAMPLES: &str = "\
Examples:
  filbert convert models/tiny-sst2 -o tiny.filbert
  filbert convert models/tiny-sst2 -o tiny.filbert --calibrate texts.tsv
  filbert convert exported/model.onnx -o model.filbert
  filbert convert hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english -o sst2.filbert";
const ONNX_EXAMPLES: &str = "  \
  filbert convert models/tiny-sst2 -o tiny.filbert --eval reviews.tsv --max-drop 0.5
  filbert convert models/tiny-sst2 --onnx tiny.onnx --onnx-int8 tiny-int8.onnx";

#[derive(Args)]
#[command(
    about = ABOUT,
    long_about = help::lines(&[
        (ALWAYS, ABOUT),
        (ALWAYS, DETAILS),
        (ONNX, "Only the last decimals of an --eval report may differ."),
    ]),
    after_help = help::lines(&[(ALWAYS, EXAMPLES), (ONNX, ONNX_EXAMPLES)])
)]
pub(crate) struct Arguments {
    /// The checkpoint: its folder, an ONNX file, or its name hf:org/name on the Hugging Face hub
    checkpoint: PathBuf,
    #[arg(short, long, value_name = "FILE", help = OUTPUT)]
    #[cfg_attr(
        feature = "onnx",
        arg(required_unless_present_any = ["onnx", "onnx_int8"])
    )]
    #[cfg_attr(not(feature = "onnx"), arg(required = true))]
    output: Option<PathBuf>,
    /// Choose by these texts how each product is quantized: some hundreds of texts like those
    /// that the model will meet, in a file like that of --eval, and not the same texts
    #[arg(long, value_name = "TSV")]
    calibrate: Option<PathBuf>,
    /// Keep at least this many products in 16 bits, of those whose 8 bits move the answers most on the
    /// texts of --calibrate
    ///
    /// Each layer has four. Such a product takes four times as long, and its weights twice the
    /// room. Without this option all are in 8 bits, unless --max-drop demands more. With 0 they
    /// are, too, and it is told which products move the answers most.
    #[arg(long, value_name = "COUNT", requires = "calibrate")]
    fine_products: Option<usize>,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    onnx: onnx::Arguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut conversion = Conversion {
        calibration: arguments.calibrate.clone(),
        fine_products: arguments.fine_products,
        ..Conversion::default()
    };
    if let Some(output) = &arguments.output {
        conversion.files.push((Format::Filbert, output.clone()));
    }
    #[cfg(feature = "onnx")]
    arguments.onnx.ask(&mut conversion);
    let outcome = conversion.run(&arguments.checkpoint, &mut ProgressBars::default())?;
    #[cfg(feature = "onnx")]
    arguments
        .onnx
        .write_report(&arguments.checkpoint, &outcome)?;
    let mut out = io::stdout().lock();
    write_files(&mut out, &outcome)?;
    write_products(&mut out, &outcome)?;
    write_sensitivities(&mut out, &outcome)?;
    #[cfg(feature = "onnx")]
    arguments.onnx.judge(&mut out, &outcome)?;
    Ok(())
}

/// How many products are named of those whose outputs suffer most.
const WORST_PRODUCTS: usize = 5;

/// Which products suffer most.
fn write_products(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    if !outcome.products.is_empty() {
        writeln!(out, "largest errors of products on the calibration texts:")?;
    }
    for product in outcome.products.iter().take(WORST_PRODUCTS) {
        writeln!(
            out,
            "  {:5.2} %  {}",
            100.0 * product.relative,
            product.name
        )?;
    }
    Ok(())
}

/// Which products move the answers most, and all that are in 16 bits.
fn write_sensitivities(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let sensitivities = &outcome.sensitivities;
    if !sensitivities.is_empty() {
        writeln!(
            out,
            "by how much a product in 8 bits moves the answers on the calibration texts:"
        )?;
    }
    let fine = sensitivities
        .iter()
        .filter(|product| product.is_fine)
        .count();
    let shown = match outcome.files.is_empty() {
        true => WORST_PRODUCTS,
        false => fine.max(WORST_PRODUCTS),
    };
    for product in sensitivities.iter().take(shown) {
        writeln!(
            out,
            "  {:.5}  {}{}",
            product.difference,
            product.product,
            if product.is_fine { ": in 16 bits" } else { "" }
        )?;
    }
    Ok(())
}

fn write_files(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    for (path, length) in &outcome.files {
        writeln!(
            out,
            "{}: {}, {:.0} % of the {} that float32 weights take",
            path.display(),
            readable_size(*length),
            100.0 * *length as f64 / outcome.float32_length.max(1) as f64,
            readable_size(outcome.float32_length)
        )?;
    }
    Ok(())
}
