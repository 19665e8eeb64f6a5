//! A checkpoint's weights once more, as `torch.save` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Write};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::Error;
use crate::weights::{pytorch, safetensors as stored};

/// What `torch.save` puts the tensors in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A ZIP archive, since PyTorch 1.6.
    Archive,
    /// Pickles and storages one after another, before.
    Legacy,
}

/// Puts `pytorch_model.bin`, or its shards, in the place of a folder's safetensors.
pub fn rewrite(folder: &Path, container: Container) -> Result<(), Error> {
    let index = folder.join(stored::INDEX_FILE_NAME);
    if !index.exists() {
        return rewrite_file(folder, stored::FILE_NAME, pytorch::FILE_NAME, container);
    }
    let read = |path: &Path| fs::read(path).map_err(|error| Error::in_file(path, error));
    let in_index = |error: serde_json::Error| Error::in_file(&index, error);
    let json: Value = serde_json::from_slice(&read(&index)?).map_err(in_index)?;
    let map: BTreeMap<String, String> =
        serde_json::from_value(json["weight_map"].clone()).map_err(in_index)?;
    let renamed = |file: &str| {
        let name = file.replace(".safetensors", ".bin");
        format!("pytorch_{name}")
    };
    let names: BTreeMap<&String, String> = map.values().map(|file| (file, renamed(file))).collect();
    for (old, new) in &names {
        rewrite_file(folder, old, new, container)?;
    }
    let map: BTreeMap<_, _> = map
        .iter()
        .map(|(name, file)| (name, &names[file]))
        .collect();
    let path = folder.join(pytorch::INDEX_FILE_NAME);
    let json = json!({ "weight_map": map }).to_string();
    fs::write(&path, json).map_err(|error| Error::in_file(&path, error))?;
    fs::remove_file(&index).map_err(|error| Error::in_file(&index, error))
}

fn rewrite_file(folder: &Path, old: &str, new: &str, container: Container) -> Result<(), Error> {
    let [old, new] = [old, new].map(|name| folder.join(name));
    let bytes = fs::read(&old).map_err(|error| Error::in_file(&old, error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| Error::in_file(&old, error))?;
    let file = file(&tensors, container).map_err(|error| Error::in_file(&new, error))?;
    fs::write(&new, file).map_err(|error| Error::in_file(&new, error))?;
    fs::remove_file(&old).map_err(|error| Error::in_file(&old, error))
}

/// The file that `torch.save` makes of these tensors.
pub fn file(tensors: &SafeTensors<'_>, container: Container) -> io::Result<Vec<u8>> {
    let mut tensors = tensors.tensors();
    tensors.sort_by(|(left, _), (right, _)| left.cmp(right));
    let state = state_dict(&tensors, container);
    match container {
        Container::Archive => {
            let storages: Vec<&[u8]> = tensors.iter().map(|(_, tensor)| tensor.data()).collect();
            archive(&state, &storages)
        }
        Container::Legacy => Ok([legacy_head(), state, legacy_storages(&tensors)].concat()),
    }
}

/// The pickle of a state dict, whose tensors each have a storage of their own.
fn state_dict(tensors: &[(String, TensorView<'_>)], container: Container) -> Vec<u8> {
    let mut state = Pickle::new();
    state.ordered_dict().mark();
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        state
            .text(name)
            .global("torch._utils", "_rebuild_tensor_v2");
        state.mark().mark().text("storage");
        state.global("torch", storage_class(tensor.dtype()));
        let count = tensor.shape().iter().product();
        state.text(&number.to_string()).text("cpu").integer(count);
        if container == Container::Legacy {
            state.none();
        }
        state.tuple().persistent_id().integer(0);
        state.extents(tensor.shape());
        state.extents(&row_major(tensor.shape()));
        state.boolean(false).ordered_dict().tuple().call();
    }
    state.set_items().end()
}

/// An archive with this pickle, and the bytes of each storage, which are called 0, 1, …
pub fn archive(state: &[u8], storages: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("archive/{name}"), options)?;
        zip.write_all(bytes)
    };
    add("data.pkl", state)?;
    add("byteorder", b"little")?;
    for (number, bytes) in storages.iter().enumerate() {
        add(&format!("data/{number}"), bytes)?;
    }
    add("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// What comes before the pickle of a state dict in the format before PyTorch 1.6.
pub fn legacy_head() -> Vec<u8> {
    let mut system = Pickle::new();
    system.dict().mark().text("little_endian").boolean(true);
    [
        Pickle::new().long(b"l\xfc\x9cF\xf9 j\xa8P\x19").end(),
        Pickle::new().integer(1001).end(),
        system.set_items().end(),
    ]
    .concat()
}

/// What comes after it.
fn legacy_storages(tensors: &[(String, TensorView<'_>)]) -> Vec<u8> {
    let mut keys = Pickle::new();
    keys.list().mark();
    for number in 0..tensors.len() {
        keys.text(&number.to_string());
    }
    let mut bytes = keys.append().end();
    for (_, tensor) in tensors {
        let count: usize = tensor.shape().iter().product();
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(tensor.data());
    }
    bytes
}

fn storage_class(data_type: Dtype) -> &'static str {
    match data_type {
        Dtype::F64 => "DoubleStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        _ => "FloatStorage",
    }
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let inner = (1..=shape.len()).map(|at| shape[at..].iter().product());
    inner.collect()
}

/// The instructions of a pickle of protocol 2, each named after what it makes or does.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    fn add(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn mark(&mut self) -> &mut Self {
        self.add(b"(")
    }

    fn none(&mut self) -> &mut Self {
        self.add(b"N")
    }

    fn boolean(&mut self, value: bool) -> &mut Self {
        self.add(if value { b"\x88" } else { b"\x89" })
    }

    fn integer(&mut self, value: usize) -> &mut Self {
        let value = u32::try_from(value).expect("a small tensor");
        self.add(b"J").add(&value.to_le_bytes())
    }

    fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.add(&[0x8a, bytes.len() as u8]).add(bytes)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        let length = text.len() as u32;
        self.add(b"X")
            .add(&length.to_le_bytes())
            .add(text.as_bytes())
    }

    fn extents(&mut self, extents: &[usize]) -> &mut Self {
        self.mark();
        for &extent in extents {
            self.integer(extent);
        }
        self.tuple()
    }

    fn tuple(&mut self) -> &mut Self {
        self.add(b"t")
    }

    fn list(&mut self) -> &mut Self {
        self.add(b"]")
    }

    fn append(&mut self) -> &mut Self {
        self.add(b"e")
    }

    fn dict(&mut self) -> &mut Self {
        self.add(b"}")
    }

    fn set_items(&mut self) -> &mut Self {
        self.add(b"u")
    }

    fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.add(format!("c{module}\n{name}\n").as_bytes())
    }

    fn call(&mut self) -> &mut Self {
        self.add(b"R")
    }

    fn persistent_id(&mut self) -> &mut Self {
        self.add(b"Q")
    }

    fn ordered_dict(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").add(b")").call()
    }

    fn end(&mut self) -> Vec<u8> {
        self.add(b".");
        std::mem::take(&mut self.0)
    }
}
