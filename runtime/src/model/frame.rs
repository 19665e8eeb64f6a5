//! The checks of a file's frame: header, section table, shape and tensor table.

use super::{copy_records, malformed, within};
use crate::error::{Error, ErrorCode};
use crate::format::{
    self, Activation, DATA_ALIGN, Head, Header, MAGIC, Problem, Section, SectionKind, Shape,
    Tensor, TensorKind, align_up, features, limits,
};

/// Sections that a file of a newer minor version may have.
const MOST_SECTIONS: usize = 64;

/// What messages call the section at this place of the table.
fn section_name(index: usize) -> String {
    match SectionKind::at(index) {
        Some(kind) => kind.name().to_owned(),
        None => format!("of kind {}", index + 1),
    }
}

pub(super) fn check_header(bytes: &[u8]) -> Result<Header, Error> {
    let Some(start) = bytes.get(..size_of::<Header>()) else {
        return Err(Error::new(
            ErrorCode::NotAModel,
            format!(
                "is not a .filbert file: {} bytes long; make one with `filbert convert`",
                bytes.len()
            ),
        ));
    };
    // It has words of 8 bytes, and the file may begin at a multiple of 4.
    let header: Header = bytemuck::pod_read_unaligned(start);
    if header.magic != MAGIC {
        return Err(Error::new(
            ErrorCode::NotAModel,
            "is not a .filbert file: it does not begin with the format's magic bytes; make one with `filbert convert`",
        ));
    }
    if header.major != format::MAJOR_VERSION {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!(
                "is version {}.{}; this library reads version {}: {}",
                header.major,
                header.minor,
                format::MAJOR_VERSION,
                if header.major > format::MAJOR_VERSION {
                    "update the library"
                } else {
                    "convert the model again"
                }
            ),
        ));
    }
    let unknown = header.required_features & !format::KNOWN_FEATURES;
    if unknown != 0 {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("needs features {unknown:#x} that this library lacks: update the library"),
        ));
    }
    if header.file_length != bytes.len() as u64 {
        return Err(malformed(
            "header, file length",
            bytes.len(),
            header.file_length,
        ));
    }
    Ok(header)
}

/// The sections that this version knows. A newer minor version may add others behind them,
/// which are checked as sections and not read.
pub(super) fn check_sections(
    bytes: &[u8],
    header: &Header,
) -> Result<[Section; SectionKind::ALL.len()], Error> {
    let known = SectionKind::ALL.len();
    let most = if header.minor > format::MINOR_VERSION {
        MOST_SECTIONS
    } else {
        known
    };
    within(
        "header, section count",
        header.section_count,
        known as u32,
        most as u32,
    )?;
    let (table, _) = copy_records::<Section>(
        "section table",
        &bytes[size_of::<Header>()..],
        u64::from(header.section_count),
    )?;
    let mut unsigned = *header;
    unsigned.checksum = 0;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::bytes_of(&unsigned));
    hasher.update(bytemuck::cast_slice(&table));
    if hasher.finalize() != header.checksum {
        return Err(Error::new(
            ErrorCode::Checksum,
            "header: its checksum does not match; the file is damaged, copy or convert it again",
        ));
    }
    if header.reserved != [0; 32] {
        return Err(malformed("header, reserved", "zeros", "other bytes"));
    }

    let mut end = (size_of::<Header>() + size_of_val(&table[..])) as u64;
    for (index, section) in table.iter().enumerate() {
        let kind = SectionKind::at(index);
        let name = section_name(index);
        let field = |field: &str| format!("section {name}, {field}");
        // Kinds count from 1, and are in order.
        let expected = index as u32 + 1;
        if section.kind != expected || section.reserved != 0 {
            return Err(malformed(field("kind"), expected, section.kind));
        }
        let expected = align_up(end, SectionKind::align(index));
        if expected != Some(section.offset) {
            return Err(malformed(
                field("offset"),
                format_args!("{expected:?}"),
                section.offset,
            ));
        }
        let last = section.offset.checked_add(section.length);
        let Some(last) = last.filter(|&last| last <= bytes.len() as u64) else {
            return Err(malformed(
                field("length"),
                "a section inside the file",
                section.length,
            ));
        };
        if bytes[end as usize..section.offset as usize]
            .iter()
            .any(|&b| b != 0)
        {
            return Err(malformed(
                field("padding"),
                "zeros before it",
                "other bytes",
            ));
        }
        end = last;
        if kind != Some(SectionKind::Weights) {
            let bytes = &bytes[section.offset as usize..end as usize];
            check_checksum(bytes, section, &name)?;
        }
    }
    if end != bytes.len() as u64 {
        return Err(malformed("header, file length", end, bytes.len()));
    }
    Ok(std::array::from_fn(|i| table[i]))
}

pub(super) fn check_checksum(bytes: &[u8], section: &Section, name: &str) -> Result<(), Error> {
    let found = crc32fast::hash(bytes);
    if found == section.checksum {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Checksum,
        format!(
            "section {name}: its checksum is {found:08x}, the file states {:08x}; the file is damaged, copy or convert it again",
            section.checksum
        ),
    ))
}

/// What the numbers in a shape stand for.
pub(super) struct Choices {
    pub(super) activation: Activation,
    pub(super) head_activation: Activation,
    pub(super) problem: Problem,
    pub(super) head: Head,
    /// Balanced inputs are rotated.
    pub(super) rotates: bool,
}

pub(super) fn check_shape(shape: &Shape, required_features: u32) -> Result<Choices, Error> {
    within("shape, layers", shape.layers, 1, limits::LAYERS)?;
    within("shape, hidden", shape.hidden, 1, limits::HIDDEN)?;
    within("shape, heads", shape.heads, 1, shape.hidden)?;
    within(
        "shape, intermediate",
        shape.intermediate,
        1,
        limits::INTERMEDIATE,
    )?;
    within("shape, vocabulary", shape.vocabulary, 1, limits::VOCABULARY)?;
    within("shape, positions", shape.positions, 1, limits::POSITIONS)?;
    within(
        "shape, token types",
        shape.token_types,
        0,
        limits::TOKEN_TYPES,
    )?;
    let head = check_head(shape, required_features)?;
    // A pair needs three special tokens.
    within("shape, max tokens", shape.max_tokens, 3, shape.positions)?;
    if u64::from(shape.heads) * u64::from(shape.head_size) != u64::from(shape.hidden) {
        return Err(malformed(
            "shape, head size",
            format_args!("{} / {}", shape.hidden, shape.heads),
            shape.head_size,
        ));
    }
    within(
        "shape, heads padded to 16 columns each",
        shape.attention_width() as u32,
        1,
        limits::INTERMEDIATE,
    )?;
    if !(shape.layer_norm_eps > 0.0 && shape.layer_norm_eps <= 1.0) {
        return Err(malformed(
            "shape, layer norm eps",
            "above 0, at most 1",
            shape.layer_norm_eps,
        ));
    }
    let activation = |field, n| {
        Activation::from_u32(n).ok_or_else(|| malformed(field, "an activation from 1 to 4", n))
    };
    let problem = Problem::from_u32(shape.problem).ok_or_else(|| {
        malformed(
            "shape, problem",
            "a problem type from 1 to 3",
            shape.problem,
        )
    })?;
    Ok(Choices {
        activation: activation("shape, activation", shape.activation)?,
        head_activation: activation("shape, head activation", shape.head_activation)?,
        problem,
        head,
        rotates: check_rotation(shape, required_features)?,
    })
}

/// Whether rows are rotated, which is only stated where there are rows that can be.
fn check_rotation(shape: &Shape, required_features: u32) -> Result<bool, Error> {
    let rotates = required_features & features::ROTATION != 0;
    let widths = [shape.hidden, shape.intermediate];
    if rotates && widths.map(|width| format::rotated_vectors(width as usize)) == [1, 1] {
        return Err(malformed(
            "header, required features",
            "bit 2 only where the hidden or the intermediate size is a multiple of 32",
            format_args!("{required_features:#x} with {widths:?}"),
        ));
    }
    Ok(rotates)
}

/// The head, and that what depends on it fits.
fn check_head(shape: &Shape, required_features: u32) -> Result<Head, Error> {
    let head = Head::from_u32(shape.head)
        .ok_or_else(|| malformed("shape, head", "a head from 0 to 4", shape.head))?;
    let stated = required_features & features::HEADS != 0;
    if stated == (head == Head::Classification) {
        return Err(malformed(
            "header, required features",
            "bit 0 for a head that is not 0, and for no other",
            format_args!("{required_features:#x} with head {}", shape.head),
        ));
    }
    let (least, most) = match head {
        Head::Classification | Head::TokenClassification => (1, limits::LABELS),
        Head::QuestionAnswering => (2, 2),
        Head::Embedding | Head::MaskedWords => (0, 0),
    };
    within("shape, labels", shape.labels, least, most)?;
    let most = match head {
        Head::Embedding => format::embedding::ALL,
        Head::MaskedWords => shape.vocabulary - 1,
        _ => 0,
    };
    within("shape, head options", shape.head_options, 0, most)?;
    if head != Head::Classification && shape.problem != Problem::SingleLabel as u32 {
        return Err(malformed(
            "shape, problem",
            "1 for this head",
            shape.problem,
        ));
    }
    Ok(head)
}

pub(super) fn check_tensors(
    shape: &Shape,
    required_features: u32,
    table: &[u8],
    weights: &[u8],
) -> Result<Vec<Tensor>, Error> {
    let imply = |is_fine: &dyn Fn(TensorKind, u32) -> bool| {
        format::tensor_table(shape, is_fine)
            .ok_or_else(|| malformed("shape", "a model that fits in a file", "larger dimensions"))
    };
    let (mut implied, mut end) = imply(&|_, _| false)?;
    let (stated, rest) = copy_records::<Tensor>("tensor table", table, implied.len() as u64)?;
    if !rest.is_empty() {
        return Err(malformed(
            "tensor table",
            format_args!("{} records", implied.len()),
            "more",
        ));
    }
    if required_features & features::FINE_PRODUCTS != 0 {
        let fine: Vec<(u32, u32)> = implied
            .iter()
            .zip(&stated)
            .filter(|(plain, stated)| {
                let is_product = TensorKind::PRODUCTS
                    .iter()
                    .any(|&kind| kind as u32 == plain.kind);
                is_product && u64::from(stated.dims[0]) == 2 * u64::from(plain.dims[0])
            })
            .map(|(plain, _)| (plain.kind, plain.layer))
            .collect();
        if fine.is_empty() {
            return Err(malformed(
                "header, required features",
                "bit 3 only where a product of a layer has its panels twice",
                format_args!("{required_features:#x}"),
            ));
        }
        (implied, end) = imply(&|kind, layer| fine.contains(&(kind as u32, layer)))?;
    }
    debug_assert!(
        implied
            .iter()
            .all(|tensor| tensor.offset.is_multiple_of(DATA_ALIGN))
    );
    for (index, (implied, stated)) in implied.iter().zip(&stated).enumerate() {
        if implied != stated {
            return Err(malformed(
                format_args!("tensor table, record {index}"),
                format_args!("{implied:?}"),
                format_args!("{stated:?}"),
            ));
        }
    }
    if weights.len() as u64 != end {
        return Err(malformed("section weights, length", end, weights.len()));
    }
    Ok(implied)
}
