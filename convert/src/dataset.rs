//! Labelled texts: a TSV file with one header line and no quoting.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use filbert::Input;

use crate::Error;

const SINGLE_HEADER: [&str; 2] = ["text", "label"];
const PAIR_HEADER: [&str; 3] = ["text_a", "text_b", "label"];

/// Labelled texts, or labelled pairs of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    path: PathBuf,
    examples: Vec<Example>,
}

/// One line of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The text, or the first of two.
    pub first: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// The label that is right, or a tag for each word.
    pub label: String,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Example {
    /// What the classifier is to answer.
    pub fn input(&self) -> Input<'_> {
        match &self.second {
            None => self.first.as_str().into(),
            Some(second) => (self.first.as_str(), second.as_str()).into(),
        }
    }

    /// The bytes of each word of the first text: what lies between single spaces.
    pub fn words(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.first.split(' ').map(move |word| {
            let bytes = start..start + word.len();
            start = bytes.end + 1;
            bytes
        })
    }
}

impl Dataset {
    /// Reads a file whose header is `text<TAB>label` or `text_a<TAB>text_b<TAB>label`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|error| Error::in_file(path, error))?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        // What some editors and spreadsheets put first.
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(Error::in_file(
                path,
                format!("the file is empty; {}", expected_header()),
            ));
        }
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut lines = bytes.split(|&byte| byte == b'\n').zip(1..);
        let mut next = || -> Result<Option<(Vec<&str>, usize)>, Error> {
            let Some((line, number)) = lines.next() else {
                return Ok(None);
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = str::from_utf8(line).map_err(|error| {
                Error::in_file(
                    path,
                    format!(
                        "line {number}, byte {}: not UTF-8; save the file as UTF-8",
                        error.valid_up_to() + 1
                    ),
                )
            })?;
            Ok(Some((line.split('\t').collect(), number)))
        };

        let (header, _) = next()?.unwrap_or_default();
        let pairs = header == PAIR_HEADER;
        if !pairs && header != SINGLE_HEADER {
            return Err(Error::in_file(
                path,
                format!(
                    "line 1: no header but {:?}; {}",
                    brief(&header.join("\t")),
                    expected_header()
                ),
            ));
        }
        let mut examples = Vec::new();
        while let Some((fields, line)) = next()? {
            let (first, second, label) = match *fields.as_slice() {
                [text, label] if !pairs => (text, None, label),
                [first, second, label] if pairs => (first, Some(second), label),
                _ => {
                    return Err(Error::in_file(
                        path,
                        format!(
                            "line {line}: expected {} fields with tabs between, as in the \
                             header ({}), found {}",
                            header.len(),
                            header.join(", "),
                            fields.len()
                        ),
                    ));
                }
            };
            examples.push(Example {
                first: first.to_owned(),
                second: second.map(str::to_owned),
                label: label.to_owned(),
                line,
            });
        }
        if examples.is_empty() {
            return Err(Error::in_file(
                path,
                "the header is all there is; each further line is one labelled text",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            examples,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// At least one, in the order of the file.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The number of each example's label in `labels`.
    pub fn targets(&self, labels: &[&str]) -> Result<Vec<usize>, Error> {
        let numbers = self.number_labels(labels)?;
        let number = |example: &Example| self.target(example, &example.label, labels, &numbers);
        self.examples.iter().map(number).collect()
    }

    /// The number in `labels` of the tag of each word, for each example. Words and tags have one
    /// space between, and a word has one tag.
    pub fn tags(&self, labels: &[&str]) -> Result<Vec<Vec<usize>>, Error> {
        let numbers = self.number_labels(labels)?;
        let targets = |example: &Example| {
            if example.second.is_some() {
                return Err(Error::in_file(
                    &self.path,
                    "line 1: pairs of texts; the model labels the words of one text, so the first \
                     line must be text<TAB>label",
                ));
            }
            let (words, tags) = (example.words().count(), example.label.split(' ').count());
            if words != tags {
                return Err(Error::in_file(
                    &self.path,
                    format!(
                        "line {}: expected {words} tags, one for each word between spaces, found \
                         {tags}",
                        example.line
                    ),
                ));
            }
            let tags = example.label.split(' ');
            tags.map(|tag| self.target(example, tag, labels, &numbers))
                .collect()
        };
        self.examples.iter().map(targets).collect()
    }

    fn number_labels<'a>(&self, labels: &[&'a str]) -> Result<HashMap<&'a str, usize>, Error> {
        let mut numbers = HashMap::with_capacity(labels.len());
        for (number, &label) in labels.iter().enumerate() {
            if numbers.insert(label, number).is_some() {
                return Err(Error::in_file(
                    &self.path,
                    format!(
                        "the model gives the name {:?} to two labels, so a name does not tell \
                         which is right; correct id2label in the checkpoint's config.json",
                        brief(label)
                    ),
                ));
            }
        }
        Ok(numbers)
    }

    fn target(
        &self,
        example: &Example,
        label: &str,
        labels: &[&str],
        numbers: &HashMap<&str, usize>,
    ) -> Result<usize, Error> {
        numbers.get(label).copied().ok_or_else(|| {
            Error::in_file(
                &self.path,
                format!(
                    "line {}: the model has no label {:?}; it has {}",
                    example.line,
                    brief(label),
                    list(labels)
                ),
            )
        })
    }
}

fn expected_header() -> String {
    format!(
        "the first line must be {} or {}, with tabs between",
        SINGLE_HEADER.join("<TAB>"),
        PAIR_HEADER.join("<TAB>")
    )
}

/// A text for a message: cut where it is long.
fn brief(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Labels for a message: the first of them where there are many.
fn list(labels: &[&str]) -> String {
    const MOST: usize = 20;
    let mut list: Vec<_> = labels.iter().take(MOST).map(|l| brief(l)).collect();
    if labels.len() > MOST {
        list.push(format!("{} more", labels.len() - MOST));
    }
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Dataset, String> {
        Dataset::parse(Path::new("reviews.tsv"), bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_and_pairs() {
        let dataset = parse(b"text\tlabel\nwarm bread\tGOOD\n\tBAD\n").unwrap();
        let [first, second] = dataset.examples() else {
            panic!("{dataset:?}");
        };
        assert_eq!(
            (&*first.first, &*first.label, first.line),
            ("warm bread", "GOOD", 2)
        );
        assert_eq!(
            (&*second.first, &*second.label, second.line),
            ("", "BAD", 3)
        );
        assert_eq!(dataset.targets(&["BAD", "GOOD"]).unwrap(), [1, 0]);

        let dataset = parse(b"text_a\ttext_b\tlabel\na\tb\tsame").unwrap();
        let example = &dataset.examples()[0];
        assert_eq!(
            (&*example.first, example.second.as_deref()),
            ("a", Some("b"))
        );
    }

    #[test]
    fn marks_of_other_systems_are_no_part_of_the_text() {
        let unix = parse("text\tlabel\nbon café\tGOOD\n".as_bytes()).unwrap();
        let windows = parse("\u{FEFF}text\tlabel\r\nbon café\tGOOD\r\n".as_bytes()).unwrap();
        assert_eq!(unix, windows);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "reviews.tsv: the file is empty"),
            (b"\xEF\xBB\xBF", "the file is empty"),
            (
                b"warm bread\tGOOD\n",
                "line 1: no header but \"warm bread\\tGOOD\"",
            ),
            (b"\n", "line 1: no header"),
            (b"text\tlabel\n", "the header is all there is"),
            (
                b"text\tlabel\na\tb\tc\n",
                "line 2: expected 2 fields with tabs between, as in the header (text, label), found 3",
            ),
            (b"text\tlabel\na\tb\n\nc\td\n", "line 3: expected 2 fields"),
            (
                b"text\tlabel\na\tb\nc\xFF\td\n",
                "line 3, byte 2: not UTF-8",
            ),
        ];
        for (bytes, expected) in cases {
            let error = parse(bytes).unwrap_err();
            assert!(error.starts_with("reviews.tsv: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn each_word_has_a_tag() {
        let dataset = parse("text\tlabel\nZoë at Köln\tB O B\n\tO\n".as_bytes()).unwrap();
        assert_eq!(dataset.tags(&["O", "B"]).unwrap(), [vec![1, 0, 1], vec![0]]);
        let words: Vec<_> = dataset.examples()[0].words().collect();
        assert_eq!(words, [0..4, 5..7, 8..13]);

        for (bytes, expected) in [
            (
                &b"text\tlabel\na b\tO O\na b c\tO O\n"[..],
                "line 3: expected 3 tags, one for each word between spaces, found 2",
            ),
            // A second space makes an empty word.
            (b"text\tlabel\na  b\tO O\n", "line 2: expected 3 tags"),
            (
                b"text\tlabel\na b\tO X\n",
                "line 2: the model has no label \"X\"",
            ),
            (
                b"text_a\ttext_b\tlabel\na\tb\tO\n",
                "line 1: pairs of texts",
            ),
        ] {
            let error = parse(bytes).unwrap().tags(&["O", "B"]).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("reviews.tsv: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unknown_and_ambiguous_labels_are_refused() {
        let dataset = parse(b"text\tlabel\na\tGOOD\nb\tFINE\n").unwrap();
        let error = dataset.targets(&["BAD", "GOOD"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "reviews.tsv: line 3: the model has no label \"FINE\"; it has BAD, GOOD"
        );
        let many: Vec<String> = (0..1000).map(|i| format!("L{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = dataset.targets(&many).unwrap_err().to_string();
        assert!(error.ends_with("L19, 980 more"), "{error}");
        let error = dataset.targets(&["GOOD", "FINE", "GOOD"]).unwrap_err();
        assert!(
            error.to_string().contains("\"GOOD\" to two labels"),
            "{error}"
        );
    }
}
