//! From text to token ids, as Hugging Face's `tokenizers` does it for BERT and RoBERTa.
//!
//! The path of a text: added tokens are cut out of it ([`added`]). For BERT, what lies between
//! them is normalized ([`normalizer`]), cut at added tokens once more, and its words become
//! pieces ([`wordpiece`]). For RoBERTa it is cut into words ([`gpt2`]), whose bytes are merged
//! ([`bpe`]). All of it works on the bytes of the vocabulary section where they lie.
//!
//! A section may hold anything. [`VocabularyLayout::parse`] checks lengths, added tokens and
//! the ids in the head. What the trie ([`trie`]) or the merges say is checked when a search
//! meets it, and nonsense there finds no token.

mod added;
mod alignment;
mod bpe;
mod gpt2;
mod ids;
mod layout;
mod normalizer;
mod tables;
mod trie;
mod truncation;
mod unicode;
mod wordpiece;

use std::ops::Range;

use self::added::{AddedTokens, Part};
use self::alignment::Aligned;
pub(crate) use self::alignment::Alignment;
use self::bpe::ByteLevelBpe;
pub(crate) use self::bpe::Word;
use self::ids::Ids;
pub(crate) use self::layout::VocabularyLayout;
use self::normalizer::Normalizer;
pub(crate) use self::truncation::TooLong;
pub use self::truncation::Truncation;
use self::wordpiece::WordPiece;
use crate::error::Error;
use crate::format::{VocabularyKind, byte_level};

/// A token of a text or pair, and the part of the text that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Its id: its row of the word embedding.
    pub id: u32,
    /// Its type: 0, or 1 in the second text of a pair and after it, if the model tells them
    /// apart so. RoBERTa does not.
    pub token_type: u8,
    /// The text that it belongs to: 0, or 1 in the second text of a pair. A special token
    /// belongs to the text before it, and the first of all to the first.
    pub text: u8,
    /// The byte of that text, as given, where the part begins. Special tokens stand for
    /// nothing: their part is empty, at 0.
    pub start: usize,
    /// The byte after the part. It begins and ends between characters.
    pub end: usize,
}

/// Encodings one after another: a ragged batch.
#[derive(Debug, Default)]
pub(crate) struct Encoding {
    pub(crate) ids: Vec<u32>,
    pub(crate) token_types: Vec<u8>,
    /// The bytes of its text that each token stands for, if they were asked for.
    pub(crate) offsets: Vec<Range<usize>>,
    /// The text of a pair that each token belongs to, if the offsets were asked for.
    pub(crate) texts: Vec<u8>,
}

impl Encoding {
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.token_types.clear();
        self.offsets.clear();
        self.texts.clear();
    }

    /// All tokens, if the offsets were asked for.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.tokens_in(0..self.ids.len())
    }

    /// Some tokens, if the offsets were asked for.
    pub(crate) fn tokens_in(&self, range: Range<usize>) -> Vec<Token> {
        let tokens = self.ids.iter().zip(&self.token_types);
        let places = self.texts.iter().zip(&self.offsets);
        tokens
            .zip(places)
            .skip(range.start)
            .take(range.len())
            .map(|((&id, &token_type), (&text, offsets))| Token {
                id,
                token_type,
                text,
                start: offsets.start,
                end: offsets.end,
            })
            .collect()
    }

    fn push_special(&mut self, id: u32, offsets: bool) {
        self.ids.push(id);
        if offsets {
            self.offsets.push(0..0);
        }
    }

    /// Removes tokens whose types are not there yet.
    fn remove(&mut self, tokens: Range<usize>, offsets: bool) {
        self.ids.drain(tokens.clone());
        if offsets {
            self.offsets.drain(tokens);
        }
    }
}

/// How to encode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodeOptions {
    /// Tokens that the model takes, special ones included.
    pub(crate) max_tokens: usize,
    pub(crate) truncation: Truncation,
    /// Whether to find the part of its text that each token stands for.
    pub(crate) offsets: bool,
}

/// What [`Tokenizer::encode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Tokens appended.
    pub(crate) tokens: usize,
    /// How many there would have been without truncation.
    pub(crate) untruncated_tokens: usize,
}

impl Encoded {
    /// Whether the text was cut.
    pub(crate) fn is_truncated(&self) -> bool {
        self.untruncated_tokens > self.tokens
    }
}

/// Bytes after which a text is normalized in another piece, so that the buffers stay small.
const CHUNK: usize = 4096;

/// Bytes of a buffer that are kept for the next text; a word may need more.
const MOST_KEPT: usize = 16 * CHUNK;

/// Buffers that keep their memory from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The normalized text.
    pub(crate) text: String,
    /// Where it comes from.
    pub(crate) alignment: Alignment,
    /// Marks that wait for their order.
    pub(crate) marks: Vec<u64>,
    /// The word that is merged.
    pub(crate) word: Word,
}

impl Scratch {
    /// Gives back what a text without spaces needed.
    pub(crate) fn shrink(&mut self) {
        let capacities = [
            self.text.capacity(),
            self.marks.capacity(),
            self.word.symbols.capacity(),
        ];
        if capacities.iter().any(|&capacity| capacity > MOST_KEPT) {
            *self = Self::default();
        }
    }
}

/// A view of a vocabulary section that turns text into ids.
#[derive(Clone, Copy)]
pub(crate) struct Tokenizer<'a> {
    raw: AddedTokens<'a>,
    normalized: AddedTokens<'a>,
    model: Model<'a>,
    classification: u32,
    separator: u32,
    /// How many separators divide a pair.
    separators: usize,
    /// The type of the second text of a pair, and of the separator after it.
    second_type: u8,
}

/// What becomes of the text between added tokens.
#[derive(Clone, Copy)]
enum Model<'a> {
    WordPiece(Normalizer, WordPiece<'a>),
    ByteLevelBpe(ByteLevelBpe<'a>),
}

impl<'a> Tokenizer<'a> {
    /// Views the section that `layout` was parsed from.
    pub(crate) fn new(layout: &VocabularyLayout, section: &'a [u8]) -> Self {
        let head = &layout.head;
        let model = match layout.kind {
            VocabularyKind::WordPiece => Model::WordPiece(
                Normalizer::new(head.flags),
                WordPiece {
                    trie: layout.trie(section),
                    continuation: layout.continuation,
                    max_word_chars: head.max_word_chars as usize,
                    unknown: head.unknown,
                },
            ),
            VocabularyKind::ByteLevelBpe => Model::ByteLevelBpe(ByteLevelBpe {
                merges: layout.merges(section),
                prefix_space: layout.has(byte_level::PREFIX_SPACE),
                trim_offsets: layout.has(byte_level::TRIM_OFFSETS),
                keep_first_space: layout.has(byte_level::KEEP_FIRST_SPACE),
            }),
        };
        Self {
            raw: layout.raw(section),
            normalized: layout.normalized(section),
            model,
            classification: head.classification,
            separator: head.separator,
            separators: layout.separators(),
            second_type: u8::from(layout.separators() == 1),
        }
    }

    /// Appends the ids and token types of a text, or of a pair, to `encoding`: `[CLS] first
    /// [SEP]`, or `[CLS] first [SEP] second [SEP]`, where the second and its separator have
    /// type 1, or `<s> first </s></s> second </s>`, where all have type 0; and where each token
    /// comes from, if the options ask for it.
    ///
    /// Texts are cut on the right, as the options say, so that there are at most `max_tokens`;
    /// the special tokens, two to four, are there in any case. A text that may not be cut so
    /// leaves the encoding as it was.
    pub(crate) fn encode(
        &self,
        first: &str,
        second: Option<&str>,
        options: &EncodeOptions,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<Encoded, TooLong> {
        let start = encoding.ids.len();
        let separators = if second.is_some() { self.separators } else { 0 };
        let special = 2 + separators;
        let room = options.max_tokens.saturating_sub(special);

        encoding.push_special(self.classification, options.offsets);
        let (first_count, first_length) = self.append(first, room, options, encoding, scratch);
        let first_end = encoding.ids.len();
        let second = second.map(|second| {
            for _ in 0..separators {
                encoding.push_special(self.separator, options.offsets);
            }
            self.append(second, room, options, encoding, scratch)
        });

        let untruncated_tokens = special + first_count + second.map_or(0, |(count, _)| count);
        let second_length = second.map(|(_, length)| length);
        let Some((first_kept, second_kept)) =
            options.truncation.keep(first_length, second_length, room)
        else {
            encoding.remove(start..encoding.ids.len(), options.offsets);
            return Err(TooLong {
                first: first_count,
                second: second.map(|(count, _)| count),
                tokens: untruncated_tokens,
                max_tokens: options.max_tokens,
                truncation: options.truncation,
            });
        };
        // The second text first: then the place of the first is still known.
        let end = encoding.ids.len();
        let second_end = end.min(first_end + separators + second_kept);
        encoding.remove(second_end..end, options.offsets);
        let kept = first_end.min(start + 1 + first_kept);
        encoding.remove(kept..first_end, options.offsets);
        encoding.push_special(self.separator, options.offsets);

        let end = encoding.ids.len();
        // A single text ends with the last separator.
        let second_start = if second.is_some() {
            kept + separators
        } else {
            end
        };
        encoding.token_types.resize(second_start, 0);
        encoding.token_types.resize(end, self.second_type);
        if options.offsets {
            encoding.texts.resize(second_start, 0);
            encoding.texts.resize(end, 1);
        }
        Ok(Encoded {
            tokens: encoding.ids.len() - start,
            untruncated_tokens,
        })
    }

    /// The bytes of a token's text, as the vocabulary has it.
    pub(crate) fn token_text(&self, id: u32) -> Option<Vec<u8>> {
        let added = || {
            let mut all = [self.raw, self.normalized].into_iter();
            all.find_map(|tokens| tokens.text_of(id).map(<[u8]>::to_vec))
        };
        let text = match &self.model {
            Model::WordPiece(_, wordpiece) => wordpiece.trie.text(id),
            Model::ByteLevelBpe(bpe) => bpe.merges.text(id),
        };
        text.or_else(added)
    }

    /// Whether these neighbours in a text belong to the same word.
    pub(crate) fn is_inside_word(&self, before: char, after: char) -> bool {
        match &self.model {
            Model::WordPiece(..) => {
                use unicode::{IDEOGRAPH, PUNCTUATION, SPACE, class};
                (class(before) | class(after)) & (IDEOGRAPH | PUNCTUATION | SPACE) == 0
            }
            Model::ByteLevelBpe(_) => gpt2::is_inside_word(before, after),
        }
    }

    /// Appends the first `limit` tokens of a text; how many there are, and [`Ids::length`].
    fn append(
        &self,
        text: &str,
        limit: usize,
        options: &EncodeOptions,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        if options.offsets {
            let mut ids = Ids::<true>::new(encoding, limit, options);
            self.tokenize(text, &mut ids, scratch);
            (ids.count, ids.length())
        } else {
            let mut ids = Ids::<false>::new(encoding, limit, options);
            self.tokenize(text, &mut ids, scratch);
            (ids.count, ids.length())
        }
    }

    fn tokenize<const OFFSETS: bool>(
        &self,
        text: &str,
        ids: &mut Ids<OFFSETS>,
        scratch: &mut Scratch,
    ) {
        match &self.model {
            Model::WordPiece(normalizer, wordpiece) => self.raw.split(text, |part| match part {
                Part::Token(id, range) => {
                    ids.move_to(range.start);
                    ids.push(id, range.len());
                }
                Part::Text(range) => {
                    let models = (normalizer, wordpiece);
                    self.tokenize_part(text, range, models, ids, scratch);
                }
            }),
            Model::ByteLevelBpe(bpe) => self.raw.split(text, |part| match part {
                Part::Token(id, range) => bpe.push_added(id, text, range, ids),
                Part::Text(range) => self.merge_part(text, range, bpe, ids, &mut scratch.word),
            }),
        }
    }

    /// Appends the ids of a part of a text in which no raw added token is, by byte-level BPE.
    fn merge_part<const OFFSETS: bool>(
        &self,
        text: &str,
        part: Range<usize>,
        bpe: &ByteLevelBpe<'_>,
        ids: &mut Ids<OFFSETS>,
        word: &mut Word,
    ) {
        let start = part.start;
        let whole = |range: Range<usize>| start + range.start..start + range.end;
        self.normalized.split(&text[part], |part| match part {
            Part::Token(id, range) => bpe.push_added(id, text, whole(range), ids),
            Part::Text(range) => bpe.words(text, whole(range), ids, word),
        });
    }

    /// Appends the ids of a part of a text in which no raw added token is, by WordPiece.
    fn tokenize_part<const OFFSETS: bool>(
        &self,
        text: &str,
        part: Range<usize>,
        models: (&Normalizer, &WordPiece<'_>),
        ids: &mut Ids<OFFSETS>,
        scratch: &mut Scratch,
    ) {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.start + self.chunk(&text.as_bytes()[rest.clone()]);
            self.tokenize_chunk(text, rest.start..end, models, ids, scratch);
            rest.start = end;
        }
    }

    /// How much of a text is normalized at once: as far as a space, which nothing but an added
    /// token goes across.
    fn chunk(&self, text: &[u8]) -> usize {
        let rest = text.get(CHUNK..).filter(|_| self.normalized.is_empty());
        let space = rest.and_then(|rest| rest.iter().position(|&byte| byte == b' '));
        space.map_or(text.len(), |space| CHUNK + space + 1)
    }

    fn tokenize_chunk<const OFFSETS: bool>(
        &self,
        text: &str,
        part: Range<usize>,
        (normalizer, wordpiece): (&Normalizer, &WordPiece<'_>),
        ids: &mut Ids<OFFSETS>,
        scratch: &mut Scratch,
    ) {
        let Scratch {
            text: normalized,
            alignment,
            marks,
            ..
        } = scratch;
        let original = &text[part.clone()];
        let before = ids.ids.len();
        if OFFSETS {
            let mut aligned = Aligned {
                text: normalized,
                alignment,
            };
            normalizer.normalize(original, &mut aligned, marks);
        } else {
            normalizer.normalize(original, normalized, marks);
        }
        if self.normalized.is_empty() {
            wordpiece.words(normalized, 0, ids);
        } else {
            self.normalized.split(normalized, |part| match part {
                Part::Token(id, range) => {
                    ids.move_to(range.start);
                    ids.push(id, range.len());
                }
                Part::Text(range) => {
                    let start = range.start;
                    wordpiece.words(&normalized[range], start, ids);
                }
            });
        }
        if OFFSETS {
            // From the normalized part to the text.
            for offsets in &mut ids.offsets[before..] {
                let range = alignment.original(offsets, original);
                *offsets = part.start + range.start..part.start + range.end;
            }
        }
    }
}

/// The tokens of a text or pair, for tests of other crates.
///
/// # Panics
/// If they are others without the offsets.
#[doc(hidden)]
pub fn tokenize_section(
    section: &[u8],
    vocabulary: u32,
    first: &str,
    second: Option<&str>,
    max_tokens: usize,
    truncation: Truncation,
) -> Result<Vec<Token>, Error> {
    let layout = VocabularyLayout::parse(section, vocabulary)?;
    let tokenizer = Tokenizer::new(&layout, section);
    let mut scratch = Scratch::default();
    let mut encode = |offsets| {
        let mut encoding = Encoding::default();
        let options = EncodeOptions {
            max_tokens,
            truncation,
            offsets,
        };
        let encoded = tokenizer.encode(first, second, &options, &mut encoding, &mut scratch);
        (encoded, encoding)
    };
    let (plain, without) = encode(false);
    let (encoded, encoding) = encode(true);
    assert_eq!(plain, encoded);
    assert_eq!(
        (&without.ids, &without.token_types),
        (&encoding.ids, &encoding.token_types)
    );
    assert!(without.offsets.is_empty() && encoding.offsets.len() == encoding.ids.len());
    encoded.map_err(|too_long| too_long.into_error(0))?;
    Ok(encoding.tokens())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Vocabulary, normalizer};
    use crate::tokenizer::trie::tests::Arrays;

    const TOKENS: [&str; 5] = ["[UNK]", "[CLS]", "[SEP]", "a", "##b"];

    fn section() -> Vec<u8> {
        let trie = Arrays::new(&TOKENS);
        let head = Vocabulary {
            tokens: 5,
            nodes: trie.labels.len() as u32,
            added_raw: 0,
            added_normalized: 0,
            prefix_text: 2,
            added_text: 0,
            max_word_chars: 4,
            unknown: 0,
            classification: 1,
            separator: 2,
            flags: normalizer::ALL,
            kind: 0,
            merges: 0,
            reserved: [0; 3],
        };
        let mut section = bytemuck::bytes_of(&head).to_vec();
        section.extend(trie.degrees.iter().chain(&trie.ends).flatten());
        section.extend(trie.starts.iter().chain(&trie.ranks).flatten());
        section.extend(trie.labels.iter().chain(&trie.ids));
        section.extend(b"##");
        section
    }

    #[test]
    fn encodings_follow_one_another() {
        let section = section();
        let layout = VocabularyLayout::parse(&section, 5).unwrap();
        let tokenizer = Tokenizer::new(&layout, &section);
        let (mut encoding, mut scratch) = Default::default();
        let mut encode = |first: &str, second, max_tokens| {
            let options = EncodeOptions {
                max_tokens,
                truncation: Truncation::LongestFirst,
                offsets: true,
            };
            let encoded = tokenizer.encode(first, second, &options, &mut encoding, &mut scratch);
            let encoded = encoded.unwrap();
            (encoded.tokens, encoded.untruncated_tokens)
        };
        assert_eq!(encode("Abb, a", None, 16), (7, 7));
        assert_eq!(encode("a a a a a", None, 4), (4, 7));
        assert_eq!(encode("ab", Some("a a abb ac"), 7), (7, 11));
        // The special tokens are there in any case.
        assert_eq!(encode("a", Some("a"), 0), (3, 5));
        assert_eq!(
            encoding.ids,
            [
                &[1, 3, 4, 4, 0, 3, 2][..],
                &[1, 3, 3, 2],
                &[1, 3, 4, 2, 3, 3, 2],
                &[1, 2, 2]
            ]
            .concat()
        );
        assert_eq!(
            encoding.token_types,
            [&[0; 7][..], &[0; 4], &[0, 0, 0, 0, 1, 1, 1], &[0, 0, 1]].concat()
        );
    }

    #[test]
    fn buffers_stay_small_whatever_the_text() {
        let section = section();
        let layout = VocabularyLayout::parse(&section, 5).unwrap();
        let tokenizer = Tokenizer::new(&layout, &section);
        let (mut encoding, mut scratch) = (Encoding::default(), Scratch::default());
        let options = EncodeOptions {
            max_tokens: 16,
            truncation: Truncation::LongestFirst,
            offsets: true,
        };
        let mut encode = |text: &str, scratch: &mut Scratch| {
            encoding.clear();
            let encoded = tokenizer.encode(text, None, &options, &mut encoding, scratch);
            assert_eq!(encoded.unwrap().untruncated_tokens, 2 + 200_000);
            scratch.text.capacity()
        };
        assert!(encode(&"a ".repeat(200_000), &mut scratch) <= 2 * CHUNK);
        // A text without spaces, whose every other character is a word.
        assert!(encode(&"a!".repeat(100_000), &mut scratch) > MOST_KEPT);
        scratch.shrink();
        assert_eq!(scratch.text.capacity(), 0);
    }

    #[test]
    fn a_section_must_fit() {
        let section = section();
        assert!(VocabularyLayout::parse(&section, 4).is_err());
        assert!(VocabularyLayout::parse(&section[1..], 5).is_err());
        let error = VocabularyLayout::parse(&[], 5).unwrap_err();
        assert_eq!(error.code(), crate::error::ErrorCode::Malformed);
    }
}
