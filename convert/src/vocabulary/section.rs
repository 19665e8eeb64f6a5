//! A tokenizer's settings, as the vocabulary section of a `.filbert` file.

use filbert::format::{self, LONGEST_TOKEN, added_token, limits};

use super::Settings;
use super::trie::Trie;
use crate::error::Error;

impl Settings {
    /// The bytes of the section.
    pub(super) fn section(&self, vocabulary_size: usize) -> Result<Vec<u8>, Error> {
        let too_large = || self.error("the vocabulary is too large for the format");
        let size = |n: usize| u32::try_from(n).map_err(|_| too_large());
        if vocabulary_size > limits::VOCABULARY as usize {
            return Err(too_large());
        }
        self.check_token_lengths()?;
        let trie = Trie::new(&self.tokens);
        let nodes = size(trie.labels.len())?;
        if nodes > limits::NODES {
            return Err(too_large());
        }
        let (records, added_text, added_raw) = self.added_records()?;
        if self.prefix.len() > LONGEST_TOKEN as usize {
            return Err(self.error("model.continuing_subword_prefix is too long"));
        }

        let head = format::Vocabulary {
            tokens: size(self.tokens.len())?,
            nodes,
            added_raw: size(added_raw)?,
            added_normalized: size(records.len() - added_raw)?,
            prefix_text: size(self.prefix.len())?,
            added_text: size(added_text.len())?,
            max_word_chars: u32::try_from(self.max_word_chars).unwrap_or(u32::MAX),
            unknown: self.unknown,
            classification: self.classification,
            separator: self.separator,
            flags: self.normalization.flags(),
            reserved: [0; 5],
        };
        let mut section = bytemuck::bytes_of(&head).to_vec();
        section.extend(trie.degrees.to_bytes());
        section.extend(trie.ends.to_bytes());
        let numbers = trie.starts.iter().chain(&trie.ranks);
        section.extend(numbers.flat_map(|number| number.to_le_bytes()));
        section.extend_from_slice(bytemuck::cast_slice(&records));
        section.extend_from_slice(&trie.labels);
        section.extend_from_slice(&trie.ids);
        section.extend_from_slice(self.prefix.as_bytes());
        section.extend_from_slice(added_text.as_bytes());
        Ok(section)
    }

    /// Tokens that a word can contain must not be longer than the runtime looks.
    fn check_token_lengths(&self) -> Result<(), Error> {
        let most_chars = self
            .max_word_chars
            .saturating_add(self.prefix.chars().count());
        let too_long = |token: &&String| {
            token.len() > LONGEST_TOKEN as usize && token.chars().count() <= most_chars
        };
        match self.tokens.iter().find(too_long) {
            Some(token) => Err(self.error(format!(
                "token {token:?} has {} bytes; supported are at most {LONGEST_TOKEN}",
                token.len()
            ))),
            None => Ok(()),
        }
    }

    /// The records of the added tokens, their text, and how many of them are raw.
    fn added_records(&self) -> Result<(Vec<format::AddedToken>, String, usize), Error> {
        let mut patterns = Vec::new();
        for (&id, token) in &self.added {
            let pattern = if token.normalized {
                self.normalization.normalize(&token.content)?
            } else {
                token.content.clone()
            };
            let content = &token.content;
            if pattern.is_empty() {
                return Err(self.error(format!(
                    "added token {content:?} is empty once normalized, and so would be found \
                     everywhere; remove it, or set its `normalized` to false"
                )));
            }
            if pattern.len() > LONGEST_TOKEN as usize {
                return Err(self.error(format!(
                    "added token {content:?} has {} bytes; supported are at most {LONGEST_TOKEN}",
                    pattern.len()
                )));
            }
            patterns.push((token.normalized, pattern, id, token));
        }
        patterns.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        if let Some(pair) = patterns
            .windows(2)
            .find(|pair| (pair[0].0, &pair[0].1) == (pair[1].0, &pair[1].1))
        {
            return Err(self.error(format!(
                "added tokens {:?} and {:?} are the same once normalized; remove one",
                pair[0].3.content, pair[1].3.content
            )));
        }
        let mut text = String::new();
        let mut records = Vec::new();
        for (_, pattern, id, token) in &patterns {
            let flags = [
                (added_token::SINGLE_WORD, token.single_word),
                (added_token::STRIP_LEFT, token.lstrip),
                (added_token::STRIP_RIGHT, token.rstrip),
            ];
            records.push(format::AddedToken {
                id: *id,
                offset: text.len() as u32,
                length: pattern.len() as u32,
                flags: flags.iter().filter(|flag| flag.1).map(|flag| flag.0).sum(),
            });
            text.push_str(pattern);
        }
        let raw = patterns.iter().filter(|pattern| !pattern.0).count();
        Ok((records, text, raw))
    }
}
