//! What the pickle of a state dict consists of: names, and tensors that are views of storages.
//!
//! The functions are those of PyTorch's `torch/_utils.py`, and the persistent ids those of
//! `torch/serialization.py`.

use std::collections::BTreeMap;

use super::DataType;
use super::pickle::{Heap, Object, Pickle};

/// No parameter of a model has more than four dimensions.
const MAX_DIMENSIONS: usize = 8;

/// What a pickle may ask Python to call, or name as the type of a storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StorageType),
}

/// What a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StorageType {
    /// As safetensors call it.
    pub(super) name: &'static str,
    /// Bytes of one value.
    pub(super) size: usize,
    pub(super) data_type: Option<DataType>,
}

/// The storage classes of `torch`, and what they hold.
const STORAGE_TYPES: [(&str, StorageType); 12] = [
    ("DoubleStorage", read("F64", DataType::F64)),
    ("FloatStorage", read("F32", DataType::F32)),
    ("HalfStorage", read("F16", DataType::F16)),
    ("BFloat16Storage", read("BF16", DataType::BF16)),
    ("LongStorage", other("I64", 8)),
    ("IntStorage", other("I32", 4)),
    ("ShortStorage", other("I16", 2)),
    ("CharStorage", other("I8", 1)),
    ("ByteStorage", other("U8", 1)),
    ("BoolStorage", other("BOOL", 1)),
    ("ComplexFloatStorage", other("C64", 8)),
    ("ComplexDoubleStorage", other("C128", 16)),
];

const fn read(name: &'static str, data_type: DataType) -> StorageType {
    StorageType {
        name,
        size: data_type.size(),
        data_type: Some(data_type),
    }
}

const fn other(name: &'static str, size: usize) -> StorageType {
    StorageType {
        name,
        size,
        data_type: None,
    }
}

/// A run of values that tensors are views of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) storage_type: StorageType,
    /// By which the file has it.
    pub(super) key: &'a str,
    /// Values, not bytes.
    pub(super) length: usize,
}

/// A view of a storage, as numbers of values. It does not leave the storage.
#[derive(Clone, Debug)]
pub(super) struct TensorView {
    /// In the heap.
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Callable {
    /// What a pickle means by a name.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, String> {
        match (module, name) {
            ("collections", "OrderedDict") => return Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                return Ok(Self::RebuildTensor);
            }
            ("torch._utils", "_rebuild_parameter") => return Ok(Self::RebuildParameter),
            ("torch", _) => {
                let storage = STORAGE_TYPES.iter().find(|(class, _)| *class == name);
                if let Some((_, storage_type)) = storage {
                    return Ok(Self::Storage(*storage_type));
                }
            }
            _ => {}
        }
        Err(format!(
            "asks Python to call {module}.{name}, so it holds more than tensors; nothing in it \
             was run. If you trust its source, save the weights alone, in Python: \
             torch.save(model.state_dict(), \"pytorch_model.bin\"), or \
             model.save_pretrained(folder) for safetensors"
        ))
    }

    /// Makes what Python would return; the arguments are a tuple.
    pub(super) fn call<'a>(
        self,
        heap: &mut Heap<'a>,
        arguments: Object<'a>,
    ) -> Result<Object<'a>, String> {
        let given = heap.items(arguments).unwrap_or_default();
        match (self, given) {
            (Self::OrderedDict, []) => Ok(heap.add_dict()),
            (
                Self::RebuildTensor,
                &[
                    Object::Storage(storage),
                    Object::Int(offset),
                    size @ Object::Tuple(_),
                    stride @ Object::Tuple(_),
                    ..,
                ],
            ) => {
                let tensor = TensorView::check(heap, storage, offset, size, stride)?;
                Ok(heap.add_tensor(tensor))
            }
            (Self::RebuildParameter, &[tensor @ Object::Tensor(_), ..]) => Ok(tensor),
            _ => Err(format!(
                "its pickle calls {self:?} with other arguments than PyTorch does"
            )),
        }
    }
}

impl<'a> Storage<'a> {
    /// The storage that a persistent id names: `("storage", type, key, device, length)`, to which
    /// the format before PyTorch 1.6 adds a view, long unused.
    pub(super) fn from_persistent_id(
        heap: &mut Heap<'a>,
        id: Object<'a>,
    ) -> Result<Object<'a>, String> {
        let items = heap.items(id).unwrap_or_default();
        let storage = match *items {
            [
                Object::Text("storage"),
                Object::Callable(Callable::Storage(storage_type)),
                Object::Text(key),
                Object::Text(_),
                Object::Int(length),
                ref view @ ..,
            ] if matches!(view, [] | [Object::None]) => Self {
                storage_type,
                key,
                length: usize::try_from(length)
                    .map_err(|_| format!("its storage {key} has the length {length}"))?,
            },
            _ => {
                return Err(
                    "its pickle refers to something other than a whole storage of numbers"
                        .to_owned(),
                );
            }
        };
        Ok(heap.add_storage(storage))
    }
}

impl TensorView {
    fn check<'a>(
        heap: &Heap<'a>,
        storage: usize,
        offset: i128,
        size: Object<'a>,
        stride: Object<'a>,
    ) -> Result<Self, String> {
        let shape = extents(heap, size)?;
        let strides = extents(heap, stride)?;
        let invalid = || {
            format!(
                "has a tensor of shape {shape:?} with strides {strides:?} at value {offset} of \
                 a storage of {} values, which does not hold it",
                heap.storages[storage].length
            )
        };
        let offset = usize::try_from(offset).map_err(|_| invalid())?;
        if shape.len() != strides.len() {
            return Err(invalid());
        }
        let span = span(&shape, &strides).ok_or_else(invalid)?;
        let end = offset.checked_add(span).ok_or_else(invalid)?;
        if end > heap.storages[storage].length {
            return Err(invalid());
        }
        Ok(Self {
            storage,
            offset,
            shape,
            strides,
        })
    }
}

/// How many values of the storage a view reaches over.
pub(super) fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let steps = shape.iter().zip(strides);
    steps
        .into_iter()
        .try_fold(1_usize, |span, (extent, stride)| {
            span.checked_add((extent - 1).checked_mul(*stride)?)
        })
}

fn extents<'a>(heap: &Heap<'a>, tuple: Object<'a>) -> Result<Vec<usize>, String> {
    let items = heap.items(tuple).unwrap_or_default();
    if items.len() > MAX_DIMENSIONS {
        return Err(format!("has a tensor of {} dimensions", items.len()));
    }
    let extent = |item: &Object<'a>| match *item {
        Object::Int(extent) => usize::try_from(extent).ok(),
        _ => None,
    };
    let extents: Option<_> = items.iter().map(extent).collect();
    extents.ok_or_else(|| "has a tensor whose shape is not made of numbers".to_owned())
}

/// The tensors of a state dict, by name.
pub(super) fn tensors<'a>(pickle: &Pickle<'a>) -> Result<BTreeMap<&'a str, usize>, String> {
    let entries = pickle.heap.entries(pickle.root).ok_or_else(|| {
        format!(
            "holds {}, not a dict of tensors; {SAVE_STATE_DICT}",
            pickle.root.kind()
        )
    })?;
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        match (key, value) {
            // Set again, a key has the last value.
            (Object::Text(name), Object::Tensor(number)) => tensors.insert(name, number),
            (Object::Text(name), other) => {
                return Err(format!(
                    "its entry {name:?} is {}, not a tensor, as in a checkpoint of a training; \
                     {SAVE_STATE_DICT}",
                    other.kind()
                ));
            }
            (other, _) => {
                return Err(format!(
                    "names a tensor by {}, not by a string; {SAVE_STATE_DICT}",
                    other.kind()
                ));
            }
        };
    }
    Ok(tensors)
}

/// What to do about files that are more or other than a state dict.
pub(super) const SAVE_STATE_DICT: &str = "save the weights alone, in Python: \
    torch.save(model.state_dict(), \"pytorch_model.bin\")";
