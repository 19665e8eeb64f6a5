//! One conversion: a checkpoint to the files that are asked for, all of them or none.

use std::io::Write;
use std::path::{Path, PathBuf};

#[cfg(feature = "onnx")]
use crate::comparison::{self, ComparedText, Comparison, FloatLogits};
use crate::dataset::Dataset;
use crate::evaluation::Evaluation;
#[cfg(feature = "onnx")]
use crate::onnx;
use crate::output::OutputFile;
use crate::package::Package;
use crate::progress::Progress;
use crate::quantization::{ProductError, Quantization};
use crate::sensitivity::Sensitivity;
use crate::{Checkpoint, Error, hub};

/// What to write, and what to measure first.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// The files to write.
    pub files: Vec<(Format, PathBuf)>,
    /// Labelled texts by which the quantization is chosen; their labels do not matter.
    pub calibration: Option<PathBuf>,
    /// How many products are kept in 16 bits at least: those that 8 bits hurt most on the
    /// calibration texts. If 8 bits pass the comparison's limit, there are as many as it takes.
    /// Without a number it is measured in that case only.
    pub fine_products: Option<usize>,
    /// The comparison with float32. Its report goes into the `.filbert` file.
    #[cfg(feature = "onnx")]
    pub comparison: Option<Comparison>,
}

/// A format that a checkpoint can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A `.filbert` file.
    Filbert,
    /// ONNX in float32.
    #[cfg(feature = "onnx")]
    Onnx,
    /// ONNX in int8.
    #[cfg(feature = "onnx")]
    OnnxInt8,
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Bytes of the checkpoint's parameters as float32.
    pub float32_length: u64,
    /// The files written, with their lengths. Empty if the limit was passed.
    pub files: Vec<(PathBuf, u64)>,
    /// How far each product is from float32, if calibration text told; the worst first.
    pub products: Vec<ProductError>,
    /// What each product of a layer does to the answers in 8 bits, if it was measured; the most
    /// first.
    pub sensitivities: Vec<Sensitivity>,
    /// What was measured, if anything was.
    pub evaluation: Option<Evaluation>,
    /// The texts that it was measured on.
    #[cfg(feature = "onnx")]
    pub compared: Vec<ComparedText>,
    /// Whether int8 lost more accuracy than the comparison allows.
    pub limit_passed: bool,
}

impl Conversion {
    /// Converts the checkpoint, a folder or the name of a model on the hub. On an error no file
    /// has changed, except where the last step, giving several files their names, fails between
    /// two of them.
    pub fn run(&self, source: &Path, progress: &mut dyn Progress) -> Result<Outcome, Error> {
        let checkpoint = hub::open(source, progress)?;
        // All that can be refused is refused before the long work.
        let mut files = self
            .files
            .iter()
            .map(|(_, path)| OutputFile::create(path))
            .collect::<Result<Vec<_>, _>>()?;
        refuse_same_target(&files)?;

        let mut outcome = Outcome {
            float32_length: checkpoint.float32_length(),
            files: Vec::new(),
            products: Vec::new(),
            sensitivities: Vec::new(),
            evaluation: None,
            #[cfg(feature = "onnx")]
            compared: Vec::new(),
            limit_passed: false,
        };
        let calibration = self.calibration.as_deref().map(Dataset::read).transpose()?;
        let mut source = Source::new(&checkpoint, calibration.as_ref());
        if let Some(count) = self.fine_products {
            let all = 4 * checkpoint.config().layers;
            if count > all {
                return Err(Error::new(format!(
                    "{count} products in 16 bits: the layers of this model have {all}, four each; \
                     ask for at most as many"
                )));
            }
            source.refine(count, progress)?;
        }
        #[cfg(feature = "onnx")]
        if let Some(comparison) = &self.comparison {
            let dataset = comparison.dataset(&checkpoint)?;
            let mut float32 = FloatLogits::new(&checkpoint);
            loop {
                let package = source.package(progress)?;
                let (evaluation, texts) =
                    comparison::measure(package, &dataset, &mut float32, progress)?;
                outcome.compared = texts;
                outcome.limit_passed = comparison.limit_passed(&evaluation);
                outcome.evaluation = Some(evaluation);
                if !(outcome.limit_passed && source.refine_further(progress)?) {
                    break;
                }
            }
            if outcome.limit_passed {
                (outcome.products, outcome.sensitivities) = source.measured();
                return Ok(outcome);
            }
        }
        for ((format, _), file) in self.files.iter().zip(&mut files) {
            source.write(*format, file, progress)?;
        }
        for ((_, path), file) in self.files.iter().zip(files) {
            let length = file.length();
            file.commit()?;
            outcome.files.push((path.clone(), length));
        }
        (outcome.products, outcome.sensitivities) = source.measured();
        Ok(outcome)
    }
}

fn refuse_same_target(files: &[OutputFile]) -> Result<(), Error> {
    let targets: Vec<&Path> = files.iter().map(OutputFile::target).collect();
    match (1..targets.len()).find(|&i| targets[..i].contains(&targets[i])) {
        None => Ok(()),
        Some(twice) => Err(Error::in_file(
            targets[twice],
            "asked for as the name of two outputs; give each its own",
        )),
    }
}

/// A checkpoint, and what is made of it once it is needed.
struct Source<'a> {
    checkpoint: &'a Checkpoint,
    calibration: Option<&'a Dataset>,
    quantization: Option<Quantization>,
    package: Option<Package>,
}

impl<'a> Source<'a> {
    fn new(checkpoint: &'a Checkpoint, calibration: Option<&'a Dataset>) -> Self {
        Self {
            checkpoint,
            calibration,
            quantization: None,
            package: None,
        }
    }

    fn quantization(&mut self, progress: &mut dyn Progress) -> Result<&mut Quantization, Error> {
        match &mut self.quantization {
            Some(quantization) => Ok(quantization),
            none => {
                let chosen = Quantization::choose(self.checkpoint, self.calibration, progress)?;
                Ok(none.insert(chosen))
            }
        }
    }

    /// What was found out of the products.
    fn measured(&self) -> (Vec<ProductError>, Vec<Sensitivity>) {
        match &self.quantization {
            Some(quantization) => (quantization.errors(), quantization.sensitivities()),
            None => (Vec::new(), Vec::new()),
        }
    }

    /// Keeps so many products in 16 bits.
    fn refine(&mut self, count: usize, progress: &mut dyn Progress) -> Result<(), Error> {
        let (checkpoint, calibration) = (self.checkpoint, self.calibration);
        let calibration = calibration.ok_or_else(|| {
            Error::new("products in 16 bits are chosen by calibration texts; give some")
        })?;
        let quantization = self.quantization(progress)?;
        quantization.refine(checkpoint, calibration, count, progress)?;
        self.package = None;
        Ok(())
    }

    /// Keeps twice as many products in 16 bits as before; false if there are no more of them,
    /// or no calibration text to choose by.
    #[cfg(feature = "onnx")]
    fn refine_further(&mut self, progress: &mut dyn Progress) -> Result<bool, Error> {
        if self.calibration.is_none() {
            return Ok(false);
        }
        let before = self.quantization(progress)?.fine_inputs().len();
        self.refine((2 * before).max(1), progress)?;
        let after = self.quantization(progress)?.fine_inputs().len();
        if after > before {
            progress.note(&format!(
                "8 bits lose more than --max-drop allows; products in 16 bits now: {after}"
            ));
        }
        Ok(after > before)
    }

    fn package(&mut self, progress: &mut dyn Progress) -> Result<&mut Package, Error> {
        if self.package.is_none() {
            let checkpoint = self.checkpoint;
            let quantization = self.quantization(progress)?;
            self.package = Some(Package::build_quantized(
                checkpoint,
                quantization,
                progress,
            )?);
        }
        Ok(self.package.as_mut().expect("it was just built"))
    }

    fn write(
        &mut self,
        format: Format,
        file: &mut OutputFile,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        match format {
            Format::Filbert => file
                .write_all(self.package(progress)?.bytes())
                .map_err(|error| Error::in_file(file.target(), error)),
            #[cfg(feature = "onnx")]
            Format::Onnx => onnx::write_float32(self.checkpoint, file, progress),
            #[cfg(feature = "onnx")]
            Format::OnnxInt8 => {
                let checkpoint = self.checkpoint;
                onnx::write_int8(checkpoint, self.quantization(progress)?, file, progress)
            }
        }
    }
}
