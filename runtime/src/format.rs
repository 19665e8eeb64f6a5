//! The words of a `.filbert` file: its records, constants and layout arithmetic.
//!
//! The only definitions that the reader ([`crate::model`]) and the writer (the converter)
//! share; `docs/format.md` is the same in prose. Everything is little-endian. Records hold
//! only integers, floats and bytes, so any bytes of the right length are a valid record;
//! what they may say is checked in `model`.

use bytemuck::{Pod, Zeroable};

#[cfg(target_endian = "big")]
compile_error!("a .filbert file is little-endian and used where it lies: this target is not");

/// First eight bytes of every file: a byte outside ASCII, the name, and the line endings that
/// a transfer in text mode would alter.
pub const MAGIC: [u8; 8] = *b"\x89FLB\r\n\x1a\n";
/// A reader refuses a file whose major version is newer than this.
pub const MAJOR_VERSION: u16 = 2;
/// Newer minor versions only add what an older reader may ignore.
pub const MINOR_VERSION: u16 = 0;
/// Bits of [`Header::required_features`] that this reader understands.
pub const KNOWN_FEATURES: u32 =
    features::HEADS | features::BYTE_LEVEL_BPE | features::ROTATION | features::FINE_PRODUCTS;

/// Bits of [`Header::required_features`]. A file states just those that it uses.
pub mod features {
    /// [`Shape::head`](super::Shape::head) is not [`Head::Classification`](super::Head).
    pub const HEADS: u32 = 1 << 0;
    /// The vocabulary is [`VocabularyKind::ByteLevelBpe`](super::VocabularyKind::ByteLevelBpe).
    pub const BYTE_LEVEL_BPE: u32 = 1 << 1;
    /// Balanced inputs are rotated too: see [`rotated_vectors`](super::rotated_vectors).
    pub const ROTATION: u32 = 1 << 2;
    /// Some product of a layer is fine: see [`tensor_table`](super::tensor_table).
    pub const FINE_PRODUCTS: u32 = 1 << 3;
}

/// The weights begin at a multiple of this many bytes: the largest page size in use on phones.
pub const WEIGHTS_ALIGN: u64 = 16 * 1024;
/// Other sections, and tensors, begin at multiples of this many bytes.
pub const DATA_ALIGN: u64 = 64;

/// Output columns of one weight panel.
pub const PANEL: usize = 16;
/// Consecutive inputs of one column that lie side by side in a block.
pub const BLOCK: usize = 4;

/// Rounds up to a multiple of `align`, or `None` where the result has no `u64`.
pub const fn align_up(n: u64, align: u64) -> Option<u64> {
    n.checked_next_multiple_of(align)
}

/// Width of a row of `columns` values, padded to whole panels.
pub const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(PANEL)
}

/// Vectors that are rotated together at most: two steps of four each.
const MOST_ROTATED: usize = 16;

/// How many vectors of 16 values are rotated together in a row of `columns` values: the largest
/// power of two, at most 16, that divides their number; 1, which is no rotation, where the row is
/// padded.
///
/// Of a row of `m` vectors, every `m / n`-th from one of the first `m / n` on are rotated
/// together. Of such `n` vectors, vector `i` becomes `Σ_j (-1)^b x_j`, where `b` is the number of
/// ones in the bits of both `i` and `j`. So no value stands out from a row as far as before, and
/// 8 bits say more of each (QuaRot, arXiv 2404.00456). The same rotation, divided by `n`, takes
/// it back; the weights were rotated so.
pub const fn rotated_vectors(columns: usize) -> usize {
    if columns == 0 || !columns.is_multiple_of(PANEL) {
        return 1;
    }
    let vectors = columns / PANEL;
    let power = 1 << vectors.trailing_zeros();
    if power < MOST_ROTATED {
        power
    } else {
        MOST_ROTATED
    }
}

/// The first 64 bytes of a file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`MAJOR_VERSION`].
    pub major: u16,
    /// [`MINOR_VERSION`].
    pub minor: u16,
    /// Features that a reader must understand; see [`KNOWN_FEATURES`].
    pub required_features: u32,
    /// Length of the whole file in bytes.
    pub file_length: u64,
    /// Number of [`Section`] records; they follow the header directly.
    pub section_count: u32,
    /// CRC-32 of the header, with this field zero, and of the section table.
    pub checksum: u32,
    /// Zero.
    pub reserved: [u8; 32],
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Section {
    /// A [`SectionKind`].
    pub kind: u32,
    /// CRC-32 (ISO-HDLC, as in zlib and PNG) of the section's bytes.
    pub checksum: u32,
    /// From the start of the file, a multiple of [`SectionKind::align`].
    pub offset: u64,
    /// In bytes, without the padding that follows.
    pub length: u64,
    /// Zero.
    pub reserved: u64,
}

/// What a section holds. A file has each kind once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    /// One [`Shape`].
    Shape = 1,
    /// [`Tensor`] records.
    Tensors = 2,
    /// [`Labels`], then offsets and text.
    Labels = 3,
    /// [`Vocabulary`], then its arrays.
    Vocabulary = 4,
    /// [`SelfTest`], then its arrays.
    SelfTest = 5,
    /// JSON that the runtime never reads: where the model came from.
    Provenance = 6,
    /// JSON that the runtime never reads: what int8 cost; empty when not measured.
    Accuracy = 7,
    /// The tensors' bytes.
    Weights = 8,
}

impl SectionKind {
    /// Every kind, in file order.
    pub const ALL: [Self; 8] = [
        Self::Shape,
        Self::Tensors,
        Self::Labels,
        Self::Vocabulary,
        Self::SelfTest,
        Self::Provenance,
        Self::Accuracy,
        Self::Weights,
    ];

    /// The kind of the section at this place of the table, if this version knows it.
    pub fn at(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// What the offset of the section at this place of the table is a multiple of.
    pub fn align(index: usize) -> u64 {
        match Self::at(index) {
            Some(Self::Weights) => WEIGHTS_ALIGN,
            _ => DATA_ALIGN,
        }
    }

    /// The name that messages and `filbert inspect` use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Tensors => "tensors",
            Self::Labels => "labels",
            Self::Vocabulary => "vocabulary",
            Self::SelfTest => "selftest",
            Self::Provenance => "provenance",
            Self::Accuracy => "accuracy",
            Self::Weights => "weights",
        }
    }
}

/// The model's dimensions and the choices that its arithmetic depends on.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Shape {
    /// Encoder layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Attention heads.
    pub heads: u32,
    /// Columns of one head: `hidden / heads`.
    pub head_size: u32,
    /// Width of the feed-forward layer.
    pub intermediate: u32,
    /// Rows of the word embedding.
    pub vocabulary: u32,
    /// Rows of the position embedding.
    pub positions: u32,
    /// Rows of the token type embedding; 0 for DistilBERT, which has none.
    pub token_types: u32,
    /// Number of labels; 0 where the head has none.
    pub labels: u32,
    /// Longest sequence in tokens, special tokens included; at most `positions`.
    pub max_tokens: u32,
    /// An [`Activation`]: of the feed-forward layer.
    pub activation: u32,
    /// An [`Activation`]: between the head's two products.
    pub head_activation: u32,
    /// A [`Problem`]: how logits become scores.
    pub problem: u32,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f32,
    /// A [`Head`]: what the model answers.
    pub head: u32,
    /// Of an embedding, bits of [`embedding`]; of masked words, the id of the token that stands
    /// for a word to find. Zero for others.
    pub head_options: u32,
}

/// What a model answers: the last part of its shape, after the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Head {
    /// The labels of a text or pair, by its first token.
    Classification = 0,
    /// A label for each token: entities.
    TokenClassification = 1,
    /// Where in a text the answer to a question begins and ends: two logits for each token.
    QuestionAnswering = 2,
    /// A vector for a text.
    Embedding = 3,
    /// The words that fit in the places of mask tokens.
    MaskedWords = 4,
}

impl Head {
    /// Every head.
    pub const ALL: [Self; 5] = [
        Self::Classification,
        Self::TokenClassification,
        Self::QuestionAnswering,
        Self::Embedding,
        Self::MaskedWords,
    ];

    /// The head with this number in a file.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&head| head as u32 == n)
    }

    /// What a model with this head does, for messages and `filbert inspect`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::TokenClassification => "token classification",
            Self::QuestionAnswering => "question answering",
            Self::Embedding => "embedding",
            Self::MaskedWords => "masked words",
        }
    }

    /// Whether it begins with a product of its own, as wide as the hidden state.
    pub const fn has_dense(self) -> bool {
        matches!(self, Self::Classification | Self::MaskedWords)
    }

    /// Whether the file has a layer norm for it.
    pub const fn has_norm(self) -> bool {
        matches!(self, Self::MaskedWords)
    }
}

/// Bits of [`Shape::head_options`] of a model with [`Head::Embedding`].
pub mod embedding {
    /// The mean of all tokens; without it, the first token.
    pub const MEAN: u32 = 1 << 0;
    /// Divided by its Euclidean norm.
    pub const NORMALIZED: u32 = 1 << 1;
    /// All of them.
    pub const ALL: u32 = MEAN | NORMALIZED;
}

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activation {
    /// `x Φ(x)`, the erf form (arXiv 1606.08415).
    Gelu = 1,
    /// The tanh form of GELU: `gelu_new` and `gelu_pytorch_tanh`.
    GeluTanh = 2,
    /// `max(x, 0)`.
    Relu = 3,
    /// Hyperbolic tangent: BERT's pooler.
    Tanh = 4,
}

impl Activation {
    /// The activation with this number in a file.
    pub const fn from_u32(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Gelu),
            2 => Some(Self::GeluTanh),
            3 => Some(Self::Relu),
            4 => Some(Self::Tanh),
            _ => None,
        }
    }
}

/// How logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Problem {
    /// One label is right: softmax.
    SingleLabel = 1,
    /// Any number of labels is right: a sigmoid each.
    MultiLabel = 2,
    /// The logits are the answer.
    Regression = 3,
}

impl Problem {
    /// The problem type with this number in a file.
    pub const fn from_u32(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::SingleLabel),
            2 => Some(Self::MultiLabel),
            3 => Some(Self::Regression),
            _ => None,
        }
    }
}

/// One entry of the tensor table. The shape implies the whole table, record by record: see
/// [`tensor_table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tensor {
    /// A [`TensorKind`].
    pub kind: u32,
    /// The encoder layer, or 0 outside the encoder.
    pub layer: u32,
    /// A [`DataType`].
    pub data_type: u32,
    /// How many of `dims` count; the others are 1.
    pub rank: u32,
    /// Dimensions, outermost first.
    pub dims: [u32; 4],
    /// From the start of the weights section, a multiple of [`DATA_ALIGN`].
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// What a tensor's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DataType {
    /// Signed bytes in [-127, 127].
    I8 = 1,
    /// IEEE 754 binary32.
    F32 = 2,
    /// [`Columns`] records.
    Columns = 3,
    /// Signed 16-bit integers.
    I16 = 4,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TensorKind {
    /// Word embedding, a row a token id.
    WordRows = 1,
    /// A scale for each row of the word embedding.
    WordScales = 2,
    /// Position embedding, a row a position. Every text meets the same few rows, so their
    /// errors do not average out: 16 bits.
    PositionRows = 3,
    /// A scale for each row of the position embedding.
    PositionScales = 4,
    /// Token type embedding; absent where the shape has no token types.
    TokenTypeRows = 5,
    /// A scale for each row of the token type embedding.
    TokenTypeScales = 6,
    /// The embedding's layer norm: its weight (row 0), its bias (row 1), and the balance of the
    /// products that read its output (row 2).
    ///
    /// A balance is a factor for each input of a product, by which the input is multiplied
    /// before it is quantized and the weights were divided before they were: it moves the
    /// burden of a wide input to weights that can bear it (arXiv 2211.10438).
    EmbeddingNorm = 7,
    /// Query, key and value as one product: all heads of the query, then the key, then the
    /// value, each head padded to whole panels.
    QueryKeyValue = 16,
    /// [`Columns`] of `QueryKeyValue`.
    QueryKeyValueColumns = 17,
    /// The projection of the attention's context; its inputs are padded by head.
    AttentionOutput = 18,
    /// [`Columns`] of `AttentionOutput`.
    AttentionOutputColumns = 19,
    /// Layer norm after attention, as `EmbeddingNorm`.
    AttentionNorm = 20,
    /// First product of the feed-forward layer.
    FeedForwardIn = 21,
    /// [`Columns`] of `FeedForwardIn`.
    FeedForwardInColumns = 22,
    /// Balance of `FeedForwardOut`.
    FeedForwardBalance = 23,
    /// Second product of the feed-forward layer.
    FeedForwardOut = 24,
    /// [`Columns`] of `FeedForwardOut`.
    FeedForwardOutColumns = 25,
    /// Layer norm after the feed-forward layer, as `EmbeddingNorm`.
    FeedForwardNorm = 26,
    /// First product of a head that has two: BERT's pooler, DistilBERT's `pre_classifier`.
    HeadDense = 32,
    /// [`Columns`] of `HeadDense`.
    HeadDenseColumns = 33,
    /// Last product of the head: one column a label, or a token of the vocabulary.
    Classifier = 34,
    /// [`Columns`] of `Classifier`.
    ClassifierColumns = 35,
    /// Layer norm between the products of a head for masked words, as `EmbeddingNorm`.
    HeadNorm = 36,
}

impl TensorKind {
    /// The weights of the products that a layer has, in file order; each may be fine.
    pub const PRODUCTS: [Self; 4] = [
        Self::QueryKeyValue,
        Self::AttentionOutput,
        Self::FeedForwardIn,
        Self::FeedForwardOut,
    ];
}

/// What a panel's 16 columns need beside their weights. The sums make an unsigned, asymmetric
/// activation cost one multiplication a row: `Σ (q - zp) w = Σ q w - zp Σ w`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Columns {
    /// A column's weight scale; 0 for padding.
    pub scale: [f32; PANEL],
    /// The sum of a column's int8 weights.
    pub sum: [i32; PANEL],
    /// A column's bias.
    pub bias: [f32; PANEL],
}

/// The dimensions of one product's weights: `[inputs, outputs]`, both as the kernels see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Values of an input row, padded ones included.
    pub inputs: usize,
    /// Columns, padded ones included: a multiple of [`PANEL`].
    pub outputs: usize,
}

impl LinearShape {
    /// Panels of 16 columns.
    pub const fn panels(self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Blocks of 4 inputs by 16 columns in one panel.
    pub const fn blocks(self) -> usize {
        self.inputs.div_ceil(BLOCK)
    }

    /// Bytes of one panel.
    pub const fn panel_bytes(self) -> usize {
        self.blocks() * BLOCK * PANEL
    }

    /// Where the weight of `input` and `output` lies.
    pub const fn index(self, input: usize, output: usize) -> usize {
        (output / PANEL) * self.panel_bytes()
            + (input / BLOCK) * BLOCK * PANEL
            + (output % PANEL) * BLOCK
            + input % BLOCK
    }
}

impl Shape {
    /// Width of one head in the workspace: padded so that a head begins a panel.
    pub const fn head_stride(&self) -> usize {
        padded(self.head_size as usize)
    }

    /// Width of all heads together.
    pub const fn attention_width(&self) -> usize {
        self.heads as usize * self.head_stride()
    }

    /// Multiplications of one layer's products for one token, attention not counted.
    pub const fn layer_multiplications(&self) -> u64 {
        let width = self.attention_width() as u64;
        self.hidden as u64 * (4 * width + 2 * self.intermediate as u64)
    }

    /// The shape of each product, in the order in which a layer runs them.
    pub const fn query_key_value(&self) -> LinearShape {
        LinearShape {
            inputs: self.hidden as usize,
            outputs: 3 * self.attention_width(),
        }
    }

    /// See [`TensorKind::AttentionOutput`].
    pub const fn attention_output(&self) -> LinearShape {
        LinearShape {
            inputs: self.attention_width(),
            outputs: padded(self.hidden as usize),
        }
    }

    /// See [`TensorKind::FeedForwardIn`].
    pub const fn feed_forward_in(&self) -> LinearShape {
        LinearShape {
            inputs: self.hidden as usize,
            outputs: padded(self.intermediate as usize),
        }
    }

    /// See [`TensorKind::FeedForwardOut`].
    pub const fn feed_forward_out(&self) -> LinearShape {
        LinearShape {
            inputs: self.intermediate as usize,
            outputs: padded(self.hidden as usize),
        }
    }

    /// See [`TensorKind::HeadDense`].
    pub const fn head_dense(&self) -> LinearShape {
        LinearShape {
            inputs: self.hidden as usize,
            outputs: padded(self.hidden as usize),
        }
    }

    /// Columns of the head's last product that are not padding; 0 where it has none.
    pub const fn head_outputs(&self) -> usize {
        if self.head == Head::MaskedWords as u32 {
            self.vocabulary as usize
        } else {
            self.labels as usize
        }
    }

    /// See [`TensorKind::Classifier`].
    pub const fn classifier(&self) -> LinearShape {
        LinearShape {
            inputs: self.hidden as usize,
            outputs: padded(self.head_outputs()),
        }
    }

    /// Values of a case in the self-test: see [`SelfTest`].
    pub const fn self_test_width(&self) -> usize {
        if self.head == Head::MaskedWords as u32 {
            PANEL
        } else if self.head == Head::Embedding as u32 {
            self.hidden as usize
        } else {
            self.labels as usize
        }
    }
}

/// Upper bounds of a shape's dimensions, so that no product of two of them, nor a sum of
/// products of bytes, overflows. Far above any published model of the family.
pub mod limits {
    /// Encoder layers.
    pub const LAYERS: u32 = 256;
    /// Width of the residual stream.
    pub const HIDDEN: u32 = 16_384;
    /// Width of the feed-forward layer. `65,536 · 255 · 127 < 2^31`: sums of products fit.
    pub const INTERMEDIATE: u32 = 65_536;
    /// Rows of the word embedding.
    pub const VOCABULARY: u32 = 1 << 24;
    /// Nodes of the vocabulary's trie, so that the places of its bits are `u32`.
    pub const NODES: u32 = 1 << 30;
    /// Merges of a byte-level BPE.
    pub const MERGES: u32 = 1 << 24;
    /// Rows of the position embedding.
    pub const POSITIONS: u32 = 65_536;
    /// Rows of the token type embedding.
    pub const TOKEN_TYPES: u32 = 256;
    /// Labels.
    pub const LABELS: u32 = 65_536;
}

/// The tensor table that a shape implies, in file order, and the length of the weights section.
///
/// `is_fine` says which products of the layers are fine, by the kind of their weights and their
/// layer. Such a product has its panels twice, first those of the weights rounded to 8 bits, then
/// those of what rounding took from them, with scales of their own. Its input is quantized twice
/// as well, as always and then what is left of it. The four products are added: about as exact as
/// 16 bits are, with the kernels of 8. The kinds are those of [`TensorKind::PRODUCTS`].
///
/// `None` if a size has no `u64`. The shape's dimensions are within [`limits`], and its head is
/// known.
pub fn tensor_table(
    shape: &Shape,
    is_fine: impl Fn(TensorKind, u32) -> bool,
) -> Option<(Vec<Tensor>, u64)> {
    let mut table = TableBuilder::default();
    let hidden = padded(shape.hidden as usize);
    let embeddings = [
        (
            TensorKind::WordRows,
            TensorKind::WordScales,
            DataType::I8,
            shape.vocabulary,
        ),
        (
            TensorKind::PositionRows,
            TensorKind::PositionScales,
            DataType::I16,
            shape.positions,
        ),
        (
            TensorKind::TokenTypeRows,
            TensorKind::TokenTypeScales,
            DataType::I16,
            shape.token_types,
        ),
    ];
    for (rows, scales, data_type, count) in embeddings {
        if count > 0 {
            table.push(rows, 0, data_type, &[count as usize, hidden])?;
            table.push(scales, 0, DataType::F32, &[count as usize])?;
        }
    }
    table.push(TensorKind::EmbeddingNorm, 0, DataType::F32, &[3, hidden])?;
    for layer in 0..shape.layers {
        use TensorKind as K;
        let push_product = |table: &mut TableBuilder, kind, columns, mut product: LinearShape| {
            if is_fine(kind, layer) {
                product.outputs *= 2;
            }
            table.push_linear(kind, columns, layer, product)
        };
        let product = shape.query_key_value();
        push_product(
            &mut table,
            K::QueryKeyValue,
            K::QueryKeyValueColumns,
            product,
        )?;
        let product = shape.attention_output();
        push_product(
            &mut table,
            K::AttentionOutput,
            K::AttentionOutputColumns,
            product,
        )?;
        table.push(K::AttentionNorm, layer, DataType::F32, &[3, hidden])?;
        let product = shape.feed_forward_in();
        push_product(
            &mut table,
            K::FeedForwardIn,
            K::FeedForwardInColumns,
            product,
        )?;
        let intermediate = padded(shape.intermediate as usize);
        table.push(K::FeedForwardBalance, layer, DataType::F32, &[intermediate])?;
        let product = shape.feed_forward_out();
        push_product(
            &mut table,
            K::FeedForwardOut,
            K::FeedForwardOutColumns,
            product,
        )?;
        table.push(K::FeedForwardNorm, layer, DataType::F32, &[3, hidden])?;
    }
    use TensorKind as K;
    let head = Head::from_u32(shape.head)?;
    if head.has_dense() {
        table.push_linear(K::HeadDense, K::HeadDenseColumns, 0, shape.head_dense())?;
    }
    if head.has_norm() {
        table.push(K::HeadNorm, 0, DataType::F32, &[3, hidden])?;
    }
    if head != Head::Embedding {
        table.push_linear(K::Classifier, K::ClassifierColumns, 0, shape.classifier())?;
    }
    Some((table.tensors, table.end))
}

#[derive(Default)]
struct TableBuilder {
    tensors: Vec<Tensor>,
    end: u64,
}

impl TableBuilder {
    fn push(
        &mut self,
        kind: TensorKind,
        layer: u32,
        data_type: DataType,
        dims: &[usize],
    ) -> Option<()> {
        let element = match data_type {
            DataType::I8 => 1,
            DataType::I16 => 2,
            DataType::F32 => 4,
            DataType::Columns => size_of::<Columns>() as u64,
        };
        let mut record = Tensor {
            kind: kind as u32,
            layer,
            data_type: data_type as u32,
            rank: dims.len() as u32,
            dims: [1; 4],
            offset: align_up(self.end, DATA_ALIGN)?,
            length: element,
        };
        for (to, &from) in record.dims.iter_mut().zip(dims) {
            *to = u32::try_from(from).ok()?;
            record.length = record.length.checked_mul(from as u64)?;
        }
        self.end = record.offset.checked_add(record.length)?;
        self.tensors.push(record);
        Some(())
    }

    fn push_linear(
        &mut self,
        weights: TensorKind,
        columns: TensorKind,
        layer: u32,
        shape: LinearShape,
    ) -> Option<()> {
        self.push(
            weights,
            layer,
            DataType::I8,
            &[shape.panels(), shape.blocks(), PANEL, BLOCK],
        )?;
        self.push(columns, layer, DataType::Columns, &[shape.panels()])
    }
}

/// Head of the labels section. `u32` offsets `[count + 1]` into the text follow, then the
/// labels' UTF-8 text without separators.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Labels {
    /// Number of labels; equals [`Shape::labels`].
    pub count: u32,
    /// Bytes of text.
    pub text_length: u32,
}

/// Head of the self-test section. [`SelfTestCase`] records `[count]` follow, then the values'
/// bits as `f32` `[count, width]`, then the UTF-8 text.
///
/// The values of a case are, by the model's head: the logits of a classification; the logits of
/// all tokens of a text, added in their order from 0, of a classification of tokens and of the
/// answer to a question; an embedding; of the first masked word, in value `j` the logits of the
/// tokens `j`, `16 + j`, `32 + j` and so on, added in their order from 0.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct SelfTest {
    /// Number of cases, at least 1.
    pub count: u32,
    /// Bytes of text.
    pub text_length: u32,
}

/// One text of the self-test, or a pair of texts.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct SelfTestCase {
    /// Where the first text begins in the section's text.
    pub first_offset: u32,
    /// Its bytes.
    pub first_length: u32,
    /// Where the second text begins.
    pub second_offset: u32,
    /// Its bytes, or [`NO_TEXT`] where the case is a single text.
    pub second_length: u32,
}

/// Stands in [`SelfTestCase::second_length`] for "no second text".
pub const NO_TEXT: u32 = u32::MAX;

// The vocabulary section.

/// How a vocabulary makes tokens of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum VocabularyKind {
    /// BERT's: the longest token first.
    WordPiece = 0,
    /// RoBERTa's: bytes, merged pair by pair. Needs [`features::BYTE_LEVEL_BPE`].
    ByteLevelBpe = 1,
}

impl VocabularyKind {
    /// The kind with this number in a file.
    pub const fn from_u32(n: u32) -> Option<Self> {
        match n {
            0 => Some(Self::WordPiece),
            1 => Some(Self::ByteLevelBpe),
            _ => None,
        }
    }
}

/// Head of the vocabulary section. Without gaps follow the arrays.
///
/// In a [`VocabularyKind::WordPiece`] they are those of a trie of the tokens' bytes, whose nodes
/// are numbered level by level and within a level in the order of their bytes; then the rest:
///
/// 1. bits, in `u64`: for each node a one for each child, then a zero: `2 · nodes - 1`,
/// 2. bits, in `u64`: for each node whether a token ends there,
/// 3. `u32` `[ceil(nodes / NODES_PER_START)]`: the bit of 1 where every so many nodes begin,
/// 4. `u32` `[ceil(nodes / NODES_PER_RANK)]`: how many tokens end before every so many nodes,
/// 5. [`AddedToken`] `[added_raw + added_normalized]`,
/// 6. the byte of each node (0 for the root),
/// 7. the tokens' ids in the order of their nodes, of [`id_bytes`] each,
/// 8. the prefix of pieces that continue a word, `prefix_text` bytes,
/// 9. the added tokens' UTF-8 text, `added_text` bytes.
///
/// In a [`VocabularyKind::ByteLevelBpe`] they are the merges, in the ascending order of their
/// left token and then of their right one:
///
/// 1. `u32` `[tokens + 1]`: where the merges of each left token begin, and where all end,
/// 2. [`AddedToken`] `[added_raw + added_normalized]`,
/// 3. the id of the token of each byte `[256]`, of [`id_bytes`]`(tokens)` each, as are
/// 4. the right token of each merge,
/// 5. the token that each merge makes,
/// 6. the rank of each merge, of [`id_bytes`]`(merges)`: the least is done first,
/// 7. the added tokens' UTF-8 text, `added_text` bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Vocabulary {
    /// Number of tokens; their ids are less. At most [`Shape::vocabulary`].
    pub tokens: u32,
    /// Number of the trie's nodes, the root included; at most [`limits::NODES`]. 0 where there
    /// is no trie, as the other fields that only a WordPiece has.
    pub nodes: u32,
    /// Added tokens that are looked for in the text as it was given.
    pub added_raw: u32,
    /// Added tokens that are looked for in the normalized text.
    pub added_normalized: u32,
    /// Bytes of the prefix.
    pub prefix_text: u32,
    /// Bytes of the added tokens' text.
    pub added_text: u32,
    /// A word of more characters than this is unknown.
    pub max_word_chars: u32,
    /// Id of the token that stands for an unknown word.
    pub unknown: u32,
    /// Id of the token before the first text (`[CLS]`).
    pub classification: u32,
    /// Id of the token after each text (`[SEP]`).
    pub separator: u32,
    /// Of [`normalizer`], or of [`byte_level`].
    pub flags: u32,
    /// A [`VocabularyKind`].
    pub kind: u32,
    /// Number of merges; at most [`limits::MERGES`]. 0 in a WordPiece.
    pub merges: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// Nodes of the trie for each number that says where their bits begin.
pub const NODES_PER_START: usize = 16;
/// Nodes of the trie for each number that says how many tokens end before them; a multiple
/// of 64.
pub const NODES_PER_RANK: usize = 256;

/// Bytes of an id in a vocabulary of so many tokens, or of a rank among so many merges.
pub const fn id_bytes(tokens: u32) -> usize {
    if tokens <= 1 << 16 { 2 } else { 3 }
}

/// Bits of [`Vocabulary::flags`] of a byte-level BPE.
pub mod byte_level {
    /// A text, or a part between added tokens, that does not begin with a space gets one.
    pub const PREFIX_SPACE: u32 = 1 << 0;
    /// The part of the text that a token stands for is without the spaces at its ends.
    pub const TRIM_OFFSETS: u32 = 1 << 1;
    /// But the one space before the first token is left, as if it had been put there.
    pub const KEEP_FIRST_SPACE: u32 = 1 << 2;
    /// Two separators divide a pair, and all its tokens are of type 0.
    pub const DOUBLE_SEPARATOR: u32 = 1 << 3;
    /// All of them.
    pub const ALL: u32 = PREFIX_SPACE | TRIM_OFFSETS | KEEP_FIRST_SPACE | DOUBLE_SEPARATOR;
}

/// Bits of [`Vocabulary::flags`] of a WordPiece: the steps of the normalizer, in the order in
/// which it takes them.
pub mod normalizer {
    /// Removes control characters, and makes whitespace a space.
    pub const CLEAN_TEXT: u32 = 1 << 0;
    /// Puts a space on both sides of an ideograph.
    pub const SPACE_IDEOGRAPHS: u32 = 1 << 1;
    /// Decomposes canonically (NFD) and removes nonspacing marks.
    pub const STRIP_ACCENTS: u32 = 1 << 2;
    /// Makes letters lowercase.
    pub const LOWERCASE: u32 = 1 << 3;
    /// All of them.
    pub const ALL: u32 = CLEAN_TEXT | SPACE_IDEOGRAPHS | STRIP_ACCENTS | LOWERCASE;
}

/// A token that is found in the text before words are. Records lie in the ascending order of
/// their text's bytes, those for the raw text first.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Where its text begins in the added tokens' text.
    pub offset: u32,
    /// Bytes of its text: 1 to [`LONGEST_TOKEN`].
    pub length: u32,
    /// Of [`added_token`].
    pub flags: u32,
}

/// Bits of [`AddedToken::flags`].
pub mod added_token {
    /// Counts only where no word character is beside it.
    pub const SINGLE_WORD: u32 = 1 << 0;
    /// Takes the whitespace before it.
    pub const STRIP_LEFT: u32 = 1 << 1;
    /// Takes the whitespace after it.
    pub const STRIP_RIGHT: u32 = 1 << 2;
    /// All of them.
    pub const ALL: u32 = SINGLE_WORD | STRIP_LEFT | STRIP_RIGHT;
}

/// Upper bound of [`AddedToken::length`], and of the bytes of a token that a word can contain,
/// prefix included: it bounds the time that a hostile file can cost.
pub const LONGEST_TOKEN: u32 = 512;
