//! From bytes to a checked [`Model`]: the only parser, and the only map.
//!
//! Nothing is copied. Everything but the weights' bytes is checked at open, so that holding a
//! `Model` is the proof that every offset, size and id in it is sound, and that no value
//! computed from it can leave the range of `f32`: see [`Model::check_range`].

mod frame;
mod range;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytemuck::{Pod, Zeroable, from_bytes, try_cast_slice};
use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, ErrorCode};
use crate::format::{
    self, Activation, Columns, Head, Labels, LinearShape, NO_TEXT, PANEL, Problem, Section,
    SectionKind, SelfTest, SelfTestCase, Shape, Tensor, TensorKind, padded,
};
use crate::kernels::PanelCheck;
use crate::tokenizer::{Tokenizer, VocabularyLayout};
use frame::{check_checksum, check_header, check_sections, check_shape, check_tensors};

/// A `.filbert` file, open and checked.
#[derive(Debug)]
pub struct Model {
    storage: Storage,
    shape: Shape,
    activation: Activation,
    head_activation: Activation,
    problem: Problem,
    head: Head,
    /// Balanced inputs are rotated.
    rotates: bool,
    version: (u16, u16),
    sections: [Section; SectionKind::ALL.len()],
    tensors: Vec<Tensor>,
    /// Of each tensor of [`Columns`], a check of each panel.
    checks: Vec<Box<[PanelCheck]>>,
    vocabulary: VocabularyLayout,
}

#[derive(Debug)]
enum Storage {
    Map(Mmap),
    Memory(Vec<u8>),
    Static(&'static [u8]),
    /// Words, which are aligned in any case; and the length in bytes.
    Words(Vec<u32>, usize),
}

/// What the address of a model is a multiple of, in bytes: what `zipalign` makes of the files in
/// an Android package. Records with larger words are copied out before they are read.
const ADDRESS_ALIGN: usize = 4;

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Memory(bytes) => bytes,
            Self::Static(bytes) => bytes,
            Self::Words(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}

/// Where a section lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// What the section is for.
    pub name: &'static str,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// In bytes, without the padding that follows.
    pub length: u64,
}

/// What an encoder's features depend on: the lengths and checksums of the sections of its file
/// that determine them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct EncoderId {
    sections: [SectionId; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct SectionId {
    length: u64,
    checksum: u32,
    /// A [`SectionKind`].
    kind: u32,
}

impl std::fmt::Display for EncoderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, section) in self.sections.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let kind = SectionKind::at(section.kind.wrapping_sub(1) as usize);
            let name = kind.map_or("unknown", SectionKind::name);
            let checksum = section.checksum;
            write!(
                f,
                "{comma}{name} {checksum:08x} of {} bytes",
                section.length
            )?;
        }
        Ok(())
    }
}

/// A table of integers, one scale a row.
#[derive(Clone, Copy)]
pub(crate) struct Embedding<'a, T> {
    /// `[rows, padded hidden]`.
    values: &'a [T],
    /// `[rows]`.
    scales: &'a [f32],
}

impl<'a, T> Embedding<'a, T> {
    pub(crate) fn row(&self, row: usize) -> (&'a [T], f32) {
        let width = self.values.len() / self.scales.len();
        (&self.values[row * width..][..width], self.scales[row])
    }
}

/// The weights of one product.
#[derive(Clone, Copy)]
pub(crate) struct LinearWeights<'a> {
    pub(crate) shape: LinearShape,
    /// `[panels, blocks, 16, 4]`.
    pub(crate) values: &'a [i8],
    /// `[panels]`.
    pub(crate) columns: &'a [Columns],
    /// `[panels]`.
    pub(crate) checks: &'a [PanelCheck],
}

/// The weights of a product of a layer.
#[derive(Clone, Copy)]
pub(crate) struct LayerWeights<'a> {
    /// Rounded to 8 bits.
    pub(crate) weights: LinearWeights<'a>,
    /// What rounding took from them, if the product is fine: see [`format::tensor_table`].
    pub(crate) rest: Option<LinearWeights<'a>>,
}

impl LinearWeights<'_> {
    /// Some panels of the product.
    pub(crate) fn part(&self, panels: Range<usize>) -> Self {
        let bytes = self.shape.panel_bytes();
        Self {
            shape: LinearShape {
                outputs: panels.len() * PANEL,
                ..self.shape
            },
            values: &self.values[panels.start * bytes..panels.end * bytes],
            columns: &self.columns[panels.clone()],
            checks: &self.checks[panels],
        }
    }
}

/// The parameters of a layer norm, each `[padded hidden]`.
#[derive(Clone, Copy)]
pub(crate) struct NormWeights<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    /// Of the products that read the norm's output.
    pub(crate) balance: &'a [f32],
}

/// One layer of the encoder.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) query_key_value: LayerWeights<'a>,
    pub(crate) attention_output: LayerWeights<'a>,
    pub(crate) attention_norm: NormWeights<'a>,
    pub(crate) feed_forward_in: LayerWeights<'a>,
    /// Of `feed_forward_out`, `[padded intermediate]`.
    pub(crate) feed_forward_balance: &'a [f32],
    pub(crate) feed_forward_out: LayerWeights<'a>,
    pub(crate) feed_forward_norm: NormWeights<'a>,
}

/// One case of the self-test.
pub(crate) struct Case<'a> {
    pub(crate) first: &'a str,
    pub(crate) second: Option<&'a str>,
    /// `[self-test width]`.
    pub(crate) values: &'a [f32],
}

/// The self-test's cases, their values `[cases, width]`, and the text.
type SelfTestParts<'a> = (&'a [SelfTestCase], &'a [f32], &'a [u8]);

/// The file contradicts the format: which field, what it must be, what it is.
fn malformed(
    field: impl std::fmt::Display,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Error {
    // Once in the library, not for each combination of types.
    #[cold]
    #[inline(never)]
    fn of_any(parts: [&dyn std::fmt::Display; 3]) -> Error {
        let [field, expected, found] = parts;
        Error::malformed(format_args!("{field}: expected {expected}, found {found}"))
    }
    of_any([&field, &expected, &found])
}

/// `value`, or an error that names the field and the bounds.
fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(malformed(field, format_args!("{least} to {most}"), value))
    }
}

/// The record at the start of `bytes`, and what follows.
fn split_record<'a, T: Pod>(name: &str, bytes: &'a [u8]) -> Result<(&'a T, &'a [u8]), Error> {
    let (record, rest) = bytes.split_at_checked(size_of::<T>()).ok_or_else(|| {
        malformed(
            name,
            format_args!("at least {} bytes", size_of::<T>()),
            bytes.len(),
        )
    })?;
    Ok((from_bytes(record), rest))
}

/// `count` values at the start of `bytes`, and what follows.
fn split_slice<'a, T: Pod>(
    name: &str,
    bytes: &'a [u8],
    count: u64,
) -> Result<(&'a [T], &'a [u8]), Error> {
    let (values, rest) = split_bytes::<T>(name, bytes, count)?;
    Ok((try_cast_slice(values).expect("sections are aligned"), rest))
}

/// As [`split_slice`], for records with words of 8 bytes, which may not be aligned.
fn copy_records<'a, T: Pod>(
    name: &str,
    bytes: &'a [u8],
    count: u64,
) -> Result<(Vec<T>, &'a [u8]), Error> {
    let (records, rest) = split_bytes::<T>(name, bytes, count)?;
    Ok((bytemuck::pod_collect_to_vec(records), rest))
}

/// The bytes of `count` values, and what follows.
fn split_bytes<'a, T: Pod>(
    name: &str,
    bytes: &'a [u8],
    count: u64,
) -> Result<(&'a [u8], &'a [u8]), Error> {
    let length = count.checked_mul(size_of::<T>() as u64);
    length
        .and_then(|length| usize::try_from(length).ok())
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or_else(|| {
            malformed(
                name,
                format_args!("{count} records"),
                format_args!("{} bytes", bytes.len()),
            )
        })
}

impl Model {
    /// Maps a file and checks it.
    ///
    /// The file must not change while it is open: a change shows in the results, and a file cut
    /// short ends the process (`SIGBUS`). Replace a model by renaming a new file over it, or
    /// load it with [`Model::from_bytes`].
    ///
    /// # Errors
    /// [`ErrorCode::Io`] if the file cannot be read, and what [`Model::from_bytes`] returns.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let map = open_and_map(path).map_err(|error| cannot_open(error).in_file(path))?;
        Self::from_storage(Storage::Map(map)).map_err(|error| error.in_file(path))
    }

    /// Maps a part of a file that is open already: a model in another file, such as an Android
    /// package, from `offset` on, `length` bytes long. The file may be closed afterwards; else it
    /// is as for [`Model::open`].
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a part that is not in the file, or an offset that is no
    /// multiple of 4; [`ErrorCode::Io`] if the file cannot be mapped; and what
    /// [`Model::from_bytes`] returns.
    pub fn from_file(file: &File, offset: u64, length: u64) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
        if !offset.is_multiple_of(ADDRESS_ALIGN as u64) {
            return Err(invalid(format!(
                "offset: expected a multiple of {ADDRESS_ALIGN}, found {offset}; align the package with `zipalign {ADDRESS_ALIGN}`"
            )));
        }
        let metadata = file.metadata().map_err(cannot_open)?;
        if !metadata.is_file() {
            return Err(cannot_open(not_regular()));
        }
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > metadata.len()) {
            return Err(invalid(format!(
                "offset and length: expected a part of the file's {} bytes, found {length} from {offset} on",
                metadata.len()
            )));
        }
        let length = usize::try_from(length)
            .map_err(|_| invalid(format!("length: {length} bytes are more than any memory")))?;
        let map = map(MmapOptions::new().offset(offset).len(length), file).map_err(cannot_open)?;
        Self::from_storage(Storage::Map(map)).map_err(|error| error.at(offset))
    }

    /// Checks bytes that are there as long as the program runs, such as those of
    /// `include_bytes!` or of a device's flash memory. They are not copied.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for an address that is no multiple of 4, and what
    /// [`Model::from_bytes`] returns.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, Error> {
        if !is_aligned(bytes) {
            let message = format!(
                "the model's address: expected a multiple of {ADDRESS_ALIGN}, found {:p}; align the bytes, or have them copied (`from_bytes`)",
                bytes.as_ptr()
            );
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        Self::from_storage(Storage::Static(bytes))
    }

    /// Copies a file's bytes and checks them.
    ///
    /// # Errors
    /// [`ErrorCode::NotAModel`], [`ErrorCode::Unsupported`], [`ErrorCode::Malformed`] or
    /// [`ErrorCode::Checksum`].
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self, Error> {
        let bytes = bytes.as_ref();
        let mut words = vec![0u32; bytes.len().div_ceil(size_of::<u32>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self::from_storage(Storage::Words(words, bytes.len()))
    }

    /// As [`Model::from_bytes`], without a copy.
    ///
    /// # Errors
    /// As for [`Model::from_bytes`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, Error> {
        if is_aligned(&bytes) {
            Self::from_storage(Storage::Memory(bytes))
        } else {
            Self::from_bytes(bytes)
        }
    }

    /// The file's bytes; without a copy, if [`Model::from_vec`] made none.
    #[doc(hidden)]
    pub fn into_vec(self) -> Vec<u8> {
        match self.storage {
            Storage::Memory(bytes) => bytes,
            other => other.bytes().to_vec(),
        }
    }

    fn from_storage(storage: Storage) -> Result<Self, Error> {
        let bytes = storage.bytes();
        let header = check_header(bytes)?;
        let sections = check_sections(bytes, &header)?;
        let section = |kind: SectionKind| section_bytes(bytes, &sections, kind);

        let (shape, rest) = split_record::<Shape>("shape", section(SectionKind::Shape))?;
        let shape = *shape;
        if !rest.is_empty() {
            return Err(malformed(
                "shape",
                format_args!("{} bytes", size_of::<Shape>()),
                "more",
            ));
        }
        let choices = check_shape(&shape, header.required_features)?;
        let tensors = check_tensors(
            &shape,
            header.required_features,
            section(SectionKind::Tensors),
            section(SectionKind::Weights),
        )?;
        let checks = tensors
            .iter()
            .map(|tensor| match tensor.data_type {
                data_type if data_type == format::DataType::Columns as u32 => {
                    let panels = tensor.length as usize / size_of::<Columns>();
                    (0..panels).map(|_| PanelCheck::default()).collect()
                }
                _ => Box::default(),
            })
            .collect();
        let vocabulary =
            VocabularyLayout::parse(section(SectionKind::Vocabulary), shape.vocabulary)?;
        let of_vocabulary = header.required_features & format::features::BYTE_LEVEL_BPE;
        if of_vocabulary != vocabulary.required_features() {
            return Err(malformed(
                "header, required features, of the vocabulary",
                vocabulary.required_features(),
                of_vocabulary,
            ));
        }
        if shape.max_tokens < vocabulary.special_tokens() {
            return Err(malformed(
                "shape, max tokens",
                format_args!("{} or more", vocabulary.special_tokens()),
                shape.max_tokens,
            ));
        }

        let model = Self {
            shape,
            activation: choices.activation,
            head_activation: choices.head_activation,
            problem: choices.problem,
            head: choices.head,
            rotates: choices.rotates,
            version: (header.major, header.minor),
            sections,
            tensors,
            checks,
            vocabulary,
            storage,
        };
        model.check_labels()?;
        model.check_self_test()?;
        model.check_columns()?;
        model.check_norms()?;
        model.check_range()?;
        Ok(model)
    }

    fn section(&self, kind: SectionKind) -> &[u8] {
        section_bytes(self.storage.bytes(), &self.sections, kind)
    }

    /// The model's dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How logits become scores.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// What the model answers.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Refuses a model that does not answer what `user`, a type of this crate, asks.
    pub(crate) fn check_head(&self, expected: Head, user: &str) -> Result<(), Error> {
        if self.head == expected {
            return Ok(());
        }
        let fits = match self.head {
            Head::Classification => "Classifier",
            Head::TokenClassification => "TokenClassifier",
            Head::QuestionAnswering => "QuestionAnswerer",
            Head::Embedding => "Embedder",
            Head::MaskedWords => "WordFiller",
        };
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "the model is for {}, and a {user} needs one for {}: open it as a {fits}",
                self.head.name(),
                expected.name()
            ),
        ))
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Vectors that are rotated together in a balanced row of this many columns, a dimension of
    /// the shape: see [`format::rotated_vectors`].
    pub(crate) fn rotation(&self, columns: u32) -> usize {
        match self.rotates {
            true => format::rotated_vectors(columns as usize),
            false => 1,
        }
    }

    pub(crate) fn head_activation(&self) -> Activation {
        self.head_activation
    }

    /// The file format's version: major and minor.
    pub fn version(&self) -> (u16, u16) {
        self.version
    }

    /// The file's length in bytes.
    pub fn file_length(&self) -> u64 {
        self.storage.bytes().len() as u64
    }

    /// Where each section lies.
    pub fn sections(&self) -> impl Iterator<Item = SectionInfo> {
        self.sections
            .iter()
            .zip(SectionKind::ALL)
            .map(|(section, kind)| SectionInfo {
                name: kind.name(),
                offset: section.offset,
                length: section.length,
            })
    }

    /// By what a head that was trained on this encoder knows it.
    pub(crate) fn encoder_id(&self) -> EncoderId {
        let id = |kind: SectionKind| {
            let section = &self.sections[kind as usize - 1];
            SectionId {
                length: section.length,
                checksum: section.checksum,
                kind: section.kind,
            }
        };
        let kinds = [
            SectionKind::Shape,
            SectionKind::Tensors,
            SectionKind::Vocabulary,
            SectionKind::Weights,
        ];
        EncoderId {
            sections: kinds.map(id),
        }
    }

    /// The labels, in the order of the logits.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.shape.labels as usize).map(|index| self.label(index))
    }

    /// The label of one logit.
    pub(crate) fn label(&self, index: usize) -> &str {
        let (offsets, text) = self.label_parts().expect("checked at open");
        let text = &text[offsets[index] as usize..offsets[index + 1] as usize];
        std::str::from_utf8(text).expect("checked at open")
    }

    /// Where the model came from, as JSON. The runtime does not read it.
    pub fn provenance(&self) -> &[u8] {
        self.section(SectionKind::Provenance)
    }

    /// What int8 cost, as JSON; empty where it was not measured. The runtime does not read it.
    pub fn accuracy(&self) -> &[u8] {
        self.section(SectionKind::Accuracy)
    }

    pub(crate) fn tokenizer(&self) -> Tokenizer<'_> {
        Tokenizer::new(&self.vocabulary, self.section(SectionKind::Vocabulary))
    }

    /// Checks every checksum, the weights' too, and that no weight is -128: reads the whole
    /// file.
    ///
    /// # Errors
    /// [`ErrorCode::Checksum`] or [`ErrorCode::Malformed`], naming the section or tensor.
    pub fn verify(&self) -> Result<(), Error> {
        for (section, kind) in self.sections.iter().zip(SectionKind::ALL) {
            check_checksum(self.section(kind), section, kind.name())?;
        }
        let weights = self.section(SectionKind::Weights);
        let mut end = 0;
        for tensor in &self.tensors {
            let start = tensor.offset as usize;
            if weights[end..start].iter().any(|&b| b != 0) {
                return Err(malformed(
                    "weights",
                    "zeros between tensors",
                    format_args!("other bytes before {start}"),
                ));
            }
            end = start + tensor.length as usize;
            let is_i8 = tensor.data_type == format::DataType::I8 as u32;
            if is_i8 && weights[start..end].contains(&(i8::MIN as u8)) {
                let name = format!("weights, tensor {} of layer {}", tensor.kind, tensor.layer);
                return Err(malformed(name, "int8 from -127 to 127", "-128"));
            }
        }
        Ok(())
    }

    /// The tensor's number.
    fn find_tensor(&self, kind: TensorKind, layer: usize) -> usize {
        let first = layer * TENSORS_OF_LAYER;
        let at = self.tensors[first..]
            .iter()
            .position(|tensor| tensor.kind == kind as u32 && tensor.layer == layer as u32);
        first + at.expect("the shape implies the tensor")
    }

    fn tensor<T: Pod>(&self, kind: TensorKind, layer: usize) -> &[T] {
        let tensor = &self.tensors[self.find_tensor(kind, layer)];
        let bytes =
            &self.section(SectionKind::Weights)[tensor.offset as usize..][..tensor.length as usize];
        try_cast_slice(bytes).expect("tensors are aligned")
    }

    fn linear(
        &self,
        values: TensorKind,
        columns: TensorKind,
        layer: usize,
        shape: LinearShape,
    ) -> LinearWeights<'_> {
        LinearWeights {
            shape,
            values: self.tensor(values, layer),
            columns: self.tensor(columns, layer),
            checks: &self.checks[self.find_tensor(columns, layer)],
        }
    }

    fn layer_weights(
        &self,
        values: TensorKind,
        columns: TensorKind,
        layer: usize,
        shape: LinearShape,
    ) -> LayerWeights<'_> {
        let all = self.linear(values, columns, layer, shape);
        let panels = shape.panels();
        LayerWeights {
            weights: all.part(0..panels),
            rest: (all.columns.len() > panels).then(|| all.part(panels..2 * panels)),
        }
    }

    fn norm(&self, kind: TensorKind, layer: usize) -> NormWeights<'_> {
        let width = padded(self.shape.hidden as usize);
        let (weight, rest) = self.tensor(kind, layer).split_at(width);
        let (bias, balance) = rest.split_at(width);
        NormWeights {
            weight,
            bias,
            balance,
        }
    }

    fn embedding<T: Pod>(&self, rows: TensorKind, scales: TensorKind) -> Embedding<'_, T> {
        Embedding {
            values: self.tensor(rows, 0),
            scales: self.tensor(scales, 0),
        }
    }

    pub(crate) fn words(&self) -> Embedding<'_, i8> {
        self.embedding(TensorKind::WordRows, TensorKind::WordScales)
    }

    pub(crate) fn positions(&self) -> Embedding<'_, i16> {
        self.embedding(TensorKind::PositionRows, TensorKind::PositionScales)
    }

    pub(crate) fn token_types(&self) -> Option<Embedding<'_, i16>> {
        (self.shape.token_types > 0)
            .then(|| self.embedding(TensorKind::TokenTypeRows, TensorKind::TokenTypeScales))
    }

    pub(crate) fn embedding_norm(&self) -> NormWeights<'_> {
        self.norm(TensorKind::EmbeddingNorm, 0)
    }

    pub(crate) fn layer(&self, layer: usize) -> Layer<'_> {
        use TensorKind as K;
        let shape = &self.shape;
        Layer {
            query_key_value: self.layer_weights(
                K::QueryKeyValue,
                K::QueryKeyValueColumns,
                layer,
                shape.query_key_value(),
            ),
            attention_output: self.layer_weights(
                K::AttentionOutput,
                K::AttentionOutputColumns,
                layer,
                shape.attention_output(),
            ),
            attention_norm: self.norm(K::AttentionNorm, layer),
            feed_forward_in: self.layer_weights(
                K::FeedForwardIn,
                K::FeedForwardInColumns,
                layer,
                shape.feed_forward_in(),
            ),
            feed_forward_balance: self.tensor(K::FeedForwardBalance, layer),
            feed_forward_out: self.layer_weights(
                K::FeedForwardOut,
                K::FeedForwardOutColumns,
                layer,
                shape.feed_forward_out(),
            ),
            feed_forward_norm: self.norm(K::FeedForwardNorm, layer),
        }
    }

    pub(crate) fn head_dense(&self) -> LinearWeights<'_> {
        self.linear(
            TensorKind::HeadDense,
            TensorKind::HeadDenseColumns,
            0,
            self.shape.head_dense(),
        )
    }

    /// The norm whose output a layer reads, and the head after the last.
    pub(crate) fn norm_before(&self, layer: usize) -> NormWeights<'_> {
        match layer {
            0 => self.embedding_norm(),
            _ => self.layer(layer - 1).feed_forward_norm,
        }
    }

    /// The weights that the head reads first, if it has any.
    pub(crate) fn first_head_weights(&self) -> &[i8] {
        match self.head {
            Head::Classification | Head::MaskedWords => self.head_dense().values,
            Head::TokenClassification | Head::QuestionAnswering => self.classifier().values,
            Head::Embedding => &[],
        }
    }

    /// Between the products of a head for masked words.
    pub(crate) fn head_norm(&self) -> NormWeights<'_> {
        self.norm(TensorKind::HeadNorm, 0)
    }

    /// The last product of the head.
    pub(crate) fn classifier(&self) -> LinearWeights<'_> {
        self.linear(
            TensorKind::Classifier,
            TensorKind::ClassifierColumns,
            0,
            self.shape.classifier(),
        )
    }

    fn label_parts(&self) -> Result<(&[u32], &[u8]), Error> {
        let (head, rest) = split_record::<Labels>("labels", self.section(SectionKind::Labels))?;
        if head.count != self.shape.labels {
            return Err(malformed("labels, count", self.shape.labels, head.count));
        }
        let (offsets, text) = split_slice("labels, offsets", rest, u64::from(head.count) + 1)?;
        if text.len() as u64 != u64::from(head.text_length) {
            return Err(malformed(
                "labels, text length",
                text.len(),
                head.text_length,
            ));
        }
        Ok((offsets, text))
    }

    fn check_labels(&self) -> Result<(), Error> {
        let (offsets, text) = self.label_parts()?;
        let ends = offsets.first() == Some(&0)
            && offsets.last().map(|&end| end as usize) == Some(text.len());
        if !(ends && offsets.is_sorted()) {
            return Err(malformed(
                "labels, offsets",
                "ascending offsets over the text",
                "others",
            ));
        }
        for (index, ends) in offsets.windows(2).enumerate() {
            if std::str::from_utf8(&text[ends[0] as usize..ends[1] as usize]).is_err() {
                return Err(malformed(
                    format_args!("labels, label {index}"),
                    "UTF-8",
                    "other bytes",
                ));
            }
        }
        Ok(())
    }

    fn self_test_parts(&self) -> Result<SelfTestParts<'_>, Error> {
        let (head, rest) =
            split_record::<SelfTest>("selftest", self.section(SectionKind::SelfTest))?;
        let (cases, rest) = split_slice("selftest, cases", rest, u64::from(head.count))?;
        let values = u64::from(head.count) * self.shape.self_test_width() as u64;
        let (values, text) = split_slice("selftest, values", rest, values)?;
        if text.len() as u64 != u64::from(head.text_length) {
            return Err(malformed(
                "selftest, text length",
                text.len(),
                head.text_length,
            ));
        }
        Ok((cases, values, text))
    }

    fn check_self_test(&self) -> Result<(), Error> {
        let (cases, _, text) = self.self_test_parts()?;
        if cases.is_empty() {
            return Err(malformed("selftest, count", "at least 1", 0));
        }
        for (index, case) in cases.iter().enumerate() {
            let fits = self_test_text(text, case.first_offset, case.first_length).is_some()
                && (case.second_length == NO_TEXT
                    || self_test_text(text, case.second_offset, case.second_length).is_some());
            if !fits {
                return Err(malformed(
                    format_args!("selftest, case {index}"),
                    "UTF-8 inside the section's text",
                    "other offsets or bytes",
                ));
            }
        }
        Ok(())
    }

    /// The cases of the self-test.
    pub(crate) fn self_test_cases(&self) -> impl Iterator<Item = Case<'_>> {
        let (cases, values, text) = self.self_test_parts().expect("checked at open");
        cases
            .iter()
            .zip(values.chunks_exact(self.shape.self_test_width()))
            .map(move |(case, values)| Case {
                first: self_test_text(text, case.first_offset, case.first_length)
                    .expect("checked at open"),
                second: (case.second_length != NO_TEXT).then(|| {
                    self_test_text(text, case.second_offset, case.second_length)
                        .expect("checked at open")
                }),
                values,
            })
    }
}

/// Tensors in each layer of the table.
const TENSORS_OF_LAYER: usize = 11;

/// Maps a regular file.
pub(crate) fn open_and_map(path: &Path) -> io::Result<Mmap> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    map(&MmapOptions::new(), &File::open(path)?)
}

/// The one place where a file is mapped.
#[expect(unsafe_code, reason = "a memory map")]
fn map(options: &MmapOptions, file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only, and `Model::open` and `Model::from_file` ask that the file
    // not change while it is open; all that is read from it later is checked or harmless for any
    // bytes.
    unsafe { options.map(file) }
}

fn not_regular() -> io::Error {
    io::Error::other("not a regular file")
}

fn cannot_open(error: io::Error) -> Error {
    let message = format!(
        "cannot be opened: {error}; expected a .filbert file, as `filbert convert` makes it"
    );
    Error::new(ErrorCode::Io, message)
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ADDRESS_ALIGN)
}

fn section_bytes<'a>(bytes: &'a [u8], sections: &[Section], kind: SectionKind) -> &'a [u8] {
    let section = &sections[kind as usize - 1];
    &bytes[section.offset as usize..][..section.length as usize]
}

fn self_test_text(text: &[u8], offset: u32, length: u32) -> Option<&str> {
    let start = offset as usize;
    let end = start.checked_add(length as usize)?;
    std::str::from_utf8(text.get(start..end)?).ok()
}
