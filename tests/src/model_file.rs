//! A `.filbert` file taken apart, to be changed and put together again with everything that is
//! derived (offsets, lengths, checksums) right, so that the checks behind them are reached.

use bytemuck::{Pod, bytes_of, cast_slice, pod_read_unaligned};
use filbert::format::{Header, Section, SectionKind, Shape, Tensor, TensorKind};

/// The number of sections.
const COUNT: usize = SectionKind::ALL.len();
/// Where the first section can begin.
pub const TABLE_END: usize = size_of::<Header>() + COUNT * size_of::<Section>();

/// The contents of a file.
#[derive(Clone)]
pub struct ModelFile {
    header: Header,
    sections: Vec<Vec<u8>>,
}

impl ModelFile {
    /// Takes a valid file apart.
    pub fn new(bytes: &[u8]) -> Self {
        let header = pod_read_unaligned(&bytes[..size_of::<Header>()]);
        let table: Vec<Section> = records(&bytes[size_of::<Header>()..TABLE_END]);
        let sections = table
            .iter()
            .map(|section| bytes[section.offset as usize..][..section.length as usize].to_vec())
            .collect();
        Self { header, sections }
    }

    /// A section's bytes.
    pub fn section(&self, kind: SectionKind) -> &[u8] {
        &self.sections[kind as usize - 1]
    }

    /// A section's bytes, to be changed; their number too.
    pub fn section_mut(&mut self, kind: SectionKind) -> &mut Vec<u8> {
        &mut self.sections[kind as usize - 1]
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        pod_read_unaligned(self.section(SectionKind::Shape))
    }

    /// The tensor table.
    pub fn tensors(&self) -> Vec<Tensor> {
        records(self.section(SectionKind::Tensors))
    }

    /// A tensor's bytes.
    ///
    /// # Panics
    /// If the model has no such tensor.
    pub fn tensor_mut(&mut self, kind: TensorKind, layer: u32) -> &mut [u8] {
        let tensor = *self
            .tensors()
            .iter()
            .find(|tensor| tensor.kind == kind as u32 && tensor.layer == layer)
            .expect("a tensor of the model");
        let weights = self.section_mut(SectionKind::Weights);
        &mut weights[tensor.offset as usize..][..tensor.length as usize]
    }

    /// The file, whole and with the right checksums.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; TABLE_END];
        let mut table = Vec::new();
        for (index, (section, kind)) in self.sections.iter().zip(SectionKind::ALL).enumerate() {
            let align = SectionKind::align(index) as usize;
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            table.push(Section {
                kind: kind as u32,
                checksum: crc32fast::hash(section),
                offset: bytes.len() as u64,
                length: section.len() as u64,
                reserved: 0,
            });
            bytes.extend_from_slice(section);
        }
        let header = Header {
            file_length: bytes.len() as u64,
            ..self.header
        };
        bytes[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        bytes[size_of::<Header>()..TABLE_END].copy_from_slice(cast_slice(&table));
        sign_head(&mut bytes);
        bytes
    }
}

/// Records wherever they lie.
fn records<T: Pod>(bytes: &[u8]) -> Vec<T> {
    let records = bytes.chunks_exact(size_of::<T>());
    records.map(pod_read_unaligned).collect()
}

/// Changes one record of plain data in place.
pub fn edit<T: Pod>(bytes: &mut [u8], change: impl FnOnce(&mut T)) {
    let bytes = &mut bytes[..size_of::<T>()];
    let mut record = pod_read_unaligned(bytes);
    change(&mut record);
    bytes.copy_from_slice(bytes_of(&record));
}

/// Changes the header and the section table of a file, and gives them the right checksum.
pub fn edit_head(bytes: &mut [u8], change: impl FnOnce(&mut Header, &mut [Section; COUNT])) {
    let (header, table) = bytes.split_at_mut(size_of::<Header>());
    edit(header, |header| edit(table, |table| change(header, table)));
    sign_head(bytes);
}

/// Gives the header and the section table the checksum that their bytes have.
pub fn sign_head(bytes: &mut [u8]) {
    edit::<Header>(bytes, |header| header.checksum = 0);
    let checksum = crc32fast::hash(&bytes[..TABLE_END]);
    edit::<Header>(bytes, |header| header.checksum = checksum);
}
