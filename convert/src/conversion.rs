//! One conversion: a checkpoint to the files that are asked for, all of them or none.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use filbert::{Classifier, Options};

use crate::balance::Balance;
use crate::checkpoint::Parameter;
use crate::dataset::Dataset;
use crate::evaluation::{self, Evaluation};
use crate::output::OutputFile;
use crate::package::Package;
use crate::progress::Progress;
use crate::{Checkpoint, Error, onnx};

/// What to write, and what to measure first.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// Where to write the `.filbert` file.
    pub filbert: Option<PathBuf>,
    /// Where to write ONNX in float32.
    pub onnx: Option<PathBuf>,
    /// Where to write ONNX in int8.
    pub onnx_int8: Option<PathBuf>,
    /// Labelled texts on which int8 is compared with float32. The report goes into the
    /// `.filbert` file.
    pub eval: Option<PathBuf>,
    /// Points of accuracy that int8 may lose on these texts; if it loses more, nothing is
    /// written.
    pub max_drop: Option<f64>,
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Bytes of the checkpoint's parameters as float32.
    pub float32_length: u64,
    /// The files written, with their lengths. Empty if the limit was passed.
    pub files: Vec<(PathBuf, u64)>,
    /// What was measured, if anything was.
    pub evaluation: Option<Evaluation>,
    /// Whether int8 lost more accuracy than [`Conversion::max_drop`].
    pub limit_passed: bool,
}

impl Conversion {
    /// Converts the checkpoint. On an error no file has changed, except where the last step,
    /// giving several files their names, fails between two of them.
    pub fn run(&self, folder: &Path, progress: &mut dyn Progress) -> Result<Outcome, Error> {
        let checkpoint = Checkpoint::open(folder)?;
        // All that can be refused is refused before the long work.
        let dataset = self.dataset(&checkpoint)?;
        let mut filbert = create(&self.filbert)?;
        let mut onnx = create(&self.onnx)?;
        let mut onnx_int8 = create(&self.onnx_int8)?;
        refuse_same_target([&filbert, &onnx, &onnx_int8])?;

        let float32_length = float32_length(&checkpoint);
        let mut evaluation = None;
        let is_int8 = filbert.is_some() || dataset.is_some() || onnx_int8.is_some();
        let balance = is_int8
            .then(|| Balance::measure(&checkpoint, progress))
            .transpose()?;
        if let Some(balance) = balance
            .as_ref()
            .filter(|_| filbert.is_some() || dataset.is_some())
        {
            let mut package = Package::build_balanced(&checkpoint, balance, progress)?;
            if let Some(dataset) = &dataset {
                let classifier = Classifier::from_bytes(package.bytes(), &Options::default())?;
                let measured =
                    evaluation::evaluate(&classifier, dataset, Some(&checkpoint), progress)?;
                package.set_accuracy(&measured.report()?);
                evaluation = Some(measured);
            }
            if let Some(file) = &mut filbert {
                file.write_all(package.bytes())
                    .map_err(|error| Error::in_file(file.target(), error))?;
            }
        }
        let drop = evaluation.as_ref().and_then(|e| e.accuracy_drop);
        let limit_passed = matches!((drop, self.max_drop), (Some(drop), Some(max)) if drop > max);
        if limit_passed {
            return Ok(Outcome {
                float32_length,
                files: Vec::new(),
                evaluation,
                limit_passed,
            });
        }

        if let Some(file) = &mut onnx {
            let mut file = Followed::new(file, "writing ONNX", float32_length, progress);
            onnx::export_float32(&checkpoint, &mut file)?;
            file.finish();
        }
        if let (Some(file), Some(balance)) = (&mut onnx_int8, &balance) {
            let mut file = Followed::new(file, "writing int8 ONNX", float32_length / 4, progress);
            onnx::export_int8(&checkpoint, balance, &mut file)?;
            file.finish();
        }

        let mut files = Vec::new();
        for (path, file) in [
            (&self.filbert, filbert),
            (&self.onnx, onnx),
            (&self.onnx_int8, onnx_int8),
        ] {
            if let (Some(path), Some(file)) = (path, file) {
                let length = file.length();
                file.commit()?;
                files.push((path.clone(), length));
            }
        }
        Ok(Outcome {
            float32_length,
            files,
            evaluation,
            limit_passed,
        })
    }

    fn dataset(&self, checkpoint: &Checkpoint) -> Result<Option<Dataset>, Error> {
        let Some(path) = &self.eval else {
            return Ok(None);
        };
        let config = checkpoint.config();
        evaluation::check_problem(config.problem)?;
        let dataset = Dataset::read(path)?;
        let labels: Vec<&str> = config.labels.iter().map(String::as_str).collect();
        dataset.targets(&labels)?;
        Ok(Some(dataset))
    }
}

fn create(path: &Option<PathBuf>) -> Result<Option<OutputFile>, Error> {
    path.as_deref().map(OutputFile::create).transpose()
}

fn refuse_same_target(files: [&Option<OutputFile>; 3]) -> Result<(), Error> {
    let targets: Vec<&Path> = files
        .into_iter()
        .flatten()
        .map(OutputFile::target)
        .collect();
    match (1..targets.len()).find(|&i| targets[..i].contains(&targets[i])) {
        None => Ok(()),
        Some(twice) => Err(Error::in_file(
            targets[twice],
            "asked for as the name of two outputs; give each its own",
        )),
    }
}

fn float32_length(checkpoint: &Checkpoint) -> u64 {
    let config = checkpoint.config();
    let values = |parameter: &Parameter| -> u64 {
        let shape = parameter.shape(config);
        shape.iter().map(|&extent| extent as u64).product()
    };
    4 * Parameter::all(config).iter().map(values).sum::<u64>()
}

/// A file whose bytes are the steps of a task.
struct Followed<'a> {
    file: &'a mut OutputFile,
    progress: &'a mut dyn Progress,
}

impl<'a> Followed<'a> {
    fn new(
        file: &'a mut OutputFile,
        what: &str,
        expected_length: u64,
        progress: &'a mut dyn Progress,
    ) -> Self {
        progress.begin(what, expected_length);
        Self { file, progress }
    }

    fn finish(self) {
        self.progress.finish();
    }
}

impl Write for Followed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).map_err(|error| {
            let message = format!("{}: {error}", self.file.target().display());
            io::Error::new(error.kind(), message)
        })?;
        self.progress.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
