//! Tags of words, and how well the spans that they make are found.
//!
//! A word has the label of its first token. Spans are those of CoNLL's evaluation: `B-` begins
//! one, `I-` continues one of its kind or begins one, and a span is found if it has the very
//! words and kind.

use std::ops::Range;
use std::time::{Duration, Instant};

use filbert::{Token, TokenClassifier};
use serde::Serialize;

use crate::Error;
use crate::dataset::{Dataset, Example};
use crate::evaluation::{Answers, ClassCounts, ClassFigures, Evaluation, best};
use crate::progress::Progress;

/// Texts that the classifier gets at once.
const BATCH: usize = 64;

/// The tag of words that belong to no span.
const OUTSIDE: &str = "O";

/// How well spans are found. A share of nothing is 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpanFigures {
    /// Number of words.
    pub words: usize,
    /// Words that have no token, or whose tokens were cut. They count as outside of every span,
    /// and not in the accuracy of tags.
    pub unseen: usize,
    /// Share of the spans found that are right.
    pub precision: f64,
    /// Share of the right spans that are found.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of right spans.
    pub support: usize,
    /// F1 of the float32 reference, if there was one.
    pub reference_f1: Option<f64>,
    /// Points of F1 lost against the reference; negative where int8 is better.
    pub f1_drop: Option<f64>,
    /// Figures of each kind, in the order of the model's labels.
    pub per_type: Vec<ClassFigures>,
    /// The same of the float32 reference, if there was one.
    pub reference_per_type: Option<Vec<ClassFigures>>,
}

/// Runs the classifier on every text, and compares the tags of words.
pub fn evaluate_tags(
    classifier: &TokenClassifier,
    dataset: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Evaluation, Error> {
    let labels: Vec<&str> = classifier.model().labels().collect();
    let tagged = TaggedTexts::new(classifier, dataset, progress)?;
    let mut evaluation = tagged.answers.evaluation(&labels, dataset);
    evaluation.spans = Some(tagged.spans(&labels, None));
    Ok(evaluation)
}

/// A token classifier's answers to texts whose words are tagged.
pub(crate) struct TaggedTexts {
    pub(crate) texts: Vec<TaggedText>,
    /// Of every word that is seen.
    pub(crate) answers: Answers,
}

/// One of them.
pub(crate) struct TaggedText {
    #[cfg(feature = "onnx")]
    pub(crate) tokens: Vec<Token>,
    /// The first token of each word, if it has one.
    #[cfg(feature = "onnx")]
    pub(crate) pieces: Vec<Option<usize>>,
    /// The right tag of each word.
    targets: Vec<usize>,
    /// The best tag of each word.
    tags: Vec<Option<usize>>,
}

impl TaggedTexts {
    pub(crate) fn new(
        classifier: &TokenClassifier,
        dataset: &Dataset,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let labels: Vec<&str> = classifier.model().labels().collect();
        let mut targets = dataset.tags(&labels)?.into_iter();
        let examples = dataset.examples();
        let mut tagged = Self {
            texts: Vec::with_capacity(examples.len()),
            answers: Answers {
                count: examples.len(),
                logits: Vec::new(),
                truncated: 0,
                time: Duration::ZERO,
            },
        };
        // The first text pays for the pages that are read from the disk.
        classifier.classify("")?;
        progress.begin("running int8", examples.len() as u64);
        for batch in examples.chunks(BATCH) {
            let texts: Vec<&str> = batch.iter().map(|example| &*example.first).collect();
            let start = Instant::now();
            let results = classifier.classify_batch(&texts)?;
            tagged.answers.time += start.elapsed();
            for ((example, result), targets) in batch.iter().zip(&results).zip(&mut targets) {
                let pieces = first_tokens(example, result.tokens());
                let mut tags = Vec::with_capacity(pieces.len());
                for (piece, &target) in pieces.iter().zip(&targets) {
                    let row =
                        piece.map(|piece| &result.logits()[piece * labels.len()..][..labels.len()]);
                    tags.push(row.map(best));
                    let answer = row.map(|row| (target, row.to_vec()));
                    tagged.answers.logits.extend(answer);
                }
                tagged.answers.truncated += usize::from(result.truncated());
                tagged.texts.push(TaggedText {
                    #[cfg(feature = "onnx")]
                    tokens: result.tokens().to_vec(),
                    #[cfg(feature = "onnx")]
                    pieces,
                    targets,
                    tags,
                });
            }
            progress.advance(batch.len() as u64);
        }
        progress.finish();
        Ok(tagged)
    }

    /// The figures of the spans, and of those that the reference's tags make.
    pub(crate) fn spans(
        &self,
        labels: &[&str],
        reference: Option<&[Vec<Option<usize>>]>,
    ) -> SpanFigures {
        let mut tally = SpanTally::new(labels);
        for text in &self.texts {
            tally.add(&text.targets, &text.tags);
        }
        let reference = reference.map(|reference| {
            let mut tally = SpanTally::new(labels);
            for (text, tags) in self.texts.iter().zip(reference) {
                tally.add(&text.targets, tags);
            }
            tally
        });
        let total = tally.total.figures("");
        let words: usize = self.texts.iter().map(|text| text.targets.len()).sum();
        SpanFigures {
            words,
            unseen: words - self.answers.logits.len(),
            precision: total.precision,
            recall: total.recall,
            f1: total.f1,
            support: total.support,
            reference_f1: reference.as_ref().map(|r| r.total.figures("").f1),
            f1_drop: reference.as_ref().map(|r| f1_drop(r.total, tally.total)),
            per_type: tally.per_type(),
            reference_per_type: reference.as_ref().map(SpanTally::per_type),
        }
    }
}

/// The number of the first token of each word. Special tokens, and RoBERTa's of a space, stand
/// for nothing.
fn first_tokens(example: &Example, tokens: &[Token]) -> Vec<Option<usize>> {
    let first = |word: Range<usize>| {
        tokens.iter().position(|token| {
            token.start < token.end && token.start < word.end && token.end > word.start
        })
    };
    example.words().map(first).collect()
}

/// Points of F1. From the counts: a difference of two rounded shares could pass a limit that it
/// meets exactly.
fn f1_drop(reference: ClassCounts, found: ClassCounts) -> f64 {
    let share = |counts: ClassCounts| {
        let whole = (counts.predicted + counts.support).max(1);
        (2.0 * counts.correct as f64, whole as f64)
    };
    let ((a, b), (c, d)) = (share(reference), share(found));
    100.0 * (a * d - c * b) / (b * d)
}

/// What a tag says: whether a span begins with it in any case, and of which kind it is.
fn split_tag(tag: &str) -> Option<(bool, &str)> {
    match tag.split_once('-') {
        _ if tag == OUTSIDE => None,
        Some(("B", kind)) => Some((true, kind)),
        Some(("I", kind)) => Some((false, kind)),
        _ => Some((false, tag)),
    }
}

/// Spans of words with their kinds.
fn find_spans<'a>(tags: impl Iterator<Item = Option<&'a str>>) -> Vec<(Range<usize>, &'a str)> {
    let mut spans: Vec<(Range<usize>, &str)> = Vec::new();
    for (word, tag) in tags.enumerate() {
        let Some((begins, kind)) = tag.and_then(split_tag) else {
            continue;
        };
        match spans.last_mut() {
            Some((span, of)) if !begins && *of == kind && span.end == word => span.end += 1,
            _ => spans.push((word..word + 1, kind)),
        }
    }
    spans
}

/// Counts of spans found and missed.
struct SpanTally<'a> {
    labels: &'a [&'a str],
    total: ClassCounts,
    types: Vec<(&'a str, ClassCounts)>,
}

impl<'a> SpanTally<'a> {
    fn new(labels: &'a [&'a str]) -> Self {
        let mut types: Vec<(&str, ClassCounts)> = Vec::new();
        for (_, kind) in labels.iter().copied().filter_map(split_tag) {
            if types.iter().all(|(known, _)| *known != kind) {
                types.push((kind, ClassCounts::default()));
            }
        }
        Self {
            labels,
            total: ClassCounts::default(),
            types,
        }
    }

    fn add(&mut self, targets: &[usize], tags: &[Option<usize>]) {
        let labels = self.labels;
        let expected = find_spans(targets.iter().map(|&tag| Some(labels[tag])));
        let found = find_spans(tags.iter().map(|tag| tag.map(|tag| labels[tag])));
        for span in &expected {
            self.count(span.1, |counts| counts.support += 1);
        }
        for span in &found {
            let right = usize::from(expected.contains(span));
            self.count(span.1, |counts| {
                counts.predicted += 1;
                counts.correct += right;
            });
        }
    }

    fn count(&mut self, kind: &str, add: impl Fn(&mut ClassCounts)) {
        add(&mut self.total);
        for (_, counts) in self.types.iter_mut().filter(|(known, _)| *known == kind) {
            add(counts);
        }
    }

    fn per_type(&self) -> Vec<ClassFigures> {
        let types = self.types.iter();
        types.map(|(kind, counts)| counts.figures(kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(tags: &str) -> Vec<(Range<usize>, &str)> {
        find_spans(
            tags.split(' ')
                .map(|tag| Some(tag).filter(|tag| *tag != "?")),
        )
    }

    #[test]
    fn spans_begin_and_end_as_in_conll() {
        assert_eq!(spans("O O"), []);
        assert_eq!(spans("B-X I-X O"), [(0..2, "X")]);
        assert_eq!(spans("B-X B-X"), [(0..1, "X"), (1..2, "X")]);
        assert_eq!(spans("O I-X I-X"), [(1..3, "X")]);
        assert_eq!(spans("B-X I-Y I-Y"), [(0..1, "X"), (1..3, "Y")]);
        assert_eq!(spans("I-X O I-X"), [(0..1, "X"), (2..3, "X")]);
        // A word without a tag is outside.
        assert_eq!(spans("I-X ? I-X"), [(0..1, "X"), (2..3, "X")]);
        assert_eq!(spans("B-a-b I-a-b"), [(0..2, "a-b")]);
        assert_eq!(spans("X X"), [(0..2, "X")]);
    }

    #[test]
    fn spans_are_right_with_their_words_and_kind() {
        let labels = ["O", "B-X", "I-X", "B-Y", "I-Y"];
        let mut tally = SpanTally::new(&labels);
        // The first is found, the second too short, the third of another kind, and one is new.
        tally.add(
            &[1, 2, 0, 1, 2, 0, 1, 0, 0],
            &[1, 2, 0, 1, 0, 0, 3, 0, 4].map(Some),
        );
        let counts = |correct, predicted, support| ClassCounts {
            correct,
            predicted,
            support,
        };
        assert_eq!(tally.total, counts(1, 4, 3));
        assert_eq!(
            tally.types,
            [("X", counts(1, 2, 3)), ("Y", counts(0, 2, 0))]
        );
        let figures = tally.per_type();
        assert_eq!((figures[0].precision, figures[0].f1), (0.5, 0.4));
        assert_eq!((figures[1].recall, figures[1].support), (0.0, 0));
    }

    #[test]
    fn drop_of_f1_is_exact_where_it_equals_a_limit() {
        let counts = |correct| ClassCounts {
            correct,
            predicted: 200,
            support: 200,
        };
        assert_eq!(f1_drop(counts(199), counts(198)), 0.5);
        assert_eq!(f1_drop(counts(198), counts(199)), -0.5);
        let none = ClassCounts::default();
        assert_eq!(f1_drop(none, none), 0.0);
    }
}
