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
mod alignment;
mod normalizer;
mod tables;
mod trie;
mod truncation;
mod unicode;
mod wordpiece;

use std::ops::Range;

use self::added::{AddedTokens, FirstBytes, Part, Record};
use self::alignment::Aligned;
pub(crate) use self::alignment::Alignment;
use self::normalizer::Normalizer;
use self::trie::Trie;
pub(crate) use self::truncation::TooLong;
pub use self::truncation::Truncation;
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

/// A token of a text or pair, and the part of the text that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Its id: its row of the word embedding.
    pub id: u32,
    /// The text that it belongs to: 0, or 1 in the second text of a pair and after it.
    pub token_type: u8,
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
}

impl Encoding {
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.token_types.clear();
        self.offsets.clear();
    }

    /// All tokens, if the offsets were asked for.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let types = self.token_types.iter().zip(&self.offsets);
        let tokens = self.ids.iter().zip(types);
        tokens
            .map(|(&id, (&token_type, offsets))| Token {
                id,
                token_type,
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
}

impl Scratch {
    /// Gives back what a text without spaces needed.
    pub(crate) fn shrink(&mut self) {
        if self.text.capacity() > MOST_KEPT || self.marks.capacity() > MOST_KEPT {
            *self = Self::default();
        }
    }
}

/// The ids of one text as they arise: those beyond a limit are counted, not kept. With `OFFSETS`
/// also the bytes of each; without, none of that costs anything.
struct Ids<'v, const OFFSETS: bool> {
    ids: &'v mut Vec<u32>,
    /// The bytes of each token: one for each of `ids`, with `OFFSETS`.
    offsets: &'v mut Vec<Range<usize>>,
    /// Where they begin in `ids`.
    start: usize,
    /// How many to keep.
    limit: usize,
    /// How many there are.
    count: usize,
    /// The byte where the next token begins.
    at: usize,
    /// The longest sequence that the model takes.
    max_tokens: usize,
    /// See [`Ids::length`].
    length: Option<usize>,
}

/// Where [`Ids`] can go back to.
struct Mark {
    count: usize,
    at: usize,
}

impl<'v, const OFFSETS: bool> Ids<'v, OFFSETS> {
    /// Appends to an encoding.
    fn new(encoding: &'v mut Encoding, limit: usize, options: &EncodeOptions) -> Self {
        Self {
            start: encoding.ids.len(),
            ids: &mut encoding.ids,
            offsets: &mut encoding.offsets,
            limit,
            count: 0,
            at: 0,
            max_tokens: options.max_tokens,
            length: None,
        }
    }

    /// The next token begins at this byte.
    #[inline]
    fn move_to(&mut self, at: usize) {
        if OFFSETS {
            self.at = at;
        }
    }

    /// Appends the token of the next bytes.
    #[inline]
    fn push(&mut self, id: u32, bytes: usize) {
        if self.count < self.limit {
            self.ids.push(id);
            if OFFSETS {
                self.offsets.push(self.at..self.at + bytes);
            }
        }
        self.count += 1;
        if OFFSETS {
            self.at += bytes;
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            count: self.count,
            at: self.at,
        }
    }

    /// Forgets what came after a mark.
    fn rewind(&mut self, mark: Mark) {
        let kept = self.start + mark.count.min(self.limit);
        self.ids.truncate(kept);
        if OFFSETS {
            self.offsets.truncate(kept);
        }
        (self.count, self.at) = (mark.count, mark.at);
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
    /// type 1; and where each token comes from, if the options ask for it.
    ///
    /// Texts are cut on the right, as the options say, so that there are at most `max_tokens`;
    /// the special tokens, two or three, are there in any case. A text that may not be cut so
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
        let special = if second.is_some() { 3 } else { 2 };
        let room = options.max_tokens.saturating_sub(special);

        encoding.push_special(self.classification, options.offsets);
        let (first_count, first_length) = self.append(first, room, options, encoding, scratch);
        let first_end = encoding.ids.len();
        let second = second.map(|second| {
            encoding.push_special(self.separator, options.offsets);
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
        if second.is_some() {
            let end = encoding.ids.len();
            let kept = end.min(first_end + 1 + second_kept);
            encoding.remove(kept..end, options.offsets);
        }
        let kept = first_end.min(start + 1 + first_kept);
        encoding.remove(kept..first_end, options.offsets);
        if second.is_some() {
            encoding.token_types.resize(kept + 1, 0);
        }
        encoding.push_special(self.separator, options.offsets);
        let last_type = u8::from(second.is_some());
        encoding.token_types.resize(encoding.ids.len(), last_type);
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
        self.wordpiece.trie.text(id).or_else(added)
    }

    /// Whether these neighbours in a text belong to the same word.
    pub(crate) fn is_inside_word(&self, before: char, after: char) -> bool {
        use unicode::{IDEOGRAPH, PUNCTUATION, SPACE, class};
        (class(before) | class(after)) & (IDEOGRAPH | PUNCTUATION | SPACE) == 0
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
        self.raw.split(text, |part| match part {
            Part::Token(id, range) => {
                ids.move_to(range.start);
                ids.push(id, range.len());
            }
            Part::Text(range) => self.tokenize_part(text, range, ids, scratch),
        });
    }

    /// Appends the ids of a part of a text in which no raw added token is.
    fn tokenize_part<const OFFSETS: bool>(
        &self,
        text: &str,
        part: Range<usize>,
        ids: &mut Ids<OFFSETS>,
        scratch: &mut Scratch,
    ) {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.start + self.chunk(&text.as_bytes()[rest.clone()]);
            self.tokenize_chunk(text, rest.start..end, ids, scratch);
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
        ids: &mut Ids<OFFSETS>,
        scratch: &mut Scratch,
    ) {
        let Scratch {
            text: normalized,
            alignment,
            marks,
        } = scratch;
        let original = &text[part.clone()];
        let before = ids.ids.len();
        if OFFSETS {
            let mut aligned = Aligned {
                text: normalized,
                alignment,
            };
            self.normalizer.normalize(original, &mut aligned, marks);
        } else {
            self.normalizer.normalize(original, normalized, marks);
        }
        if self.normalized.is_empty() {
            self.wordpiece.words(normalized, 0, ids);
        } else {
            self.normalized.split(normalized, |part| match part {
                Part::Token(id, range) => {
                    ids.move_to(range.start);
                    ids.push(id, range.len());
                }
                Part::Text(range) => {
                    let start = range.start;
                    self.wordpiece.words(&normalized[range], start, ids);
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
