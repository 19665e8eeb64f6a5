//! BERT's normalizer: clean, space ideographs, strip accents, lowercase.

use super::alignment::Output;
use super::unicode::{self, IDEOGRAPH, MARK, NORMALIZES, REMOVED, SPACE, UPPERCASE, class};
use crate::format::normalizer::{CLEAN_TEXT, LOWERCASE, SPACE_IDEOGRAPHS, STRIP_ACCENTS};

/// The four steps in one pass. That they can be one pass is because only the canonical
/// ordering of marks looks at more than one character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalizer {
    clean_text: bool,
    space_ideographs: bool,
    strip_accents: bool,
    lowercase: bool,
    /// A character of none of these classes comes out as it went in, unless marks wait.
    changing: u8,
}

/// Characters of nonzero combining class, each behind its class and its number, so that their
/// order as integers is the canonical order. Those that will be stripped come here only if the
/// output is aligned.
type Marks = Vec<u64>;

/// Set in a mark that begins the decomposition of its character.
const FIRST: u64 = 1 << 21;

impl Normalizer {
    pub(super) fn new(flags: u32) -> Self {
        let has = |flag| flags & flag != 0;
        let mut normalizer = Self {
            clean_text: has(CLEAN_TEXT),
            space_ideographs: has(SPACE_IDEOGRAPHS),
            strip_accents: has(STRIP_ACCENTS),
            lowercase: has(LOWERCASE),
            changing: 0,
        };
        let changing = [
            (normalizer.clean_text, REMOVED | SPACE),
            (normalizer.space_ideographs, IDEOGRAPH),
            (normalizer.strip_accents, MARK | NORMALIZES),
            (normalizer.lowercase, UPPERCASE),
        ];
        for (_, classes) in changing.iter().filter(|step| step.0) {
            normalizer.changing |= classes;
        }
        normalizer
    }

    /// Puts the normalized text into `out`, in place of what it held.
    pub(super) fn normalize<O: Output>(&self, text: &str, out: &mut O, marks: &mut Marks) {
        out.clear();
        marks.clear();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let run = self.ascii_run(&bytes[at..]);
            if run > 0 {
                self.flush(marks, out);
                let run = out.push_ascii(&text[at..at + run], at);
                if self.lowercase {
                    run.make_ascii_lowercase();
                }
                at += run.len();
            }
            let Some(c) = text[at..].chars().next() else {
                break;
            };
            out.source(at);
            at += c.len_utf8();
            let class = class(c);
            if class & self.changing == 0 && marks.is_empty() {
                out.push(c);
            } else {
                self.push(c, class, out, marks);
            }
        }
        self.flush(marks, out);
    }

    /// Length of the ASCII prefix that needs lowercasing at most.
    fn ascii_run(&self, bytes: &[u8]) -> usize {
        let end = if self.clean_text {
            bytes.iter().position(|b| !matches!(b, b' '..=b'~'))
        } else {
            bytes.iter().position(|b| !b.is_ascii())
        };
        end.unwrap_or(bytes.len())
    }

    fn push<O: Output>(&self, c: char, class: u8, out: &mut O, marks: &mut Marks) {
        if self.clean_text {
            if class & REMOVED != 0 {
                return;
            }
            if class & SPACE != 0 {
                self.flush(marks, out);
                out.push(' ');
                return;
            }
        }
        if self.space_ideographs && class & IDEOGRAPH != 0 {
            self.flush(marks, out);
            out.push(' ');
            // Ideographs decompose into ideographs: no marks wait after one.
            self.push_stripped(c, class, out, marks);
            out.push(' ');
        } else {
            self.push_stripped(c, class, out, marks);
        }
    }

    fn push_stripped<O: Output>(&self, c: char, class: u8, out: &mut O, marks: &mut Marks) {
        if !self.strip_accents {
            self.push_lowercase(c, class, out);
        } else if class & NORMALIZES == 0 {
            self.push_starter(c, class, out, marks);
        } else {
            let mut first = FIRST;
            unicode::decompose(c, |c| {
                let class = unicode::class(c);
                match unicode::combining_class(c) {
                    0 => self.push_starter(c, class, out, marks),
                    _ if class & MARK != 0 && !O::ALIGNED => {}
                    order => {
                        // 34 bits for the number, more than a text has characters.
                        let number = marks.len() as u64;
                        let order = u64::from(order) << 56 | number << 22;
                        marks.push(order | first | u64::from(c as u32));
                        out.mark_waits(first != 0);
                    }
                }
                first = 0;
            });
        }
    }

    /// A starter ends the marks before it, whether or not it stays itself.
    fn push_starter<O: Output>(&self, c: char, class: u8, out: &mut O, marks: &mut Marks) {
        self.flush(marks, out);
        if class & MARK == 0 {
            self.push_lowercase(c, class, out);
        }
    }

    fn push_lowercase(&self, c: char, class: u8, out: &mut impl Output) {
        if self.lowercase && class & UPPERCASE != 0 {
            unicode::lowercase(c, |c| out.push(c));
        } else {
            out.push(c);
        }
    }

    /// Appends the marks that wait, in canonical order.
    #[inline]
    fn flush(&self, marks: &mut Marks, out: &mut impl Output) {
        if !marks.is_empty() {
            self.flush_marks(marks, out);
        }
    }

    #[cold]
    fn flush_marks(&self, marks: &mut Marks, out: &mut impl Output) {
        marks.sort_unstable();
        for mark in marks.drain(..) {
            out.next_mark(mark & FIRST != 0);
            let Some(c) = char::from_u32((mark & (FIRST - 1)) as u32) else {
                continue;
            };
            let class = class(c);
            if class & MARK == 0 {
                self.push_lowercase(c, class, out);
            }
        }
        out.end_marks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::normalizer::ALL;

    fn normalized(flags: u32, text: &str) -> String {
        let mut out = String::from("what was there");
        Normalizer::new(flags).normalize(text, &mut out, &mut Vec::new());
        out
    }

    #[test]
    fn ascii() {
        assert_eq!(normalized(ALL, "Hi\tThere\0\x7F!\r\n"), "hi there!  ");
        assert_eq!(normalized(0, "Hi\tThere\0\x7F!"), "Hi\tThere\0\x7F!");
        assert_eq!(normalized(ALL, ""), "");
    }

    #[test]
    fn accents_case_and_ideographs() {
        assert_eq!(normalized(ALL, "Élan ÀÉÎ"), "elan aei");
        assert_eq!(normalized(LOWERCASE, "Élan İ ΣΑΣ"), "élan i\u{307} σασ");
        assert_eq!(normalized(ALL, "日本go"), " 日  本 go");
        assert_eq!(normalized(STRIP_ACCENTS, "日É"), "日E");
        assert_eq!(normalized(ALL, "a\u{200D}b\u{FFFD}\u{A0}c"), "ab c");
    }

    #[test]
    fn marks_that_stay_are_in_canonical_order() {
        // Spacing marks of class 224 and 9, and one of class 230 that Unicode 8 did not have.
        let text = "a\u{1D166}\u{302E}\u{1B44}\u{1AC1}b";
        assert_eq!(
            normalized(STRIP_ACCENTS, text),
            "a\u{1B44}\u{1D166}\u{302E}\u{1AC1}b"
        );
        // What is stripped, but is no starter, does not keep them apart; a removed format
        // character does not either; a stripped starter does.
        assert_eq!(
            normalized(ALL, "\u{302E}\u{301}\u{1B44}"),
            "\u{1B44}\u{302E}"
        );
        assert_eq!(
            normalized(ALL, "\u{302E}\u{200D}\u{1B44}"),
            "\u{1B44}\u{302E}"
        );
        assert_eq!(
            normalized(ALL, "\u{302E}\u{E31}\u{1B44}"),
            "\u{302E}\u{1B44}"
        );
    }
}
