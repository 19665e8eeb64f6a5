//! Which characters of a text its normalized form comes from.
//!
//! As `tokenizers` has it, which is not always as one would: canonical ordering moves a mark,
//! but not what it is said to come from. Of the marks that wait for their order, those that
//! begin a decomposition take the characters of the text one by one, in the new order; those
//! that continue one take the character that was taken last. Marks that are stripped afterwards
//! take their turn too.

use std::ops::Range;

/// Where the normalizer puts its text.
///
/// It announces with [`source`](Self::source) the character of the original that what follows
/// comes from, and for the marks that wait, whose turn it is. Only [`Aligned`] listens.
pub(super) trait Output {
    /// Whether it must hear of marks that are stripped.
    const ALIGNED: bool;

    fn clear(&mut self);

    /// What follows comes from the character of the original at this byte.
    fn source(&mut self, start: usize);

    fn push(&mut self, c: char);

    /// Appends ASCII of the original, from this byte on, and returns it to be changed in place.
    fn push_ascii(&mut self, run: &str, start: usize) -> &mut str;

    /// A mark from the present source waits; `first` if it begins the decomposition.
    fn mark_waits(&mut self, first: bool);

    /// What follows is the next of the marks that waited, in their new order.
    fn next_mark(&mut self, first: bool);

    /// No marks wait any more, and the source is the one announced last.
    fn end_marks(&mut self);
}

/// The text alone.
impl Output for String {
    const ALIGNED: bool = false;

    fn clear(&mut self) {
        self.clear();
    }

    #[inline]
    fn source(&mut self, _: usize) {}

    #[inline]
    fn push(&mut self, c: char) {
        self.push(c);
    }

    #[inline]
    fn push_ascii(&mut self, run: &str, _: usize) -> &mut str {
        let from = self.len();
        self.push_str(run);
        &mut self[from..]
    }

    fn mark_waits(&mut self, _: bool) {}

    fn next_mark(&mut self, _: bool) {}

    fn end_marks(&mut self) {}
}

/// For each byte of a normalized text, where in the original the character begins that it comes
/// from.
#[derive(Debug, Default)]
pub(crate) struct Alignment {
    pub(crate) starts: Vec<usize>,
    /// The source announced last.
    announced: usize,
    /// The source of what is pushed.
    source: usize,
    /// The sources that marks take in turn, behind the one that was taken before any of them.
    pub(crate) waiting: Vec<usize>,
    /// How many of them have been taken.
    taken: usize,
}

impl Alignment {
    /// The range of `original` that a range of the normalized text comes from. Neither is empty.
    pub(super) fn original(&self, normalized: &Range<usize>, original: &str) -> Range<usize> {
        let start = self.starts[normalized.start];
        let last = self.starts[normalized.end - 1];
        let width = original[last..].chars().next().map_or(0, char::len_utf8);
        start..last + width
    }
}

/// The text, and its alignment.
pub(super) struct Aligned<'a> {
    pub(super) text: &'a mut String,
    pub(super) alignment: &'a mut Alignment,
}

impl Output for Aligned<'_> {
    const ALIGNED: bool = true;

    fn clear(&mut self) {
        self.text.clear();
        self.alignment.starts.clear();
        self.end_marks();
    }

    fn source(&mut self, start: usize) {
        self.alignment.announced = start;
        self.alignment.source = start;
    }

    fn push(&mut self, c: char) {
        self.text.push(c);
        let source = self.alignment.source;
        self.alignment.starts.resize(self.text.len(), source);
    }

    fn push_ascii(&mut self, run: &str, start: usize) -> &mut str {
        self.alignment.starts.extend(start..start + run.len());
        self.text.push_ascii(run, start)
    }

    fn mark_waits(&mut self, first: bool) {
        let Alignment {
            announced, waiting, ..
        } = self.alignment;
        // The first mark of all either continues a decomposition, whose source was taken by the
        // starter before it, or it begins one. Then, since decompositions are in canonical
        // order, no mark that continues one can come before it, and this entry is never read.
        if waiting.is_empty() {
            waiting.push(*announced);
        }
        if first {
            waiting.push(*announced);
        }
    }

    fn next_mark(&mut self, first: bool) {
        self.alignment.taken += usize::from(first);
        self.alignment.source = self.alignment.waiting[self.alignment.taken];
    }

    fn end_marks(&mut self) {
        self.alignment.waiting.clear();
        self.alignment.taken = 0;
        self.alignment.source = self.alignment.announced;
    }
}
