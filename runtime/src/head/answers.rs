//! Where in a text the answer to a question is.
//!
//! A long text is read in windows that overlap, and an answer is made of whole words: as the
//! question answering pipeline of Hugging Face's transformers does it, with its defaults.

use std::ops::Range;
use std::path::Path;

use crate::classifier::Options;
use crate::error::{Error, ErrorCode};
use crate::format::Head;
use crate::kernels::rows::RowOperation;
use crate::model::Model;
use crate::session::{Output, Request, Session};
use crate::tokenizer::{EncodeOptions, Encoded, Encoding, Scratch, Token, Truncation};

/// Tokens of a window at most, the question's and the special ones included.
const WINDOW: usize = 384;

/// Tokens that a window shares with the one before it.
const OVERLAP: usize = 128;

/// Tokens of an answer at most.
const LONGEST_ANSWER: usize = 15;

/// A model that finds the answer to a question in a text.
///
/// It may be used from many threads at once.
pub struct QuestionAnswerer {
    session: Session,
}

/// A part of the text that answers the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'t> {
    /// The part itself.
    pub text: &'t str,
    /// The probability that it begins there, times the probability that it ends there.
    pub score: f32,
    /// The bytes of the text where it is.
    pub bytes: Range<usize>,
    /// The characters of the text where it is: Unicode scalar values, as Python counts.
    pub characters: Range<usize>,
}

impl std::fmt::Debug for QuestionAnswerer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.debug(f, "QuestionAnswerer")
    }
}

impl QuestionAnswerer {
    /// Maps a `.filbert` file. Of the options, only threads matter.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`QuestionAnswerer::new`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::new(Model::open(path)?, options)
    }

    /// Uses a model that is open.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], if the model is for something else, or for options that
    /// this machine cannot serve.
    pub fn new(model: Model, options: &Options) -> Result<Self, Error> {
        model.check_head(Head::QuestionAnswering, "QuestionAnswerer")?;
        Session::new(model, options).map(|session| Self { session })
    }

    /// The model's shape and sections.
    pub fn model(&self) -> &Model {
        &self.session.model
    }

    /// The parts of a text, `count` at most, that answer a question, the best first. A text
    /// without a word has none.
    ///
    /// # Errors
    /// [`ErrorCode::TextTooLong`], if the question leaves no room for the text.
    pub fn answer<'t>(
        &self,
        question: &str,
        text: &'t str,
        count: usize,
    ) -> Result<Vec<Answer<'t>>, Error> {
        let windows = Windows::new(self, question, text, count)?;
        let mut spans = vec![Vec::new(); windows.len()];
        self.session.answer(&windows, None, &mut spans)?;
        let mut answers: Vec<Answer<'t>> = Vec::new();
        for span in spans.into_iter().flatten() {
            let bytes = self.align_to_words(text, span.bytes);
            let part = &text[bytes.clone()];
            let lowercase = part.to_lowercase();
            // The same words said twice are one answer.
            let same = answers
                .iter_mut()
                .find(|answer| answer.text.to_lowercase() == lowercase);
            match same {
                Some(answer) => answer.score += span.score,
                None => answers.push(Answer {
                    text: part,
                    score: span.score,
                    characters: count_characters(text, &bytes),
                    bytes,
                }),
            }
        }
        answers.sort_by(|a, b| b.score.total_cmp(&a.score));
        answers.truncate(count);
        Ok(answers)
    }

    /// The logits `[tokens, 2]` of the beginning and the end of the answer, for a question and a
    /// text that fit in one window, and the tokens.
    ///
    /// # Errors
    /// As for [`QuestionAnswerer::answer`], and if the text does not fit.
    pub fn logits(&self, question: &str, text: &str) -> Result<(Vec<Token>, Vec<f32>), Error> {
        let input = (question, text).into();
        let options = EncodeOptions {
            truncation: Truncation::Refuse,
            ..self.session.encode_options()
        };
        let tokens = self.session.tokenize(input, &options)?;
        let mut logits = [Vec::new()];
        self.session
            .answer(&Whole { tokens: &tokens }, None, &mut logits)?;
        let [logits] = logits;
        Ok((tokens, logits))
    }

    /// Ends the calls that run on other threads: see
    /// [`Classifier::close`](crate::Classifier::close).
    pub fn close(&self) {
        self.session.close();
    }

    /// Widens a part of a text to whole words.
    fn align_to_words(&self, text: &str, part: Range<usize>) -> Range<usize> {
        let tokenizer = self.session.model.tokenizer();
        let (mut start, mut end) = (part.start, part.end);
        let mut after = text[start..].chars().next();
        for before in text[..start].chars().rev() {
            match after {
                Some(next) if tokenizer.is_inside_word(before, next) => {
                    start -= before.len_utf8();
                    after = Some(before);
                }
                _ => break,
            }
        }
        let mut before = text[..end].chars().next_back();
        for after in text[end..].chars() {
            match before {
                Some(last) if tokenizer.is_inside_word(last, after) => {
                    end += after.len_utf8();
                    before = Some(after);
                }
                _ => break,
            }
        }
        start..end
    }
}

fn count_characters(text: &str, bytes: &Range<usize>) -> Range<usize> {
    let start = text[..bytes.start].chars().count();
    start..start + text[bytes.clone()].chars().count()
}

/// Tokens from the first to the last of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    bytes: Range<usize>,
    score: f32,
}

/// A question, and a text in windows.
struct Windows<'a> {
    answerer: &'a QuestionAnswerer,
    /// `[CLS] question [SEP] text [SEP]`.
    tokens: Vec<Token>,
    /// Those of the text.
    text: Range<usize>,
    /// The tokens of the text in each window.
    windows: Vec<Range<usize>>,
    /// Spans that are kept of a window.
    count: usize,
}

impl<'a> Windows<'a> {
    fn new(
        answerer: &'a QuestionAnswerer,
        question: &str,
        text: &str,
        count: usize,
    ) -> Result<Self, Error> {
        let session = &answerer.session;
        let unlimited = EncodeOptions {
            max_tokens: usize::MAX,
            ..session.encode_options()
        };
        let tokens = session.tokenize((question, text).into(), &unlimited)?;
        // The last token ends the text, and is none of it.
        let end = tokens.len() - 1;
        let start = tokens.iter().position(|token| token.text == 1);
        let text = start.unwrap_or(end)..end;
        let most = (session.model.shape().max_tokens as usize).min(WINDOW);
        let room = most.saturating_sub(text.start + 1);
        if room == 0 {
            return Err(Error::new(
                ErrorCode::TextTooLong,
                format!(
                    "the question takes {} tokens of {most}, which leaves none for the text; \
                     shorten it",
                    text.start + 1
                ),
            ));
        }
        Ok(Self {
            answerer,
            windows: divide(text.clone(), room, OVERLAP.min(most / 2)),
            tokens,
            text,
            // Several may widen to the same words.
            count: count.saturating_mul(2).saturating_add(10),
        })
    }

    /// The tokens of a window, which begins with the question.
    fn tokens_of(&self, window: usize) -> impl Iterator<Item = &Token> {
        let question = &self.tokens[..self.text.start];
        let text = &self.tokens[self.windows[window].clone()];
        question.iter().chain(text).chain(self.tokens.last())
    }
}

/// Divides tokens into windows of `room`, of which each shares some with the one before it.
fn divide(tokens: Range<usize>, room: usize, overlap: usize) -> Vec<Range<usize>> {
    let step = room - overlap.min(room / 2);
    let mut windows = Vec::new();
    let mut start = tokens.start;
    while windows.is_empty()
        || windows
            .last()
            .is_some_and(|w: &Range<usize>| w.end < tokens.end)
    {
        windows.push(start..tokens.end.min(start + room));
        start += step;
    }
    windows
}

fn push_tokens<'a>(tokens: impl Iterator<Item = &'a Token>, encoding: &mut Encoding) -> Encoded {
    let before = encoding.ids.len();
    for token in tokens {
        encoding.ids.push(token.id);
        encoding.token_types.push(token.token_type);
    }
    let tokens = encoding.ids.len() - before;
    Encoded {
        tokens,
        untruncated_tokens: tokens,
    }
}

impl Request for Windows<'_> {
    type Answer = Vec<Span>;

    fn len(&self) -> usize {
        self.windows.len()
    }

    fn bytes(&self, window: usize) -> usize {
        // A token stands for four bytes, roughly.
        4 * (self.text.start + self.windows[window].len())
    }

    fn encode(
        &self,
        window: usize,
        encoding: &mut Encoding,
        _: &mut Scratch,
    ) -> Result<Encoded, Error> {
        Ok(push_tokens(self.tokens_of(window), encoding))
    }

    fn write(&self, output: Output<'_>, _: &mut Vec<f32>, spans: &mut Vec<Span>) {
        spans.clear();
        let window = &self.tokens[self.windows[output.text].clone()];
        let text = self.text.start..self.text.start + window.len();
        let probabilities = |column: usize| {
            // The first token stands for "no answer", and competes.
            let rows = std::iter::once(0).chain(text.clone());
            let mut values: Vec<f32> = rows
                .map(|row| output.rows[row * output.width + column])
                .collect();
            self.answerer
                .session
                .kernels
                .run_rows(RowOperation::Probabilities {
                    values: &mut values,
                });
            values.remove(0);
            values
        };
        spans.extend(
            best_spans(&probabilities(0), &probabilities(1), self.count)
                .into_iter()
                .map(|(first, last, score)| Span {
                    bytes: window[first].start..window[last].end,
                    score,
                }),
        );
    }

    fn clear(spans: &mut Vec<Span>) {
        spans.clear();
    }
}

/// The likeliest spans, `count` at most, as first token, last token and score; of equal ones the
/// first.
fn best_spans(starts: &[f32], ends: &[f32], count: usize) -> Vec<(usize, usize, f32)> {
    let mut spans = Vec::new();
    for (first, start) in starts.iter().enumerate() {
        let last = ends.iter().enumerate().skip(first).take(LONGEST_ANSWER);
        spans.extend(last.map(|(last, end)| (first, last, start * end)));
    }
    spans.sort_by(|a, b| b.2.total_cmp(&a.2));
    spans.truncate(count);
    spans
}

/// Tokens that are run as they are.
struct Whole<'a> {
    tokens: &'a [Token],
}

impl Request for Whole<'_> {
    type Answer = Vec<f32>;

    fn len(&self) -> usize {
        1
    }

    fn bytes(&self, _: usize) -> usize {
        4 * self.tokens.len()
    }

    fn encode(&self, _: usize, encoding: &mut Encoding, _: &mut Scratch) -> Result<Encoded, Error> {
        Ok(push_tokens(self.tokens.iter(), encoding))
    }

    fn write(&self, output: Output<'_>, _: &mut Vec<f32>, logits: &mut Vec<f32>) {
        logits.clear();
        for row in output.rows.chunks_exact(output.width) {
            logits.extend_from_slice(&row[..2]);
        }
    }

    fn clear(logits: &mut Vec<f32>) {
        logits.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_and_cover_the_text() {
        let divide = |tokens: Range<usize>, room, overlap| -> Vec<(usize, usize)> {
            let windows = divide(tokens, room, overlap).into_iter();
            windows.map(|window| (window.start, window.end)).collect()
        };
        assert_eq!(divide(5..5, 10, 4), [(5, 5)]);
        assert_eq!(divide(5..15, 10, 4), [(5, 15)]);
        assert_eq!(divide(5..16, 10, 4), [(5, 15), (11, 16)]);
        let five = [(0, 10), (6, 16), (12, 22), (18, 28), (24, 30)];
        assert_eq!(divide(0..30, 10, 4), five);
        // No more than half is read twice, so that there is an end.
        assert_eq!(divide(0..4, 1, 128), [(0, 1), (1, 2), (2, 3), (3, 4)]);
    }

    #[test]
    fn spans_go_forward_and_are_short() {
        let starts = [0.1, 0.6, 0.3];
        let ends = [0.5, 0.2, 0.3];
        let best = best_spans(&starts, &ends, 2);
        assert_eq!((best[0].0, best[0].1), (1, 2));
        assert_eq!((best[1].0, best[1].1), (1, 1));
        let mut starts = [0.0; 40];
        let mut ends = [0.01; 40];
        (starts[0], ends[39], ends[LONGEST_ANSWER - 1]) = (1.0, 0.9, 0.5);
        assert_eq!(best_spans(&starts, &ends, 1)[0].1, LONGEST_ANSWER - 1);
        assert_eq!(best_spans(&[], &[], 3), []);
        assert_eq!(best_spans(&starts, &ends, 0), []);
    }
}
