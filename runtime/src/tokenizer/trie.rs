//! The vocabulary as a trie over its tokens' bytes, a few bits for each node.
//!
//! Nodes are numbered level by level, and within a level in the order of their bytes, so that
//! the children of a node follow one another (LOUDS: Jacobson, "Space-efficient static trees
//! and graphs", 1989). What the trie says is not checked beforehand: whatever its bytes, a
//! search reads inside them, ends soon, and finds a token of the model or none.

use crate::format::{LONGEST_TOKEN, NODES_PER_RANK, NODES_PER_START};

/// Words of degrees that a search looks through at most: a node has one for each byte's value
/// and a zero.
const MOST_WORDS: usize = (NODES_PER_START + 1) * 257 / 64 + 2;

/// The arrays of the trie as they lie in the file.
#[derive(Clone, Copy)]
pub(super) struct Trie<'a> {
    /// Bits: for each node a one for each child, then a zero.
    pub(super) degrees: &'a [[u8; 8]],
    /// Bits: whether a token ends at the node.
    pub(super) ends: &'a [[u8; 8]],
    /// The bit where the degrees of every [`NODES_PER_START`]th node begin.
    pub(super) starts: &'a [[u8; 4]],
    /// How many tokens end before every [`NODES_PER_RANK`]th node.
    pub(super) ranks: &'a [[u8; 4]],
    /// The byte on the way to each node.
    pub(super) labels: &'a [u8],
    /// The ids of the tokens, in the order of the nodes where they end.
    pub(super) ids: &'a [u8],
    /// Bytes of an id.
    pub(super) id_bytes: usize,
    /// Every id is less.
    pub(super) tokens: u32,
}

impl Trie<'_> {
    /// The node of the empty text.
    pub(super) const ROOT: usize = 0;

    /// The node that `bytes` lead to from the root.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        bytes
            .iter()
            .try_fold(Self::ROOT, |node, &byte| self.child(node, byte))
    }

    /// The longest token, of one byte or more, that goes on from `node` with the first bytes of
    /// `text`: its id, and how many bytes these are. It ends where a character of the text does.
    #[inline]
    pub(super) fn longest(&self, mut node: usize, text: &[u8]) -> Option<(u32, usize)> {
        let mut longest = None;
        for (at, &byte) in text.iter().enumerate().take(LONGEST_TOKEN as usize) {
            let Some(child) = self.child(node, byte) else {
                break;
            };
            node = child;
            let is_whole = text.get(at + 1).is_none_or(|next| next & 0xC0 != 0x80);
            if is_whole && bit(self.ends, node) {
                longest = Some((node, at + 1));
            }
        }
        let (node, length) = longest?;
        Some((self.id(node)?, length))
    }

    /// The bytes of the token with this id.
    pub(super) fn text(&self, id: u32) -> Option<Vec<u8>> {
        let wanted = id.to_le_bytes();
        let mut ids = self.ids.chunks_exact(self.id_bytes);
        let place = ids.position(|bytes| bytes == &wanted[..self.id_bytes])?;
        let mut node = self.end(place)?;
        let mut text = Vec::new();
        while node != Self::ROOT {
            if text.len() == LONGEST_TOKEN as usize {
                return None;
            }
            text.push(*self.labels.get(node)?);
            node = self.parent(node)?;
        }
        text.reverse();
        Some(text)
    }

    /// The node where a token ends, of which there are as many before it as `place` says.
    fn end(&self, mut place: usize) -> Option<usize> {
        for (word, bytes) in self.ends.iter().enumerate() {
            let mut word_ends = u64::from_le_bytes(*bytes);
            let count = word_ends.count_ones() as usize;
            if place < count {
                for _ in 0..place {
                    word_ends &= word_ends - 1;
                }
                return Some(word * 64 + word_ends.trailing_zeros() as usize);
            }
            place -= count;
        }
        None
    }

    /// The node that has this one, not the root, as a child: the last one before it whose
    /// children do not begin after it.
    fn parent(&self, node: usize) -> Option<usize> {
        let (mut parent, mut end) = (Self::ROOT, node);
        while end - parent > 1 {
            let middle = parent + (end - parent) / 2;
            match self.children(middle)?.0 <= node {
                true => parent = middle,
                false => end = middle,
            }
        }
        Some(parent)
    }

    /// The child of a node by its byte.
    #[inline]
    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let (first, count) = self.children(node)?;
        let labels = self.labels.get(first..first.checked_add(count)?)?;
        let at = match labels.len() {
            0..8 => labels.iter().position(|&label| label == byte)?,
            _ => labels.binary_search(&byte).ok()?,
        };
        Some(first + at)
    }

    /// The first child of a node, and how many there are.
    #[inline]
    fn children(&self, node: usize) -> Option<(usize, usize)> {
        let mut start = number(self.starts, node / NODES_PER_START)?;
        // The zeros of the nodes between.
        let mut zeros = node % NODES_PER_START;
        let mut word = start / 64;
        let mut left = !word_at(self.degrees, word)? & (u64::MAX << (start % 64));
        let most = word + MOST_WORDS;
        loop {
            // Zeros that are left, the lowest of which was passed last.
            let mut passed = 0;
            while zeros > 0 && left != 0 {
                passed = left;
                left &= left - 1;
                zeros -= 1;
            }
            if passed != 0 {
                start = word * 64 + passed.trailing_zeros() as usize + 1;
            }
            if left != 0 {
                let end = word * 64 + left.trailing_zeros() as usize;
                // Each node before has a zero, and the other bits before are children, of
                // which the first is node 1.
                let first = start.checked_sub(node)? + 1;
                return Some((first, end - start));
            }
            word += 1;
            if word > most {
                return None;
            }
            left = !word_at(self.degrees, word)?;
        }
    }

    /// The id of the token that ends at a node.
    fn id(&self, node: usize) -> Option<u32> {
        let first = node / NODES_PER_RANK * (NODES_PER_RANK / 64);
        let mut rank = number(self.ranks, node / NODES_PER_RANK)?;
        for word in first..node / 64 {
            rank = rank.checked_add(word_at(self.ends, word)?.count_ones() as usize)?;
        }
        let before = word_at(self.ends, node / 64)? & !(u64::MAX << (node % 64));
        rank = rank.checked_add(before.count_ones() as usize)?;
        let start = rank.checked_mul(self.id_bytes)?;
        let bytes = self.ids.get(start..start.checked_add(self.id_bytes)?)?;
        let id = bytes
            .iter()
            .rev()
            .fold(0, |id, &byte| id << 8 | u32::from(byte));
        (id < self.tokens).then_some(id)
    }
}

#[inline]
fn word_at(words: &[[u8; 8]], at: usize) -> Option<u64> {
    words.get(at).map(|bytes| u64::from_le_bytes(*bytes))
}

#[inline]
fn bit(words: &[[u8; 8]], at: usize) -> bool {
    word_at(words, at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
}

#[inline]
fn number(numbers: &[[u8; 4]], at: usize) -> Option<usize> {
    numbers
        .get(at)
        .map(|bytes| u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::format::id_bytes;

    /// A trie made the slow way.
    pub(in crate::tokenizer) struct Arrays {
        pub(in crate::tokenizer) degrees: Vec<[u8; 8]>,
        pub(in crate::tokenizer) ends: Vec<[u8; 8]>,
        pub(in crate::tokenizer) starts: Vec<[u8; 4]>,
        pub(in crate::tokenizer) ranks: Vec<[u8; 4]>,
        pub(in crate::tokenizer) labels: Vec<u8>,
        pub(in crate::tokenizer) ids: Vec<u8>,
        tokens: u32,
    }

    fn words(bits: &[bool]) -> Vec<[u8; 8]> {
        let word = |bits: &[bool]| {
            bits.iter()
                .rev()
                .fold(0, |word, &bit| word << 1 | u64::from(bit))
        };
        bits.chunks(64)
            .map(|bits| word(bits).to_le_bytes())
            .collect()
    }

    impl Arrays {
        pub(in crate::tokenizer) fn new(tokens: &[impl AsRef<[u8]>]) -> Self {
            // Level order is that of all beginnings by length, then bytes.
            let beginnings: BTreeSet<(usize, &[u8])> = tokens
                .iter()
                .map(AsRef::as_ref)
                .flat_map(|token| (0..=token.len()).map(|end| (end, &token[..end])))
                .collect();
            let (mut degrees, mut ends, mut ids) = (Vec::new(), Vec::new(), Vec::new());
            let (mut starts, mut ranks) = (Vec::new(), Vec::new());
            let mut labels = Vec::new();
            for (node, &(length, text)) in beginnings.iter().enumerate() {
                if node % NODES_PER_START == 0 {
                    starts.push((degrees.len() as u32).to_le_bytes());
                }
                if node % NODES_PER_RANK == 0 {
                    let rank = ends.iter().filter(|&&end| end).count();
                    ranks.push((rank as u32).to_le_bytes());
                }
                labels.push(text.last().copied().unwrap_or(0));
                let children = beginnings
                    .range((length + 1, text)..)
                    .take_while(|(longer, other)| *longer == length + 1 && other.starts_with(text));
                degrees.extend(children.map(|_| true));
                degrees.push(false);
                let id = tokens.iter().position(|token| token.as_ref() == text);
                ends.push(id.is_some());
                if let Some(id) = id {
                    let id = (id as u32).to_le_bytes();
                    ids.extend_from_slice(&id[..id_bytes(tokens.len() as u32)]);
                }
            }
            Self {
                degrees: words(&degrees),
                ends: words(&ends),
                starts,
                ranks,
                labels,
                ids,
                tokens: tokens.len() as u32,
            }
        }

        fn trie(&self) -> Trie<'_> {
            Trie {
                degrees: &self.degrees,
                ends: &self.ends,
                starts: &self.starts,
                ranks: &self.ranks,
                labels: &self.labels,
                ids: &self.ids,
                id_bytes: id_bytes(self.tokens),
                tokens: self.tokens,
            }
        }
    }

    /// As [`Trie::longest`], by trying all tokens.
    fn longest(tokens: &[Vec<u8>], prefix: &[u8], text: &[u8]) -> Option<(u32, usize)> {
        (1..=text.len())
            .rev()
            .filter(|&end| text.get(end).is_none_or(|byte| byte & 0xC0 != 0x80))
            .find_map(|end| {
                let whole = [prefix, &text[..end]].concat();
                let id = tokens.iter().position(|token| *token == whole)?;
                Some((id as u32, end))
            })
    }

    #[test]
    fn the_longest_token_is_found() {
        // All bytes at the root, many children, chains, and enough nodes for several ranks.
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.extend(["ab", "abcd", "##b", "##bc", "##", "é", "éé"].map(Vec::from));
        tokens.extend((0..400u32).map(|n| format!("x{}", n * n).into_bytes()));
        let arrays = Arrays::new(&tokens);
        let trie = arrays.trie();
        let continuation = trie.find(b"##").unwrap();
        for text in [
            "abcdz", "abc", "bcd", "x14400y", "x1", "éé", "éz", "#", "##", "zz", "",
        ] {
            let text = text.as_bytes();
            let from_root = longest(&tokens, b"", text);
            assert_eq!(trie.longest(Trie::ROOT, text), from_root, "{text:?}");
            let continued = longest(&tokens, b"##", text);
            assert_eq!(trie.longest(continuation, text), continued, "{text:?}");
        }
        for (id, token) in (0..).zip(&tokens) {
            let node = trie.find(token).unwrap();
            assert_eq!(trie.id(node), Some(id), "{token:?}");
            assert_eq!(trie.text(id).as_ref(), Some(token));
        }
        assert_eq!(trie.find(b"abx"), None);
        assert_eq!(trie.text(tokens.len() as u32), None);
    }

    #[test]
    fn nonsense_finds_nothing() {
        let arrays = Arrays::new(&["a", "ab", "b"]);
        let mut trie = arrays.trie();
        let ones = [[0xFF; 8]; 4096];
        trie.degrees = &ones;
        assert_eq!(trie.longest(Trie::ROOT, b"ab"), None);
        assert_eq!(trie.text(1), None);
        let far = [[0xFF; 4]; 1];
        trie = arrays.trie();
        trie.starts = &far;
        assert_eq!(trie.longest(Trie::ROOT, b"ab"), None);
        trie = arrays.trie();
        trie.ranks = &far;
        assert_eq!(trie.longest(Trie::ROOT, b"ab"), None);
        trie = arrays.trie();
        trie.tokens = 0;
        assert_eq!(trie.longest(Trie::ROOT, b"ab"), None);
        trie.ids = &[];
        assert_eq!(trie.longest(Trie::ROOT, b"ab"), None);
    }
}
