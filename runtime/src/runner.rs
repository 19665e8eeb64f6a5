//! A model of any kind, run as it is.

use std::path::Path;

use crate::cancellation::Cancellation;
use crate::classifier::Options;
use crate::error::{Error, ErrorCode};
use crate::format::{Head, PANEL};
use crate::head::words;
use crate::model::{Case, Model};
use crate::observation::ObservedInputs;
use crate::profile::Measurement;
use crate::session::{Input, Output, Request, Session};
use crate::tokenizer::{Encoded, Encoding, Scratch, Token};

/// A model of any kind, which answers with what its head computes: logits, or a vector. The types
/// for one kind of model, such as [`Classifier`](crate::Classifier), say what that means.
///
/// It may be used from many threads at once.
pub struct Runner {
    session: Session,
}

/// What a model's head computed for one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawOutput {
    /// `[rows, width]`: one row of a classification or an embedding; one for each token of a
    /// classification of tokens or the answer to a question; one for each mask token, before the
    /// product with the vocabulary, of masked words.
    pub values: Vec<f32>,
    /// Values of a row.
    pub width: usize,
    /// Tokens that the model saw, special tokens included.
    pub tokens: usize,
    /// Whether the text was cut to what the model takes.
    pub truncated: bool,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "Runner")
    }
}

impl Runner {
    /// Maps a `.filbert` file. Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`Runner::new`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Uses a model that is open. Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], for options that this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        Session::new(model, options).map(|session| Self { session })
    }

    /// The model's shape, labels and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The model, which is no longer run.
    pub fn into_model(self) -> Model {
        self.session.model
    }

    /// The kernel set in use, such as `avx512vnni`.
    pub fn kernels(&self) -> &'static str {
        self.session.kernels.name
    }

    /// Runs texts together, without padding. Each has the output that it would have alone, to
    /// the bit.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`], if a text has more tokens than the model takes and the options
    /// do not let it be cut.
    pub fn run(&self, inputs: &[Input<'_>]) -> Result<Vec<RawOutput>, Error> {
        let mut outputs = Vec::new();
        self.run_into(inputs, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`Runner::run`], into outputs that were there before, of which there are then as many
    /// as texts.
    ///
    /// # Errors
    /// As for [`Runner::run`]; the outputs are then empty.
    pub fn run_into(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut Vec<RawOutput>,
    ) -> Result<(), Error> {
        outputs.resize_with(inputs.len(), RawOutput::default);
        self.session.answer(&self.texts(inputs), None, outputs)
    }

    /// As [`Runner::run_into`], unless it is cancelled on another thread before it is done.
    ///
    /// # Errors
    /// As for [`Runner::run`], and [`ErrorCode::Cancelled`]; the outputs are then empty.
    pub fn run_until(
        &self,
        inputs: &[Input<'_>],
        cancellation: &Cancellation,
        outputs: &mut Vec<RawOutput>,
    ) -> Result<(), Error> {
        outputs.resize_with(inputs.len(), RawOutput::default);
        self.session
            .answer(&self.texts(inputs), Some(cancellation), outputs)
    }

    fn texts<'a>(&'a self, inputs: &'a [Input<'a>]) -> Texts<'a> {
        Texts {
            session: &self.session,
            inputs,
        }
    }

    /// The tokens of a text or pair as the model sees them: see
    /// [`Classifier::tokenize`](crate::Classifier::tokenize).
    ///
    /// # Errors
    /// As for [`Runner::run`].
    pub fn tokenize(&self, input: Input<'_>) -> Result<Vec<Token>, Error> {
        self.session.tokenize(input, &self.session.encode_options())
    }

    /// Bytes of the buffers with which a text of so many tokens is computed; there are never
    /// more tokens than the model takes. The text itself is not counted.
    pub fn workspace_bytes(&self, tokens: usize) -> usize {
        self.session.workspace_bytes(tokens)
    }

    /// Runs texts, and returns what the inputs of every product were on the way.
    ///
    /// # Errors
    /// As for [`Runner::run`].
    #[doc(hidden)]
    pub fn observe(&self, inputs: &[Input<'_>]) -> Result<ObservedInputs, Error> {
        let mut outputs = vec![RawOutput::default(); inputs.len()];
        self.session.observe(&self.texts(inputs), &mut outputs)
    }

    /// Runs texts, and returns how long each step took.
    ///
    /// # Errors
    /// As for [`Runner::run`].
    #[doc(hidden)]
    pub fn profile(&self, inputs: &[Input<'_>]) -> Result<Vec<Measurement>, Error> {
        let mut outputs = vec![RawOutput::default(); inputs.len()];
        self.session.profile(&self.texts(inputs), &mut outputs)
    }

    /// Carries out `steps` steps of dot products on registers only, and returns how many
    /// multiplications they were: what one thread can do at most.
    #[doc(hidden)]
    pub fn run_peak(&self, steps: u64) -> u64 {
        self.session.kernels.run_peak(steps)
    }

    /// Recomputes the values of the texts that travel in the file and compares their bits;
    /// returns how many texts there are.
    ///
    /// # Errors
    /// [`ErrorCode::SelfTest`], with the text and the values that differ.
    pub fn self_test(&self) -> Result<usize, Error> {
        self.session.self_test()
    }

    /// What [`Runner::self_test`] computes for one text, `[self-test width]`: for the converter.
    ///
    /// # Errors
    /// As for [`Runner::run`].
    #[doc(hidden)]
    pub fn self_test_values(&self, input: Input<'_>) -> Result<Vec<f32>, Error> {
        self.session.self_test_values(input)
    }
}

impl Session {
    /// See [`Runner::self_test`].
    pub(crate) fn self_test(&self) -> Result<usize, Error> {
        let mut count = 0;
        for case in self.model.self_test_cases() {
            self.check_case(count, &case)?;
            count += 1;
        }
        Ok(count)
    }

    fn check_case(&self, number: usize, case: &Case<'_>) -> Result<(), Error> {
        let input = Input {
            first: case.first,
            second: case.second,
        };
        let values = self.self_test_values(input)?;
        let mut pairs = values.iter().zip(case.values);
        if pairs.all(|(a, b)| a.to_bits() == b.to_bits()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::SelfTest,
            format!(
                "self-test, text {number}: the {} kernels give {values:?}, the file states {:?}; verify the file, and report a defect if it is whole",
                self.kernels.name, case.values
            ),
        ))
    }

    /// The values of a text by which the file tests itself: see
    /// [`format::SelfTest`](crate::format::SelfTest).
    fn self_test_values(&self, input: Input<'_>) -> Result<Vec<f32>, Error> {
        let texts = Texts {
            session: self,
            inputs: &[input],
        };
        let mut output = [RawOutput::default()];
        self.answer(&texts, None, &mut output)?;
        let [output] = output;
        Ok(match self.model.head() {
            Head::Classification | Head::Embedding => output.values,
            Head::TokenClassification | Head::QuestionAnswering => {
                add_rows(output.values.chunks_exact(output.width), output.width)
            }
            Head::MaskedWords => match output.values.chunks_exact(output.width).next() {
                Some(row) => {
                    let mut logits = Vec::new();
                    words::multiply_vocabulary(self, row, &mut logits);
                    add_rows(logits.chunks_exact(PANEL), PANEL)
                }
                None => vec![0.0; PANEL],
            },
        })
    }
}

/// The sum of rows, in their order from 0.
fn add_rows<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sum
}

/// Texts to run.
struct Texts<'a> {
    session: &'a Session,
    inputs: &'a [Input<'a>],
}

impl Request for Texts<'_> {
    type Answer = RawOutput;

    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn bytes(&self, text: usize) -> usize {
        self.inputs[text].bytes()
    }

    fn encode(
        &self,
        text: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error> {
        let options = self.session.encode_options();
        self.session
            .encode((text, self.inputs[text]), &options, encoding, scratch)
    }

    fn write(&self, output: Output<'_>, _: &mut Vec<f32>, answer: &mut RawOutput) {
        let shape = self.session.model.shape();
        let width = match self.session.model.head() {
            Head::Embedding | Head::MaskedWords => shape.hidden,
            _ => shape.labels,
        };
        answer.width = width as usize;
        answer.tokens = output.encoded.tokens;
        answer.truncated = output.encoded.is_truncated();
        answer.values.clear();
        for row in output.rows.chunks_exact(output.width) {
            answer.values.extend_from_slice(&row[..width as usize]);
        }
    }

    fn clear(answer: &mut RawOutput) {
        answer.values.clear();
        (answer.tokens, answer.truncated) = (0, false);
    }
}
