//! `src/tokenizer/tables.rs` holds what the `tokenizers` crate knows of Unicode, drawn from the
//! crates and the standard library that it asks. It is frozen there, so that the tokens of a
//! text do not depend on the compiler that built the runtime.
//!
//! This test draws it again and fails where the two differ. To accept the difference, which
//! changes tokens, run it with `FILBERT_WRITE_TABLES=1`.

use std::collections::HashMap;
use std::fmt::Write as _;

use regex::Regex;
use unicode_categories::UnicodeCategories as _;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

const REMOVED: u8 = 1 << 0;
const SPACE: u8 = 1 << 1;
const PUNCTUATION: u8 = 1 << 2;
const IDEOGRAPH: u8 = 1 << 3;
const MARK: u8 = 1 << 4;
const WORD: u8 = 1 << 5;
const NORMALIZES: u8 = 1 << 6;
const UPPERCASE: u8 = 1 << 7;

/// Code points of one block of the class table.
const BLOCK: usize = 128;

#[test]
fn tables_are_those_of_tokenizers() {
    let drawn = draw();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tokenizer/tables.rs");
    if std::env::var_os("FILBERT_WRITE_TABLES").is_some() {
        std::fs::write(path, drawn).unwrap();
        return;
    }
    let held = std::fs::read_to_string(path).unwrap();
    let differs = held
        .lines()
        .zip(drawn.lines())
        .position(|(held, drawn)| held != drawn);
    assert!(
        held == drawn,
        "tables.rs differs from line {:?} on; see the head of this test",
        differs.map(|line| line + 1)
    );
}

fn ideograph(c: char) -> bool {
    matches!(
        c as u32,
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

fn hangul(c: char) -> bool {
    matches!(c, '\u{AC00}'..='\u{D7A3}')
}

fn decomposition(c: char) -> Vec<char> {
    let mut decomposed = Vec::new();
    decompose_canonical(c, |d| decomposed.push(d));
    decomposed
}

fn class(c: char, word: &Regex) -> u8 {
    let kept_control = matches!(c, '\t' | '\n' | '\r');
    let bits = [
        (
            REMOVED,
            c == '\0' || c == '\u{FFFD}' || (!kept_control && c.is_other()),
        ),
        (SPACE, c.is_whitespace()),
        (PUNCTUATION, c.is_ascii_punctuation() || c.is_punctuation()),
        (IDEOGRAPH, ideograph(c)),
        (MARK, c.is_mark_nonspacing()),
        (WORD, word.is_match(c.encode_utf8(&mut [0; 4]))),
        (
            NORMALIZES,
            canonical_combining_class(c) != 0 || decomposition(c) != [c],
        ),
        (UPPERCASE, !c.to_lowercase().eq([c])),
    ];
    bits.iter().filter(|bit| bit.1).map(|bit| bit.0).sum()
}

/// What a character is to GPT-2's pattern: 0 none of the others, 1 a letter, 2 a number, 3
/// whitespace.
fn kind(c: char, patterns: &[Regex; 3]) -> u8 {
    let text = c.to_string();
    let found = patterns.iter().position(|pattern| pattern.is_match(&text));
    found.map_or(0, |at| at as u8 + 1)
}

fn scalars() -> impl Iterator<Item = char> {
    '\0'..=char::MAX
}

fn draw() -> String {
    let mut out = String::from(
        "//! What the `tokenizers` crate knows of Unicode, frozen.\n\
         //!\n\
         //! Drawn by `tests/unicode_tables.rs`; not for editing.\n",
    );
    let word = Regex::new(r"^\w$").unwrap();
    draw_blocks(
        &mut out,
        |c| class(c, &word),
        [("BLOCK_OF", "BLOCK"), ("CLASSES", "CLASS")],
        ["classes", "class"],
    );
    let patterns = [r"^\p{L}$", r"^\p{N}$", r"^\s$"].map(|p| Regex::new(p).unwrap());
    draw_blocks(
        &mut out,
        |c| kind(c, &patterns),
        [("KIND_BLOCK_OF", "KIND_BLOCK"), ("KINDS", "KIND")],
        ["kinds", "kind"],
    );
    draw_combining(&mut out);
    draw_decompositions(&mut out);
    draw_lowercase(&mut out);
    out
}

/// Draws what is said of each code point, as a table of blocks and the values of the blocks that
/// differ. The names are those of the lengths and of the runs of both.
fn draw_blocks(
    out: &mut String,
    value: impl Fn(char) -> u8,
    [of_blocks, of_values]: [(&str, &str); 2],
    [what, each]: [&str; 2],
) {
    let mut values = vec![0; 0x11_0000];
    for c in scalars() {
        values[c as usize] = value(c);
    }
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut seen = HashMap::new();
    let mut index = Vec::new();
    for block in values.chunks(BLOCK) {
        let number = *seen.entry(block).or_insert_with(|| {
            blocks.push(block);
            blocks.len() - 1
        });
        index.push(u8::try_from(number).expect("at most 256 blocks"));
    }
    let blocks = blocks.concat();
    out.push('\n');
    for ((length, runs), count) in [(of_blocks, index.len()), (of_values, blocks.len())] {
        writeln!(
            out,
            "/// See [`{runs}_RUNS`].\npub(super) const {length}_LEN: usize = {count};"
        )
        .unwrap();
    }
    array(
        out,
        "Runs `(length, block)`: the block of each 128 code points.",
        &format!("{}_RUNS", of_blocks.1),
        "(u16, u8)",
        runs(&index).iter().map(|run| format!("{run:?}")),
    );
    array(
        out,
        &format!("Runs `(length, {each})`: the {what} of the blocks, one after another."),
        &format!("{}_RUNS", of_values.1),
        "(u16, u8)",
        runs(&blocks).iter().map(|run| format!("{run:?}")),
    );
}

fn runs(values: &[u8]) -> Vec<(u16, u8)> {
    values
        .chunk_by(|a, b| a == b)
        .map(|run| (u16::try_from(run.len()).unwrap(), run[0]))
        .collect()
}

fn draw_combining(out: &mut String) {
    let mut ranges: Vec<(u32, u32, u8)> = Vec::new();
    for c in scalars() {
        let class = canonical_combining_class(c);
        match ranges.last_mut() {
            _ if class == 0 => {}
            Some(range) if range.1 + 1 == c as u32 && range.2 == class => range.1 = c as u32,
            _ => ranges.push((c as u32, c as u32, class)),
        }
    }
    array(
        out,
        "Ranges `(first, last, class)` of nonzero canonical combining class.",
        "COMBINING",
        "(u32, u32, u8)",
        ranges
            .iter()
            .map(|(first, last, class)| format!("(0x{first:X}, 0x{last:X}, {class})")),
    );
}

fn draw_decompositions(out: &mut String) {
    let mut from = Vec::new();
    let mut ends = Vec::new();
    let mut to = Vec::new();
    for c in scalars().filter(|&c| !hangul(c)) {
        let decomposed = decomposition(c);
        if decomposed != [c] {
            from.push(c as u32);
            to.extend(decomposed);
            ends.push(u16::try_from(to.len()).unwrap());
        }
    }
    array(
        out,
        "What has a canonical decomposition, without the Hangul syllables.",
        "DECOMPOSED",
        "u32",
        from.iter().map(|c| format!("0x{c:X}")),
    );
    array(
        out,
        "Where the decomposition of each of [`DECOMPOSED`] ends in [`DECOMPOSITIONS`].",
        "DECOMPOSITION_ENDS",
        "u16",
        ends.iter().map(u16::to_string),
    );
    array(
        out,
        "Full canonical decompositions, one after another.",
        "DECOMPOSITIONS",
        "char",
        to.iter().map(|&c| format!("'\\u{{{:X}}}'", c as u32)),
    );
}

fn draw_lowercase(out: &mut String) {
    // (first, last, step, difference)
    let mut ranges: Vec<(u32, u32, u32, i32)> = Vec::new();
    for c in scalars() {
        let lower: Vec<char> = c.to_lowercase().collect();
        if lower == [c] {
            continue;
        }
        if c == '\u{130}' {
            assert_eq!(lower, ['i', '\u{307}']);
            continue;
        }
        assert_eq!(lower.len(), 1, "{c:?}");
        let (c, difference) = (c as u32, lower[0] as i32 - c as i32);
        match ranges.last_mut() {
            Some(range)
                if range.3 == difference
                    && (range.1 + range.2 == c || (range.0 == range.1 && c - range.1 <= 2)) =>
            {
                range.2 = c - range.1;
                range.1 = c;
            }
            _ => ranges.push((c, c, 1, difference)),
        }
    }
    array(
        out,
        "Ranges `(first, last, step, difference)` of code points whose lowercase form is the\n\
         /// code point plus the difference. U+0130, which becomes two, is not among them.",
        "LOWERCASE",
        "(u32, u32, u32, i32)",
        ranges
            .iter()
            .map(|(first, last, step, by)| format!("(0x{first:X}, 0x{last:X}, {step}, {by})")),
    );
}

fn array(
    out: &mut String,
    doc: &str,
    name: &str,
    item: &str,
    items: impl ExactSizeIterator<Item = String>,
) {
    let count = items.len();
    // Runs are expanded at compile time, and so need no place in the binary.
    let kind = if name.ends_with("_RUNS") {
        "const"
    } else {
        "static"
    };
    write!(
        out,
        "\n/// {doc}\n#[rustfmt::skip]\npub(super) {kind} {name}: [{item}; {count}] = ["
    )
    .unwrap();
    let mut column = usize::MAX;
    for item in items {
        if column == usize::MAX || column + item.len() + 2 > 98 {
            out.push_str("\n    ");
            column = 4;
        }
        write!(out, "{item}, ").unwrap();
        column += item.len() + 2;
    }
    out.push_str("\n];\n");
    *out = out.replace(", \n", ",\n");
}
