//! A folder without `tokenizer.json`: which tokens it names, and as what.

use std::collections::BTreeMap;
use std::path::Path;

use super::json::{AddedTokenJson, Config, SpecialTokens, TokenJson, read_json};
use super::{ADDED_TOKENS, CONFIG, Settings, TOKENIZER, unsupported};
use crate::error::Error;

/// What a special token is for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Beginning,
    End,
    Unknown,
    Separator,
    Padding,
    Classification,
    Mask,
}

impl SpecialTokens {
    /// The token of a role, if it is named.
    pub(super) fn token(&self, role: Role) -> Option<&TokenJson> {
        match role {
            Role::Beginning => &self.bos_token,
            Role::End => &self.eos_token,
            Role::Unknown => &self.unk_token,
            Role::Separator => &self.sep_token,
            Role::Padding => &self.pad_token,
            Role::Classification => &self.cls_token,
            Role::Mask => &self.mask_token,
        }
        .as_ref()
    }
}

/// The settings beside the vocabulary.
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    pub(super) config: &'a Config,
    /// `special_tokens_map.json`.
    pub(super) map: &'a SpecialTokens,
}

impl Folder<'_> {
    /// Checks that the vocabulary's files alone say what the class of tokenizer does.
    pub(super) fn check_class(&self, families: &[&str], supported: &str) -> Result<(), Error> {
        let Some(class) = self.config.tokenizer_class.as_deref() else {
            return Ok(());
        };
        let family = class.trim_end_matches("Fast").trim_end_matches("Tokenizer");
        if families.contains(&family) {
            return Ok(());
        }
        Err(unsupported(
            &self.path.join(CONFIG),
            "tokenizer_class",
            format!("\"{class}\" without {TOKENIZER}"),
            &format!("{supported}, or a {TOKENIZER}"),
        ))
    }

    /// Whether a file names the token of a role.
    pub(super) fn names(&self, role: Role) -> bool {
        self.named(role).is_some()
    }

    fn named(&self, role: Role) -> Option<&TokenJson> {
        let of_config = self.config.special.token(role);
        of_config.or_else(|| self.map.token(role))
    }

    /// The token of a role, as it is named or by default.
    pub(super) fn token(&self, role: Role, default: &str) -> AddedTokenJson {
        let default = || TokenJson::Text(default.to_owned());
        self.named(role)
            .cloned()
            .unwrap_or_else(default)
            .into_added()
    }

    /// Whether the token of a role is named with its properties.
    pub(super) fn describes(&self, role: Role) -> bool {
        matches!(self.named(role), Some(TokenJson::Token(_)))
    }

    /// Adds the tokens that the folder lists, and then these and other special ones, but for
    /// those that it lists.
    pub(super) fn add(
        &self,
        mut special: Vec<AddedTokenJson>,
        settings: &mut Settings,
    ) -> Result<(), Error> {
        let decoder = &self.config.added_tokens_decoder;
        let legacy: Option<BTreeMap<String, u32>> = read_json(&self.path.join(ADDED_TOKENS))?;
        if decoder.is_none() && legacy.is_some_and(|map| !map.is_empty()) {
            return Err(Error::in_file(
                &self.path.join(ADDED_TOKENS),
                format!(
                    "does not say how its tokens match; load the tokenizer in transformers and \
                     save it again, which writes {TOKENIZER}"
                ),
            ));
        }
        let listed = decoder.iter().flatten();
        let mut added: Vec<_> = listed
            .map(|(&id, token)| AddedTokenJson {
                id: Some(id),
                ..token.clone()
            })
            .collect();
        let additional = &self.config.special.additional_special_tokens;
        let additional = additional
            .as_ref()
            .or(self.map.additional_special_tokens.as_ref());
        let additional = additional.into_iter().flatten().cloned();
        special.extend(additional.map(TokenJson::into_added));
        for token in special {
            if !added.iter().any(|known| known.content == token.content) {
                added.push(token);
            }
        }
        for (token, id) in settings.add(added) {
            if token.id.is_some_and(|stated| stated != id) {
                return Err(Error::in_file(
                    &self.path.join(CONFIG),
                    format!(
                        "added_tokens_decoder: {:?} has another id than in the vocabulary ({id})",
                        token.content
                    ),
                ));
            }
        }
        Ok(())
    }
}
