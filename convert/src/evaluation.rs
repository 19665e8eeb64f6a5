//! How good a classifier is on labelled texts, or on texts whose words are tagged.

use std::time::{Duration, Instant};

use filbert::{Classifier, Input, Problem};
use serde::Serialize;

use crate::Error;
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::tags::SpanFigures;

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
    /// Share of the texts whose best label is right; of the words, where words are tagged. So are
    /// all figures below.
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
    /// The same of the float32 reference, if there was one.
    pub reference_per_class: Option<Vec<ClassFigures>>,
    /// The texts whose label differs from the reference's, if there was one.
    pub flipped: Option<Vec<FlippedText>>,
    /// Figures of the spans that the tags of words make, where words are tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<SpanFigures>,
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

/// A text for which int8 and float32 have different best labels. The text itself is not part of
/// a report: it may be private, and the report travels in the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlippedText {
    /// Its line in the data set, from 1.
    pub line: usize,
    /// The number of the word in its line, from 1, where words are tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<usize>,
    /// The right label.
    pub label: String,
    /// The best label in int8.
    pub int8: String,
    /// The best label in float32.
    pub float32: String,
    /// How far the best float32 logit is from that of the int8 label, to five decimals: the
    /// smaller, the less the label meant.
    pub margin: f64,
}

impl Evaluation {
    /// Points lost against the reference, if there was one: of the spans' F1 where words are
    /// tagged, else of accuracy.
    pub fn points_lost(&self) -> Option<f64> {
        match &self.spans {
            Some(spans) => spans.f1_drop,
            None => self.accuracy_drop,
        }
    }

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

/// Runs the classifier on every text.
pub fn evaluate(
    classifier: &Classifier,
    dataset: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Evaluation, Error> {
    let answers = Answers::new(classifier, dataset, progress)?;
    let labels: Vec<&str> = classifier.labels().collect();
    Ok(answers.evaluation(&labels, dataset))
}

/// A classifier's answers to labelled texts.
pub(crate) struct Answers {
    /// Number of texts.
    pub(crate) count: usize,
    /// The right label of each text, or of each word that is seen, and the logits that the
    /// classifier has for it.
    pub(crate) logits: Vec<(usize, Vec<f32>)>,
    pub(crate) truncated: usize,
    pub(crate) time: Duration,
}

impl Answers {
    pub(crate) fn new(
        classifier: &Classifier,
        dataset: &Dataset,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        check_problem(classifier.problem())?;
        let labels: Vec<&str> = classifier.labels().collect();
        let mut targets = dataset.targets(&labels)?.into_iter();
        let inputs: Vec<Input<'_>> = dataset.examples().iter().map(|e| e.input()).collect();
        let mut answers = Self {
            count: inputs.len(),
            logits: Vec::with_capacity(inputs.len()),
            truncated: 0,
            time: Duration::ZERO,
        };
        // The first text pays for the pages that are read from the disk.
        classifier.classify("")?;
        progress.begin("running int8", inputs.len() as u64);
        for batch in inputs.chunks(BATCH) {
            let start = Instant::now();
            let results = classifier.classify_batch(batch)?;
            answers.time += start.elapsed();
            for (result, target) in results.iter().zip(&mut targets) {
                answers.logits.push((target, result.logits().to_vec()));
                answers.truncated += usize::from(result.truncated());
            }
            progress.advance(batch.len() as u64);
        }
        progress.finish();
        Ok(answers)
    }

    /// The figures of these answers, compared with nothing.
    pub(crate) fn evaluation(&self, labels: &[&str], dataset: &Dataset) -> Evaluation {
        let mut tally = Tally::new(labels.len());
        for (target, logits) in &self.logits {
            tally.add(*target, logits);
        }
        Evaluation {
            dataset: dataset
                .path()
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            count: self.count,
            truncated: self.truncated,
            accuracy: share(tally.correct, self.logits.len()),
            reference_accuracy: None,
            accuracy_drop: None,
            agreement: None,
            max_abs_diff: None,
            mean_abs_diff: None,
            per_class: tally.figures(labels),
            reference_per_class: None,
            flipped: None,
            spans: None,
            texts_per_second: Some(self.count as f64 / self.time.as_secs_f64().max(1e-9)),
        }
    }
}

/// Counts of right and wrong answers.
pub(crate) struct Tally {
    correct: usize,
    classes: Vec<ClassCounts>,
}

/// What the figures of one label, or of one kind of spans, are counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ClassCounts {
    pub(crate) correct: usize,
    pub(crate) predicted: usize,
    pub(crate) support: usize,
}

impl ClassCounts {
    pub(crate) fn figures(self, label: &str) -> ClassFigures {
        ClassFigures {
            label: label.to_owned(),
            precision: share(self.correct, self.predicted),
            recall: share(self.correct, self.support),
            f1: share(2 * self.correct, self.predicted + self.support),
            support: self.support,
        }
    }
}

impl Tally {
    pub(crate) fn new(labels: usize) -> Self {
        Self {
            correct: 0,
            classes: vec![ClassCounts::default(); labels],
        }
    }

    pub(crate) fn add(&mut self, target: usize, logits: &[f32]) {
        let best = best(logits);
        self.classes[target].support += 1;
        self.classes[best].predicted += 1;
        if best == target {
            self.classes[target].correct += 1;
            self.correct += 1;
        }
    }

    pub(crate) fn figures(&self, labels: &[&str]) -> Vec<ClassFigures> {
        let classes = self.classes.iter().zip(labels);
        classes
            .map(|(counts, label)| counts.figures(label))
            .collect()
    }
}

/// The first of the largest logits, as PyTorch's `argmax` has it.
pub(crate) fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

pub(crate) fn share(part: usize, whole: usize) -> f64 {
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

    #[test]
    fn report_has_no_time() {
        let evaluation = Evaluation {
            dataset: "reviews.tsv".to_owned(),
            count: 200,
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
            texts_per_second: Some(1234.5),
        };
        let report = String::from_utf8(evaluation.report().unwrap()).unwrap();
        assert!(
            report.starts_with("{\"dataset\":\"reviews.tsv\",\"count\":200,"),
            "{report}"
        );
        assert!(report.contains("\"agreement\":null"), "{report}");
        assert!(!report.contains("second"), "{report}");
        assert!(!report.contains("spans"), "{report}");
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
