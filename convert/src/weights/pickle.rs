//! Python's pickle, as far as a state dict needs it: a machine of a stack and a memo that builds
//! numbers, text, tuples, lists and dicts, and never calls anything.
//!
//! What a pickle may ask Python to call is a closed list, [`Callable`]; anything else is refused
//! by name. The instructions are those that `pickle` of protocols 2 to 5 writes for such
//! objects, after the comments of CPython's `Lib/pickletools.py`. No object is ever larger than
//! what was read for it, and there is no recursion, so that the length of a pickle bounds its
//! memory and its time.

use std::collections::HashMap;

use super::state_dict::{Callable, Storage, TensorView};

/// A state dict of a thousand tensors takes a hundred kilobytes.
const MAX_LENGTH: usize = 16 << 20;

/// What pickles need: an instruction of one byte may make an object of fifty.
const MAX_INSTRUCTIONS: usize = 1 << 20;

/// A Python object. Those that have parts are numbers into the [`Heap`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Text(&'a str),
    Bytes,
    Tuple(usize),
    List(usize),
    Dict(usize),
    Callable(Callable),
    Storage(usize),
    Tensor(usize),
}

impl Object<'_> {
    /// What it is called in an error.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Text(_) => "a string",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Callable(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// The objects that have parts.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    /// Of tuples and lists.
    sequences: Vec<Vec<Object<'a>>>,
    dicts: Vec<Vec<(Object<'a>, Object<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<TensorView>,
}

impl<'a> Heap<'a> {
    /// The items of a tuple or a list.
    pub(super) fn items(&self, object: Object<'a>) -> Option<&[Object<'a>]> {
        match object {
            Object::Tuple(number) | Object::List(number) => Some(&self.sequences[number]),
            _ => None,
        }
    }

    /// The entries of a dict, in the order in which they were set; a key may be set again.
    pub(super) fn entries(&self, object: Object<'a>) -> Option<&[(Object<'a>, Object<'a>)]> {
        match object {
            Object::Dict(number) => Some(&self.dicts[number]),
            _ => None,
        }
    }

    fn add_tuple(&mut self, items: Vec<Object<'a>>) -> Object<'a> {
        self.sequences.push(items);
        Object::Tuple(self.sequences.len() - 1)
    }

    fn add_list(&mut self) -> Object<'a> {
        self.sequences.push(Vec::new());
        Object::List(self.sequences.len() - 1)
    }

    pub(super) fn add_dict(&mut self) -> Object<'a> {
        self.dicts.push(Vec::new());
        Object::Dict(self.dicts.len() - 1)
    }

    pub(super) fn add_storage(&mut self, storage: Storage<'a>) -> Object<'a> {
        self.storages.push(storage);
        Object::Storage(self.storages.len() - 1)
    }

    pub(super) fn add_tensor(&mut self, tensor: TensorView) -> Object<'a> {
        self.tensors.push(tensor);
        Object::Tensor(self.tensors.len() - 1)
    }
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Object<'a>,
    pub(super) heap: Heap<'a>,
    /// Bytes of the pickle.
    pub(super) length: usize,
}

/// Reads the pickle at the beginning of some bytes. An error is a clause about the file.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_LENGTH)],
        position: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
    };
    for _ in 0..MAX_INSTRUCTIONS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle {
                root,
                heap: machine.heap,
                length: machine.position,
            });
        }
    }
    Err(format!(
        "its pickle has more than {MAX_INSTRUCTIONS} instructions, far more than the tensors of \
         a model need"
    ))
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Object<'a>>,
    /// The lengths that the stack had at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Object<'a>>,
    heap: Heap<'a>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; the last gives the result.
    fn step(&mut self) -> Result<Option<Object<'a>>, String> {
        let at = self.position;
        let object = match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => return self.check_protocol(),
            // A frame says how far to read ahead.
            0x95 => return self.number(8).map(|_| None),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            b'0' => return self.pop().map(|_| None),
            b'1' => return self.pop_to_mark().map(|_| None),
            b'2' => self.top()?,
            b'q' => return self.remember(1),
            b'r' => return self.remember(4),
            0x94 => return self.remember_next(),
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,

            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(self.number(1)?.into()),
            b'M' => Object::Int(self.number(2)?.into()),
            b'J' => Object::Int(i128::from(self.number(4)? as u32 as i32)),
            0x8a => self.long()?,
            b'G' => self.take(8).map(|_| Object::Float)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            // Of Python 2, whose strings are bytes.
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'B' => self.skip_bytes(4)?,
            b'C' => self.skip_bytes(1)?,
            0x8e => self.skip_bytes(8)?,

            b')' => self.heap.add_tuple(Vec::new()),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.heap.add_tuple(items)
            }
            b']' => self.heap.add_list(),
            b'}' => self.heap.add_dict(),
            b'a' => {
                let item = self.pop()?;
                return self.append(&[item]);
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                return self.append(&items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.set_items(&[key, value]);
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                return self.set_items(&items);
            }

            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                Object::Callable(Callable::find(module, name)?)
            }
            0x93 => self.named_callable()?,
            b'R' => self.call()?,
            b'Q' => {
                let id = self.pop()?;
                Storage::from_persistent_id(&mut self.heap, id)?
            }
            b'b' => return self.skip_attributes(),
            other => {
                return Err(format!(
                    "its pickle has the instruction {other:#04x} at byte {at}, which tensors do \
                     not need"
                ));
            }
        };
        self.stack.push(object);
        Ok(None)
    }

    fn check_protocol(&mut self) -> Result<Option<Object<'a>>, String> {
        match self.byte()? {
            2..=5 => Ok(None),
            other => Err(format!(
                "its pickle has protocol {other}, but 2 to 5 are read"
            )),
        }
    }

    fn remember(&mut self, size: usize) -> Result<Option<Object<'a>>, String> {
        let number = self.number(size)?;
        let object = self.top()?;
        self.memo.insert(number, object);
        Ok(None)
    }

    fn remember_next(&mut self) -> Result<Option<Object<'a>>, String> {
        let object = self.top()?;
        self.memo.insert(self.memo.len() as u64, object);
        Ok(None)
    }

    fn recall(&mut self, size: usize) -> Result<Object<'a>, String> {
        let number = self.number(size)?;
        self.memo
            .get(&number)
            .copied()
            .ok_or_else(|| format!("its pickle asks for object {number} before it was made"))
    }

    /// An integer in as few bytes as it needs, in two's complement.
    fn long(&mut self) -> Result<Object<'a>, String> {
        let length = self.number(1)? as usize;
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut value = [if negative { 0xff } else { 0 }; 16];
        value
            .get_mut(..length)
            .ok_or_else(|| format!("its pickle has an integer of {length} bytes"))?
            .copy_from_slice(bytes);
        Ok(Object::Int(i128::from_le_bytes(value)))
    }

    fn text(&mut self, size: usize) -> Result<Object<'a>, String> {
        let at = self.position;
        let bytes = self.counted(size)?;
        let text = str::from_utf8(bytes)
            .map_err(|_| format!("its pickle has text at byte {at} that is not UTF-8"))?;
        Ok(Object::Text(text))
    }

    fn skip_bytes(&mut self, size: usize) -> Result<Object<'a>, String> {
        self.counted(size).map(|_| Object::Bytes)
    }

    fn tuple(&mut self, length: usize) -> Result<Object<'a>, String> {
        let start = self.stack.len().checked_sub(length);
        let start = start.filter(|&start| start >= self.floor());
        let items = self.stack.split_off(start.ok_or_else(empty_stack)?);
        Ok(self.heap.add_tuple(items))
    }

    fn append(&mut self, items: &[Object<'a>]) -> Result<Option<Object<'a>>, String> {
        match self.top()? {
            Object::List(number) => {
                self.heap.sequences[number].extend_from_slice(items);
                Ok(None)
            }
            other => Err(format!("its pickle appends to {}", other.kind())),
        }
    }

    /// `items` are keys, each followed by its value.
    fn set_items(&mut self, items: &[Object<'a>]) -> Result<Option<Object<'a>>, String> {
        match self.top()? {
            Object::Dict(number) => {
                let (entries, rest) = items.as_chunks();
                if !rest.is_empty() {
                    return Err("its pickle sets a key without a value".to_owned());
                }
                self.heap.dicts[number].extend(entries.iter().map(|&[key, value]| (key, value)));
                Ok(None)
            }
            other => Err(format!("its pickle sets items of {}", other.kind())),
        }
    }

    fn named_callable(&mut self) -> Result<Object<'a>, String> {
        let name = self.pop()?;
        let module = self.pop()?;
        match (module, name) {
            (Object::Text(module), Object::Text(name)) => {
                Ok(Object::Callable(Callable::find(module, name)?))
            }
            (module, name) => Err(format!(
                "its pickle names a function by {} and {}",
                module.kind(),
                name.kind()
            )),
        }
    }

    fn call(&mut self) -> Result<Object<'a>, String> {
        let arguments = self.pop()?;
        match (self.pop()?, arguments) {
            (Object::Callable(callable), Object::Tuple(_)) => {
                callable.call(&mut self.heap, arguments)
            }
            (other, _) => Err(format!("its pickle calls {}", other.kind())),
        }
    }

    /// A state dict has its modules' versions as an attribute, which changes no tensor.
    fn skip_attributes(&mut self) -> Result<Option<Object<'a>>, String> {
        let attributes = self.pop()?;
        match (self.top()?, attributes) {
            (Object::Dict(_), Object::Dict(_)) => Ok(None),
            (object, _) => Err(format!("its pickle sets attributes of {}", object.kind())),
        }
    }

    /// The stack below the last mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Object<'a>, String> {
        let above = &self.stack[self.floor()..];
        above.last().copied().ok_or_else(empty_stack)
    }

    fn pop(&mut self) -> Result<Object<'a>, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Object<'a>>, String> {
        let mark = self.marks.pop().ok_or_else(empty_stack)?;
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// An unsigned number of at most eight bytes.
    fn number(&mut self, size: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(self.take(size)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Bytes after their number.
    fn counted(&mut self, size: usize) -> Result<&'a [u8], String> {
        let length = self.number(size)?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.unwrap_or(rest.len()))?;
        self.byte()?;
        str::from_utf8(line).map_err(|_| "its pickle has a name that is not UTF-8".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.position..].get(..length);
        let taken = taken.ok_or_else(|| {
            if self.bytes.len() == MAX_LENGTH {
                format!("its pickle is longer than {MAX_LENGTH} bytes")
            } else {
                "its pickle ends too early".to_owned()
            }
        })?;
        self.position += length;
        Ok(taken)
    }
}

fn empty_stack() -> String {
    "its pickle takes an object that was never made".to_owned()
}
