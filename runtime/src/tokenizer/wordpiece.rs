//! Words into pieces: the longest token first, through the mapped hash table.

use std::ops::Range;

use super::Ids;
use super::unicode::{PUNCTUATION, SPACE, ascii_class, class};
use crate::format::{EMPTY_SLOT, MAX_PROBES, TOKEN_HASH_BASIS, home_slot, token_hash};

/// The tokens as they lie in the file.
#[derive(Clone, Copy)]
pub(super) struct WordPiece<'a> {
    /// Little-endian, one more than there are tokens.
    pub(super) offsets: &'a [[u8; 4]],
    /// Little-endian, `1 << slot_bits`.
    pub(super) slots: &'a [[u8; 4]],
    pub(super) slot_bits: u32,
    pub(super) text: &'a [u8],
    pub(super) prefix: &'a [u8],
    pub(super) longest_token: usize,
    pub(super) max_word_chars: usize,
    pub(super) unknown: u32,
}

impl WordPiece<'_> {
    /// Appends the ids of the words of a normalized text, or of its part from byte `base` on.
    pub(super) fn words<const OFFSETS: bool>(
        &self,
        text: &str,
        base: usize,
        ids: &mut Ids<OFFSETS>,
        hashes: &mut Vec<u32>,
    ) {
        let bytes = text.as_bytes();
        let continuation = self
            .prefix
            .iter()
            .fold(TOKEN_HASH_BASIS, |hash, &byte| token_hash(hash, byte));
        let (mut start, mut at) = (0, 0);
        let mut word = |range: Range<usize>| {
            ids.move_to(base + range.start);
            self.word(&bytes[range], continuation, ids, hashes);
            ids.end_word();
        };
        while let Some(&byte) = bytes.get(at) {
            let (class, width) = if byte < 0x80 {
                (ascii_class(byte), 1)
            } else {
                let Some(c) = text[at..].chars().next() else {
                    break;
                };
                (class(c), c.len_utf8())
            };
            if class & (SPACE | PUNCTUATION) != 0 {
                if start < at {
                    word(start..at);
                }
                if class & PUNCTUATION != 0 {
                    word(at..at + width);
                }
                start = at + width;
            }
            at += width;
        }
        if start < at {
            word(start..at);
        }
    }

    /// Appends the ids of one word: its pieces, or the unknown token if any part has none.
    // The loop over characters keeps its registers if this is not part of it.
    #[inline(never)]
    fn word<const OFFSETS: bool>(
        &self,
        word: &[u8],
        continuation: u32,
        ids: &mut Ids<OFFSETS>,
        hashes: &mut Vec<u32>,
    ) {
        let mark = ids.mark();
        if !self.fits(word) || !self.pieces(word, continuation, ids, hashes) {
            ids.rewind(mark);
            ids.push(self.unknown, word.len());
        }
    }

    fn fits(&self, word: &[u8]) -> bool {
        word.len() <= self.max_word_chars
            || word.iter().filter(|&&b| begins_char(b)).count() <= self.max_word_chars
    }

    fn pieces<const OFFSETS: bool>(
        &self,
        word: &[u8],
        continuation: u32,
        ids: &mut Ids<OFFSETS>,
        hashes: &mut Vec<u32>,
    ) -> bool {
        let (mut rest, mut hash, mut prefix) = (word, TOKEN_HASH_BASIS, &[][..]);
        while !rest.is_empty() {
            // The hash after each byte, as far as a token can reach.
            let reach = rest
                .len()
                .min(self.longest_token.saturating_sub(prefix.len()));
            hashes.clear();
            hashes.extend(rest[..reach].iter().scan(hash, |hash, &byte| {
                *hash = token_hash(*hash, byte);
                Some(*hash)
            }));
            let found = (1..=reach).rev().find_map(|end| {
                if rest.get(end).is_some_and(|&byte| !begins_char(byte)) {
                    return None;
                }
                let id = self.find(hashes[end - 1], prefix, &rest[..end])?;
                Some((id, end))
            });
            let Some((id, end)) = found else {
                return false;
            };
            ids.push(id, end);
            rest = &rest[end..];
            (hash, prefix) = (continuation, self.prefix);
        }
        true
    }

    /// The id of the token whose text is `prefix` and `piece`. Slots and offsets may be
    /// nonsense: then nothing is found.
    #[inline]
    fn find(&self, hash: u32, prefix: &[u8], piece: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = home_slot(hash, self.slot_bits) as usize;
        for _ in 0..MAX_PROBES {
            let slot = u32::from_le_bytes(*self.slots.get(at)?);
            if slot == EMPTY_SLOT {
                return None;
            }
            if slot >> 24 == hash & 0xFF {
                let id = slot & 0xFF_FFFF;
                let token = self.token(id);
                if token
                    .and_then(|token| token.strip_prefix(prefix))
                    .is_some_and(|rest| rest == piece)
                {
                    return Some(id);
                }
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn token(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = u32::from_le_bytes(*self.offsets.get(id)?);
        let end = u32::from_le_bytes(*self.offsets.get(id + 1)?);
        self.text.get(start as usize..end as usize)
    }
}

/// Whether a byte of UTF-8 is the first of its character.
fn begins_char(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}
