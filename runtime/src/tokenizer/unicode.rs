//! What the tokenizer asks about a character.
//!
//! The answers are those of the `tokenizers` crate, old tables and all, frozen in `tables.rs`:
//! the tokens of a text depend neither on the compiler nor on the edition of Unicode that its
//! standard library follows.

use super::tables;

/// Removed by the normalizer's cleaning: controls, formats and private use, NUL, U+FFFD.
pub(super) const REMOVED: u8 = 1 << 0;
/// Whitespace.
pub(super) const SPACE: u8 = 1 << 1;
/// Punctuation, and every ASCII symbol.
pub(super) const PUNCTUATION: u8 = 1 << 2;
/// CJK ideographs.
pub(super) const IDEOGRAPH: u8 = 1 << 3;
/// Nonspacing marks.
pub(super) const MARK: u8 = 1 << 4;
/// Word characters: `\w` of the `regex` crate.
pub(super) const WORD: u8 = 1 << 5;
/// Has a canonical decomposition or a nonzero combining class.
pub(super) const NORMALIZES: u8 = 1 << 6;
/// Has another lowercase form.
pub(super) const UPPERCASE: u8 = 1 << 7;

static BLOCK_OF: [u8; tables::BLOCK_OF_LEN] = expand(&tables::BLOCK_RUNS);
static CLASSES: [u8; tables::CLASSES_LEN] = expand(&tables::CLASS_RUNS);

const fn expand<const N: usize>(runs: &[(u16, u8)]) -> [u8; N] {
    let mut values = [0; N];
    let (mut run, mut at) = (0, 0);
    while run < runs.len() {
        let end = at + runs[run].0 as usize;
        while at < end {
            values[at] = runs[run].1;
            at += 1;
        }
        run += 1;
    }
    assert!(at == N);
    values
}

/// What a character is to GPT-2's pattern, of which each holds for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`.
    Space,
}

static KIND_BLOCK_OF: [u8; tables::KIND_BLOCK_OF_LEN] = expand(&tables::KIND_BLOCK_RUNS);
/// Four to a byte, the first in its lowest bits.
static KINDS: [u8; tables::KINDS_LEN / 4] = pack(&expand(&tables::KIND_RUNS));

const fn pack<const N: usize>(kinds: &[u8; tables::KINDS_LEN]) -> [u8; N] {
    let mut packed = [0; N];
    let mut at = 0;
    while at < tables::KINDS_LEN {
        packed[at / 4] |= kinds[at] << (at % 4 * 2);
        at += 1;
    }
    packed
}

/// The kind of a character.
#[inline]
pub(super) fn kind(c: char) -> Kind {
    let c = c as usize;
    let at = usize::from(KIND_BLOCK_OF[c >> 7]) << 7 | c & 127;
    match KINDS[at / 4] >> (at % 4 * 2) & 3 {
        0 => Kind::Other,
        1 => Kind::Letter,
        2 => Kind::Number,
        _ => Kind::Space,
    }
}

/// The bits above that hold for a character.
#[inline]
pub(super) fn class(c: char) -> u8 {
    let c = c as usize;
    CLASSES[usize::from(BLOCK_OF[c >> 7]) << 7 | c & 127]
}

/// [`class`] of an ASCII byte.
#[inline]
pub(super) fn ascii_class(byte: u8) -> u8 {
    CLASSES[usize::from(byte & 127)]
}

/// Canonical combining class.
pub(super) fn combining_class(c: char) -> u8 {
    let c = c as u32;
    let at = tables::COMBINING.partition_point(|range| range.1 < c);
    match tables::COMBINING.get(at) {
        Some(&(first, _, class)) if first <= c => class,
        _ => 0,
    }
}

/// Calls `emit` with each character of the full canonical decomposition.
pub(super) fn decompose(c: char, mut emit: impl FnMut(char)) {
    if let Some(syllable) = (c as u32).checked_sub(0xAC00).filter(|&s| s < 11_172) {
        let trail = syllable % 28;
        let jamo = [
            0x1100 + syllable / 588,
            0x1161 + syllable % 588 / 28,
            0x11A7 + trail,
        ];
        let count = if trail == 0 { 2 } else { 3 };
        jamo.iter()
            .take(count)
            .filter_map(|&c| char::from_u32(c))
            .for_each(emit);
        return;
    }
    match tables::DECOMPOSED.binary_search(&(c as u32)) {
        Ok(at) => {
            let start = match at {
                0 => 0,
                _ => usize::from(tables::DECOMPOSITION_ENDS[at - 1]),
            };
            let end = usize::from(tables::DECOMPOSITION_ENDS[at]);
            tables::DECOMPOSITIONS[start..end]
                .iter()
                .for_each(|&c| emit(c));
        }
        Err(_) => emit(c),
    }
}

/// Calls `emit` with each character of the lowercase form, without regard to what is beside
/// the character.
pub(super) fn lowercase(c: char, mut emit: impl FnMut(char)) {
    if c == '\u{130}' {
        "i\u{307}".chars().for_each(emit);
        return;
    }
    let code = c as u32;
    let at = tables::LOWERCASE.partition_point(|range| range.1 < code);
    let lower = match tables::LOWERCASE.get(at) {
        Some(&(first, _, step, difference))
            if first <= code && (code - first).is_multiple_of(step) =>
        {
            char::from_u32(code.wrapping_add_signed(difference)).unwrap_or(c)
        }
        _ => c,
    };
    emit(lower);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (c, expected) in [
            ('a', Kind::Letter),
            ('語', Kind::Letter),
            ('ª', Kind::Letter),
            ('½', Kind::Number),
            ('\u{2028}', Kind::Space),
            ('\u{85}', Kind::Space),
            ('\u{301}', Kind::Other),
            ('_', Kind::Other),
            (char::MAX, Kind::Other),
        ] {
            assert_eq!(kind(c), expected, "{c:?}");
        }
        // Both tables say the same of whitespace.
        assert!(('\0'..=char::MAX).all(|c| (kind(c) == Kind::Space) == (class(c) & SPACE != 0)));
    }

    fn decomposition(c: char) -> String {
        let mut text = String::new();
        decompose(c, |d| text.push(d));
        text
    }

    #[test]
    fn classes() {
        assert_eq!(class('a'), WORD);
        assert_eq!(class('Z'), WORD | UPPERCASE);
        assert_eq!(class('$'), PUNCTUATION);
        assert_eq!(class('€'), 0);
        assert_eq!(class('。'), PUNCTUATION);
        assert_eq!(class('語'), WORD | IDEOGRAPH);
        assert_eq!(class('\u{301}'), WORD | MARK | NORMALIZES);
        assert_eq!(class('\u{A0}'), SPACE);
        assert_eq!(class('\n'), SPACE);
        assert_eq!(class('\u{200D}') & REMOVED, REMOVED);
        assert_eq!(class(char::MAX), 0);
    }

    #[test]
    fn decompositions() {
        assert_eq!(decomposition('a'), "a");
        assert_eq!(decomposition('\u{C0}'), "A\u{300}");
        assert_eq!(decomposition('ệ'), "e\u{323}\u{302}");
        assert_eq!(decomposition('가'), "\u{1100}\u{1161}");
        assert_eq!(decomposition('힣'), "\u{1112}\u{1175}\u{11C2}");
        assert_eq!(combining_class('\u{301}'), 230);
        assert_eq!(combining_class('\u{323}'), 220);
        assert_eq!(combining_class('a'), 0);
    }

    #[test]
    fn decompositions_are_in_canonical_order() {
        for c in '\0'..=char::MAX {
            let orders: Vec<_> = decomposition(c).chars().map(combining_class).collect();
            let ordered = orders
                .windows(2)
                .all(|pair| pair[1] == 0 || pair[0] <= pair[1]);
            assert!(ordered, "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn lowercase_is_that_of_the_standard_library() {
        for c in '\0'..=char::MAX {
            let mut lower = String::new();
            lowercase(c, |c| lower.push(c));
            assert!(lower.chars().eq(c.to_lowercase()), "U+{:04X}", c as u32);
            assert_eq!(class(c) & UPPERCASE != 0, !c.to_lowercase().eq([c]));
        }
    }
}
