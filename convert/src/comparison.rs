//! What int8 costs on labelled texts: a classifier against the float32 checkpoint as another
//! runtime computes it, see [`crate::reference`].

use std::path::PathBuf;

use filbert::{Classifier, Head, Model, Options, Token, TokenClassifier};

use crate::dataset::Dataset;
use crate::evaluation::{self, Answers, Evaluation, FlippedText, Tally, best, share};
use crate::package::Package;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::tags::TaggedTexts;
use crate::task::Task;
use crate::{Checkpoint, Error};

/// A comparison that a conversion makes before it writes anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The labelled texts.
    pub dataset: PathBuf,
    /// Points of accuracy that int8 may lose on them, of F1 where words are tagged; if it loses more, nothing is written.
    pub max_drop: Option<f64>,
}

impl Comparison {
    /// Reads the labelled texts, and refuses them if the checkpoint has no accuracy or not
    /// their labels.
    pub(crate) fn dataset(&self, checkpoint: &Checkpoint) -> Result<Dataset, Error> {
        let config = checkpoint.config();
        evaluation::check_problem(config.problem)?;
        let dataset = Dataset::read(&self.dataset)?;
        let labels: Vec<&str> = config.labels.iter().map(String::as_str).collect();
        match config.task {
            Task::TokenClassification => dataset.tags(&labels).map(|_| ())?,
            _ => dataset.targets(&labels).map(|_| ())?,
        }
        Ok(dataset)
    }

    /// Whether int8 lost more than it may.
    pub(crate) fn limit_passed(&self, evaluation: &Evaluation) -> bool {
        matches!(
            (evaluation.points_lost(), self.max_drop),
            (Some(drop), Some(max)) if drop > max
        )
    }
}

/// One text, or one word where words are tagged, as both have answered it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedText {
    /// Its line in the data set, from 1.
    pub line: usize,
    /// The number of the word in its line, from 1, where words are tagged.
    pub word: Option<usize>,
    /// The number of the right label.
    pub target: usize,
    /// `[labels]`.
    pub int8: Vec<f32>,
    /// `[labels]`.
    pub float32: Vec<f32>,
}

impl ComparedText {
    /// The best labels: in int8, and in float32.
    pub fn labels(&self) -> (usize, usize) {
        (best(&self.int8), best(&self.float32))
    }
}

/// The logits of a data set in float32, each computed when it is first asked for.
pub(crate) struct FloatLogits<'a> {
    checkpoint: &'a Checkpoint,
    reference: Option<Reference>,
    /// Of the first texts of the data set.
    logits: Vec<Vec<f32>>,
}

impl<'a> FloatLogits<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            reference: None,
            logits: Vec::new(),
        }
    }

    fn prepare(&mut self, progress: &mut dyn Progress) -> Result<(), Error> {
        if self.reference.is_none() {
            progress.begin("preparing the float32 reference", 1);
            self.reference = Some(Reference::new(self.checkpoint)?);
            progress.finish();
        }
        Ok(())
    }

    /// Of the text with this number, whose tokens these are; texts come in order.
    fn of_text(&mut self, number: usize, tokens: &[Token]) -> Result<&[f32], Error> {
        if number == self.logits.len() {
            let reference = self.reference.as_ref().expect("it was prepared");
            let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
            let types: Vec<_> = tokens.iter().map(|token| token.token_type).collect();
            self.logits.push(reference.logits(&ids, &types)?);
        }
        Ok(&self.logits[number])
    }
}

/// Compares a package with its checkpoint, and puts the report into it.
pub(crate) fn measure(
    package: &mut Package,
    dataset: &Dataset,
    float32: &mut FloatLogits<'_>,
    progress: &mut dyn Progress,
) -> Result<(Evaluation, Vec<ComparedText>), Error> {
    let model = Model::from_bytes(package.bytes())?;
    let options = Options::default();
    let compared = match model.head() {
        Head::TokenClassification => {
            let classifier = TokenClassifier::new(model, &options)?;
            compare_tags_with(&classifier, dataset, float32, progress)?
        }
        _ => {
            let classifier = Classifier::new(model, &options)?;
            compare_with(&classifier, dataset, float32, progress)?
        }
    };
    package.set_accuracy(&compared.0.report()?);
    Ok(compared)
}

/// Runs the classifier, and the float32 model of its checkpoint, on every text: what follows from
/// all of them, and each.
pub fn compare(
    classifier: &Classifier,
    dataset: &Dataset,
    checkpoint: &Checkpoint,
    progress: &mut dyn Progress,
) -> Result<(Evaluation, Vec<ComparedText>), Error> {
    compare_with(
        classifier,
        dataset,
        &mut FloatLogits::new(checkpoint),
        progress,
    )
}

fn compare_with(
    classifier: &Classifier,
    dataset: &Dataset,
    float32: &mut FloatLogits<'_>,
    progress: &mut dyn Progress,
) -> Result<(Evaluation, Vec<ComparedText>), Error> {
    let labels: Vec<&str> = classifier.labels().collect();
    check_labels(float32.checkpoint, &labels)?;
    let answers = Answers::new(classifier, dataset, progress)?;
    float32.prepare(progress)?;
    progress.begin("running the float32 reference", answers.count as u64);
    let mut texts = Vec::with_capacity(answers.count);
    for (example, (target, logits)) in dataset.examples().iter().zip(&answers.logits) {
        let tokens = classifier.tokenize(example.input())?;
        texts.push(ComparedText {
            line: example.line,
            word: None,
            target: *target,
            int8: logits.clone(),
            float32: float32.of_text(texts.len(), &tokens)?.to_vec(),
        });
        progress.advance(1);
    }
    progress.finish();
    let mut evaluation = answers.evaluation(&labels, dataset);
    complete(&mut evaluation, &labels, &texts);
    Ok((evaluation, texts))
}

/// As [`compare`], for the tags of words, and the spans that they make.
pub fn compare_tags(
    classifier: &TokenClassifier,
    dataset: &Dataset,
    checkpoint: &Checkpoint,
    progress: &mut dyn Progress,
) -> Result<(Evaluation, Vec<ComparedText>), Error> {
    compare_tags_with(
        classifier,
        dataset,
        &mut FloatLogits::new(checkpoint),
        progress,
    )
}

fn compare_tags_with(
    classifier: &TokenClassifier,
    dataset: &Dataset,
    float32: &mut FloatLogits<'_>,
    progress: &mut dyn Progress,
) -> Result<(Evaluation, Vec<ComparedText>), Error> {
    let labels: Vec<&str> = classifier.model().labels().collect();
    check_labels(float32.checkpoint, &labels)?;
    let tagged = TaggedTexts::new(classifier, dataset, progress)?;
    float32.prepare(progress)?;
    progress.begin("running the float32 reference", tagged.texts.len() as u64);
    let mut compared = Vec::new();
    let mut reference_tags = Vec::with_capacity(tagged.texts.len());
    let mut answers = tagged.answers.logits.iter();
    for (example, text) in dataset.examples().iter().zip(&tagged.texts) {
        let float32 = float32.of_text(reference_tags.len(), &text.tokens)?;
        let mut tags = Vec::with_capacity(text.pieces.len());
        for (piece, word) in text.pieces.iter().zip(1..) {
            let row = piece.map(|piece| &float32[piece * labels.len()..][..labels.len()]);
            tags.push(row.map(best));
            let Some(row) = row else { continue };
            let (target, int8) = answers.next().expect("a word that is seen has logits");
            compared.push(ComparedText {
                line: example.line,
                word: Some(word),
                target: *target,
                int8: int8.clone(),
                float32: row.to_vec(),
            });
        }
        reference_tags.push(tags);
        progress.advance(1);
    }
    progress.finish();
    let mut evaluation = tagged.answers.evaluation(&labels, dataset);
    complete(&mut evaluation, &labels, &compared);
    evaluation.spans = Some(tagged.spans(&labels, Some(&reference_tags)));
    Ok((evaluation, compared))
}

/// Adds to an evaluation of int8 what the comparison says.
fn complete(evaluation: &mut Evaluation, labels: &[&str], texts: &[ComparedText]) {
    let mut differences = Differences::default();
    let mut tally = Tally::new(labels.len());
    let mut flipped = Vec::new();
    for text in texts {
        differences.add(text.target, &text.int8, &text.float32);
        tally.add(text.target, &text.float32);
        let (int8, float32) = text.labels();
        if int8 != float32 {
            let margin = text.float32[float32] - text.float32[int8];
            flipped.push(FlippedText {
                line: text.line,
                word: text.word,
                label: labels[text.target].to_owned(),
                int8: labels[int8].to_owned(),
                float32: labels[float32].to_owned(),
                margin: rounded(margin.into()),
            });
        }
    }
    differences.complete(evaluation);
    evaluation.reference_per_class = Some(tally.figures(labels));
    evaluation.flipped = Some(flipped);
}

/// float32 itself differs beyond these decimals from CPU to CPU.
fn rounded(difference: f64) -> f64 {
    (difference * 1e5).round() / 1e5
}

fn check_labels(checkpoint: &Checkpoint, labels: &[&str]) -> Result<(), Error> {
    let expected = &checkpoint.config().labels;
    if expected == labels {
        return Ok(());
    }
    let at = (0..expected.len().max(labels.len()))
        .find(|&at| expected.get(at).map(String::as_str) != labels.get(at).copied())
        .unwrap_or_default();
    let name = |label: Option<&str>| label.map_or("missing".to_owned(), |l| format!("{l:?}"));
    Err(Error::in_file(
        checkpoint.folder(),
        format!(
            "not the checkpoint of this model: its label {at} is {}, the model's is {}",
            name(expected.get(at).map(String::as_str)),
            name(labels.get(at).copied())
        ),
    ))
}

/// The classifier's logits against the reference's.
#[derive(Default)]
struct Differences {
    answers: usize,
    agreed: usize,
    correct: usize,
    reference_correct: usize,
    logits: usize,
    largest: f64,
    sum: f64,
}

impl Differences {
    fn add(&mut self, target: usize, logits: &[f32], expected: &[f32]) {
        let (found_best, expected_best) = (best(logits), best(expected));
        self.answers += 1;
        self.agreed += usize::from(found_best == expected_best);
        self.correct += usize::from(found_best == target);
        self.reference_correct += usize::from(expected_best == target);
        for (&logit, &expected) in logits.iter().zip(expected) {
            let difference = (f64::from(logit) - f64::from(expected)).abs();
            self.largest = self.largest.max(difference);
            self.sum += difference;
            self.logits += 1;
        }
    }

    fn complete(&self, evaluation: &mut Evaluation) {
        evaluation.reference_accuracy = Some(share(self.reference_correct, self.answers));
        evaluation.agreement = Some(share(self.agreed, self.answers));
        evaluation.max_abs_diff = Some(rounded(self.largest));
        evaluation.mean_abs_diff = Some(rounded(self.sum / self.logits.max(1) as f64));
        evaluation.accuracy_drop = Some(self.accuracy_drop());
    }

    /// From the counts: a difference of two rounded shares could pass a limit that it meets
    /// exactly.
    fn accuracy_drop(&self) -> f64 {
        let lost = self.reference_correct as f64 - self.correct as f64;
        100.0 * lost / self.answers.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_over_texts_and_labels() {
        let mut differences = Differences::default();
        differences.add(0, &[1.0, -1.0], &[1.25, -1.0]);
        differences.add(1, &[0.5, 0.25], &[0.25, 0.5]);
        let mut evaluation = Evaluation {
            dataset: "reviews.tsv".to_owned(),
            count: 2,
            truncated: 0,
            accuracy: 0.5,
            reference_accuracy: None,
            accuracy_drop: None,
            agreement: None,
            max_abs_diff: None,
            mean_abs_diff: None,
            per_class: Vec::new(),
            reference_per_class: None,
            flipped: None,
            spans: None,
            texts_per_second: None,
        };
        differences.complete(&mut evaluation);
        assert_eq!(evaluation.reference_accuracy, Some(1.0));
        assert_eq!(evaluation.agreement, Some(0.5));
        assert_eq!(evaluation.max_abs_diff, Some(0.25));
        assert_eq!(evaluation.mean_abs_diff, Some(0.1875));
        assert_eq!(evaluation.accuracy_drop, Some(50.0));
    }

    #[test]
    fn flipped_texts_are_named_by_their_lines() {
        let text = |line, int8: [f32; 2], float32: [f32; 2]| ComparedText {
            line,
            word: None,
            target: 0,
            int8: int8.to_vec(),
            float32: float32.to_vec(),
        };
        let texts = [
            text(2, [1.0, 0.0], [1.0, 0.0]),
            text(3, [0.25, 0.5], [0.5, 0.25]),
        ];
        let mut evaluation = Evaluation {
            dataset: "reviews.tsv".to_owned(),
            count: 2,
            truncated: 0,
            accuracy: 0.5,
            reference_accuracy: None,
            accuracy_drop: None,
            agreement: None,
            max_abs_diff: None,
            mean_abs_diff: None,
            per_class: Vec::new(),
            reference_per_class: None,
            flipped: None,
            spans: None,
            texts_per_second: None,
        };
        complete(&mut evaluation, &["good", "bad"], &texts);
        let flipped = evaluation.flipped.unwrap();
        assert_eq!(flipped.len(), 1);
        assert_eq!((flipped[0].line, flipped[0].margin), (3, 0.25));
        assert_eq!((&*flipped[0].int8, &*flipped[0].float32), ("bad", "good"));
        assert_eq!(evaluation.reference_per_class.unwrap()[0].recall, 1.0);
    }

    #[test]
    fn drop_is_exact_where_it_equals_a_limit() {
        let (right, wrong) = ([1.0, 0.0], [0.0, 1.0]);
        let mut differences = Differences::default();
        for _ in 0..199 {
            differences.add(0, &right, &right);
        }
        differences.add(0, &wrong, &right);
        assert_eq!(differences.accuracy_drop(), 0.5);
        differences.add(0, &right, &wrong);
        assert_eq!(differences.accuracy_drop(), 0.0);
        for _ in 0..199 {
            differences.add(0, &right, &wrong);
        }
        assert_eq!(differences.accuracy_drop(), -49.75);
    }
}
