//! Open a model, classify text.

use std::path::Path;

use crate::cancellation::Cancellation;
use crate::error::{Error, ErrorCode};
use crate::format::{Head, Problem};
use crate::head::classification::score;
use crate::head::trained::TrainedHead;
use crate::model::Model;
use crate::profile::Measurement;
use crate::session::{Input, Output, Request, Session};
use crate::tokenizer::{Encoded, Encoding, Scratch, Token, Truncation};

/// How a [`Classifier`] works and which categories it returns.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) threads: usize,
    pub(crate) truncation: Truncation,
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
    session: Session,
    /// In place of the model's own.
    head: Option<TrainedHead>,
    max_results: usize,
    score_threshold: f32,
    /// The labels that may be returned, by index.
    returned: Vec<usize>,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "Classifier")
    }
}

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
    /// [`ErrorCode::InvalidArgument`], if the model is for something else than classification,
    /// or for options that it or this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        model.check_head(Head::Classification, "Classifier")?;
        let labels: Vec<&str> = model.labels().collect();
        let returned = select_labels(&labels, options)?;
        Self::with_session(Session::new(model, options)?, None, returned, options)
    }

    /// Uses the encoder of a model of any kind with a head that was trained on it: labels and
    /// logits are the head's.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], if the head was trained on another encoder, or for options
    /// that it or this machine cannot serve.
    pub fn with_head(encoder: Model, head: TrainedHead, options: &Options) -> Result<Self, Error> {
        head.check_encoder(&encoder)?;
        let labels: Vec<&str> = head.labels().collect();
        let returned = select_labels(&labels, options)?;
        let session = Session::new(encoder, options)?.with_features(head.features());
        Self::with_session(session, Some(head), returned, options)
    }

    fn with_session(
        session: Session,
        head: Option<TrainedHead>,
        returned: Vec<usize>,
        options: &Options,
    ) -> Result<Self, Error> {
        let invalid = |message: &str| Error::new(ErrorCode::InvalidArgument, message);
        if options.max_results == 0 {
            return Err(invalid("max results: expected at least 1, found 0"));
        }
        if options.score_threshold.is_nan() {
            return Err(invalid("score threshold: expected a number, found NaN"));
        }
        Ok(Self {
            session,
            head,
            max_results: options.max_results,
            score_threshold: options.score_threshold,
            returned,
        })
    }

    /// The labels, in the order of the logits: the model's, or those of the trained head.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        let count = match &self.head {
            Some(head) => head.labels().len(),
            None => self.model().labels().len(),
        };
        (0..count).map(|index| self.label(index))
    }

    fn label(&self, index: usize) -> &str {
        match &self.head {
            Some(head) => head.label(index),
            None => self.model().label(index),
        }
    }

    /// How logits become scores.
    pub fn problem(&self) -> Problem {
        match &self.head {
            Some(_) => Problem::SingleLabel,
            None => self.model().problem(),
        }
    }

    /// The head in place of the model's own, if there is one.
    pub fn head(&self) -> Option<&TrainedHead> {
        self.head.as_ref()
    }

    /// The model's shape, labels and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The model, which is no longer classified with.
    pub fn into_model(self) -> Model {
        self.session.model
    }

    /// The kernel set in use, such as `avx512vnni`.
    pub fn kernels(&self) -> &'static str {
        self.session.kernels.name
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
        self.session.close();
    }

    fn classify_all<'a>(
        &'a self,
        inputs: &[Input<'_>],
        cancelled: Option<&Cancellation>,
        results: &mut [Classification<'a>],
    ) -> Result<(), Error> {
        let texts = Texts {
            classifier: self,
            inputs,
        };
        self.session.answer(&texts, cancelled, results)
    }

    /// Writes the logits of a text, by its row of output, and the categories that follow from
    /// them.
    fn write_result<'a>(
        &'a self,
        output: &[f32],
        scores: &mut Vec<f32>,
        result: &mut Classification<'a>,
    ) {
        result.logits.clear();
        let shape = self.model().shape();
        match &self.head {
            Some(head) => head.push_logits(&output[..shape.hidden as usize], &mut result.logits),
            None => {
                let logits = &output[..shape.labels as usize];
                result.logits.extend_from_slice(logits);
            }
        }
        scores.clear();
        scores.extend_from_slice(&result.logits);
        score(self.session.kernels, self.problem(), scores);
        let categories = &mut result.categories;
        categories.clear();
        let returned = self.returned.iter().map(|&index| (index, scores[index]));
        categories.extend(
            returned
                .filter(|(_, score)| *score >= self.score_threshold)
                .map(|(index, score)| Category {
                    index,
                    label: self.label(index),
                    score,
                }),
        );
        categories.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        categories.truncate(self.max_results);
    }

    /// Bytes of the buffers with which this classifier computes a text of so many tokens; there
    /// are never more tokens than the model takes. The text itself is not counted.
    pub fn workspace_bytes(&self, tokens: usize) -> usize {
        self.session.workspace_bytes(tokens)
    }

    /// The tokens of a text or pair as the model sees them, special tokens included, and the
    /// bytes of the text that each stands for: those of Hugging Face's `tokenizers`.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    pub fn tokenize(&self, input: Input<'_>) -> Result<Vec<Token>, Error> {
        self.session.tokenize(input, &self.session.encode_options())
    }

    /// Classifies texts and returns how long each step took.
    ///
    /// # Errors
    /// As for [`Classifier::classify`].
    #[doc(hidden)]
    pub fn profile(&self, inputs: &[Input<'_>]) -> Result<Vec<Measurement>, Error> {
        let texts = Texts {
            classifier: self,
            inputs,
        };
        let mut results = vec![Classification::default(); inputs.len()];
        self.session.profile(&texts, &mut results)
    }

    /// Carries out `steps` steps of dot products on registers only, and returns how many
    /// multiplications they were: what one thread can do at most.
    #[doc(hidden)]
    pub fn run_peak(&self, steps: u64) -> u64 {
        self.session.kernels.run_peak(steps)
    }

    /// Recomputes the logits of the texts that travel in the file and compares their bits;
    /// returns how many texts there are.
    ///
    /// # Errors
    /// [`ErrorCode::SelfTest`], with the text and the logits that differ;
    /// [`ErrorCode::InvalidArgument`] of a classifier with a trained head, which has no such texts.
    pub fn self_test(&self) -> Result<usize, Error> {
        if self.head.is_some() {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "self-test: the texts in the file are for its own head; open it without another",
            ));
        }
        self.session.self_test()
    }
}

/// Texts to classify.
struct Texts<'c, 'i> {
    classifier: &'c Classifier,
    inputs: &'i [Input<'i>],
}

impl<'c> Request for Texts<'c, '_> {
    type Answer = Classification<'c>;

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
        let session = &self.classifier.session;
        let options = session.encode_options();
        session.encode((text, self.inputs[text]), &options, encoding, scratch)
    }

    fn write(&self, output: Output<'_>, scores: &mut Vec<f32>, result: &mut Classification<'c>) {
        result.tokens = output.encoded.tokens;
        result.truncated = output.encoded.is_truncated();
        self.classifier.write_result(output.rows, scores, result);
    }

    fn clear(result: &mut Classification<'c>) {
        result.clear();
    }
}

/// The indices of the labels that may be returned.
fn select_labels(labels: &[&str], options: &Options) -> Result<Vec<usize>, Error> {
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
        if !labels.contains(&name.as_str()) {
            return Err(invalid(format!(
                "label {name:?}: the model has no such label; it has {}",
                labels.join(", ")
            )));
        }
    }
    let wanted = options.denied.is_empty();
    Ok(labels
        .iter()
        .enumerate()
        .filter(|&(_, label)| (options.allowed.is_empty() && wanted) || named(label) == wanted)
        .map(|(index, _)| index)
        .collect())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use super::*;

    /// As `filbert selftest --texts` has it, for a kernel set that is never selected.
    #[test]
    #[cfg(target_arch = "x86_64")]
    #[ignore = "needs texts on standard input, FILBERT_FILE and their FILBERT_FINGERPRINT"]
    fn the_tiles_of_avxvnni_give_the_fingerprint_of_other_sets() {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let texts = std::io::read_to_string(std::io::stdin()).unwrap();
        let mut classifier = Classifier::open(variable("FILBERT_FILE")).unwrap();
        classifier.session.kernels =
            crate::kernels::avxvnni_by_avx512vl().expect("a CPU with AVX-512 VNNI");
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
}
