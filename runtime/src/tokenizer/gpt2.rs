//! A text into words, as GPT-2's pattern cuts it, which RoBERTa took over:
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! Of the alternatives, the first that matches counts. So a word takes one space before it, and
//! whitespace before a word leaves it its last character. Every character belongs to a word.

use std::ops::Range;

use super::unicode::{Kind, kind};

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Calls `emit` with the bytes of each word, in order. The text may follow a space that is not
/// in it (`after_space`): then the first word is what the space begins, without the space, and
/// may be empty.
pub(super) fn split(text: &str, after_space: bool, mut emit: impl FnMut(Range<usize>)) {
    let mut start = 0;
    if after_space {
        start = after_space_length(text);
        emit(0..start);
    }
    while start < text.len() {
        let end = start + word_length(&text[start..]);
        emit(start..end);
        start = end;
    }
}

/// Whether these neighbours in a text belong to the same word, which is no space.
pub(super) fn is_inside_word(before: char, after: char) -> bool {
    let is_apostrophe = before == '\'' || after == '\'';
    kind(before) == kind(after) && kind(before) != Kind::Space && !is_apostrophe
}

/// Bytes of the word that the text begins with. The text is not empty.
fn word_length(text: &str) -> usize {
    if let Some(rest) = text.strip_prefix(' ') {
        return 1 + after_space_length(rest);
    }
    if let Some(found) = CONTRACTIONS.iter().find(|found| text.starts_with(**found)) {
        return found.len();
    }
    let Some((first, width)) = first_kind(text) else {
        return 0;
    };
    let rest = &text[width..];
    match (first, first_kind(rest)) {
        // Only a space is taken by the word after it.
        (Kind::Space, Some((next, _))) if next != Kind::Space => width,
        (Kind::Space, _) => width + after_space_length(rest),
        _ => width + run(rest, first),
    }
}

/// Bytes by which the word goes on that a whitespace character before the text began.
fn after_space_length(text: &str) -> usize {
    let Some((first, _)) = first_kind(text) else {
        return 0;
    };
    let run = run(text, first);
    if first != Kind::Space || run == text.len() {
        return run;
    }
    let last = text[..run].chars().next_back();
    run - last.map_or(0, char::len_utf8)
}

/// The kind of the first character, and its bytes.
#[inline]
fn first_kind(text: &str) -> Option<(Kind, usize)> {
    let first = text.chars().next()?;
    Some((kind(first), first.len_utf8()))
}

/// Bytes of the characters of a kind that the text begins with.
fn run(text: &str, of: Kind) -> usize {
    let end = text.char_indices().find(|&(_, c)| kind(c) != of);
    end.map_or(text.len(), |(end, _)| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, after_space: bool) -> Vec<&str> {
        let mut words = Vec::new();
        split(text, after_space, |range| words.push(&text[range]));
        words
    }

    #[test]
    fn each_alternative() {
        assert_eq!(
            words("I'll say 'tis 2x  the_end's.", false),
            [
                "I", "'ll", " say", " '", "tis", " 2", "x", " ", " the", "_", "end", "'s", "."
            ]
        );
        assert_eq!(
            words("a''s'S 'm", false),
            ["a", "''", "s", "'", "S", " '", "m"]
        );
        assert_eq!(words("日本 ½٣ 👍🏽é", false), ["日本", " ½٣", " 👍🏽", "é"]);
    }

    #[test]
    fn whitespace_leaves_its_last_character() {
        assert_eq!(words("a \n b", false), ["a", " \n", " b"]);
        assert_eq!(words("a\n\nb", false), ["a", "\n", "\n", "b"]);
        assert_eq!(
            words("a \u{3000}b\u{A0}", false),
            ["a", " ", "\u{3000}", "b", "\u{A0}"]
        );
        assert_eq!(words("a  \t ", false), ["a", "  \t "]);
        assert_eq!(words("", false), [""; 0]);
    }

    #[test]
    fn a_space_before_the_text_belongs_to_its_first_word() {
        assert_eq!(words("'s a", true), ["'", "s", " a"]);
        assert_eq!(words("\nab", true), ["", "\n", "ab"]);
        assert_eq!(words("\n\t", true), ["\n\t"]);
        assert_eq!(words("ab", true), ["ab"]);
    }
}
