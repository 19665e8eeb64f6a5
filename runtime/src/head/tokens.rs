//! A label for each token, and the entities that tokens of one label make.
//!
//! Entities are those of the token classification pipeline of Hugging Face's transformers with
//! `aggregation_strategy="simple"`: the best label of each token; neighbours of the same kind
//! are one entity, unless a label begins with `B-`; tokens labelled `O` are none.

use std::ops::Range;
use std::path::Path;

use super::multiply_classifier;
use crate::classifier::Options;
use crate::error::Error;
use crate::executor::Executor;
use crate::format::Head;
use crate::kernels::Kernels;
use crate::kernels::rows::RowOperation;
use crate::model::Model;
use crate::session::{Input, Output, Request, Session};
use crate::tokenizer::{EncodeOptions, Encoded, Encoding, Scratch, Token};
use crate::workspace::Workspace;

/// The output of a text is the logits of each of its tokens.
pub(super) fn compute(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    multiply_classifier(executor, model, workspace);
    workspace.output_boundaries.clear();
    workspace
        .output_boundaries
        .extend_from_slice(&workspace.boundaries);
}

/// A model that labels the tokens of a text: it finds names, places and the like.
///
/// It may be used from many threads at once.
pub struct TokenClassifier {
    session: Session,
}

/// The labels of a text's tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenClassification {
    tokens: Vec<Token>,
    logits: Vec<f32>,
    /// The best label of each token, and its probability.
    best: Vec<(usize, f32)>,
    truncated: bool,
}

impl TokenClassification {
    /// The tokens, special tokens included.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// `[tokens, labels]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The number of the best label of each token, `[tokens]`.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = usize> {
        self.best.iter().map(|best| best.0)
    }

    /// Whether the text was cut to what the model takes.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// Neighbouring tokens of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity<'a> {
    /// The label, without `B-` or `I-`.
    pub label: &'a str,
    /// The mean of its tokens' probabilities.
    pub score: f32,
    /// The bytes of the text where it is.
    pub bytes: Range<usize>,
    /// The characters of the text where it is: Unicode scalar values, as Python counts.
    pub characters: Range<usize>,
}

impl std::fmt::Debug for TokenClassifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "TokenClassifier")
    }
}

impl TokenClassifier {
    /// Maps a `.filbert` file. Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`TokenClassifier::new`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Uses a model that is open.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), if the model is for something else, or
    /// for options that this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        model.check_head(Head::TokenClassification, "TokenClassifier")?;
        Session::new(model, options).map(|session| Self { session })
    }

    /// The model's shape, labels and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The kernel set in use, such as `avx512vnni`.
    pub fn kernels(&self) -> &'static str {
        self.session.kernels.name
    }

    /// Labels the tokens of a text.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`](crate::ErrorCode), if the text has more tokens than the model
    /// takes and the options do not let it be cut.
    pub fn classify(&self, text: &str) -> Result<TokenClassification, Error> {
        let mut results = self.classify_batch(&[text])?;
        Ok(results.remove(0))
    }

    /// Labels the tokens of many texts, each as it would be alone, to the bit.
    ///
    /// # Errors
    /// As for [`TokenClassifier::classify`]; the first text that fails ends the batch.
    pub fn classify_batch(&self, texts: &[&str]) -> Result<Vec<TokenClassification>, Error> {
        let mut results = vec![TokenClassification::default(); texts.len()];
        let request = Texts {
            classifier: self,
            texts,
        };
        self.session.answer(&request, None, &mut results)?;
        Ok(results)
    }

    /// The entities of a text, in its order.
    ///
    /// # Errors
    /// As for [`TokenClassifier::classify`].
    pub fn find_entities(&self, text: &str) -> Result<Vec<Entity<'_>>, Error> {
        let result = self.classify(text)?;
        Ok(self.group(text, &result))
    }

    /// The entities that the labels of a text's tokens make: `result` is what
    /// [`TokenClassifier::classify`] returned for this text.
    pub fn group(&self, text: &str, result: &TokenClassification) -> Vec<Entity<'_>> {
        // The first and the last token are special. Others may be empty, such as RoBERTa's of a
        // space.
        let texts = 1..result.tokens.len().max(2) - 1;
        let tokens = result.tokens.iter().zip(&result.best);
        let tokens = tokens.take(texts.end).skip(texts.start);
        let labelled = tokens.map(|(token, &(label, score))| {
            (self.model().label(label), score, token.start..token.end)
        });
        group_entities(text, labelled)
    }

    /// Ends the calls that run on other threads: see
    /// [`Classifier::close`](crate::Classifier::close).
    pub fn close(&self) {
        self.session.close();
    }
}

/// The label of tokens that belong to no entity.
const OUTSIDE: &str = "O";

/// What a label says: whether an entity begins with it in any case, and of which kind it is.
fn split_label(label: &str) -> (bool, &str) {
    match label.split_once('-') {
        Some(("B", kind)) => (true, kind),
        Some(("I", kind)) => (false, kind),
        _ => (false, label),
    }
}

/// Groups labelled tokens; `group` in [`TokenClassifier`] says how.
fn group_entities<'a>(
    text: &str,
    tokens: impl Iterator<Item = (&'a str, f32, Range<usize>)>,
) -> Vec<Entity<'a>> {
    struct Group<'a> {
        label: &'a str,
        /// Of the label as it was given.
        whole_label: &'a str,
        sum: f32,
        count: f32,
        bytes: Range<usize>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (whole_label, score, bytes) in tokens {
        let (begins, label) = split_label(whole_label);
        match groups.last_mut() {
            Some(group) if group.label == label && !begins => {
                group.sum += score;
                group.count += 1.0;
                group.bytes.end = bytes.end;
            }
            _ => groups.push(Group {
                label,
                whole_label,
                sum: score,
                count: 1.0,
                bytes,
            }),
        }
    }
    let character = |byte: usize| text[..byte].chars().count();
    // What stands before the first dash is dropped, even if it is neither B nor I.
    let name = |label: &'a str| label.split_once('-').map_or(label, |(_, kind)| kind);
    groups
        .into_iter()
        .filter(|group| name(group.whole_label) != OUTSIDE)
        .map(|group| Entity {
            label: name(group.whole_label),
            score: group.sum / group.count,
            characters: character(group.bytes.start)..character(group.bytes.end),
            bytes: group.bytes,
        })
        .collect()
}

/// The best of a row of logits, and its probability.
fn choose(kernels: &Kernels, logits: &[f32], scores: &mut Vec<f32>) -> (usize, f32) {
    scores.clear();
    scores.extend_from_slice(logits);
    kernels.run_rows(RowOperation::Probabilities { values: scores });
    let first = (0, f32::NEG_INFINITY);
    let best = |best: (usize, f32), (label, &score): (usize, &f32)| match score > best.1 {
        true => (label, score),
        false => best,
    };
    scores.iter().enumerate().fold(first, best)
}

/// Texts whose tokens are labelled.
struct Texts<'a> {
    classifier: &'a TokenClassifier,
    texts: &'a [&'a str],
}

impl Request for Texts<'_> {
    type Answer = TokenClassification;

    fn len(&self) -> usize {
        self.texts.len()
    }

    fn bytes(&self, text: usize) -> usize {
        self.texts[text].len()
    }

    fn encode(
        &self,
        text: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, Error> {
        let session = &self.classifier.session;
        let options = EncodeOptions {
            offsets: true,
            ..session.encode_options()
        };
        let input = Input::from(self.texts[text]);
        session.encode((text, input), &options, encoding, scratch)
    }

    fn write(&self, output: Output<'_>, scores: &mut Vec<f32>, answer: &mut TokenClassification) {
        let session = &self.classifier.session;
        let labels = session.model.shape().labels as usize;
        Self::clear(answer);
        answer.tokens = output.tokens();
        for row in output.rows.chunks_exact(output.width) {
            let logits = &row[..labels];
            answer.logits.extend_from_slice(logits);
            answer.best.push(choose(session.kernels, logits, scores));
        }
        answer.truncated = output.encoded.is_truncated();
    }

    fn clear(answer: &mut TokenClassification) {
        answer.tokens.clear();
        answer.logits.clear();
        answer.best.clear();
        answer.truncated = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group<'a>(text: &str, tokens: &[(&'a str, Range<usize>)]) -> Vec<(&'a str, String)> {
        let tokens = tokens
            .iter()
            .map(|(label, bytes)| (*label, 0.5, bytes.clone()));
        group_entities(text, tokens)
            .into_iter()
            .map(|entity| {
                let characters: Vec<char> = text.chars().collect();
                let same: String = characters[entity.characters].iter().collect();
                assert_eq!(same, &text[entity.bytes.clone()]);
                (entity.label, same)
            })
            .collect()
    }

    #[test]
    fn neighbours_of_a_kind_are_one_entity() {
        let text = "Zoë Müller at Köln";
        let entities = group(
            text,
            &[
                ("B-PER", 0..4),
                ("I-PER", 5..8),
                ("I-PER", 8..12),
                ("O", 13..15),
                ("I-LOC", 16..21),
            ],
        );
        let expected = [("PER", "Zoë Müller"), ("LOC", "Köln")];
        assert_eq!(
            entities,
            expected.map(|(label, part)| (label, part.to_owned()))
        );
    }

    #[test]
    fn a_beginning_ends_the_entity_before_it() {
        let labels = |labels: [&'static str; 3]| {
            let tokens: Vec<_> = labels.into_iter().zip([0..1, 2..3, 4..5]).collect();
            let entities = group("a b c", &tokens);
            entities
                .into_iter()
                .map(|(_, part)| part)
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(["B-X", "B-X", "I-X"]), ["a", "b c"]);
        assert_eq!(labels(["I-X", "B-Y", "I-X"]), ["a", "b", "c"]);
        assert_eq!(labels(["B-X", "O", "I-X"]), ["a", "c"]);
        assert_eq!(labels(["X", "X", "O"]), ["a b"]);
        assert_eq!(labels(["O", "O", "O"]), [""; 0]);
    }

    #[test]
    fn labels_are_split_at_the_first_dash() {
        assert_eq!(split_label("B-creative-work"), (true, "creative-work"));
        assert_eq!(split_label("I-X"), (false, "X"));
        assert_eq!(split_label("S-X"), (false, "S-X"));
        assert_eq!(split_label("O"), (false, "O"));
    }
}
