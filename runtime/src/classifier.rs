//! Open a model, classify text.

use std::path::Path;

use crate::cancellation::{Cancellation, Stop};
use crate::error::{Error, ErrorCode};
use crate::executor::Executor;
use crate::format::padded;
use crate::kernels::matrix::{Chunks, Runs};
use crate::kernels::{self, Kernels};
use crate::model::Model;
use crate::observation::ObservedInputs;
use crate::profile::{Measurement, Profile};
use crate::tokenizer::{EncodeOptions, Token, Truncation};
use crate::workers::Workers;
use crate::workspace::{Pool, Workspace};
use crate::{embedding, encoder, head};

/// How a [`Classifier`] works and which categories it returns.
#[derive(Clone, Debug)]
pub struct Options {
    threads: usize,
    truncation: Truncation,
    max_results: usize,
    score_threshold: f32,
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            truncation: Truncation::default(),
            max_results: usize::MAX,
            score_threshold: f32::NEG_INFINITY,
            allowed: Vec::new(),
            denied: Vec::new(),
        }
    }
}

impl Options {
    /// One thread, truncation, all categories.
    pub fn new() -> Self {
        Self::default()
    }

    /// Threads that work on a call, the caller's included. The results do not depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// What to do with long texts.
    #[must_use]
    pub fn truncation(mut self, truncation: Truncation) -> Self {
        self.truncation = truncation;
        self
    }

    /// At most this many categories, the best ones.
    #[must_use]
    pub fn max_results(mut self, count: usize) -> Self {
        self.max_results = count;
        self
    }

    /// Only categories with at least this score.
    #[must_use]
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = score;
        self
    }

    /// Only these labels. Excludes [`Options::deny_labels`].
    #[must_use]
    pub fn allow_labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.allowed = labels.into_iter().map(Into::into).collect();
        self
    }

    /// All labels but these. Excludes [`Options::allow_labels`].
    #[must_use]
    pub fn deny_labels<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.denied = labels.into_iter().map(Into::into).collect();
        self
    }
}

/// A text, or a pair of texts, to classify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'a> {
    first: &'a str,
    second: Option<&'a str>,
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

/// One label of the model and how well it fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Category<'a> {
    /// The label's place among the model's labels.
    pub index: usize,
    /// The label's name.
    pub label: &'a str,
    /// A probability; of a regression model, the logit.
    pub score: f32,
}

/// What the model says of one text.
///
/// The default is an empty one, whose memory [`Classifier::classify_into`] uses again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classification<'a> {
    categories: Vec<Category<'a>>,
    logits: Vec<f32>,
    tokens: usize,
    truncated: bool,
}

impl<'a> Classification<'a> {
    fn clear(&mut self) {
        self.categories.clear();
        self.logits.clear();
        self.tokens = 0;
        self.truncated = false;
    }

    /// The categories that the options let through, the best first.
    pub fn categories(&self) -> &[Category<'a>] {
        &self.categories
    }

    /// The model's raw answer, `[labels]`, whatever the options.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Tokens that the model saw, special tokens included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether the text was cut to what the model takes.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// A model ready to classify. It may be used from many threads at once.
pub struct Classifier {
    model: Model,
    kernels: &'static Kernels,
    workers: Workers,
    truncation: Truncation,
    max_results: usize,
    score_threshold: f32,
    /// The labels that may be returned, by index.
    returned: Vec<usize>,
    workspaces: Pool,
    closed: Cancellation,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("shape", self.model.shape())
            .field("kernels", &self.kernels.name)
            .field("threads", &self.workers.threads())
            .finish_non_exhaustive()
    }
}

/// Tokens after which a batch is computed: enough rows for the widest tiles, and few enough for
/// their activations to stay in the second-level cache.
const TOKENS_PER_RUN: usize = 256;

/// Tokens of a thread below which a batch is not divided by texts: too few rows for the tiles.
const FEW_TOKENS: usize = 24;

/// Multiplications of a layer below which texts stay on one thread: some ten microseconds.
const FEW: u64 = 2_000_000;

impl Classifier {
    /// Maps a `.filbert` file, with the default options.
    ///
    /// # Errors
    /// Those of [`Model::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &Options::default())
    }

    /// Maps a `.filbert` file.
    ///
    /// # Errors
    /// Those of [`Model::open`], and [`ErrorCode::InvalidArgument`] for options that the model
    /// or this machine cannot serve.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Copies a `.filbert` file's bytes.
    ///
    /// # Errors
    /// Those of [`Model::from_bytes`], and [`ErrorCode::InvalidArgument`].
    pub fn from_bytes(bytes: impl AsRef<[u8]>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::from_bytes(bytes)?, options)
    }

    /// Uses a model that is open.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`].
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
        if options.max_results == 0 {
            return Err(invalid("max results: expected at least 1, found 0".into()));
        }
        if options.score_threshold.is_nan() {
            return Err(invalid(
                "score threshold: expected a number, found NaN".into(),
            ));
        }
        let returned = select_labels(&model, options)?;
        let workers = Workers::with_threads(options.threads)?;
        Ok(Self {
            kernels: kernels::select()?,
            workers,
            truncation: options.truncation,
            max_results: options.max_results,
            score_threshold: options.score_threshold,
            returned,
            workspaces: Pool::new(options.threads),
            closed: Cancellation::new(),
            model,
        })
    }

    /// The model's shape, labels and sections.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, which is no longer classified with.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The kernel set in use, such as `avx512vnni`.
    pub fn kernels(&self) -> &'static str {
        self.kernels.name
    }

    /// Classifies one text.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`], if the text has more tokens than the model takes and the
    /// options do not let it be cut.
    pub fn classify(&self, text: &str) -> Result<Classification<'_>, Error> {
        self.classify_one(text.into())
    }

    /// Classifies a pair of texts, such as a premise and a hypothesis.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    pub fn classify_pair(&self, first: &str, second: &str) -> Result<Classification<'_>, Error> {
        self.classify_one((first, second).into())
    }

    fn classify_one(&self, input: Input<'_>) -> Result<Classification<'_>, Error> {
        let mut result = Classification::default();
        self.classify_into(input, &mut result)?;
        Ok(result)
    }

    /// Classifies a text or a pair into a result that was there before. Once texts as long have
    /// been classified, this allocates nothing, unless a word has more than 64 KiB.
    ///
    /// # Errors
    /// As for [`Classifier::classify`]; the result is then empty.
    pub fn classify_into<'a>(
        &'a self,
        input: Input<'_>,
        result: &mut Classification<'a>,
    ) -> Result<(), Error> {
        self.classify_all(&[input], None, std::slice::from_mut(result))
    }

    /// Classifies many texts together, without padding. Each has the result that it would have
    /// alone, to the bit.
    ///
    /// # Errors
    /// As for [`Classifier::classify`]; the first text that fails ends the batch.
    pub fn classify_batch(&self, inputs: &[Input<'_>]) -> Result<Vec<Classification<'_>>, Error> {
        let mut results = Vec::new();
        self.classify_batch_into(inputs, &mut results)?;
        Ok(results)
    }

    /// As [`Classifier::classify_batch`], into results that were there before, of which there
    /// are then as many as texts. Once such a batch has been classified, this allocates nothing.
    ///
    /// # Errors
    /// As for [`Classifier::classify_batch`]; the results are then empty.
    pub fn classify_batch_into<'a>(
        &'a self,
        inputs: &[Input<'_>],
        results: &mut Vec<Classification<'a>>,
    ) -> Result<(), Error> {
        results.resize_with(inputs.len(), Classification::default);
        self.classify_all(inputs, None, results)
    }

    /// As [`Classifier::classify_batch_into`], unless it is cancelled on another thread before it
    /// is done.
    ///
    /// # Errors
    /// As for [`Classifier::classify_batch`], and [`ErrorCode::Cancelled`]; the results are then
    /// empty.
    pub fn classify_batch_until<'a>(
        &'a self,
        inputs: &[Input<'_>],
        cancellation: &Cancellation,
        results: &mut Vec<Classification<'a>>,
    ) -> Result<(), Error> {
        results.resize_with(inputs.len(), Classification::default);
        self.classify_all(inputs, Some(cancellation), results)
    }

    /// Ends the calls that run on other threads, within the time of one layer of the model, and
    /// lets no later one begin: they fail with [`ErrorCode::Closed`]. The memory is given back
    /// when the classifier is dropped.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn classify_all<'a>(
        &'a self,
        inputs: &[Input<'_>],
        cancelled: Option<&Cancellation>,
        results: &mut [Classification<'a>],
    ) -> Result<(), Error> {
        let stop = Stop {
            closed: Some(&self.closed),
            cancelled,
        };
        let mut workspace = self.workspaces.take();
        let outcome = if divide_batch(inputs, self.workers.threads(), &mut workspace.runs) {
            self.classify_divided(inputs, stop, &mut workspace, results)
        } else {
            self.classify_run(self.executor(stop), inputs, 0, &mut workspace, results)
        };
        self.workspaces.put_back(workspace);
        if outcome.is_err() {
            results.iter_mut().for_each(Classification::clear);
        }
        outcome
    }

    /// Classifies the runs of a batch that the workspace names. Each thread takes whole texts:
    /// then there is nothing to wait for between the steps.
    fn classify_divided<'a>(
        &'a self,
        inputs: &[Input<'_>],
        stop: Stop<'_>,
        workspace: &mut Workspace,
        results: &mut [Classification<'a>],
    ) -> Result<(), Error> {
        let Workspace {
            runs,
            outcomes,
            parts,
            ..
        } = workspace;
        let threads = self.workers.threads();
        parts.resize_with(threads, || Workspace::new(1));
        outcomes.clear();
        outcomes.resize_with(runs.len() - 1, || Ok(()));
        self.workers.run(
            outcomes.len(),
            parts,
            (Runs::new(results, runs), Chunks::new(outcomes, 1)),
            |number, workspace, (results, outcome)| {
                let first = runs[number];
                let inputs = &inputs[first..first + results.len()];
                let alone = Executor::alone(self.kernels, stop);
                outcome[0] = self.classify_run(alone, inputs, first, workspace, results);
            },
        );
        outcomes.drain(..).collect()
    }

    /// All threads.
    fn executor<'a>(&'a self, stop: Stop<'a>) -> Executor<'a> {
        Executor {
            kernels: self.kernels,
            workers: Some(&self.workers),
            stop,
        }
    }

    /// Classifies texts, some tokens together; `first` is the number of the first one.
    fn classify_run<'a>(
        &'a self,
        executor: Executor<'_>,
        inputs: &[Input<'_>],
        first: usize,
        workspace: &mut Workspace,
        results: &mut [Classification<'a>],
    ) -> Result<(), Error> {
        let encode_options = self.encode_options();
        let tokenizer = self.model.tokenizer();
        let labels = self.model.shape().labels as usize;
        let mut next = 0;
        executor.stop.check()?;
        while next < inputs.len() {
            let before = next;
            workspace.encoding.clear();
            workspace.boundaries.clear();
            workspace.boundaries.push(0);
            while next < inputs.len() && workspace.encoding.ids.len() < TOKENS_PER_RUN {
                let input = inputs[next];
                let encoded = tokenizer.encode(
                    input.first,
                    input.second,
                    &encode_options,
                    &mut workspace.encoding,
                    &mut workspace.scratch,
                );
                let encoded = encoded.map_err(|too_long| too_long.into_error(first + next))?;
                workspace.boundaries.push(workspace.encoding.ids.len());
                results[next].tokens = encoded.tokens;
                results[next].truncated = encoded.untruncated_tokens > encoded.tokens;
                next += 1;
            }
            if let Some(profile) = &mut workspace.profile {
                profile.end_step("tokenize", 0, 0);
            }
            self.run(executor, workspace);
            executor.stop.check()?;
            let texts = next - before;
            let rows = workspace
                .logits
                .first(texts * padded(labels))
                .chunks_exact(padded(labels));
            for (result, row) in results[before..next].iter_mut().zip(rows) {
                self.write_result(&row[..labels], &mut workspace.scores, result);
            }
        }
        Ok(())
    }

    /// From the tokens in the workspace to the logits in it, unless the call is to stop. Few
    /// tokens of a small model stay on one thread, since waiting for another would take longer.
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
        encoder::encode(executor, &self.model, workspace);
        if executor.stop.is_requested() {
            return;
        }
        head::compute_logits(executor, &self.model, workspace);
        if let Some(profile) = &mut workspace.profile {
            let shape = self.model.shape();
            let weights = (shape.hidden * (shape.hidden + shape.labels)) as usize;
            profile.end_step("head", workspace.scales.len() * weights, weights);
        }
    }

    /// Writes the logits of a text and the categories that follow from them.
    fn write_result<'a>(
        &'a self,
        logits: &[f32],
        scores: &mut Vec<f32>,
        result: &mut Classification<'a>,
    ) {
        result.logits.clear();
        result.logits.extend_from_slice(logits);
        scores.clear();
        scores.extend_from_slice(logits);
        head::score(self.kernels, self.model.problem(), scores);
        let categories = &mut result.categories;
        categories.clear();
        let returned = self.returned.iter().map(|&index| (index, scores[index]));
        categories.extend(
            returned
                .filter(|(_, score)| *score >= self.score_threshold)
                .map(|(index, score)| Category {
                    index,
                    label: self.model.label(index),
                    score,
                }),
        );
        categories.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        categories.truncate(self.max_results);
    }

    /// Bytes of the buffers with which this classifier computes a text of so many tokens; there
    /// are never more tokens than the model takes. The text itself is not counted.
    pub fn workspace_bytes(&self, tokens: usize) -> usize {
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

    /// The tokens of a text or pair as the model sees them, special tokens included, and the
    /// bytes of the text that each stands for: those of Hugging Face's `tokenizers`.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    pub fn tokenize(&self, input: Input<'_>) -> Result<Vec<Token>, Error> {
        let mut workspace = self.workspaces.take();
        workspace.encoding.clear();
        let options = EncodeOptions {
            offsets: true,
            ..self.encode_options()
        };
        let encoded = self.model.tokenizer().encode(
            input.first,
            input.second,
            &options,
            &mut workspace.encoding,
            &mut workspace.scratch,
        );
        let tokens = workspace.encoding.tokens();
        self.workspaces.put_back(workspace);
        encoded.map_err(|too_long| too_long.into_error(0))?;
        Ok(tokens)
    }

    /// How texts are encoded to be classified.
    fn encode_options(&self) -> EncodeOptions {
        EncodeOptions {
            max_tokens: self.model.shape().max_tokens as usize,
            truncation: self.truncation,
            offsets: false,
        }
    }

    /// Classifies texts and returns what the inputs of every product were on the way.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    #[doc(hidden)]
    pub fn observe(&self, inputs: &[Input<'_>]) -> Result<ObservedInputs, Error> {
        let mut workspace = self.workspaces.take();
        let layers = self.model.shape().layers as usize;
        workspace.observed = Some(ObservedInputs::new(layers));
        let alone = Executor::alone(self.kernels, Stop::default());
        let mut results = vec![Classification::default(); inputs.len()];
        self.classify_run(alone, inputs, 0, &mut workspace, &mut results)?;
        Ok(workspace.observed.unwrap_or_default())
    }

    /// Classifies texts and returns how long each step took.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    #[doc(hidden)]
    pub fn profile(&self, inputs: &[Input<'_>]) -> Result<Vec<Measurement>, Error> {
        let mut workspace = self.workspaces.take();
        workspace.profile = Some(Profile::start());
        for thread in &mut workspace.threads {
            thread.profile = Some(Profile::start());
        }
        let executor = self.executor(Stop::default());
        let mut results = vec![Classification::default(); inputs.len()];
        let outcome = self.classify_run(executor, inputs, 0, &mut workspace, &mut results);
        for thread in &mut workspace.threads {
            thread.profile = None;
        }
        let profile = workspace.profile.take();
        self.workspaces.put_back(workspace);
        outcome.map(|()| profile.map_or_else(Vec::new, Profile::into_measurements))
    }

    /// Carries out `steps` steps of dot products on registers only, and returns how many
    /// multiplications they were: what one thread can do at most.
    #[doc(hidden)]
    pub fn run_peak(&self, steps: u64) -> u64 {
        self.kernels.run_peak(steps)
    }

    /// Recomputes the logits of the texts that travel in the file and compares their bits;
    /// returns how many texts there are.
    ///
    /// # Errors
    /// [`ErrorCode::SelfTest`], with the text and the logits that differ.
    pub fn self_test(&self) -> Result<usize, Error> {
        let mut count = 0;
        for case in self.model.self_test_cases() {
            let input = Input {
                first: case.first,
                second: case.second,
            };
            let logits = self.classify_one(input)?.logits;
            let same = logits
                .iter()
                .zip(case.logits)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            if !same {
                return Err(Error::new(
                    ErrorCode::SelfTest,
                    format!(
                        "self-test, text {count}: the {} kernels give {logits:?}, the file states {:?}; verify the file, and report a defect if it is whole",
                        self.kernels.name, case.logits
                    ),
                ));
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Divides a batch into runs of texts of about as many tokens, as many runs for each thread, and
/// writes where each begins and where the last one ends. False, if the texts are too few or too
/// uneven for that.
fn divide_batch(inputs: &[Input<'_>], threads: usize, runs: &mut Vec<usize>) -> bool {
    // Four bytes make a token, roughly, and a text has two of its own.
    let tokens = |input: &Input<'_>| {
        let bytes = input.first.len() + input.second.map_or(0, str::len);
        2 + bytes / 4
    };
    if threads == 1 || inputs.len() < threads {
        return false;
    }
    let total: usize = inputs.iter().map(tokens).sum();
    if total < threads * FEW_TOKENS {
        return false;
    }
    let count = total.div_ceil(threads * TOKENS_PER_RUN) * threads;
    let target = total.div_ceil(count);
    // A run ends with the text that fills it, so only a long text makes a heavy run.
    if inputs.iter().any(|input| tokens(input) > target) && count == threads {
        return false;
    }
    runs.clear();
    runs.push(0);
    let mut sum = 0;
    for (end, input) in (1..).zip(inputs) {
        sum += tokens(input);
        if sum >= target || end == inputs.len() {
            runs.push(end);
            sum = 0;
        }
    }
    true
}

/// The indices of the labels that may be returned.
fn select_labels(model: &Model, options: &Options) -> Result<Vec<usize>, Error> {
    let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
    if !options.allowed.is_empty() && !options.denied.is_empty() {
        return Err(invalid(
            "labels: expected an allow list or a deny list, found both".into(),
        ));
    }
    let named = |label: &str| {
        options
            .allowed
            .iter()
            .chain(&options.denied)
            .any(|name| name == label)
    };
    for name in options.allowed.iter().chain(&options.denied) {
        if !model.labels().any(|label| label == name) {
            let known: Vec<_> = model.labels().collect();
            return Err(invalid(format!(
                "label {name:?}: the model has no such label; it has {}",
                known.join(", ")
            )));
        }
    }
    let wanted = options.denied.is_empty();
    Ok(model
        .labels()
        .enumerate()
        .filter(|(_, label)| (options.allowed.is_empty() && wanted) || named(label) == wanted)
        .map(|(index, _)| index)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `filbert selftest --texts` has it, for a kernel set that is never selected.
    #[test]
    #[cfg(target_arch = "x86_64")]
    #[ignore = "needs texts on standard input, FILBERT_FILE and their FILBERT_FINGERPRINT"]
    fn the_tiles_of_avxvnni_give_the_fingerprint_of_other_sets() {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let texts = std::io::read_to_string(std::io::stdin()).unwrap();
        let mut classifier = Classifier::open(variable("FILBERT_FILE")).unwrap();
        classifier.kernels = kernels::avxvnni_by_avx512vl().expect("a CPU with AVX-512 VNNI");
        let hash = texts.lines().fold(0xcbf2_9ce4_8422_2325_u64, |hash, line| {
            let input = line.split_once('\t').map_or(line.into(), Input::from);
            let result = classifier.classify_one(input).unwrap();
            let bytes = result.logits().iter().flat_map(|logit| logit.to_le_bytes());
            bytes.fold(hash, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        });
        println!("{}: fingerprint {hash:016x}", classifier.kernels());
        assert_eq!(format!("{hash:016x}"), variable("FILBERT_FINGERPRINT"));
    }

    #[test]
    fn a_batch_is_divided_evenly_and_whole() {
        let text = "x".repeat(88);
        let inputs = |count: usize| vec![Input::from(text.as_str()); count];
        let divide = |inputs: &[Input<'_>], threads| {
            let mut runs = vec![7];
            divide_batch(inputs, threads, &mut runs).then_some(runs)
        };
        assert_eq!(divide(&inputs(1), 2), None);
        assert_eq!(divide(&inputs(2), 4), None);
        assert_eq!(divide(&inputs(8), 1), None);
        assert_eq!(divide(&[Input::from("a"); 16], 2), None);
        assert_eq!(divide(&inputs(2), 2), Some(vec![0, 1, 2]));
        assert_eq!(divide(&inputs(8), 2), Some(vec![0, 4, 8]));
        // One thread would have nearly all of it.
        let long = text.repeat(10);
        let mut uneven = inputs(8);
        uneven[7] = Input::from(long.as_str());
        assert_eq!(divide(&uneven, 4), None);
        for (count, threads) in [(100, 2), (101, 3), (7, 5)] {
            let runs = divide(&inputs(count), threads).unwrap();
            assert_eq!((runs[0], runs.last()), (0, Some(&count)));
            let lengths = runs.windows(2).map(|run| run[1] - run[0]);
            assert!(lengths.clone().all(|length| length > 0));
            assert!(lengths.map(|length| length * 24).max() <= Some(TOKENS_PER_RUN + 24));
        }
    }
}
