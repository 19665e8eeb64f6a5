//! Words into tokens, as byte-level BPE does it: a word is its bytes, and of all neighbours that
//! merge, those of the least rank do so first, the leftmost of them before the others.
//!
//! `tokenizers` writes each byte as a character and looks for merges of such texts; ids alone do
//! as well, since a token's text is what it was merged of.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::gpt2;
use super::ids::Ids;
use super::unicode::{SPACE, class};
use crate::format::LONGEST_TOKEN;

/// The character that stands for the byte of a space in the texts of `tokenizers`.
const SPACE_BYTE: char = 'Ġ';

/// The merges as they lie in the file. What they say is checked when a search meets it: whatever
/// their bytes, it reads inside them, and finds a token of the model or none.
#[derive(Clone, Copy)]
pub(super) struct Merges<'a> {
    /// Where the merges of each left token begin, and where all end.
    pub(super) starts: &'a [[u8; 4]],
    /// The token of each byte.
    pub(super) bytes: &'a [u8],
    /// The right token of each merge: those of a left token ascend.
    pub(super) rights: &'a [u8],
    /// The token that each merge makes.
    pub(super) made: &'a [u8],
    pub(super) ranks: &'a [u8],
    /// Bytes of an id.
    pub(super) id_bytes: usize,
    /// Bytes of a rank.
    pub(super) rank_bytes: usize,
    /// Every id is less.
    pub(super) tokens: u32,
}

/// What two neighbours make.
#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    made: u32,
}

impl Merge {
    /// Nothing; no merge has such a rank.
    const NONE: Self = Self {
        rank: u32::MAX,
        made: 0,
    };
}

impl Merges<'_> {
    /// Whether each byte has a token of the model.
    pub(super) fn has_every_byte(&self) -> bool {
        (0..=u8::MAX).all(|byte| self.byte(byte).is_some_and(|id| id < self.tokens))
    }

    fn byte(&self, byte: u8) -> Option<u32> {
        number(self.bytes, usize::from(byte), self.id_bytes)
    }

    /// The bytes of the token with this id: a byte, or what its merge is made of.
    pub(super) fn text(&self, id: u32) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut rest = vec![id];
        while let Some(id) = rest.pop() {
            if let Some(byte) = (0..=u8::MAX).find(|&byte| self.byte(byte) == Some(id)) {
                text.push(byte);
                continue;
            }
            let (left, right) = self.parts(id)?;
            rest.extend([right, left]);
            if text.len() + rest.len() > LONGEST_TOKEN as usize {
                return None;
            }
        }
        Some(text)
    }

    /// The tokens that a token is made of, by its first merge.
    fn parts(&self, id: u32) -> Option<(u32, u32)> {
        let merges = self.made.len() / self.id_bytes;
        let merge = (0..merges).find(|&at| number(self.made, at, self.id_bytes) == Some(id))?;
        let begins_after = |start: &[u8; 4]| u32::from_le_bytes(*start) as usize <= merge;
        let left = self.starts.partition_point(begins_after).checked_sub(1)?;
        Some((left as u32, number(self.rights, merge, self.id_bytes)?))
    }

    #[inline]
    fn find(&self, left: u32, right: u32) -> Merge {
        self.find_some(left, right).unwrap_or(Merge::NONE)
    }

    #[inline]
    fn find_some(&self, left: u32, right: u32) -> Option<Merge> {
        let left = left as usize;
        let bound = |at: usize| self.starts.get(at).map(|n| u32::from_le_bytes(*n) as usize);
        let (mut start, mut end) = (bound(left)?, bound(left + 1)?);
        while start < end {
            let middle = start + (end - start) / 2;
            if number(self.rights, middle, self.id_bytes)? < right {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        if number(self.rights, start, self.id_bytes)? != right || start >= bound(left + 1)? {
            return None;
        }
        let made = number(self.made, start, self.id_bytes)?;
        let rank = number(self.ranks, start, self.rank_bytes)?;
        (made < self.tokens).then_some(Merge { rank, made })
    }
}

/// The number at a place of an array whose numbers have 2 or 3 bytes.
#[inline]
fn number(array: &[u8], at: usize, bytes: usize) -> Option<u32> {
    match bytes {
        2 => {
            let bytes = array.as_chunks::<2>().0.get(at)?;
            Some(u32::from(u16::from_le_bytes(*bytes)))
        }
        _ => {
            let [low, middle, high] = *array.as_chunks::<3>().0.get(at)?;
            Some(u32::from_le_bytes([low, middle, high, 0]))
        }
    }
}

/// A token of a word that is being merged. It lies at the place of its first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    id: u32,
    /// What it makes with the symbol after it.
    merge: Merge,
    /// Bytes; 0 once it is part of another.
    length: usize,
    /// Where the symbol before it lies.
    previous: usize,
}

/// The buffers in which a word is merged.
#[derive(Debug, Default)]
pub(crate) struct Word {
    pub(crate) symbols: Vec<Symbol>,
    /// The merges that may be done, each as its rank and, in the lowest bits, its place. Those
    /// that another has made impossible stay until their turn.
    pub(crate) queue: BinaryHeap<Reverse<u64>>,
}

/// Bits of a place: more than a text has bytes. Ranks have 24.
const PLACE_BITS: u32 = 40;

impl Word {
    /// Puts the tokens of the bytes in place of what there was, and merges them.
    fn merge(&mut self, bytes: impl Iterator<Item = u8>, merges: &Merges<'_>) {
        self.symbols.clear();
        self.queue.clear();
        self.symbols
            .extend(bytes.enumerate().map(|(at, byte)| Symbol {
                // Opening the file has checked that there is one.
                id: merges.byte(byte).unwrap_or_default(),
                merge: Merge::NONE,
                length: 1,
                previous: at.saturating_sub(1),
            }));
        for at in 0..self.symbols.len() {
            self.look(at, merges);
        }
        // Each turn takes from the queue, and only a merge, of which there are fewer than
        // symbols, adds to it, two at most.
        while let Some(Reverse(key)) = self.queue.pop() {
            let at = (key & ((1 << PLACE_BITS) - 1)) as usize;
            let Symbol { merge, length, .. } = self.symbols[at];
            if length == 0 || u64::from(merge.rank) != key >> PLACE_BITS {
                continue;
            }
            let right = at + length;
            let taken = std::mem::take(&mut self.symbols[right].length);
            self.symbols[at].id = merge.made;
            self.symbols[at].length += taken;
            if let Some(next) = self.symbols.get_mut(right + taken) {
                next.previous = at;
            }
            self.look(at, merges);
            if at > 0 {
                self.look(self.symbols[at].previous, merges);
            }
        }
    }

    /// Looks up what a symbol makes with the next.
    #[inline]
    fn look(&mut self, at: usize, merges: &Merges<'_>) {
        let symbol = self.symbols[at];
        let next = self.symbols.get(at + symbol.length);
        let merge = next.map_or(Merge::NONE, |next| merges.find(symbol.id, next.id));
        self.symbols[at].merge = merge;
        if merge.rank != Merge::NONE.rank {
            let key = u64::from(merge.rank) << PLACE_BITS | at as u64;
            self.queue.push(Reverse(key));
        }
    }

    /// Calls `emit` with the id of each token and its bytes of the word.
    fn for_each(&self, mut emit: impl FnMut(u32, Range<usize>)) {
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at) {
            let end = at + symbol.length;
            emit(symbol.id, at..end);
            at = end;
        }
    }
}

/// RoBERTa's tokenizer, but for added and special tokens.
#[derive(Clone, Copy)]
pub(super) struct ByteLevelBpe<'a> {
    pub(super) merges: Merges<'a>,
    /// See [`byte_level`](crate::format::byte_level), as of the others.
    pub(super) prefix_space: bool,
    pub(super) trim_offsets: bool,
    pub(super) keep_first_space: bool,
}

/// A word of a text.
struct Place<'t> {
    text: &'t str,
    /// Its bytes.
    range: Range<usize>,
    /// Whether it begins with a space that is not in the text.
    space: bool,
}

impl ByteLevelBpe<'_> {
    /// Appends the tokens of a part of a text in which no added token is. It is not empty.
    pub(super) fn words<const OFFSETS: bool>(
        &self,
        text: &str,
        part: Range<usize>,
        ids: &mut Ids<OFFSETS>,
        word: &mut Word,
    ) {
        let start = part.start;
        let part = &text[part];
        let mut space = self.prefix_space && !part.starts_with(' ');
        gpt2::split(part, space, |range| {
            let place = Place {
                text,
                range: start + range.start..start + range.end,
                space,
            };
            self.word(&place, ids, word);
            space = false;
        });
    }

    fn word<const OFFSETS: bool>(
        &self,
        place: &Place<'_>,
        ids: &mut Ids<OFFSETS>,
        word: &mut Word,
    ) {
        let space = place.space.then_some(b' ');
        let bytes = &place.text.as_bytes()[place.range.clone()];
        word.merge(space.into_iter().chain(bytes.iter().copied()), &self.merges);
        word.for_each(|id, token| {
            let first = ids.is_empty();
            ids.push_at(id, || {
                let (leading, trailing) = place.spaces(&token);
                let offsets = place.offsets(&token);
                self.trim(place.text, offsets, leading, trailing, first)
            });
        });
        ids.end_word();
    }

    /// Appends an added token and the bytes of its match.
    pub(super) fn push_added<const OFFSETS: bool>(
        &self,
        id: u32,
        text: &str,
        range: Range<usize>,
        ids: &mut Ids<OFFSETS>,
    ) {
        let first = ids.is_empty();
        ids.push_at(id, || {
            let space = |c: &char| *c == SPACE_BYTE || class(*c) & SPACE != 0;
            let found = &text[range.clone()];
            let leading = found.chars().take_while(space).count();
            let trailing = found.chars().rev().take_while(space).count();
            self.trim(text, range, leading, trailing, first)
        });
    }

    /// The part of the text that a token stands for, once its spaces are left out: so many
    /// characters at both ends. `first` if no token of the text is before it.
    fn trim(
        &self,
        text: &str,
        offsets: Range<usize>,
        mut leading: usize,
        trailing: usize,
        first: bool,
    ) -> Range<usize> {
        if !self.trim_offsets {
            return offsets;
        }
        if self.keep_first_space && leading == 1 && (first || offsets.start == 0) {
            leading = 0;
        }
        // Spaces at both ends may be the same, and the first space need not be in the text.
        let inside = &text[offsets.clone()];
        let start = inside.char_indices().nth(leading);
        let start = start.map_or(offsets.end, |(at, _)| offsets.start + at);
        let rest = &text[start..offsets.end];
        let end = match trailing {
            0 => offsets.end,
            _ => {
                let last = rest.char_indices().nth_back(trailing - 1);
                last.map_or(start, |(at, _)| start + at)
            }
        };
        start..end
    }
}

impl Place<'_> {
    /// The bytes of the text that some of the word stand for: those of whole characters. The
    /// space that is not in the text stands for the character after it.
    fn offsets(&self, token: &Range<usize>) -> Range<usize> {
        let space = usize::from(self.space);
        let byte = |at: usize| self.range.start + at.saturating_sub(space);
        let start = self.text.floor_char_boundary(byte(token.start));
        let end = self.text.ceil_char_boundary(byte(token.end - 1) + 1);
        start..end
    }

    /// How many spaces some of the word begin with, and end with.
    fn spaces(&self, token: &Range<usize>) -> (usize, usize) {
        let is_space = |at: &usize| match at.checked_sub(usize::from(self.space)) {
            None => true,
            Some(at) => self.text.as_bytes()[self.range.start + at] == b' ',
        };
        let leading = token.clone().take_while(is_space).count();
        let trailing = token.clone().rev().take_while(is_space).count();
        (leading, trailing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arrays of merges `(left, right, made)`, in the order of their ranks, of tokens of
    /// which the first 256 are the bytes.
    #[derive(Default)]
    struct Arrays {
        starts: Vec<[u8; 4]>,
        bytes: Vec<u8>,
        rights: Vec<u8>,
        made: Vec<u8>,
        ranks: Vec<u8>,
        tokens: u32,
    }

    impl Arrays {
        fn new(merges: &[(u16, u16, u16)], tokens: u16) -> Self {
            let mut sorted: Vec<_> = (0u16..).zip(merges).collect();
            sorted.sort_by_key(|(_, merge)| (merge.0, merge.1));
            let mut arrays = Self {
                tokens: tokens.into(),
                ..Self::default()
            };
            for left in 0..=tokens {
                let start = sorted.iter().filter(|(_, merge)| merge.0 < left).count();
                arrays.starts.push((start as u32).to_le_bytes());
            }
            arrays.bytes.extend((0..256u16).flat_map(u16::to_le_bytes));
            for (rank, (_, right, made)) in sorted {
                arrays.rights.extend(right.to_le_bytes());
                arrays.made.extend(made.to_le_bytes());
                arrays.ranks.extend(rank.to_le_bytes());
            }
            arrays
        }

        fn merges(&self) -> Merges<'_> {
            Merges {
                starts: &self.starts,
                bytes: &self.bytes,
                rights: &self.rights,
                made: &self.made,
                ranks: &self.ranks,
                id_bytes: 2,
                rank_bytes: 2,
                tokens: self.tokens,
            }
        }
    }

    fn tokens(text: &str, merges: &Merges<'_>) -> Vec<(u32, usize)> {
        let (mut word, mut tokens) = (Word::default(), Vec::new());
        word.merge(text.bytes(), merges);
        word.for_each(|id, range| tokens.push((id, range.len())));
        tokens
    }

    const A: u16 = b'a' as u16;
    const B: u16 = b'b' as u16;

    #[test]
    fn the_least_rank_is_merged_first_and_the_leftmost_of_equals() {
        let arrays = Arrays::new(&[(A, A, 256), (B, 256, 257), (A, B, 258)], 259);
        let merges = arrays.merges();
        assert!(merges.has_every_byte());
        let (a, b) = (u32::from(A), u32::from(B));
        assert_eq!(tokens("aaa", &merges), [(256, 2), (a, 1)]);
        assert_eq!(tokens("abaa", &merges), [(a, 1), (257, 3)]);
        assert_eq!(tokens("abab", &merges), [(258, 2), (258, 2)]);
        assert_eq!(tokens("baaaa", &merges), [(257, 3), (256, 2)]);
        assert_eq!(tokens("b", &merges), [(b, 1)]);
        assert_eq!(tokens("", &merges), []);
    }

    #[test]
    fn nonsense_makes_nothing_and_ends() {
        let far = [[0xFF; 4]; 258];
        let arrays = Arrays::new(&[(A, A, A), (A, B, 300)], 257);
        let mut merges = arrays.merges();
        // A token that is made of itself, and one beyond the vocabulary.
        assert_eq!(tokens("aaaab", &merges), [(A.into(), 4), (B.into(), 1)]);
        merges.starts = &far;
        assert_eq!(tokens("aa", &merges).len(), 2);
        merges.starts = &[];
        assert_eq!(tokens("aa", &merges).len(), 2);
        merges.tokens = 0;
        assert!(!merges.has_every_byte());
    }
}
