//! The vocabulary as a trie, written as the runtime searches it.

use std::collections::VecDeque;

use filbert::format::{NODES_PER_RANK, NODES_PER_START, id_bytes};

/// The arrays of the trie, as `filbert::format::Vocabulary` lists them.
#[derive(Debug, Default)]
pub(super) struct Trie {
    /// For each node a one for each child, then a zero.
    pub(super) degrees: Bits,
    /// Whether a token ends at the node.
    pub(super) ends: Bits,
    pub(super) starts: Vec<u32>,
    pub(super) ranks: Vec<u32>,
    pub(super) labels: Vec<u8>,
    pub(super) ids: Vec<u8>,
}

impl Trie {
    /// The trie of these tokens, whose ids are their positions. No two are the same.
    pub(super) fn new(tokens: &[String]) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = tokens.iter().map(|t| t.as_bytes()).zip(0..).collect();
        sorted.sort_unstable();
        let width = id_bytes(tokens.len() as u32);
        let mut trie = Self::default();
        trie.labels.push(0);
        // The tokens below each node, and how many bytes lead to it: level by level.
        let mut nodes = VecDeque::from([(&sorted[..], 0)]);
        let (mut node, mut count) = (0, 0);
        while let Some((mut below, depth)) = nodes.pop_front() {
            if node % NODES_PER_START == 0 {
                trie.starts.push(trie.degrees.length as u32);
            }
            if node % NODES_PER_RANK == 0 {
                trie.ranks.push(count);
            }
            node += 1;
            let end = below
                .split_first()
                .filter(|(token, _)| token.0.len() == depth);
            trie.ends.push(end.is_some());
            if let Some((token, longer)) = end {
                trie.ids.extend_from_slice(&token.1.to_le_bytes()[..width]);
                count += 1;
                below = longer;
            }
            for child in below.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                trie.degrees.push(true);
                trie.labels.push(child[0].0[depth]);
                nodes.push_back((child, depth + 1));
            }
            trie.degrees.push(false);
        }
        trie
    }
}

/// Bits, the first the lowest of the first word.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    length: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(64) {
            self.words.push(0);
        }
        if bit {
            self.words[self.length / 64] |= 1 << (self.length % 64);
        }
        self.length += 1;
    }

    /// Little-endian words.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_one_another() {
        let tokens = ["b", "ab", "", "a", "abc"].map(str::to_owned);
        let trie = Trie::new(&tokens);
        // The root, a, b, ab, abc.
        assert_eq!(trie.labels, *b"\0abbc");
        // 110 10 0 10 0
        assert_eq!(trie.degrees.words, [0b0_0100_1011]);
        assert_eq!(trie.degrees.length, 9);
        assert_eq!(trie.ends.words, [0b1_1111]);
        let ids = [2u16, 3, 0, 1, 4].map(u16::to_le_bytes).concat();
        assert_eq!(trie.ids, ids);
        assert_eq!((&trie.starts[..], &trie.ranks[..]), (&[0][..], &[0][..]));
    }

    #[test]
    fn nothing_is_a_root() {
        let trie = Trie::new(&[]);
        assert_eq!((trie.labels.len(), trie.degrees.length), (1, 1));
        assert!(trie.ids.is_empty());
    }
}
