//! Added tokens: found in the text as a whole, before words are.

use std::ops::Range;

use super::unicode::{SPACE, WORD, class};
use crate::format::{self, added_token};

/// The bytes of a [`format::AddedToken`], which need not lie aligned.
pub(super) type Record = [u8; size_of::<format::AddedToken>()];

/// The added tokens that are looked for in the raw text, or those for the normalized one.
#[derive(Clone, Copy)]
pub(super) struct AddedTokens<'a> {
    /// In the order of their text.
    pub(super) records: &'a [Record],
    /// What their offsets point into.
    pub(super) text: &'a [u8],
    pub(super) first_bytes: FirstBytes,
}

/// The bytes with which added tokens begin, to pass over the rest of a text quickly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstBytes {
    set: [u64; 4],
    /// The byte, if there is but one: `[`, usually.
    only: Option<u8>,
}

impl FirstBytes {
    pub(super) fn insert(&mut self, byte: u8) {
        self.only = if self.set == [0; 4] || self.only == Some(byte) {
            Some(byte)
        } else {
            None
        };
        self.set[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn contains(&self, byte: u8) -> bool {
        self.set[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self.only {
            Some(only) => bytes.iter().position(|&b| b == only),
            None => bytes.iter().position(|&b| self.contains(b)),
        }
    }
}

/// A part of a text, and its bytes.
pub(super) enum Part {
    /// What lies between added tokens.
    Text(Range<usize>),
    /// The id of an added token.
    Token(u32, Range<usize>),
}

impl AddedTokens<'_> {
    /// The text of the token with this id.
    pub(super) fn text_of(&self, id: u32) -> Option<&[u8]> {
        let has_id = |record: &&Record| bytemuck::cast::<_, format::AddedToken>(**record).id == id;
        self.records
            .iter()
            .find(has_id)
            .map(|record| self.text(record))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Calls `emit` with the parts of the text, in order. No part is an empty text.
    pub(super) fn split(&self, text: &str, mut emit: impl FnMut(Part)) {
        // Where the part after the last token begins, and where the search goes on. They
        // differ, since a token can take the whitespace after it, in which another begins.
        let (mut rest, mut from) = (0, 0);
        // The end of the whitespace that was last looked over to the right of a token. None is
        // looked over twice, however many tokens lie in it: time is linear in the text.
        let mut space_end = 0;
        while let Some((found, token)) = self.find(text.as_bytes(), from) {
            let length = token.length as usize;
            from = found + length;
            let (mut start, mut stop) = (found, from);
            let has = |flag| token.flags & flag != 0;
            if has(added_token::SINGLE_WORD) {
                let before = text[..start].chars().next_back();
                let after = text[stop..].chars().next();
                if before
                    .into_iter()
                    .chain(after)
                    .any(|c| class(c) & WORD != 0)
                {
                    continue;
                }
            }
            let space = |c| class(c) & SPACE != 0;
            if has(added_token::STRIP_LEFT) {
                let between = text.get(rest..start).unwrap_or_default();
                start = rest + between.trim_end_matches(space).len();
            }
            if has(added_token::STRIP_RIGHT) {
                if stop > space_end {
                    space_end = text.len() - text[stop..].trim_start_matches(space).len();
                }
                stop = space_end;
            }
            if rest < start {
                emit(Part::Text(rest..start));
            }
            // Only tokens of whitespace can end before they start, if another took it.
            if start < stop {
                emit(Part::Token(token.id, start..stop));
            }
            rest = stop;
        }
        if rest < text.len() {
            emit(Part::Text(rest..text.len()));
        }
    }

    /// The leftmost token, and the longest of those, that begins at `from` or after.
    #[inline]
    fn find(&self, text: &[u8], mut from: usize) -> Option<(usize, format::AddedToken)> {
        if self.is_empty() {
            return None;
        }
        loop {
            from += self.first_bytes.find(text.get(from..)?)?;
            if let Some(token) = self.longest_at(&text[from..]) {
                return Some((from, token));
            }
            from += 1;
        }
    }

    /// The longest token that the text begins with. The records that agree with the text so
    /// far are a range of them; each byte of the text narrows it.
    fn longest_at(&self, text: &[u8]) -> Option<format::AddedToken> {
        let mut range = self.records;
        let mut longest = None;
        for depth in 0..=text.len() {
            if let Some((first, others)) = range.split_first()
                && self.text(first).len() == depth
            {
                longest = Some(*first);
                range = others;
            }
            let Some(&byte) = text.get(depth).filter(|_| !range.is_empty()) else {
                break;
            };
            let at_depth = |record: &Record| self.text(record).get(depth).copied();
            let start = range.partition_point(|record| at_depth(record) < Some(byte));
            let end = range.partition_point(|record| at_depth(record) <= Some(byte));
            range = range.get(start..end).unwrap_or_default();
        }
        longest.map(bytemuck::cast)
    }

    /// A record's text, or nothing where it points outside.
    pub(super) fn text(&self, record: &Record) -> &[u8] {
        let record: format::AddedToken = bytemuck::cast(*record);
        let start = record.offset as usize;
        start
            .checked_add(record.length as usize)
            .and_then(|end| self.text.get(start..end))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a text by tokens `(text, flags)`, which are in order; ids are their positions.
    fn split(tokens: &[(&str, u32)], text: &str, emit: impl FnMut(Part)) {
        let mut all = String::new();
        let mut first_bytes = FirstBytes::default();
        let records: Vec<_> = (0..)
            .zip(tokens)
            .map(|(id, (token, flags))| {
                first_bytes.insert(token.as_bytes()[0]);
                all.push_str(token);
                bytemuck::cast(format::AddedToken {
                    id,
                    offset: (all.len() - token.len()) as u32,
                    length: token.len() as u32,
                    flags: *flags,
                })
            })
            .collect();
        let added = AddedTokens {
            records: &records,
            text: all.as_bytes(),
            first_bytes,
        };
        added.split(text, emit);
    }

    fn parts(tokens: &[(&str, u32)], text: &str) -> Vec<String> {
        let mut parts = Vec::new();
        split(tokens, text, |part| {
            parts.push(match part {
                Part::Text(range) => text[range].to_owned(),
                Part::Token(id, range) => format!("<{id}>{}", &text[range]),
            });
        });
        parts
    }

    #[test]
    fn leftmost_longest() {
        let tokens = [("ab", 0), ("abcd", 0), ("bcde", 0), ("é", 0)];
        assert_eq!(
            parts(&tokens, "xabcdebcdeaé"),
            ["x", "<1>abcd", "e", "<2>bcde", "a", "<3>é"]
        );
        assert_eq!(parts(&tokens, "ababc"), ["<0>ab", "<0>ab", "c"]);
        assert_eq!(parts(&tokens, ""), [""; 0]);
        assert_eq!(parts(&[], "ab"), ["ab"]);
    }

    #[test]
    fn flags() {
        use added_token::*;
        let tokens = [
            ("[A]", SINGLE_WORD),
            ("[B]", STRIP_LEFT),
            ("[C]", STRIP_RIGHT),
        ];
        assert_eq!(parts(&tokens, "x[A] [A]"), ["x[A] ", "<0>[A]"]);
        assert_eq!(
            parts(&tokens, "x \u{3000}[B] y"),
            ["x", "<1> \u{3000}[B]", " y"]
        );
        assert_eq!(parts(&tokens, "x [C] \n[B]"), ["x ", "<2>[C] \n", "<1>[B]"]);
    }

    #[test]
    fn whitespace_full_of_tokens_is_looked_over_once() {
        use added_token::*;
        // Once for each token would take hours.
        let spaces = " ".repeat(1 << 22);
        for (flags, count) in [
            (STRIP_LEFT, 1 << 22),
            (STRIP_RIGHT, 1 << 22),
            (STRIP_LEFT | STRIP_RIGHT, 1),
        ] {
            let mut found = 0;
            split(&[(" ", flags)], &spaces, |_| found += 1);
            assert_eq!(found, count);
        }
    }
}
