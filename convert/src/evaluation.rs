//! How good a classifier is on labelled texts, and what int8 costs it.
//!
//! int8 is compared with the float32 checkpoint as another runtime computes it: see
//! [`crate::reference`].

use std::time::{Duration, Instant};

use filbert::{Classifier, Input, Problem};
use serde::Serialize;

use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::{Checkpoint, Error};

/// Texts that the classifier gets at once.
const BATCH: usize = 64;

/// What an evaluation measured. As JSON it is the accuracy report: in a `.filbert` file without
/// `texts_per_second`, so that the same input gives the same file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The name of the data set's file.
    pub dataset: String,
    /// Number of texts.
    pub count: usize,
    /// Texts that were cut at the longest sequence that the model takes.
    pub truncated: usize,
    /// Share of the texts whose best label is right.
    pub accuracy: f64,
    /// The same of the float32 reference, if there was one.
    pub reference_accuracy: Option<f64>,
    /// Points of accuracy lost against the reference; negative where int8 is better.
    pub accuracy_drop: Option<f64>,
    /// Share of the texts for which both have the same best label.
    pub agreement: Option<f64>,
    /// The largest absolute difference of a logit, to five decimals: float32 itself differs
    /// beyond them from CPU to CPU.
    pub max_abs_diff: Option<f64>,
    /// The mean absolute difference over all texts and labels, to five decimals.
    pub mean_abs_diff: Option<f64>,
    /// Figures of each label, in the model's order.
    pub per_class: Vec<ClassFigures>,
    /// Speed of the int8 run, tokenization included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts_per_second: Option<f64>,
}

/// How well one label is told from the others. A share of nothing is 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// The label.
    pub label: String,
    /// Share of the texts that got this label for which it is right.
    pub precision: f64,
    /// Share of the texts for which this label is right that got it.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of texts for which this label is right.
    pub support: usize,
}

impl Evaluation {
    /// The report for the file's accuracy section: JSON, the same for the same input.
    pub fn report(&self) -> Result<Vec<u8>, Error> {
        let timeless = Self {
            texts_per_second: None,
            ..self.clone()
        };
        serde_json::to_vec(&timeless).map_err(|error| Error::new(error.to_string()))
    }
}

/// Refuses problems that have no accuracy.
pub fn check_problem(problem: Problem) -> Result<(), Error> {
    let found = match problem {
        Problem::SingleLabel => return Ok(()),
        Problem::MultiLabel => {
            "any number of labels may be right (problem_type \
                                multi_label_classification)"
        }
        Problem::Regression => "the answer is a number (problem_type regression)",
    };
    Err(Error::new(format!(
        "accuracy needs a model for which exactly one label is right; for this one, {found}"
    )))
}

/// Runs the classifier, and the float32 model of `reference`, on every text.
pub fn evaluate(
    classifier: &Classifier,
    dataset: &Dataset,
    reference: Option<&Checkpoint>,
    progress: &mut dyn Progress,
) -> Result<Evaluation, Error> {
    let model = classifier.model();
    let labels: Vec<&str> = model.labels().collect();
    check_problem(model.problem())?;
    let targets = dataset.targets(&labels)?;
    if let Some(checkpoint) = reference {
        check_labels(checkpoint, &labels)?;
    }

    let inputs: Vec<Input<'_>> = dataset.examples().iter().map(|e| e.input()).collect();
    let run = run(classifier, &inputs, progress)?;
    let mut tally = Tally::new(labels.len());
    for (&target, logits) in targets.iter().zip(&run.logits) {
        tally.add(target, logits);
    }

    let mut evaluation = Evaluation {
        dataset: dataset
            .path()
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        count: targets.len(),
        truncated: run.truncated,
        accuracy: share(tally.correct, targets.len()),
        reference_accuracy: None,
        agreement: None,
        max_abs_diff: None,
        mean_abs_diff: None,
        per_class: tally.figures(&labels),
        texts_per_second: Some(targets.len() as f64 / run.time.as_secs_f64().max(1e-9)),
        accuracy_drop: None,
    };
    if let Some(checkpoint) = reference {
        let mut comparison = Comparison::default();
        progress.begin("preparing the float32 reference", 1);
        let reference = Reference::new(checkpoint)?;
        progress.finish();
        progress.begin("running the float32 reference", inputs.len() as u64);
        for ((example, &target), logits) in dataset.examples().iter().zip(&targets).zip(&run.logits)
        {
            let (ids, token_types) = classifier.tokenize(example.input());
            let expected = reference.logits(&ids, &token_types)?;
            comparison.add(target, logits, &expected);
            progress.advance(1);
        }
        progress.finish();
        comparison.complete(&mut evaluation, tally.correct);
    }
    Ok(evaluation)
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

/// The classifier's answers.
struct Run {
    logits: Vec<Vec<f32>>,
    truncated: usize,
    time: Duration,
}

fn run(
    classifier: &Classifier,
    inputs: &[Input<'_>],
    progress: &mut dyn Progress,
) -> Result<Run, Error> {
    let mut run = Run {
        logits: Vec::with_capacity(inputs.len()),
        truncated: 0,
        time: Duration::ZERO,
    };
    // The first text pays for the pages that are read from the disk.
    classifier.classify("")?;
    progress.begin("running int8", inputs.len() as u64);
    for batch in inputs.chunks(BATCH) {
        let start = Instant::now();
        let answers = classifier.classify_batch(batch)?;
        run.time += start.elapsed();
        for answer in &answers {
            run.logits.push(answer.logits().to_vec());
            run.truncated += usize::from(answer.truncated());
        }
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    Ok(run)
}

/// Counts of right and wrong answers.
struct Tally {
    correct: usize,
    classes: Vec<ClassCounts>,
}

#[derive(Clone, Default)]
struct ClassCounts {
    correct: usize,
    predicted: usize,
    support: usize,
}

impl Tally {
    fn new(labels: usize) -> Self {
        Self {
            correct: 0,
            classes: vec![ClassCounts::default(); labels],
        }
    }

    fn add(&mut self, target: usize, logits: &[f32]) {
        let best = best(logits);
        self.classes[target].support += 1;
        self.classes[best].predicted += 1;
        if best == target {
            self.classes[target].correct += 1;
            self.correct += 1;
        }
    }

    fn figures(&self, labels: &[&str]) -> Vec<ClassFigures> {
        let figures = |(counts, &label): (&ClassCounts, &&str)| ClassFigures {
            label: label.to_owned(),
            precision: share(counts.correct, counts.predicted),
            recall: share(counts.correct, counts.support),
            f1: share(2 * counts.correct, counts.predicted + counts.support),
            support: counts.support,
        };
        self.classes.iter().zip(labels).map(figures).collect()
    }
}

/// The classifier's logits against the reference's.
#[derive(Default)]
struct Comparison {
    texts: usize,
    agreed: usize,
    reference_correct: usize,
    logits: usize,
    largest: f64,
    sum: f64,
}

impl Comparison {
    fn add(&mut self, target: usize, logits: &[f32], expected: &[f32]) {
        let expected_best = best(expected);
        self.texts += 1;
        self.agreed += usize::from(best(logits) == expected_best);
        self.reference_correct += usize::from(expected_best == target);
        for (&logit, &expected) in logits.iter().zip(expected) {
            let difference = (f64::from(logit) - f64::from(expected)).abs();
            self.largest = self.largest.max(difference);
            self.sum += difference;
            self.logits += 1;
        }
    }

    fn complete(&self, evaluation: &mut Evaluation, correct: usize) {
        let rounded = |difference: f64| (difference * 1e5).round() / 1e5;
        evaluation.reference_accuracy = Some(share(self.reference_correct, self.texts));
        evaluation.agreement = Some(share(self.agreed, self.texts));
        evaluation.max_abs_diff = Some(rounded(self.largest));
        evaluation.mean_abs_diff = Some(rounded(self.sum / self.logits.max(1) as f64));
        // From the counts: a difference of two rounded shares could pass a limit that it
        // meets exactly.
        let lost = self.reference_correct as f64 - correct as f64;
        evaluation.accuracy_drop = Some(100.0 * lost / self.texts.max(1) as f64);
    }
}

/// The first of the largest logits, as PyTorch's `argmax` has it.
fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_each_class() {
        let mut tally = Tally::new(3);
        // Right: 0, 0, 0, 1, 1. Answered: 0, 0, 1, 1, 0. The third label never occurs.
        for (target, answer) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0)] {
            let mut logits = [-1.0; 3];
            logits[answer] = 1.0;
            tally.add(target, &logits);
        }
        assert_eq!(tally.correct, 3);
        let figures = tally.figures(&["a", "b", "c"]);
        let expected = [
            ("a", 2.0 / 3.0, 2.0 / 3.0, 4.0 / 6.0, 3),
            ("b", 1.0 / 2.0, 1.0 / 2.0, 2.0 / 4.0, 2),
            ("c", 0.0, 0.0, 0.0, 0),
        ];
        for (figures, (label, precision, recall, f1, support)) in figures.iter().zip(expected) {
            assert_eq!(figures.label, label);
            assert_eq!(figures.precision, precision);
            assert_eq!(figures.recall, recall);
            assert_eq!(figures.f1, f1);
            assert_eq!(figures.support, support);
        }
    }

    #[test]
    fn first_of_equal_logits_is_best() {
        assert_eq!(best(&[1.0, 1.0]), 0);
        assert_eq!(best(&[-3.0, -1.0, -1.0]), 1);
        assert_eq!(best(&[0.5]), 0);
    }

    fn evaluation() -> Evaluation {
        Evaluation {
            dataset: "reviews.tsv".to_owned(),
            count: 200,
            truncated: 0,
            accuracy: 0.5,
            reference_accuracy: None,
            agreement: None,
            max_abs_diff: None,
            mean_abs_diff: None,
            per_class: Vec::new(),
            texts_per_second: Some(1234.5),
            accuracy_drop: None,
        }
    }

    #[test]
    fn comparison_is_over_texts_and_labels() {
        let mut comparison = Comparison::default();
        comparison.add(0, &[1.0, -1.0], &[1.25, -1.0]);
        comparison.add(1, &[0.5, 0.25], &[0.25, 0.5]);
        let mut evaluation = evaluation();
        comparison.complete(&mut evaluation, 1);
        assert_eq!(evaluation.reference_accuracy, Some(1.0));
        assert_eq!(evaluation.agreement, Some(0.5));
        assert_eq!(evaluation.max_abs_diff, Some(0.25));
        assert_eq!(evaluation.mean_abs_diff, Some(0.1875));
        assert_eq!(evaluation.accuracy_drop, Some(50.0));
    }

    #[test]
    fn drop_is_exact_where_it_equals_a_limit() {
        let mut comparison = Comparison::default();
        for _ in 0..200 {
            comparison.add(0, &[1.0, 0.0], &[1.0, 0.0]);
        }
        let mut evaluation = evaluation();
        comparison.complete(&mut evaluation, 199);
        assert_eq!(evaluation.accuracy_drop, Some(0.5));
        comparison.complete(&mut evaluation, 201);
        assert_eq!(evaluation.accuracy_drop, Some(-0.5));
    }

    #[test]
    fn report_has_no_time() {
        let report = String::from_utf8(evaluation().report().unwrap()).unwrap();
        assert!(
            report.starts_with("{\"dataset\":\"reviews.tsv\",\"count\":200,"),
            "{report}"
        );
        assert!(report.contains("\"agreement\":null"), "{report}");
        assert!(!report.contains("second"), "{report}");
    }

    #[test]
    fn problems_without_an_accuracy_are_refused() {
        assert!(check_problem(Problem::SingleLabel).is_ok());
        for problem in [Problem::MultiLabel, Problem::Regression] {
            let error = check_problem(problem).unwrap_err().to_string();
            assert!(error.contains("problem_type"), "{error}");
        }
    }
}
