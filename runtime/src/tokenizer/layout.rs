//! Where the parts of a vocabulary section lie, and the checks that they are there.

use std::ops::Range;

use super::added::{AddedTokens, FirstBytes, Record};
use super::bpe::Merges;
use super::trie::Trie;
use crate::error::Error;
use crate::format::{
    self, LONGEST_TOKEN, NODES_PER_RANK, NODES_PER_START, Vocabulary, VocabularyKind, byte_level,
    features, id_bytes, limits, normalizer,
};

/// Where the parts of a checked vocabulary section lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VocabularyLayout {
    pub(super) head: Vocabulary,
    pub(super) kind: VocabularyKind,
    /// Where each array begins, and the section's end.
    starts: [usize; MOST_PARTS + 1],
    /// See [`WordPiece::continuation`](super::wordpiece::WordPiece::continuation).
    pub(super) continuation: Option<usize>,
    raw_first_bytes: FirstBytes,
    normalized_first_bytes: FirstBytes,
}

/// How many arrays there are behind the head of a section, of the kind that has the most.
const MOST_PARTS: usize = 9;

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
        let kind = check_head(&head, vocabulary)?;
        let mut layout = Self {
            head,
            kind,
            starts: check_lengths(&head, kind, section.len())?,
            continuation: None,
            raw_first_bytes: FirstBytes::default(),
            normalized_first_bytes: FirstBytes::default(),
        };
        match kind {
            VocabularyKind::WordPiece => {
                layout.continuation = layout.trie(section).find(layout.part(section, 7));
            }
            VocabularyKind::ByteLevelBpe => {
                if !layout.merges(section).has_every_byte() {
                    return Err(malformed("the token of a byte is beyond the vocabulary"));
                }
            }
        }
        layout.raw_first_bytes = check_added(layout.raw(section), vocabulary)?;
        layout.normalized_first_bytes = check_added(layout.normalized(section), vocabulary)?;
        Ok(layout)
    }

    /// The bits of [`format::Header::required_features`] that a file with this section has.
    pub(crate) fn required_features(&self) -> u32 {
        match self.kind {
            VocabularyKind::WordPiece => 0,
            VocabularyKind::ByteLevelBpe => features::BYTE_LEVEL_BPE,
        }
    }

    /// Special tokens between the two texts of a pair.
    pub(super) fn separators(&self) -> usize {
        1 + usize::from(self.has(byte_level::DOUBLE_SEPARATOR))
    }

    /// Special tokens of a pair: a model must take as many tokens at least.
    pub(crate) fn special_tokens(&self) -> u32 {
        2 + self.separators() as u32
    }

    /// Whether this is a byte-level BPE with a flag.
    pub(super) fn has(&self, flag: u32) -> bool {
        self.kind == VocabularyKind::ByteLevelBpe && self.head.flags & flag != 0
    }

    /// One of the arrays of the section that [`parse`](Self::parse) checked.
    fn part<'a>(&self, section: &'a [u8], at: usize) -> &'a [u8] {
        &section[self.starts[at]..self.starts[at + 1]]
    }

    /// The trie of a WordPiece.
    pub(super) fn trie<'a>(&self, section: &'a [u8]) -> Trie<'a> {
        let part = |at| self.part(section, at);
        Trie {
            degrees: part(0).as_chunks().0,
            ends: part(1).as_chunks().0,
            starts: part(2).as_chunks().0,
            ranks: part(3).as_chunks().0,
            labels: part(5),
            ids: part(6),
            id_bytes: id_bytes(self.head.tokens),
            tokens: self.head.tokens,
        }
    }

    /// The merges of a byte-level BPE.
    pub(super) fn merges<'a>(&self, section: &'a [u8]) -> Merges<'a> {
        let part = |at| self.part(section, at);
        Merges {
            starts: part(0).as_chunks().0,
            bytes: part(2),
            rights: part(3),
            made: part(4),
            ranks: part(5),
            id_bytes: id_bytes(self.head.tokens),
            rank_bytes: id_bytes(self.head.merges),
            tokens: self.head.tokens,
        }
    }

    /// The added tokens that are looked for in the text as it was given.
    pub(super) fn raw<'a>(&self, section: &'a [u8]) -> AddedTokens<'a> {
        let end = self.head.added_raw as usize;
        self.added(section, 0..end, self.raw_first_bytes)
    }

    /// The added tokens that are looked for in the normalized text.
    pub(super) fn normalized<'a>(&self, section: &'a [u8]) -> AddedTokens<'a> {
        let start = self.head.added_raw as usize;
        let end = start + self.head.added_normalized as usize;
        self.added(section, start..end, self.normalized_first_bytes)
    }

    fn added<'a>(
        &self,
        section: &'a [u8],
        range: Range<usize>,
        first_bytes: FirstBytes,
    ) -> AddedTokens<'a> {
        let (records, text) = match self.kind {
            VocabularyKind::WordPiece => (4, 8),
            VocabularyKind::ByteLevelBpe => (1, 6),
        };
        let records: &[Record] = self.part(section, records).as_chunks().0;
        AddedTokens {
            records: &records[range],
            text: self.part(section, text),
            first_bytes,
        }
    }
}

/// The kind of a vocabulary whose head is within bounds.
fn check_head(head: &Vocabulary, vocabulary: u32) -> Result<VocabularyKind, Error> {
    let kind = VocabularyKind::from_u32(head.kind)
        .ok_or_else(|| malformed(format_args!("kind {} is unknown", head.kind)))?;
    let word_piece = kind == VocabularyKind::WordPiece;
    // What the other kind has is 0.
    let flags = match kind {
        VocabularyKind::WordPiece => normalizer::ALL,
        VocabularyKind::ByteLevelBpe => byte_level::ALL,
    };
    let checks = [
        ("tokens", head.tokens <= vocabulary),
        (
            "nodes",
            match kind {
                VocabularyKind::WordPiece => matches!(head.nodes, 1..=limits::NODES),
                VocabularyKind::ByteLevelBpe => head.nodes == 0,
            },
        ),
        (
            "prefix_text",
            head.prefix_text <= if word_piece { LONGEST_TOKEN } else { 0 },
        ),
        ("max_word_chars", word_piece || head.max_word_chars == 0),
        (
            "unknown",
            head.unknown < if word_piece { vocabulary } else { 1 },
        ),
        ("classification", head.classification < vocabulary),
        ("separator", head.separator < vocabulary),
        ("flags", head.flags & !flags == 0),
        (
            "merges",
            head.merges <= if word_piece { 0 } else { limits::MERGES },
        ),
        ("reserved", head.reserved == [0; 3]),
    ];
    match checks.iter().find(|check| !check.1) {
        Some((field, _)) => Err(malformed(format_args!("{field} is out of range"))),
        None => Ok(kind),
    }
}

/// Where the arrays begin that the head implies, and the section's end.
fn check_lengths(
    head: &Vocabulary,
    kind: VocabularyKind,
    length: usize,
) -> Result<[usize; MOST_PARTS + 1], Error> {
    let added = (u64::from(head.added_raw) + u64::from(head.added_normalized))
        * size_of::<format::AddedToken>() as u64;
    let id = id_bytes(head.tokens) as u64;
    let tokens = u64::from(head.tokens);
    let lengths = match kind {
        VocabularyKind::WordPiece => {
            let nodes = u64::from(head.nodes);
            [
                8 * (2 * nodes - 1).div_ceil(64),
                8 * nodes.div_ceil(64),
                4 * nodes.div_ceil(NODES_PER_START as u64),
                4 * nodes.div_ceil(NODES_PER_RANK as u64),
                added,
                nodes,
                tokens * id,
                u64::from(head.prefix_text),
                u64::from(head.added_text),
            ]
        }
        VocabularyKind::ByteLevelBpe => {
            let merges = u64::from(head.merges);
            [
                4 * (tokens + 1),
                added,
                256 * id,
                merges * id,
                merges * id,
                merges * id_bytes(head.merges) as u64,
                u64::from(head.added_text),
                0,
                0,
            ]
        }
    };
    let mut end = size_of::<Vocabulary>() as u64;
    let mut starts = [size_of::<Vocabulary>(); MOST_PARTS + 1];
    for (start, length) in starts[1..].iter_mut().zip(lengths) {
        // Nine terms below 2^39 each.
        end += length;
        *start = usize::try_from(end).unwrap_or(usize::MAX);
    }
    if end != length as u64 {
        return Err(malformed(format_args!(
            "its head implies {end} bytes, it has {length}"
        )));
    }
    Ok(starts)
}

/// Checks added tokens; the bytes that they begin with.
fn check_added(added: AddedTokens<'_>, vocabulary: u32) -> Result<FirstBytes, Error> {
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
    Ok(first_bytes)
}
