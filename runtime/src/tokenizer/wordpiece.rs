//! Words into pieces: the longest token first, by the mapped trie.

use std::ops::Range;

use super::ids::Ids;
use super::trie::Trie;
use super::unicode::{PUNCTUATION, SPACE, ascii_class, class};

/// The vocabulary as it lies in the file.
#[derive(Clone, Copy)]
pub(super) struct WordPiece<'a> {
    pub(super) trie: Trie<'a>,
    /// The node from which pieces that continue a word go on, if there are any.
    pub(super) continuation: Option<usize>,
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
    ) {
        let bytes = text.as_bytes();
        let (mut start, mut at) = (0, 0);
        let mut word = |range: Range<usize>| {
            ids.move_to(base + range.start);
            self.word(&bytes[range], ids);
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
    fn word<const OFFSETS: bool>(&self, word: &[u8], ids: &mut Ids<OFFSETS>) {
        let mark = ids.mark();
        if !self.fits(word) || self.pieces(word, ids).is_none() {
            ids.rewind(mark);
            ids.push(self.unknown, word.len());
        }
    }

    fn fits(&self, word: &[u8]) -> bool {
        let begins_char = |byte: &&u8| *byte & 0xC0 != 0x80;
        word.len() <= self.max_word_chars
            || word.iter().filter(begins_char).count() <= self.max_word_chars
    }

    fn pieces<const OFFSETS: bool>(&self, word: &[u8], ids: &mut Ids<OFFSETS>) -> Option<()> {
        let (mut rest, mut node) = (word, Some(Trie::ROOT));
        while !rest.is_empty() {
            let (id, length) = self.trie.longest(node?, rest)?;
            ids.push(id, length);
            rest = &rest[length..];
            node = self.continuation;
        }
        Some(())
    }
}
