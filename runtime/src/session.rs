//! One model, its kernels and its threads: from texts to what the model's head makes of them.
//!
//! What a caller asks is a [`Request`]: it knows its texts, and what to keep of the answers.

use std::fmt;
use std::ops::Range;

use crate::cancellation::{Cancellation, Stop};
use crate::classifier::Options;
use crate::error::Error;
use crate::executor::Executor;
use crate::format::padded;
use crate::head::HeadRows;
use crate::head::embedding::Features;
use crate::kernels::matrix::{Chunks, Runs};
use crate::kernels::{self, Kernels};
use crate::model::Model;
use crate::observation::ObservedInputs;
use crate::profile::{Measurement, Profile};
use crate::tokenizer::{EncodeOptions, Encoded, Encoding, Scratch, Token, Truncation};
use crate::workers::Workers;
use crate::workspace::{Pool, Workspace};
use crate::{embedding, encoder, head};

/// A text, or a pair of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'a> {
    pub(crate) first: &'a str,
    pub(crate) second: Option<&'a str>,
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(text: &'a str) -> Self {
        Self {
            first: text,
            second: None,
        }
    }
}

impl<'a> From<(&'a str, &'a str)> for Input<'a> {
    fn from((first, second): (&'a str, &'a str)) -> Self {
        Self {
            first,
            second: Some(second),
        }
    }
}

impl Input<'_> {
    /// Bytes of the text or of both.
    pub(crate) fn bytes(&self) -> usize {
        self.first.len() + self.second.map_or(0, str::len)
    }
}

/// Texts, and what becomes of their answers.
pub(crate) trait Request: Sync {
    /// What is kept of one text.
    type Answer: Send;

    /// How many texts.
    fn len(&self) -> usize;

    /// Bytes of a text: roughly how much work it is.
    fn bytes(&self, text: usize) -> usize;

    /// Appends the tokens of a text.
    fn encode(
        &self,
        text: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error>;

    /// Keeps what the head made of a text. `scores` is memory for one row.
    fn write(&self, output: Output<'_>, scores: &mut Vec<f32>, answer: &mut Self::Answer);

    /// Forgets an answer, since the call failed.
    fn clear(answer: &mut Self::Answer);
}

/// What the head made of one text.
pub(crate) struct Output<'a> {
    /// The text's number in the request.
    pub(crate) text: usize,
    pub(crate) encoded: Encoded,
    /// The tokens of all texts that were run together.
    encoding: &'a Encoding,
    /// Which of them are this text's.
    tokens: Range<usize>,
    /// `[rows, width]`: one row of a classification or an embedding, one for each token, or one
    /// for each mask token.
    pub(crate) rows: &'a [f32],
    /// Values of a row, padded.
    pub(crate) width: usize,
}

impl Output<'_> {
    /// The tokens, if their offsets were asked for.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.encoding.tokens_in(self.tokens.clone())
    }
}

/// A model that is open, and what it is run with.
pub(crate) struct Session {
    pub(crate) model: Model,
    pub(crate) kernels: &'static Kernels,
    pub(crate) workers: Workers,
    /// Of the encoder, in place of what the model's head computes.
    features: Option<Features>,
    truncation: Truncation,
    workspaces: Pool,
    closed: Cancellation,
}

/// Tokens after which a batch is computed: enough rows for the widest tiles, and few enough for
/// their activations to stay in the second-level cache.
const TOKENS_PER_RUN: usize = 256;

/// Tokens of a thread below which a batch is not divided by texts: too few rows for the tiles.
const FEW_TOKENS: usize = 24;

/// Multiplications of a layer below which texts stay on one thread: some ten microseconds.
const FEW: u64 = 2_000_000;

impl Session {
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), if there cannot be as many threads.
    pub(crate) fn new(model: Model, options: &Options) -> Result<Self, Error> {
        let threads = options.threads;
        let workers = Workers::with_threads(threads)?;
        Ok(Self {
            kernels: kernels::select()?,
            workers,
            features: None,
            truncation: options.truncation,
            workspaces: Pool::new(threads),
            closed: Cancellation::new(),
            model,
        })
    }

    /// The same, with the encoder's features as the output of a text.
    pub(crate) fn with_features(mut self, features: Features) -> Self {
        self.features = Some(features);
        self
    }

    /// What is told of a type that has a session.
    pub(crate) fn debug(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("shape", self.model.shape())
            .field("kernels", &self.kernels.name)
            .field("threads", &self.workers.threads())
            .finish_non_exhaustive()
    }

    /// Ends the calls that run on other threads, and lets no later one begin.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// How texts are encoded.
    pub(crate) fn encode_options(&self) -> EncodeOptions {
        EncodeOptions {
            max_tokens: self.model.shape().max_tokens as usize,
            truncation: self.truncation,
            offsets: false,
        }
    }

    /// Appends the tokens of the text with this number.
    pub(crate) fn encode(
        &self,
        (text, input): (usize, Input<'_>),
        options: &EncodeOptions,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error> {
        self.model
            .tokenizer()
            .encode(input.first, input.second, options, encoding, scratch)
            .map_err(|too_long| too_long.into_error(text))
    }

    /// The tokens of a text or pair with their offsets.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`](crate::ErrorCode).
    pub(crate) fn tokenize(
        &self,
        input: Input<'_>,
        options: &EncodeOptions,
    ) -> Result<Vec<Token>, Error> {
        let mut workspace = self.workspaces.take();
        workspace.encoding.clear();
        let options = EncodeOptions {
            offsets: true,
            ..*options
        };
        let encoded = self.encode(
            (0, input),
            &options,
            &mut workspace.encoding,
            &mut workspace.scratch,
        );
        let tokens = workspace.encoding.tokens();
        self.workspaces.put_back(workspace);
        encoded.map(|_| tokens)
    }

    /// Answers a request of as many texts as there are answers.
    ///
    /// # Errors
    /// What the request's `encode` returns, [`ErrorCode::Cancelled`](crate::ErrorCode) and
    /// [`ErrorCode::Closed`](crate::ErrorCode); the answers are then cleared.
    pub(crate) fn answer<R: Request>(
        &self,
        request: &R,
        cancelled: Option<&Cancellation>,
        answers: &mut [R::Answer],
    ) -> Result<(), Error> {
        let stop = Stop {
            closed: Some(&self.closed),
            cancelled,
        };
        let mut workspace = self.workspaces.take();
        let threads = self.workers.threads();
        let outcome = if divide_batch(request, threads, &mut workspace.runs) {
            self.answer_divided(request, stop, &mut workspace, answers)
        } else {
            let executor = self.executor(stop);
            self.answer_run(executor, request, 0, &mut workspace, answers)
        };
        self.workspaces.put_back(workspace);
        if outcome.is_err() {
            answers.iter_mut().for_each(R::clear);
        }
        outcome
    }

    /// Answers the runs of a batch that the workspace names. Each thread takes whole texts: then
    /// there is nothing to wait for between the steps.
    fn answer_divided<R: Request>(
        &self,
        request: &R,
        stop: Stop<'_>,
        workspace: &mut Workspace,
        answers: &mut [R::Answer],
    ) -> Result<(), Error> {
        let Workspace {
            runs,
            outcomes,
            parts,
            ..
        } = workspace;
        parts.resize_with(self.workers.threads(), || Workspace::new(1));
        outcomes.clear();
        outcomes.resize_with(runs.len() - 1, || Ok(()));
        self.workers.run(
            outcomes.len(),
            parts,
            (Runs::new(answers, runs), Chunks::new(outcomes, 1)),
            |number, workspace, (answers, outcome)| {
                let alone = Executor::alone(self.kernels, stop);
                outcome[0] = self.answer_run(alone, request, runs[number], workspace, answers);
            },
        );
        outcomes.drain(..).collect()
    }

    /// All threads.
    pub(crate) fn executor<'a>(&'a self, stop: Stop<'a>) -> Executor<'a> {
        Executor {
            kernels: self.kernels,
            workers: Some(&self.workers),
            stop,
        }
    }

    /// Answers texts from number `first` on, some tokens together.
    fn answer_run<R: Request>(
        &self,
        executor: Executor<'_>,
        request: &R,
        first: usize,
        workspace: &mut Workspace,
        answers: &mut [R::Answer],
    ) -> Result<(), Error> {
        let mut next = 0;
        executor.stop.check()?;
        while next < answers.len() {
            let before = next;
            workspace.clear_texts();
            while next < answers.len() && workspace.encoding.ids.len() < TOKENS_PER_RUN {
                let encoded = request.encode(
                    first + next,
                    &mut workspace.encoding,
                    &mut workspace.scratch,
                )?;
                workspace.encoded.push(encoded);
                workspace.boundaries.push(workspace.encoding.ids.len());
                next += 1;
            }
            if let Some(profile) = &mut workspace.profile {
                profile.end_step("tokenize", 0, 0);
            }
            self.run(executor, workspace);
            executor.stop.check()?;
            let width = match self.features {
                Some(_) => padded(self.model.shape().hidden as usize),
                None => head::output_width(&self.model),
            };
            let rows = workspace.output_boundaries.last().copied().unwrap_or(0);
            let outputs = workspace.outputs.first(rows * width);
            for (text, answer) in answers[before..next].iter_mut().enumerate() {
                let tokens = workspace.boundaries[text]..workspace.boundaries[text + 1];
                let rows = workspace.output_boundaries[text]..workspace.output_boundaries[text + 1];
                let output = Output {
                    text: first + before + text,
                    encoded: workspace.encoded[text],
                    encoding: &workspace.encoding,
                    tokens,
                    rows: &outputs[rows.start * width..rows.end * width],
                    width,
                };
                request.write(output, &mut workspace.scores, answer);
            }
        }
        Ok(())
    }

    /// From the tokens in the workspace to the head's output in it, unless the call is to stop.
    /// Few tokens of a small model stay on one thread, since waiting for another would take
    /// longer.
    fn run(&self, executor: Executor<'_>, workspace: &mut Workspace) {
        let tokens = workspace.encoding.ids.len();
        let executor = match tokens as u64 * self.model.shape().layer_multiplications() < FEW {
            true => Executor::alone(executor.kernels, executor.stop),
            false => executor,
        };
        workspace.scales.clear();
        workspace.scales.resize(tokens, Default::default());
        embedding::embed(executor, &self.model, workspace);
        if let Some(profile) = &mut workspace.profile {
            // Bytes and words of the tables, floats and bytes of the rows.
            let values = workspace.scales.len() * self.model.shape().hidden as usize;
            profile.end_step("embed", 0, values * 10);
        }
        let head_rows = match self.features {
            Some(features) => features.rows(),
            None => HeadRows::of(&self.model),
        };
        encoder::encode(executor, &self.model, head_rows, workspace);
        if executor.stop.is_requested() {
            return;
        }
        match self.features {
            Some(features) => head::embedding::compute(&self.model, features, workspace),
            None => head::compute(executor, &self.model, workspace),
        }
        if let Some(profile) = &mut workspace.profile {
            let weights = match self.features {
                Some(_) => 0,
                None => head::multiplications(&self.model),
            };
            let rows = workspace.output_boundaries.last().copied().unwrap_or(0);
            profile.end_step("head", rows * weights, weights);
        }
    }

    /// Bytes of the buffers with which a text of so many tokens is computed; there are never
    /// more tokens than the model takes. The text itself is not counted.
    pub(crate) fn workspace_bytes(&self, tokens: usize) -> usize {
        let tokens = tokens.clamp(1, self.model.shape().max_tokens as usize);
        let mut workspace = Workspace::new(self.workers.threads());
        workspace.encoding.ids.resize(tokens, 0);
        workspace.encoding.token_types.resize(tokens, 0);
        workspace.boundaries.extend([0, tokens]);
        let dry = Executor {
            kernels: &kernels::DRY,
            ..self.executor(Stop::default())
        };
        self.run(dry, &mut workspace);
        workspace.make_threads_equal();
        workspace.bytes()
    }

    /// Answers a request on one thread, and returns what the inputs of every product were on
    /// the way.
    pub(crate) fn observe<R: Request>(
        &self,
        request: &R,
        answers: &mut [R::Answer],
    ) -> Result<ObservedInputs, Error> {
        let mut workspace = self.workspaces.take();
        let layers = self.model.shape().layers as usize;
        workspace.observed = Some(ObservedInputs::new(layers));
        let alone = Executor::alone(self.kernels, Stop::default());
        self.answer_run(alone, request, 0, &mut workspace, answers)?;
        Ok(workspace.observed.unwrap_or_default())
    }

    /// Answers a request, and returns how long each step took.
    pub(crate) fn profile<R: Request>(
        &self,
        request: &R,
        answers: &mut [R::Answer],
    ) -> Result<Vec<Measurement>, Error> {
        let mut workspace = self.workspaces.take();
        workspace.profile = Some(Profile::start());
        for thread in &mut workspace.threads {
            thread.profile = Some(Profile::start());
        }
        let executor = self.executor(Stop::default());
        let outcome = self.answer_run(executor, request, 0, &mut workspace, answers);
        for thread in &mut workspace.threads {
            thread.profile = None;
        }
        let profile = workspace.profile.take();
        self.workspaces.put_back(workspace);
        outcome.map(|()| profile.map_or_else(Vec::new, Profile::into_measurements))
    }
}

/// Divides a batch into runs of texts of about as many tokens, as many runs for each thread, and
/// writes where each begins and where the last one ends. False, if the texts are too few or too
/// uneven for that.
fn divide_batch(request: &impl Request, threads: usize, runs: &mut Vec<usize>) -> bool {
    // Four bytes make a token, roughly, and a text has two of its own.
    let tokens = |text: usize| 2 + request.bytes(text) / 4;
    let texts = request.len();
    if threads == 1 || texts < threads {
        return false;
    }
    let total: usize = (0..texts).map(tokens).sum();
    if total < threads * FEW_TOKENS {
        return false;
    }
    let count = total.div_ceil(threads * TOKENS_PER_RUN) * threads;
    let target = total.div_ceil(count);
    // A run ends with the text that fills it, so only a long text makes a heavy run.
    if (0..texts).any(|text| tokens(text) > target) && count == threads {
        return false;
    }
    runs.clear();
    runs.push(0);
    let mut sum = 0;
    for text in 0..texts {
        sum += tokens(text);
        if sum >= target || text + 1 == texts {
            runs.push(text + 1);
            sum = 0;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of these lengths in bytes, of which nothing is asked.
    struct Lengths(Vec<usize>);

    impl Request for Lengths {
        type Answer = ();

        fn len(&self) -> usize {
            self.0.len()
        }

        fn bytes(&self, text: usize) -> usize {
            self.0[text]
        }

        fn encode(&self, _: usize, _: &mut Encoding, _: &mut Scratch) -> Result<Encoded, Error> {
            unreachable!("nothing is encoded")
        }

        fn write(&self, _: Output<'_>, _: &mut Vec<f32>, (): &mut ()) {}

        fn clear((): &mut ()) {}
    }

    #[test]
    fn a_batch_is_divided_evenly_and_whole() {
        let divide = |lengths: &[usize], threads| {
            let mut runs = vec![7];
            divide_batch(&Lengths(lengths.to_vec()), threads, &mut runs).then_some(runs)
        };
        assert_eq!(divide(&[88], 2), None);
        assert_eq!(divide(&[88; 2], 4), None);
        assert_eq!(divide(&[88; 8], 1), None);
        assert_eq!(divide(&[1; 16], 2), None);
        assert_eq!(divide(&[88; 2], 2), Some(vec![0, 1, 2]));
        assert_eq!(divide(&[88; 8], 2), Some(vec![0, 4, 8]));
        // One thread would have nearly all of it.
        let mut uneven = vec![88; 8];
        uneven[7] = 880;
        assert_eq!(divide(&uneven, 4), None);
        for (count, threads) in [(100, 2), (101, 3), (7, 5)] {
            let runs = divide(&vec![88; count], threads).unwrap();
            assert_eq!((runs[0], runs.last()), (0, Some(&count)));
            let lengths = runs.windows(2).map(|run| run[1] - run[0]);
            assert!(lengths.clone().all(|length| length > 0));
            assert!(lengths.map(|length| length * 24).max() <= Some(TOKENS_PER_RUN + 24));
        }
    }
}
