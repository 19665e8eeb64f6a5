//! Fetches what a checkpoint needs into the cache that Hugging Face's libraries share.
//!
//! All files are of one commit. The weights come last, and the revision is only then said to be
//! that commit, so that an interrupted fetch is never taken for a whole one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::environment::Environment;
use super::{ModelName, Origin};
use crate::progress::Progress;
use crate::{Error, config, weights};

/// What is fetched beside the weights, where the model has it.
const SMALL_FILES: [&str; 13] = [
    config::FILE_NAME,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "2_Normalize/config.json",
];

/// The folder of a model in the cache, complete, and which model it is.
pub(super) fn fetch(
    name: &ModelName,
    environment: &Environment,
    progress: &mut dyn Progress,
) -> Result<(PathBuf, Origin), Error> {
    let model = Model { name, environment };
    let commit = if environment.offline {
        model.cached_commit().ok_or_else(|| {
            model.error(format_args!(
                "not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it",
                environment.cache.display()
            ))
        })?
    } else {
        match model.fetch_all(progress) {
            Ok(commit) => commit,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Unreachable(why)) => {
                let commit = model.cached_commit().ok_or_else(|| {
                    model.error(format_args!(
                        "cannot reach {}: {why}; the cache {} does not have the model",
                        environment.endpoint,
                        environment.cache.display()
                    ))
                })?;
                progress.note(&format!(
                    "cannot reach {}: {why}; taking hf:{} from the cache",
                    environment.endpoint, name.repository
                ));
                commit
            }
        }
    };
    let folder = model.cache(&commit).pointer_path(&commit);
    let origin = Origin {
        repository: name.repository.clone(),
        commit,
    };
    Ok((folder, origin))
}

enum Failure {
    /// The hub does not answer, so that a copy has to do.
    Unreachable(String),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

struct Model<'a> {
    name: &'a ModelName,
    environment: &'a Environment,
}

impl Model<'_> {
    /// Fetches what the cache lacks. Returns the commit.
    fn fetch_all(&self, progress: &mut dyn Progress) -> Result<String, Failure> {
        let info = self.api(self.revision())?.info();
        let info = info.map_err(|error| self.failure(&error, None))?;
        let commit = info.sha;
        if !is_commit(&commit) {
            let message = format_args!("the hub says that its commit is {commit:?}");
            return Err(self.error(message).into());
        }
        let files: BTreeSet<String> = info.siblings.into_iter().map(|f| f.rfilename).collect();
        self.fetch_files(&commit, &files, progress)?;
        let cache = self.cache(self.revision());
        cache
            .create_ref(&commit)
            .map_err(|error| Error::in_file(cache.pointer_path(&commit).as_path(), error))?;
        Ok(commit)
    }

    fn fetch_files(
        &self,
        commit: &str,
        files: &BTreeSet<String>,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        if !files.contains(config::FILE_NAME) {
            let message = "it has no config.json, so it is no checkpoint of transformers";
            return Err(self.error(message).into());
        }
        let formats = weights::FILE_NAMES;
        let format = formats
            .iter()
            .find(|names| names.iter().any(|&name| files.contains(name)))
            .ok_or_else(|| {
                let names = formats.as_flattened().join(", ");
                self.error(format_args!(
                    "it has none of {names}; one of them holds the weights"
                ))
            })?;
        let fetch = Fetch {
            model: self,
            api: self.api(commit)?,
            folder: self.cache(commit).pointer_path(commit),
        };
        for name in SMALL_FILES {
            if files.contains(name) {
                fetch.file(name, progress)?;
            }
        }
        let [file, index] = *format;
        if files.contains(file) {
            return fetch.file(file, progress);
        }
        fetch.file(index, progress)?;
        for name in weights::read_index(&fetch.folder.join(index))?.into_keys() {
            fetch.file(&name, progress)?;
        }
        Ok(())
    }

    /// The commit that the cache has for the revision.
    fn cached_commit(&self) -> Option<String> {
        let revision = self.revision();
        let cache = self.cache(revision);
        let commit = if is_commit(revision) {
            revision.to_owned()
        } else {
            // Its folder is beside that of the commits.
            let snapshots = cache.pointer_path("");
            let path = snapshots.parent()?.join("refs").join(revision);
            fs::read_to_string(path).ok()?.trim().to_owned()
        };
        let has_config = |commit: &String| {
            is_commit(commit) && cache.pointer_path(commit).join(config::FILE_NAME).exists()
        };
        Some(commit).filter(has_config)
    }

    fn revision(&self) -> &str {
        self.name.revision.as_deref().unwrap_or("main")
    }

    fn repository(&self, revision: &str) -> Repo {
        let name = self.name.repository.clone();
        Repo::with_revision(name, RepoType::Model, revision.to_owned())
    }

    fn cache(&self, revision: &str) -> CacheRepo {
        let cache = Cache::new(self.environment.cache.clone());
        cache.repo(self.repository(revision))
    }

    fn api(&self, revision: &str) -> Result<ApiRepo, Error> {
        let cache = Cache::new(self.environment.cache.clone());
        let builder = ApiBuilder::from_cache(cache)
            .with_endpoint(self.environment.endpoint.clone())
            .with_token(self.environment.token.clone())
            .with_user_agent("filbert", env!("CARGO_PKG_VERSION"));
        let api = builder.build().map_err(|error| self.error(error))?;
        Ok(api.repo(self.repository(revision)))
    }

    /// What an answer means, to the question for a file or for the model.
    fn failure(&self, error: &ApiError, file: Option<&str>) -> Failure {
        let repository = &self.name.repository;
        let what = file.map_or(String::new(), |file| format!("{file}: "));
        let status = match error {
            ApiError::RequestError(error) => match **error {
                ureq::Error::StatusCode(status) => Some(status),
                _ => None,
            },
            _ => None,
        };
        let known = self.environment.token.is_some();
        let message = match (status, error) {
            (Some(401), _) if !known => format!(
                "{what}the hub asks who you are: the model is private or gated, or there is none \
                 of this name; check the name, or set HF_TOKEN to a token of yours (`hf auth \
                 login` keeps one)"
            ),
            (Some(401 | 403), _) => format!(
                "{what}the hub does not give it to the owner of the token; ask for access at \
                 {}/{repository}, or check the token",
                self.environment.endpoint
            ),
            (Some(404), _) if file.is_some() => format!("{what}the hub does not have it"),
            (Some(404), _) => format!(
                "the hub has no such model, or it has no revision {}; check the name",
                self.revision()
            ),
            (Some(status), _) if status < 500 => format!("{what}the hub answers {status}"),
            (None, ApiError::RequestError(error)) if !is_network(error) => {
                format!("{what}{error}")
            }
            (_, ApiError::RequestError(error)) => return Failure::Unreachable(error.to_string()),
            (_, error) => format!("{what}{error}"),
        };
        Failure::Final(self.error(message))
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        let name = self.name;
        let revision = name.revision.as_ref().map(|name| format!("@{name}"));
        let revision = revision.unwrap_or_default();
        Error::new(format!("hf:{}{revision}: {message}", name.repository))
    }
}

/// Whether an error is about the way to the hub, not about what it says.
fn is_network(error: &ureq::Error) -> bool {
    use ureq::Error as E;
    matches!(
        error,
        E::Io(_) | E::Timeout(_) | E::HostNotFound | E::ConnectionFailed | E::Tls(_)
    )
}

/// As Git writes one.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Fetches the files of one commit.
struct Fetch<'a> {
    model: &'a Model<'a>,
    api: ApiRepo,
    /// Where they appear.
    folder: PathBuf,
}

impl Fetch<'_> {
    /// Fetches a file unless the cache has it.
    fn file(&self, name: &str, progress: &mut dyn Progress) -> Result<(), Failure> {
        let path = self.folder.join(name);
        if path.exists() {
            return Ok(());
        }
        let mut expected = 0;
        let bar = Bar {
            progress,
            expected: &mut expected,
        };
        let fetched = self.api.download_with_progress(name, bar);
        let fetched = fetched.map_err(|error| self.model.failure(&error, Some(name)))?;
        if fetched != path {
            let message = format_args!("{name}: the hub gave it for another commit");
            return Err(self.model.error(message).into());
        }
        check_length(&path, expected).map_err(|length| {
            self.model.error(format_args!(
                "{name}: fetched {length} bytes of {expected}; try again"
            ))
        })?;
        Ok(())
    }
}

/// Removes a file that does not have the length that the hub told. Returns its length.
fn check_length(path: &Path, expected: u64) -> Result<(), u64> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length == expected {
        return Ok(());
    }
    if let Ok(blob) = fs::canonicalize(path) {
        // The error is told, whether or not the file can be removed.
        let _ = fs::remove_file(blob);
    }
    let _ = fs::remove_file(path);
    Err(length)
}

/// Tells of one file.
struct Bar<'a> {
    progress: &'a mut dyn Progress,
    /// Bytes of the file.
    expected: &'a mut u64,
}

impl hf_hub::api::Progress for Bar<'_> {
    fn init(&mut self, size: usize, name: &str) {
        *self.expected = size as u64;
        self.progress
            .begin(&format!("fetching {name}"), size as u64);
    }

    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }

    fn finish(&mut self) {
        self.progress.finish();
    }
}
