//! Texts of an exact number of tokens, and texts whose lengths are those of real ones.

use std::collections::HashMap;
use std::path::Path;

use filbert::Input;
use filbert_convert::dataset::Dataset;

use super::engine::Engine;
use crate::Failure;

/// Common English words: a vocabulary learned from English has most of them whole.
const WORDS: &str = "\
    the of and to in is was that for on with as by at from his her they were this had not are \
    but have one which you all first also their its new after who two been when other time \
    about more there into some than over people year only world before most life school made \
    between many city work day well part long water small house good great old film little \
    money music night story young hand book light town road river game king week party";
/// For vocabularies of other languages: letters and characters that such words begin with.
const CHARACTERS: &str = "\
    abcdefghijklmnopqrstuvwxyz0123456789的一是不了人我在有他这中大来上国аеиоувксяのはがに가나는이";
/// Words of random models: their vocabulary counts them.
const NUMBERED: usize = 100;

/// Lengths of texts as people write them: a log-normal distribution in tokens.
const TYPICAL_TEXTS: usize = 256;
const TYPICAL_MEDIAN: f64 = 20.0;
const TYPICAL_SPREAD: f64 = 0.6;
const TYPICAL_MAX: usize = 85;

/// Sebastiano Vigna's SplitMix64: the same texts in every run and on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: of mean 0 and variance 1, as the sum of twelve uniform numbers is.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// Writes texts of words that are one token each in a model's vocabulary.
pub(crate) struct Writer<'a> {
    engine: &'a Engine,
    words: Vec<String>,
    /// Tokens that every text has, such as `[CLS]` and `[SEP]`.
    special: usize,
    random: Random,
}

impl<'a> Writer<'a> {
    /// Looks for words that are one token.
    pub(crate) fn new(engine: &'a Engine) -> Result<Self, Failure> {
        let special = engine.tokenize("")?.len();
        let words = WORDS.split_whitespace().map(str::to_owned);
        let numbered = (0..NUMBERED).map(|number| format!("word{number}"));
        let characters = CHARACTERS
            .chars()
            .filter(|character| !character.is_whitespace())
            .map(String::from);
        let mut choice = Vec::new();
        // Whole words if there are enough for a text that repeats little.
        for candidates in [words.chain(numbered).collect(), characters.collect()] {
            choice = single_tokens(engine, special, candidates)?;
            if choice.len() >= 16 {
                break;
            }
        }
        // A text of one word is still a text.
        if choice.is_empty() {
            for word in ["a", "."] {
                if choice.is_empty() && engine.tokenize(word)?.len() == special + 1 {
                    choice.push(word.to_owned());
                }
            }
        }
        if choice.is_empty() {
            return Err(Failure::Failed(
                "the model's tokenizer makes one token of no word that is known here; measure \
                 with your own texts: filbert eval"
                    .to_owned(),
            ));
        }
        Ok(Self {
            engine,
            words: choice,
            special,
            random: Random(1),
        })
    }

    /// Another text of exactly so many tokens, special tokens included.
    pub(crate) fn text(&mut self, tokens: usize) -> Result<String, Failure> {
        let count = tokens.saturating_sub(self.special);
        let words: Vec<&str> = (0..count)
            .map(|_| {
                let index = self.random.next() % self.words.len() as u64;
                self.words[index as usize].as_str()
            })
            .collect();
        let text = words.join(" ");
        match self.engine.tokenize(&text)?.len() {
            found if found == tokens => Ok(text),
            found => Err(Failure::Failed(format!(
                "no text of {tokens} tokens: the model's tokenizer makes {found} of {count} words"
            ))),
        }
    }

    /// Tokens that the shortest text has.
    pub(crate) fn special(&self) -> usize {
        self.special
    }

    /// Texts of typical lengths.
    pub(crate) fn typical(&mut self) -> Result<Vec<String>, Failure> {
        let limit = self.engine.model().shape().max_tokens as usize;
        let shortest = (self.special + 1).min(limit);
        let longest = TYPICAL_MAX.min(limit);
        (0..TYPICAL_TEXTS)
            .map(|_| {
                let length = TYPICAL_MEDIAN * (TYPICAL_SPREAD * self.random.normal()).exp();
                self.text((length.round() as usize).clamp(shortest, longest))
            })
            .collect()
    }
}

/// Those of the words that are one token, each another one: several words with the same token
/// are unknown to the vocabulary.
fn single_tokens(
    engine: &Engine,
    special: usize,
    words: Vec<String>,
) -> Result<Vec<String>, Failure> {
    let mut found: Vec<(String, u32)> = Vec::new();
    let mut count: HashMap<u32, usize> = HashMap::new();
    for word in words {
        let tokens = engine.tokenize(&word)?;
        // The first token is special, the word's follows.
        if tokens.len() == special + 1 && tokens.len() > 1 {
            *count.entry(tokens[1].id).or_default() += 1;
            found.push((word, tokens[1].id));
        }
    }
    found.retain(|(_, id)| count[id] == 1);
    Ok(found.into_iter().map(|(word, _)| word).collect())
}

/// Texts or pairs, and where they come from.
pub(crate) struct Corpus {
    /// A file's name, or what else they are.
    pub(crate) source: String,
    texts: Vec<(String, Option<String>)>,
}

impl Corpus {
    /// Texts of typical lengths.
    pub(crate) fn typical(writer: &mut Writer<'_>) -> Result<Self, Failure> {
        let texts = writer.typical()?;
        Ok(Self {
            source: "built-in lengths".to_owned(),
            texts: texts.into_iter().map(|text| (text, None)).collect(),
        })
    }

    /// The texts of a file with one a line, or of a labelled set; of more than 256, so many
    /// that lie evenly among them.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let in_file = |message: String| Failure::Failed(format!("{}: {message}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| in_file(error.to_string()))?;
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let header = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
        let header = header.strip_suffix(b"\r").unwrap_or(header);
        let texts: Vec<_> = if [&b"text\tlabel"[..], b"text_a\ttext_b\tlabel"].contains(&header) {
            let dataset = Dataset::read(path)?;
            let examples = dataset.examples().iter();
            examples
                .map(|example| (example.first.clone(), example.second.clone()))
                .collect()
        } else {
            let mut texts = Vec::new();
            for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let text = str::from_utf8(line).map_err(|error| {
                    in_file(format!(
                        "line {number}, byte {}: not UTF-8; save the file as UTF-8",
                        error.valid_up_to() + 1
                    ))
                })?;
                if !text.is_empty() {
                    texts.push((text.to_owned(), None));
                }
            }
            texts
        };
        if texts.is_empty() {
            return Err(in_file(
                "no text in it; expected one a line, or a header text<TAB>label".to_owned(),
            ));
        }
        let count = texts.len().min(TYPICAL_TEXTS);
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            source: name.to_string_lossy().into_owned(),
            texts: (0..count)
                .map(|index| texts[index * texts.len() / count].clone())
                .collect(),
        })
    }

    /// What the model is to answer.
    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        self.texts
            .iter()
            .map(|(first, second)| match second {
                None => first.as_str().into(),
                Some(second) => (first.as_str(), second.as_str()).into(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filbert::Model;
    use filbert_convert::Checkpoint;
    use filbert_convert::package::Package;
    use filbert_convert::progress::Quiet;
    use filbert_convert::synthetic::SyntheticCheckpoint;

    fn english() -> Engine {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-sst2");
        let checkpoint = Checkpoint::open(Path::new(folder)).unwrap();
        let package = Package::build(&checkpoint, &mut Quiet).unwrap();
        Engine::new(Model::from_bytes(package.bytes()).unwrap(), 1).unwrap()
    }

    fn synthetic(vocabulary: usize) -> Engine {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = SyntheticCheckpoint {
            vocabulary,
            ..Default::default()
        };
        checkpoint.write(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let package = Package::build(&checkpoint, &mut Quiet).unwrap();
        Engine::new(Model::from_bytes(package.bytes()).unwrap(), 1).unwrap()
    }

    #[test]
    fn texts_have_exact_lengths_and_differ() {
        let engines = [english(), synthetic(100), synthetic(400), synthetic(40)];
        for (engine, words) in engines.iter().zip([80, 18, 100, 26]) {
            let mut writer = Writer::new(engine).unwrap();
            assert!(writer.words.len() >= words, "{:?}", writer.words);
            for tokens in [2, 3, 4, 17, 40] {
                let text = writer.text(tokens).unwrap();
                assert_eq!(engine.tokenize(&text).unwrap().len(), tokens);
                assert!(tokens < 17 || text != writer.text(tokens).unwrap());
            }
        }
        let first = || Writer::new(&engines[0]).unwrap().text(60).unwrap();
        assert_eq!(first(), first());
        assert!(Writer::new(&engines[1]).unwrap().text(41).is_err());
    }

    #[test]
    fn typical_lengths_are_as_stated() {
        let engine = english();
        let texts = Writer::new(&engine).unwrap().typical().unwrap();
        let mut lengths: Vec<_> = texts
            .iter()
            .map(|text| engine.tokenize(text).unwrap().len())
            .collect();
        lengths.sort_unstable();
        assert_eq!(lengths.len(), TYPICAL_TEXTS);
        assert!(
            (18..=22).contains(&lengths[TYPICAL_TEXTS / 2]),
            "{lengths:?}"
        );
        assert!(lengths[0] >= 3 && lengths[TYPICAL_TEXTS - 1] <= TYPICAL_MAX);
        assert!(lengths[TYPICAL_TEXTS * 95 / 100] > 40, "{lengths:?}");
    }

    #[test]
    fn a_corpus_is_lines_or_a_labelled_set() {
        let folder = tempfile::tempdir().unwrap();
        let read = |contents: &str| {
            let path = folder.path().join("texts");
            std::fs::write(&path, contents).unwrap();
            Corpus::read(&path).map(|corpus| corpus.texts).ok()
        };
        let single = |texts: &[&str]| {
            let texts = texts.iter().map(|&text| (text.to_owned(), None));
            Some(texts.collect::<Vec<_>>())
        };
        assert_eq!(read("one\r\n\ntwo\tb\n"), single(&["one", "two\tb"]));
        assert_eq!(read("text\tlabel\none\tX\n"), single(&["one"]));
        let pair = ("a".to_owned(), Some("b".to_owned()));
        assert_eq!(read("text_a\ttext_b\tlabel\na\tb\tX\n"), Some(vec![pair]));
        assert_eq!(read("\n"), None);
        let many: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let texts = read(&many).unwrap();
        assert_eq!(texts.len(), 256);
        assert_eq!(texts[255].0, "996");
    }
}
