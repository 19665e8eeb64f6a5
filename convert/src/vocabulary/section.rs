//! A tokenizer's settings, as the vocabulary section of a `.filbert` file.

use bytemuck::Zeroable as _;
use filbert::format::{self, LONGEST_TOKEN, VocabularyKind, added_token, id_bytes, limits};

use super::byte_level::ByteLevelBpe;
use super::trie::Trie;
use super::word_piece::WordPiece;
use super::{Model, Settings};
use crate::error::Error;

/// The added tokens as they lie in the section.
struct Added {
    records: Vec<format::AddedToken>,
    text: String,
}

impl Settings {
    /// The bytes of the section.
    pub(super) fn section(&self, vocabulary_size: usize) -> Result<Vec<u8>, Error> {
        if vocabulary_size > limits::VOCABULARY as usize {
            return Err(self.too_large());
        }
        let (records, text, raw) = self.added_records()?;
        let head = format::Vocabulary {
            tokens: self.size(self.tokens.len())?,
            added_raw: self.size(raw)?,
            added_normalized: self.size(records.len() - raw)?,
            added_text: self.size(text.len())?,
            classification: self.classification,
            separator: self.separator,
            ..format::Vocabulary::zeroed()
        };
        let added = Added { records, text };
        match &self.model {
            Model::WordPiece(word_piece) => self.word_piece_section(word_piece, head, &added),
            Model::ByteLevelBpe(bpe) => self.bpe_section(bpe, head, &added),
        }
    }

    fn size(&self, n: usize) -> Result<u32, Error> {
        u32::try_from(n).map_err(|_| self.too_large())
    }

    fn too_large(&self) -> Error {
        self.error("the vocabulary is too large for the format")
    }

    fn word_piece_section(
        &self,
        word_piece: &WordPiece,
        head: format::Vocabulary,
        added: &Added,
    ) -> Result<Vec<u8>, Error> {
        self.check_token_lengths(word_piece)?;
        let trie = Trie::new(&self.tokens);
        let nodes = self.size(trie.labels.len())?;
        if nodes > limits::NODES {
            return Err(self.too_large());
        }
        if word_piece.prefix.len() > LONGEST_TOKEN as usize {
            return Err(self.error("model.continuing_subword_prefix is too long"));
        }
        let head = format::Vocabulary {
            nodes,
            prefix_text: self.size(word_piece.prefix.len())?,
            max_word_chars: u32::try_from(word_piece.max_word_chars).unwrap_or(u32::MAX),
            unknown: word_piece.unknown,
            flags: word_piece.normalization.flags(),
            kind: VocabularyKind::WordPiece as u32,
            ..head
        };
        let mut section = bytemuck::bytes_of(&head).to_vec();
        section.extend(trie.degrees.to_bytes());
        section.extend(trie.ends.to_bytes());
        let numbers = trie.starts.iter().chain(&trie.ranks);
        section.extend(numbers.flat_map(|number| number.to_le_bytes()));
        section.extend_from_slice(bytemuck::cast_slice(&added.records));
        section.extend_from_slice(&trie.labels);
        section.extend_from_slice(&trie.ids);
        section.extend_from_slice(word_piece.prefix.as_bytes());
        section.extend_from_slice(added.text.as_bytes());
        Ok(section)
    }

    fn bpe_section(
        &self,
        bpe: &ByteLevelBpe,
        head: format::Vocabulary,
        added: &Added,
    ) -> Result<Vec<u8>, Error> {
        let merges = self.size(bpe.merges.len())?;
        if merges > limits::MERGES {
            return Err(self.too_large());
        }
        let head = format::Vocabulary {
            flags: bpe.flags,
            kind: VocabularyKind::ByteLevelBpe as u32,
            merges,
            ..head
        };
        let (id_bytes, rank_bytes) = (id_bytes(head.tokens), id_bytes(merges));
        let mut section = bytemuck::bytes_of(&head).to_vec();
        let mut start = 0;
        let mut of_left = bpe.merges.iter().map(|merge| merge.left).peekable();
        for left in 0..head.tokens {
            section.extend_from_slice(&u32::to_le_bytes(start));
            while of_left.next_if_eq(&left).is_some() {
                start += 1;
            }
        }
        section.extend_from_slice(&u32::to_le_bytes(start));
        section.extend_from_slice(bytemuck::cast_slice(&added.records));
        let mut put = |numbers: &mut dyn Iterator<Item = u32>, bytes: usize| {
            section.extend(numbers.flat_map(|number| number.to_le_bytes().into_iter().take(bytes)));
        };
        let merges = bpe.merges.iter();
        put(&mut bpe.bytes.iter().copied(), id_bytes);
        put(&mut merges.clone().map(|merge| merge.right), id_bytes);
        put(&mut merges.clone().map(|merge| merge.made), id_bytes);
        put(&mut merges.map(|merge| merge.rank), rank_bytes);
        section.extend_from_slice(added.text.as_bytes());
        Ok(section)
    }

    /// Tokens that a word can contain must not be longer than the runtime looks.
    fn check_token_lengths(&self, word_piece: &WordPiece) -> Result<(), Error> {
        let most_chars = word_piece
            .max_word_chars
            .saturating_add(word_piece.prefix.chars().count());
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
                self.model.normalize(&token.content)?
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
