//! What the environment says of the hub, in the variables of Python's `huggingface_hub`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{self, PathBuf};

use crate::Error;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, and where its files are kept.
pub(super) struct Environment {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub(super) endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`, an absolute path.
    pub(super) cache: PathBuf,
    /// `HF_TOKEN`, or what `HF_TOKEN_PATH` or `token` in `HF_HOME` has.
    pub(super) token: Option<String>,
    /// `HF_HUB_OFFLINE`: only the cache is read.
    pub(super) offline: bool,
}

impl Environment {
    pub(super) fn read() -> Result<Self, Error> {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::new(format!(
                "HF_ENDPOINT is {endpoint}, which begins with neither https:// nor http://"
            )));
        }
        let cache = match variable("HF_HUB_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => home()?.join("hub"),
        };
        let cache = path::absolute(&cache).map_err(|error| Error::in_file(&cache, error))?;
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: token()?,
            offline: is_set("HF_HUB_OFFLINE"),
        })
    }
}

/// The folder of all that Hugging Face's libraries keep.
fn home() -> Result<PathBuf, Error> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home.into());
    }
    if let Some(cache) = variable("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(cache).join("huggingface"));
    }
    let home = env::home_dir().ok_or_else(|| {
        Error::new("there is no home folder to keep models in; say where in HF_HOME")
    })?;
    Ok(home.join(".cache/huggingface"))
}

fn token() -> Result<Option<String>, Error> {
    if let Some(token) = text("HF_TOKEN") {
        return Ok(Some(token));
    }
    let path = match variable("HF_TOKEN_PATH") {
        Some(path) => path.into(),
        None => home()?.join("token"),
    };
    // Most people have none.
    let token = fs::read_to_string(path).unwrap_or_default();
    Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty()))
}

fn is_set(name: &str) -> bool {
    text(name).is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        ["1", "true", "yes", "on"].contains(&value.as_str())
    })
}

fn text(name: &str) -> Option<String> {
    let value = variable(name)?.into_string().ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// An empty variable is as good as none.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
