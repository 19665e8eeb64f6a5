//! From text to token ids, as Hugging Face's `tokenizers` does it for BERT.
//!
//! The path of a text: added tokens are cut out of it ([`added`]); what lies between them is
//! normalized ([`normalizer`]), cut at added tokens once more, and its words become pieces
//! ([`wordpiece`]). All of it works on the bytes of the vocabulary section where they lie.
//!
//! A section may hold anything. [`VocabularyLayout::parse`] checks lengths, added tokens and
//! the ids in the head. What the trie ([`trie`]) says is checked when a search meets it, and
//! nonsense there finds no token.

mod added;
mod normalizer;
mod tables;
mod trie;
mod unicode;
mod wordpiece;

use std::ops::Range;

use self::added::{AddedTokens, FirstBytes, Part, Record};
use self::normalizer::Normalizer;
use self::trie::Trie;
use self::wordpiece::WordPiece;
use crate::error::Error;
use crate::format::{
    self, LONGEST_TOKEN, NODES_PER_RANK, NODES_PER_START, Vocabulary, id_bytes, limits,
};

/// Where the parts of a checked vocabulary section lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VocabularyLayout {
    head: Vocabulary,
    /// Where each array of [`Parts`] begins, and the section's end.
    starts: [usize; PARTS + 1],
    /// See [`WordPiece::continuation`].
    continuation: Option<usize>,
    raw_first_bytes: FirstBytes,
    normalized_first_bytes: FirstBytes,
}

/// How many arrays there are behind the head of a vocabulary section.
const PARTS: usize = 9;

/// The arrays themselves.
struct Parts<'a> {
    trie: Trie<'a>,
    added: &'a [Record],
    prefix: &'a [u8],
    added_text: &'a [u8],
}

fn malformed(problem: impl std::fmt::Display) -> Error {
    Error::malformed(format_args!("section vocabulary: {problem}"))
}

impl VocabularyLayout {
    /// Checks a section, whatever its bytes. `vocabulary` is the number of rows of the word
    /// embedding, below which every id must lie.
    pub(crate) fn parse(section: &[u8], vocabulary: u32) -> Result<Self, Error> {
        let head = section
            .get(..size_of::<Vocabulary>())
            .ok_or_else(|| malformed("shorter than its head"))?;
        let head: Vocabulary = bytemuck::pod_read_unaligned(head);
        check_head(&head, vocabulary)?;

        let nodes = u64::from(head.nodes);
        let lengths = [
            8 * (2 * nodes - 1).div_ceil(64),
            8 * nodes.div_ceil(64),
            4 * nodes.div_ceil(NODES_PER_START as u64),
            4 * nodes.div_ceil(NODES_PER_RANK as u64),
            (u64::from(head.added_raw) + u64::from(head.added_normalized))
                * size_of::<format::AddedToken>() as u64,
            nodes,
            u64::from(head.tokens) * id_bytes(head.tokens) as u64,
            u64::from(head.prefix_text),
            u64::from(head.added_text),
        ];
        let mut end = size_of::<Vocabulary>() as u64;
        let mut starts = [size_of::<Vocabulary>(); PARTS + 1];
        for (start, length) in starts[1..].iter_mut().zip(lengths) {
            // Nine terms below 2^39 each.
            end += length;
            *start = usize::try_from(end).unwrap_or(usize::MAX);
        }
        if end != section.len() as u64 {
            return Err(malformed(format_args!(
                "its head implies {end} bytes, it has {}",
                section.len()
            )));
        }
        let mut layout = Self {
            head,
            starts,
            continuation: None,
            raw_first_bytes: FirstBytes::default(),
            normalized_first_bytes: FirstBytes::default(),
        };
        let parts = layout.parts(section);
        layout.continuation = parts.trie.find(parts.prefix);
        layout.check_added(section, vocabulary)?;
        Ok(layout)
    }

    /// Cuts the section that [`parse`](Self::parse) checked.
    fn parts<'a>(&self, section: &'a [u8]) -> Parts<'a> {
        let part = |at: usize| &section[self.starts[at]..self.starts[at + 1]];
        Parts {
            trie: Trie {
                degrees: part(0).as_chunks().0,
                ends: part(1).as_chunks().0,
                starts: part(2).as_chunks().0,
                ranks: part(3).as_chunks().0,
                labels: part(5),
                ids: part(6),
                id_bytes: id_bytes(self.head.tokens),
                tokens: self.head.tokens,
            },
            added: part(4).as_chunks().0,
            prefix: part(7),
            added_text: part(8),
        }
    }

    fn raw(&self) -> Range<usize> {
        0..self.head.added_raw as usize
    }

    fn normalized(&self) -> Range<usize> {
        let start = self.head.added_raw as usize;
        start..start + self.head.added_normalized as usize
    }

    fn check_added(&mut self, section: &[u8], vocabulary: u32) -> Result<(), Error> {
        let parts = self.parts(section);
        for (range, normalized) in [(self.raw(), false), (self.normalized(), true)] {
            let added = AddedTokens {
                records: &parts.added[range],
                text: parts.added_text,
                first_bytes: FirstBytes::default(),
            };
            let mut first_bytes = FirstBytes::default();
            let mut previous = &[][..];
            for bytes in added.records {
                let record: format::AddedToken = bytemuck::cast(*bytes);
                let text = added.text(bytes);
                let sound = record.id < vocabulary
                    && record.flags & !format::added_token::ALL == 0
                    && record.length <= LONGEST_TOKEN
                    && previous < text
                    && std::str::from_utf8(text).is_ok();
                if !sound {
                    return Err(malformed(format_args!(
                        "added token {} is not valid, or out of order",
                        record.id
                    )));
                }
                first_bytes.insert(text[0]);
                previous = text;
            }
            if normalized {
                self.normalized_first_bytes = first_bytes;
            } else {
                self.raw_first_bytes = first_bytes;
            }
        }
        Ok(())
    }
}

fn check_head(head: &Vocabulary, vocabulary: u32) -> Result<(), Error> {
    let checks = [
        ("tokens", head.tokens <= vocabulary),
        ("nodes", matches!(head.nodes, 1..=limits::NODES)),
        ("prefix_text", head.prefix_text <= LONGEST_TOKEN),
        ("unknown", head.unknown < vocabulary),
        ("classification", head.classification < vocabulary),
        ("separator", head.separator < vocabulary),
        ("flags", head.flags & !format::normalizer::ALL == 0),
        ("reserved", head.reserved == [0; 5]),
    ];
    match checks.iter().find(|check| !check.1) {
        Some((field, _)) => Err(malformed(format_args!("{field} is out of range"))),
        None => Ok(()),
    }
}

/// Encodings one after another: a ragged batch.
#[derive(Debug, Default)]
pub(crate) struct Encoding {
    pub(crate) ids: Vec<u32>,
    pub(crate) token_types: Vec<u8>,
}

/// What [`Tokenizer::encode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Tokens appended.
    pub(crate) tokens: usize,
    /// How many there would have been without truncation.
    pub(crate) untruncated_tokens: usize,
}

/// Buffers that keep their memory from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The normalized text.
    pub(crate) text: String,
    /// Marks that wait for their order.
    pub(crate) marks: Vec<u64>,
    /// The ids of the second text.
    pub(crate) second: Vec<u32>,
}

/// The ids of one text as they arise: those beyond a limit are counted, not kept.
struct Ids<'v> {
    ids: &'v mut Vec<u32>,
    /// Where they begin in `ids`.
    start: usize,
    /// How many to keep.
    limit: usize,
    /// How many there are.
    count: usize,
    /// The longest sequence that the model takes.
    max_tokens: usize,
    /// See [`Ids::length`].
    length: Option<usize>,
}

impl<'v> Ids<'v> {
    fn new(ids: &'v mut Vec<u32>, limit: usize, max_tokens: usize) -> Self {
        Self {
            start: ids.len(),
            ids,
            limit,
            count: 0,
            max_tokens,
            length: None,
        }
    }

    #[inline]
    fn push(&mut self, id: u32) {
        if self.count < self.limit {
            self.ids.push(id);
        }
        self.count += 1;
    }

    fn mark(&self) -> usize {
        self.count
    }

    /// Forgets what came after a mark.
    fn rewind(&mut self, mark: usize) {
        self.count = mark;
        self.ids.truncate(self.start + mark.min(self.limit));
    }

    #[inline]
    fn end_word(&mut self) {
        if self.count >= self.max_tokens && self.length.is_none() {
            self.length = Some(self.count);
        }
    }

    /// The length from which truncation is reckoned. `tokenizers` stops at the first word that
    /// reaches the longest sequence, so that of two long texts the one whose last word is
    /// longer counts as the longer.
    fn length(&self) -> usize {
        self.length.unwrap_or(self.count)
    }
}

/// A view of a vocabulary section that turns text into ids.
#[derive(Clone, Copy)]
pub(crate) struct Tokenizer<'a> {
    raw: AddedTokens<'a>,
    normalized: AddedTokens<'a>,
    normalizer: Normalizer,
    wordpiece: WordPiece<'a>,
    classification: u32,
    separator: u32,
}

impl<'a> Tokenizer<'a> {
    /// Views the section that `layout` was parsed from.
    pub(crate) fn new(layout: &VocabularyLayout, section: &'a [u8]) -> Self {
        let head = &layout.head;
        let parts = layout.parts(section);
        let added = |range, first_bytes| AddedTokens {
            records: &parts.added[range],
            text: parts.added_text,
            first_bytes,
        };
        Self {
            raw: added(layout.raw(), layout.raw_first_bytes),
            normalized: added(layout.normalized(), layout.normalized_first_bytes),
            normalizer: Normalizer::new(head.flags),
            wordpiece: WordPiece {
                trie: parts.trie,
                continuation: layout.continuation,
                max_word_chars: head.max_word_chars as usize,
                unknown: head.unknown,
            },
            classification: head.classification,
            separator: head.separator,
        }
    }

    /// Appends the ids and token types of a text, or of a pair, to `encoding`: `[CLS] first
    /// [SEP]`, or `[CLS] first [SEP] second [SEP]`, where the second and its separator have
    /// type 1.
    ///
    /// Texts are cut on the right, the longer of a pair first, so that there are at most
    /// `max_tokens`; the special tokens, two or three, are there in any case.
    pub(crate) fn encode(
        &self,
        first: &str,
        second: Option<&str>,
        max_tokens: usize,
        encoding: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Encoded {
        let start = encoding.ids.len();
        let special = if second.is_some() { 3 } else { 2 };
        let room = max_tokens.saturating_sub(special);

        encoding.ids.push(self.classification);
        let mut ids = Ids::new(&mut encoding.ids, room, max_tokens);
        self.tokenize(first, &mut ids, scratch);
        let (first_count, first_length) = (ids.count, ids.length());
        let mut untruncated_tokens = first_count + special;
        let Some(second) = second else {
            encoding.ids.push(self.separator);
            encoding.token_types.resize(encoding.ids.len(), 0);
            return Encoded {
                tokens: encoding.ids.len() - start,
                untruncated_tokens,
            };
        };

        let mut second_ids = std::mem::take(&mut scratch.second);
        second_ids.clear();
        let mut ids = Ids::new(&mut second_ids, room, max_tokens);
        self.tokenize(second, &mut ids, scratch);
        untruncated_tokens += ids.count;
        let (first_kept, second_kept) = longest_first(first_length, ids.length(), room);
        second_ids.truncate(second_kept);

        encoding.ids.truncate(start + 1 + first_kept);
        encoding.ids.push(self.separator);
        encoding.token_types.resize(encoding.ids.len(), 0);
        encoding.ids.extend_from_slice(&second_ids);
        encoding.ids.push(self.separator);
        encoding.token_types.resize(encoding.ids.len(), 1);
        scratch.second = second_ids;
        Encoded {
            tokens: encoding.ids.len() - start,
            untruncated_tokens,
        }
    }

    fn tokenize(&self, text: &str, ids: &mut Ids, scratch: &mut Scratch) {
        self.raw.split(text, |part| match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) => self.tokenize_part(text, ids, scratch),
        });
    }

    fn tokenize_part(&self, text: &str, ids: &mut Ids, scratch: &mut Scratch) {
        let Scratch {
            text: normalized,
            marks,
            ..
        } = scratch;
        self.normalizer.normalize(text, normalized, marks);
        if self.normalized.is_empty() {
            self.wordpiece.words(normalized, ids);
            return;
        }
        self.normalized.split(normalized, |part| match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) => self.wordpiece.words(text, ids),
        });
    }
}

/// How many tokens of each of two texts stay, of `room` in all: the longer text gives way
/// until both are equal, then both do. An odd place is the longer's, or else the second's.
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let shorter = first.min(second);
    let (shorter, longer) = if shorter <= room / 2 {
        (shorter, room - shorter)
    } else {
        (room / 2, room - room / 2)
    };
    if first > second {
        (longer, shorter)
    } else {
        (shorter, longer)
    }
}

/// The ids and token types of a text, for tests of other crates.
#[doc(hidden)]
pub fn tokenize_section(
    section: &[u8],
    vocabulary: u32,
    first: &str,
    second: Option<&str>,
    max_tokens: usize,
) -> Result<(Vec<u32>, Vec<u8>), Error> {
    let layout = VocabularyLayout::parse(section, vocabulary)?;
    let mut encoding = Encoding::default();
    Tokenizer::new(&layout, section).encode(
        first,
        second,
        max_tokens,
        &mut encoding,
        &mut Scratch::default(),
    );
    Ok((encoding.ids, encoding.token_types))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::normalizer;
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
            reserved: [0; 5],
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
            let encoded = tokenizer.encode(first, second, max_tokens, &mut encoding, &mut scratch);
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
    fn the_longer_text_gives_way_first() {
        assert_eq!(longest_first(3, 4, 7), (3, 4));
        assert_eq!(longest_first(3, 9, 10), (3, 7));
        assert_eq!(longest_first(9, 3, 10), (7, 3));
        assert_eq!(longest_first(9, 8, 7), (4, 3));
        assert_eq!(longest_first(8, 8, 7), (3, 4));
        assert_eq!(longest_first(1, 1, 0), (0, 0));
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
