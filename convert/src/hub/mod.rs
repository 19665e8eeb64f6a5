//! Checkpoints by name: a folder, or `hf:org/name` on the Hugging Face hub.

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod environment;

use std::path::Path;

use crate::progress::Progress;
use crate::{Checkpoint, Error};

/// What the name of a model on the hub begins with, so that it cannot be mistaken for a folder.
const PREFIX: &str = "hf:";

/// A model on the hub, as people name it: `hf:org/name`, `hf:org/name@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `org/name`, or only `name` for a few old models.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
}

/// The exact model on the hub that a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `org/name`.
    pub repository: String,
    /// The commit's hash in hexadecimal digits.
    pub commit: String,
}

impl ModelName {
    /// The name that a source is, if it is not a folder.
    pub fn parse(source: &Path) -> Option<Result<Self, Error>> {
        let name = source.to_str()?.strip_prefix(PREFIX)?;
        let (repository, revision) = match name.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (name, None),
        };
        let valid = (1..=2).contains(&repository.split('/').count())
            && is_path(repository)
            && revision.is_none_or(is_path);
        Some(if valid {
            Ok(Self {
                repository: repository.to_owned(),
                revision: revision.map(str::to_owned),
            })
        } else {
            Err(Error::in_file(
                source,
                "not the name of a model on the Hugging Face hub; those are hf:organization/name, \
                 or hf:organization/name@revision",
            ))
        })
    }
}

/// Whether a text is made of what the hub allows in names and Git in revisions, and so can
/// neither leave a folder nor change the meaning of an address.
fn is_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("..")
            && part.bytes().all(allowed)
    })
}

/// Opens a checkpoint, from a folder or from the hub. What the hub's cache lacks is fetched.
pub fn open(source: &Path, progress: &mut dyn Progress) -> Result<Checkpoint, Error> {
    match ModelName::parse(source) {
        None => Checkpoint::open(source),
        Some(name) => open_model(&name?, progress),
    }
}

#[cfg(feature = "hub")]
fn open_model(name: &ModelName, progress: &mut dyn Progress) -> Result<Checkpoint, Error> {
    let environment = environment::Environment::read()?;
    let (folder, origin) = client::fetch(name, &environment, progress)?;
    Ok(Checkpoint::open(&folder)?.with_origin(origin))
}

#[cfg(not(feature = "hub"))]
fn open_model(name: &ModelName, _: &mut dyn Progress) -> Result<Checkpoint, Error> {
    Err(Error::new(format!(
        "hf:{0}: this build does not fetch from the Hugging Face hub; download the model, for \
         example with `hf download {0} --local-dir FOLDER`, and give its folder",
        name.repository
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let parse = |source: &str| ModelName::parse(Path::new(source));
        let name = |repository: &str, revision: Option<&str>| ModelName {
            repository: repository.to_owned(),
            revision: revision.map(str::to_owned),
        };
        for (source, expected) in [
            ("hf:org/name-1.0_x", name("org/name-1.0_x", None)),
            ("hf:bert-base", name("bert-base", None)),
            ("hf:org/name@v1.0", name("org/name", Some("v1.0"))),
            ("hf:org/name@refs/pr/1", name("org/name", Some("refs/pr/1"))),
        ] {
            assert_eq!(parse(source).unwrap().unwrap(), expected);
        }
        for folder in ["org/name", "./hf:org/name", "models/tiny-sst2"] {
            assert!(parse(folder).is_none(), "{folder}");
        }
        for wrong in [
            "hf:",
            "hf:a/b/c",
            "hf:a//b",
            "hf:/a",
            "hf:../a",
            "hf:a/..",
            "hf:a/b?x",
            "hf:a b/c",
            "hf:a/b@",
            "hf:a/b@../../x",
            "hf:a/b@x y",
            "hf:a/b@x@y",
            "hf:https://huggingface.co/a/b",
        ] {
            let error = parse(wrong).unwrap().unwrap_err().to_string();
            assert!(error.contains("hf:organization/name"), "{error}");
        }
    }
}
