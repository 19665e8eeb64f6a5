//! The ids of one text, as they arise.

use std::ops::Range;

use super::{EncodeOptions, Encoding};

/// The ids of one text as they arise: those beyond a limit are counted, not kept. With `OFFSETS`
/// also the bytes of each; without, none of that costs anything.
pub(super) struct Ids<'v, const OFFSETS: bool> {
    pub(super) ids: &'v mut Vec<u32>,
    /// The bytes of each token: one for each of `ids`, with `OFFSETS`.
    pub(super) offsets: &'v mut Vec<Range<usize>>,
    /// Where they begin in `ids`.
    start: usize,
    /// How many to keep.
    limit: usize,
    /// How many there are.
    pub(super) count: usize,
    /// The byte where the next token begins.
    at: usize,
    /// The longest sequence that the model takes.
    max_tokens: usize,
    /// See [`Ids::length`].
    length: Option<usize>,
}

/// Where [`Ids`] can go back to.
pub(super) struct Mark {
    count: usize,
    at: usize,
}

impl<'v, const OFFSETS: bool> Ids<'v, OFFSETS> {
    /// Appends to an encoding.
    pub(super) fn new(encoding: &'v mut Encoding, limit: usize, options: &EncodeOptions) -> Self {
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
    pub(super) fn move_to(&mut self, at: usize) {
        if OFFSETS {
            self.at = at;
        }
    }

    /// Appends the token of the next bytes.
    #[inline]
    pub(super) fn push(&mut self, id: u32, bytes: usize) {
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

    /// Appends a token, and the bytes that it stands for, wherever they are.
    #[inline]
    pub(super) fn push_at(&mut self, id: u32, offsets: impl FnOnce() -> Range<usize>) {
        if self.count < self.limit {
            self.ids.push(id);
            if OFFSETS {
                self.offsets.push(offsets());
            }
        }
        self.count += 1;
    }

    /// Whether there are none yet.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            count: self.count,
            at: self.at,
        }
    }

    /// Forgets what came after a mark.
    pub(super) fn rewind(&mut self, mark: Mark) {
        let kept = self.start + mark.count.min(self.limit);
        self.ids.truncate(kept);
        if OFFSETS {
            self.offsets.truncate(kept);
        }
        (self.count, self.at) = (mark.count, mark.at);
    }

    #[inline]
    pub(super) fn end_word(&mut self) {
        if self.count >= self.max_tokens && self.length.is_none() {
            self.length = Some(self.count);
        }
    }

    /// The length from which truncation is reckoned. `tokenizers` stops at the first word that
    /// reaches the longest sequence, so that of two long texts the one whose last word is
    /// longer counts as the longer.
    pub(super) fn length(&self) -> usize {
        self.length.unwrap_or(self.count)
    }
}
