//! Checkpoints by their names on the Hugging Face hub, which here is a server of this test's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use filbert_convert::synthetic::SyntheticCheckpoint;
use filbert_convert::synthetic::pytorch::{Container, rewrite};
use serde_json::json;
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// A hub with one model, `org/tiny`.
#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// Asked for before anything is given.
    token: Option<&'static str>,
    /// Files are given to nobody.
    gated: bool,
    /// Ends the body of this file in the middle, once.
    cut: Option<&'static str>,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    path: String,
    authorization: Option<String>,
    /// The first byte that is asked for, and whether all after it are.
    range: Option<(usize, bool)>,
}

/// A hub that answers.
struct Server {
    address: String,
    hub: Arc<Mutex<Hub>>,
}

impl Server {
    fn start(hub: Hub) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Arc::new(Mutex::new(hub));
        let server = Self {
            address: address.clone(),
            hub: Arc::clone(&hub),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let answer = hub.lock().unwrap().answer(&address, request);
                // The client may have gone.
                let _ = (&stream).write_all(&answer);
            }
        });
        server
    }

    /// What was asked since the last time.
    fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.hub.lock().unwrap().requests)
    }

    fn paths(&self) -> Vec<String> {
        let requests = self.requests();
        requests.into_iter().map(|request| request.path).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut request = Request {
        path,
        authorization: None,
        range: None,
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((first.parse().ok()?, last.is_empty()));
            }
            _ => {}
        }
    }
    Some(request)
}

impl Hub {
    fn with(checkpoint: &Path) -> Self {
        let files = fs::read_dir(checkpoint).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        });
        let mut files: BTreeMap<_, _> = files.collect();
        for other in ["README.md", "tf_model.h5", "onnx/model.onnx"] {
            files.insert(other.to_owned(), b"not needed".to_vec());
        }
        Self {
            files,
            ..Self::default()
        }
    }

    /// The answer to a request, as bytes of HTTP.
    fn answer(&mut self, address: &str, request: Request) -> Vec<u8> {
        self.requests.push(request.clone());
        let expected = self.token.map(|token| format!("Bearer {token}"));
        if expected.is_some() && request.authorization != expected {
            return response("401 Unauthorized", &[], b"", 0);
        }
        let model = "/api/models/org/tiny/revision/";
        if let Some(revision) = request.path.strip_prefix(model) {
            if !["main", COMMIT].contains(&revision) {
                return response("404 Not Found", &[], b"", 0);
            }
            let names = self.files.keys().map(|name| json!({"rfilename": name}));
            let body = json!({"sha": COMMIT, "siblings": names.collect::<Vec<_>>()}).to_string();
            return response("200 OK", &[], body.as_bytes(), body.len());
        }
        let resolve = format!("/org/tiny/resolve/{COMMIT}/");
        if let Some(name) = request.path.strip_prefix(&resolve) {
            if self.gated {
                return response("403 Forbidden", &[], b"", 0);
            }
            // Large files lie elsewhere, and so does what is asked for on the way there.
            if name.ends_with(".safetensors") || name.ends_with(".bin") {
                let headers = [
                    format!("Location: {address}/storage/{name}"),
                    format!("X-Repo-Commit: {COMMIT}"),
                    format!("X-Linked-ETag: \"{}\"", etag(name)),
                ];
                return response("302 Found", &headers, b"", 0);
            }
            return self.file(name, &request);
        }
        match request.path.strip_prefix("/storage/") {
            Some(name) => self.file(name, &request),
            None => response("404 Not Found", &[], b"", 0),
        }
    }

    fn file(&mut self, name: &str, request: &Request) -> Vec<u8> {
        let Some(content) = self.files.get(name) else {
            return response("404 Not Found", &[], b"", 0);
        };
        let (first, to_end) = request.range.unwrap_or((0, true));
        let end = if to_end { content.len() } else { first + 1 };
        let body = &content[first..end];
        let headers = [
            format!("Content-Range: bytes {first}-{}/{}", end - 1, content.len()),
            format!("X-Repo-Commit: {COMMIT}"),
            format!("ETag: \"{}\"", etag(name)),
        ];
        if to_end && self.cut == Some(name) {
            self.cut = None;
            return response(
                "206 Partial Content",
                &headers,
                &body[..body.len() / 2],
                body.len(),
            );
        }
        response("206 Partial Content", &headers, body, body.len())
    }
}

/// Of a file, since names are the contents here.
fn etag(name: &str) -> String {
    name.replace(['/', '.'], "-")
}

fn response(status: &str, headers: &[String], body: &[u8], length: usize) -> Vec<u8> {
    let mut head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for header in headers {
        head += header;
        head += "\r\n";
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

/// A folder with a cache, and where files are written.
struct Home(TempDir);

struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs the command with the hub at this address, and these variables.
    fn run(&self, endpoint: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filbert"));
        for name in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        let output = command
            .args(arguments)
            .env("HF_HOME", self.path("home"))
            .env("HF_ENDPOINT", endpoint)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Converts a model. Returns the bytes of the file, and what the command noted.
    #[track_caller]
    fn convert(&self, endpoint: &str, variables: &[(&str, &str)], name: &str) -> (Vec<u8>, String) {
        let path = self.path("out.filbert");
        let run = self.run(endpoint, variables, &["convert", name, "-o", &path]);
        assert_eq!(run.code, 0, "{}", run.err);
        (fs::read(path).unwrap(), run.err)
    }

    /// The message with which converting a model fails; nothing is written.
    #[track_caller]
    fn refuse(&self, endpoint: &str, variables: &[(&str, &str)], name: &str, parts: &[&str]) {
        let path = self.path("refused.filbert");
        let run = self.run(endpoint, variables, &["convert", name, "-o", &path]);
        assert_eq!(run.code, 1, "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        for part in parts {
            assert!(run.err.contains(part), "{part:?} is not in {:?}", run.err);
        }
        assert!(!Path::new(&path).exists());
    }
}

fn checkpoint(shards: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticCheckpoint {
        shards,
        ..SyntheticCheckpoint::default()
    };
    synthetic.write(folder.path()).unwrap();
    folder
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|at| at == part.as_bytes())
}

/// An address where nobody answers.
fn nobody() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn models_are_fetched_once_and_give_the_same_bytes_ever_after() {
    let checkpoint = checkpoint(1);
    let server = Server::start(Hub::with(checkpoint.path()));
    let home = Home::new();

    let (first, noted) = home.convert(&server.address, &[], "hf:org/tiny");
    assert_eq!(noted, "");
    let origin = format!(r#""hub":{{"commit":"{COMMIT}","model":"org/tiny"}}"#);
    assert!(contains(&first, &origin));
    assert!(!contains(&first, "127.0.0.1"));
    let paths = server.paths();
    let asked = |name: &str| paths.iter().any(|path| path.ends_with(name));
    for name in [
        "config.json",
        "vocab.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "storage/model.safetensors",
    ] {
        assert!(asked(name), "{name} of {paths:?}");
    }
    for name in ["README.md", "tf_model.h5", "model.onnx"] {
        assert!(!asked(name), "{name}");
    }

    // Where the libraries of Hugging Face look for it.
    let model = home.path("home/hub/models--org--tiny");
    let snapshot = format!("{model}/snapshots/{COMMIT}");
    assert_eq!(
        fs::read_to_string(format!("{model}/refs/main")).unwrap(),
        COMMIT
    );
    for name in ["config.json", "model.safetensors"] {
        let [left, right] = [Path::new(&snapshot), checkpoint.path()]
            .map(|folder| fs::read(folder.join(name)).unwrap());
        assert_eq!(left, right, "{name}");
    }

    let (again, noted) = home.convert(&server.address, &[], "hf:org/tiny");
    assert_eq!(noted, "");
    assert_eq!(server.paths(), ["/api/models/org/tiny/revision/main"]);
    let pinned = format!("hf:org/tiny@{COMMIT}");
    let (pinned, _) = home.convert(&server.address, &[], &pinned);
    server.requests();

    let gone = nobody();
    let (alone, noted) = home.convert(&gone, &[], "hf:org/tiny");
    assert!(noted.contains("cannot reach") && noted.contains("from the cache"));
    let offline = [("HF_HUB_OFFLINE", "1")];
    let (offline, noted) = home.convert(&server.address, &offline, "hf:org/tiny");
    assert_eq!(noted, "");
    assert!(server.requests().is_empty());
    for other in [again, pinned, alone, offline] {
        assert!(other == first);
    }
}

#[test]
fn other_commands_take_names_too() {
    let checkpoint = checkpoint(1);
    let server = Server::start(Hub::with(checkpoint.path()));
    let home = Home::new();
    let classify = ["classify", "hf:org/tiny", "word1 word2"];
    let run = home.run(&server.address, &[], &classify);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("label "), "{}", run.out);
    assert!(
        run.err.contains("hf:org/tiny is a checkpoint"),
        "{}",
        run.err
    );
    let texts = home.path("texts.tsv");
    fs::write(&texts, "text\tlabel\nword1 word2\tlabel 0\n").unwrap();
    let eval = ["eval", "hf:org/tiny", &texts, "--reference", "hf:org/tiny"];
    let run = home.run(&server.address, &[], &eval);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("float32"), "{}", run.out);
    for command in ["inspect", "verify", "selftest"] {
        let run = home.run(&server.address, &[], &[command, "hf:org/tiny"]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains("`filbert convert hf:org/tiny -o FILE`"));
    }
}

#[test]
fn shards_and_files_of_pytorch_are_fetched() {
    for container in [None, Some(Container::Archive)] {
        let checkpoint = checkpoint(3);
        if let Some(container) = container {
            rewrite(checkpoint.path(), container).unwrap();
        }
        let mut hub = Hub::with(checkpoint.path());
        // The index does not name it.
        hub.files.insert("optimizer.bin".to_owned(), vec![0; 10]);
        let server = Server::start(hub);
        let home = Home::new();
        home.convert(&server.address, &[], "hf:org/tiny");
        let paths = server.paths();
        let stored = |path: &&String| path.starts_with("/storage/") && path.contains("-of-00003.");
        // Each is asked for its length, then for its bytes.
        assert_eq!(paths.iter().filter(stored).count(), 6, "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains("optimizer")));
    }
}

#[test]
fn tokens_are_sent_and_asked_for() {
    let checkpoint = checkpoint(1);
    let mut hub = Hub::with(checkpoint.path());
    hub.token = Some(TOKEN);
    let server = Server::start(hub);
    let home = Home::new();
    home.refuse(&server.address, &[], "hf:org/tiny", &["HF_TOKEN", "gated"]);
    let wrong = [("HF_TOKEN", "hf_wrong")];
    home.refuse(&server.address, &wrong, "hf:org/tiny", &["check the token"]);
    server.requests();

    let (_, noted) = home.convert(&server.address, &[("HF_TOKEN", TOKEN)], "hf:org/tiny");
    assert_eq!(noted, "");
    let bearer = format!("Bearer {TOKEN}");
    for request in server.requests() {
        assert_eq!(request.authorization.as_ref(), Some(&bearer), "{request:?}");
    }
    // As `hf auth login` keeps it.
    let home = Home::new();
    fs::create_dir(home.path("home")).unwrap();
    fs::write(home.path("home/token"), format!("{TOKEN}\n")).unwrap();
    home.convert(&server.address, &[], "hf:org/tiny");
    let other = home.path("other-token");
    fs::rename(home.path("home/token"), &other).unwrap();
    home.convert(&server.address, &[("HF_TOKEN_PATH", &other)], "hf:org/tiny");
}

#[test]
fn what_is_wrong_is_told() {
    let home = Home::new();
    let folder = checkpoint(1);
    let server = Server::start(Hub::with(folder.path()));
    let address = &server.address;
    home.refuse(
        address,
        &[],
        "hf:org/other",
        &["hf:org/other", "no such model"],
    );
    home.refuse(address, &[], "hf:org/tiny@v9", &["@v9", "no revision v9"]);
    home.refuse(address, &[], "hf:org tiny", &["hf:organization/name"]);
    let offline = [("HF_HUB_OFFLINE", "1")];
    home.refuse(address, &offline, "hf:org/tiny", &["HF_HUB_OFFLINE"]);
    let gone = nobody();
    home.refuse(&gone, &[], "hf:org/tiny", &["cannot reach", &gone]);
    home.refuse("huggingface.co", &[], "hf:org/tiny", &["HF_ENDPOINT"]);

    let mut hub = Hub::with(folder.path());
    hub.gated = true;
    let gated = Server::start(hub);
    let parts = ["config.json", "ask for access at", "/org/tiny"];
    home.refuse(&gated.address, &[], "hf:org/tiny", &parts);

    for (file, part) in [
        ("config.json", "no config.json"),
        ("model.safetensors", "has none of model.safetensors"),
    ] {
        let mut hub = Hub::with(folder.path());
        hub.files.remove(file);
        let server = Server::start(hub);
        home.refuse(&server.address, &[], "hf:org/tiny", &["hf:org/tiny", part]);
    }

    let folder = checkpoint(2);
    let mut hub = Hub::with(folder.path());
    hub.files.remove("model-00002-of-00002.safetensors");
    let server = Server::start(hub);
    let parts = ["model-00002-of-00002.safetensors", "does not have it"];
    Home::new().refuse(&server.address, &[], "hf:org/tiny", &parts);
}

#[test]
fn an_interrupted_fetch_is_continued_and_never_taken_for_a_whole_one() {
    let checkpoint = checkpoint(1);
    let (expected, _) = {
        let server = Server::start(Hub::with(checkpoint.path()));
        Home::new().convert(&server.address, &[], "hf:org/tiny")
    };
    let mut hub = Hub::with(checkpoint.path());
    hub.cut = Some("model.safetensors");
    let length = hub.files["model.safetensors"].len();
    let server = Server::start(hub);
    let home = Home::new();
    home.refuse(&server.address, &[], "hf:org/tiny", &["model.safetensors"]);
    let offline = [("HF_HUB_OFFLINE", "1")];
    home.refuse(
        &server.address,
        &offline,
        "hf:org/tiny",
        &["not in the cache"],
    );
    server.requests();
    let (file, _) = home.convert(&server.address, &[], "hf:org/tiny");
    assert!(file == expected);
    let continued = |request: &Request| request.range == Some((length / 2, true));
    assert!(server.requests().iter().any(continued));
}
