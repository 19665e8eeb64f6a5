//! The file of a trained head: docs/format-head.md is the same in prose.

use bytemuck::{Pod, Zeroable};

use super::TrainedHead;
use crate::error::{Error, ErrorCode};
use crate::format::limits;
use crate::head::embedding::Features;
use crate::model::EncoderId;

/// First eight bytes: as those of a model, but for a letter.
const MAGIC: [u8; 8] = *b"\x89FLH\r\n\x1a\n";

/// A reader refuses another major version, and ignores the minor one.
const VERSION: (u16, u16) = (1, 0);

/// Bytes of a head's report at most: a bound on what a reader shows.
const LONGEST_REPORT: u32 = 1 << 20;

/// The first 112 bytes. The weights follow as `f32` `[labels, width]`, the intercepts as `f32`
/// `[labels]`, where each label ends in the text as `u32` `[labels]`, the labels' UTF-8 text, and
/// the report.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    major: u16,
    minor: u16,
    /// CRC-32 of the file with this field zero.
    checksum: u32,
    file_length: u64,
    /// Bits of [`format::embedding`](crate::format::embedding).
    features: u32,
    /// Features of a text.
    width: u32,
    labels: u32,
    /// Bytes of all labels.
    text_length: u32,
    report_length: u32,
    /// Zero.
    reserved: u32,
    encoder: EncoderId,
}

/// The file contradicts the format: which field, what it must be, what it is.
fn malformed(
    field: &str,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Error {
    Error::new(
        ErrorCode::Malformed,
        format!(
            "{field}: expected {expected}, found {found}; the head's file is damaged, train it again"
        ),
    )
}

fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), Error> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(malformed(field, format_args!("{least} to {most}"), value)),
    }
}

/// Takes `count` values off the front of what is left; the lengths have been checked.
fn take<T: Pod>(rest: &mut &[u8], count: usize) -> Vec<T> {
    let (own, others) = rest.split_at(count * size_of::<T>());
    *rest = others;
    bytemuck::pod_collect_to_vec(own)
}

impl TrainedHead {
    /// Checks a file's bytes.
    ///
    /// # Errors
    /// [`ErrorCode::NotAModel`], [`ErrorCode::Unsupported`], [`ErrorCode::Malformed`] or
    /// [`ErrorCode::Checksum`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let header = check_header(bytes)?;
        let (labels, width) = (header.labels as usize, header.width as usize);
        let mut rest = &bytes[size_of::<Header>()..];
        let weights = take(&mut rest, labels * width);
        let bias = take(&mut rest, labels);
        let ends: Vec<u32> = take(&mut rest, labels);
        let text: Vec<u8> = take(&mut rest, header.text_length as usize);
        let features = Features::from_bits(header.features)
            .ok_or_else(|| malformed("header, features", "0 to 3", header.features))?;
        let head = Self {
            features,
            encoder: header.encoder,
            labels: split_labels(&ends, &text)?,
            weights,
            bias,
            report: rest.to_vec(),
        };
        match head.find_unusable() {
            None => Ok(head),
            Some((place, found)) => Err(malformed(&place, "a number of at most 2^50", found)),
        }
    }

    /// The file: the same bytes for the same head.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for labels or a report that are too long for a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let too_long = |what: &str, most: u32, found: usize| {
            let message = format!("{what}: expected at most {most} bytes, found {found}");
            Error::new(ErrorCode::InvalidArgument, message)
        };
        let text = self.labels.concat();
        let text_length =
            u32::try_from(text.len()).map_err(|_| too_long("labels", u32::MAX, text.len()))?;
        let report_length = u32::try_from(self.report.len())
            .ok()
            .filter(|&length| length <= LONGEST_REPORT)
            .ok_or_else(|| too_long("report", LONGEST_REPORT, self.report.len()))?;
        let mut end = 0;
        let ends: Vec<u32> = self
            .labels
            .iter()
            .map(|label| {
                end += label.len() as u32;
                end
            })
            .collect();
        let parts: [&[u8]; 5] = [
            bytemuck::cast_slice(&self.weights),
            bytemuck::cast_slice(&self.bias),
            bytemuck::cast_slice(&ends),
            text.as_bytes(),
            &self.report,
        ];
        let length = size_of::<Header>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut header = Header {
            magic: MAGIC,
            major: VERSION.0,
            minor: VERSION.1,
            checksum: 0,
            file_length: length as u64,
            features: self.features.bits(),
            width: self.width() as u32,
            labels: self.labels.len() as u32,
            text_length,
            report_length,
            reserved: 0,
            encoder: self.encoder,
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytemuck::bytes_of(&header));
        parts.iter().for_each(|part| hasher.update(part));
        header.checksum = hasher.finalize();
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Ok(bytes)
    }
}

/// The header of a file that is whole: its parts are as long as the header says.
fn check_header(bytes: &[u8]) -> Result<Header, Error> {
    let not_a_head = |found: &str| {
        let message = format!("is not the file of a head: {found}; make one with `filbert train`");
        Error::new(ErrorCode::NotAModel, message)
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(not_a_head(
            "it does not begin with the format's magic bytes",
        ));
    }
    let Some(start) = bytes.get(..size_of::<Header>()) else {
        return Err(not_a_head(&format!("{} bytes long", bytes.len())));
    };
    let header: Header = bytemuck::pod_read_unaligned(start);
    if header.major != VERSION.0 {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!(
                "is version {}.{} of a head's file; this library reads version {}: {}",
                header.major,
                header.minor,
                VERSION.0,
                match header.major > VERSION.0 {
                    true => "update the library",
                    false => "train the head again",
                }
            ),
        ));
    }
    if header.file_length != bytes.len() as u64 {
        let length = header.file_length;
        return Err(malformed("header, file length", bytes.len(), length));
    }
    let mut unsigned = header;
    unsigned.checksum = 0;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::bytes_of(&unsigned));
    hasher.update(&bytes[size_of::<Header>()..]);
    let found = hasher.finalize();
    if found != header.checksum {
        return Err(Error::new(
            ErrorCode::Checksum,
            format!(
                "its checksum is {found:08x}, the file states {:08x}; the head's file is damaged, copy it or train it again",
                header.checksum
            ),
        ));
    }
    within("header, labels", header.labels, 2, limits::LABELS)?;
    within("header, width", header.width, 1, limits::HIDDEN)?;
    within(
        "header, report length",
        header.report_length,
        0,
        LONGEST_REPORT,
    )?;
    within("header, reserved", header.reserved, 0, 0)?;
    // None of these exceeds 2^33, and their product not 2^35.
    let (labels, width) = (u64::from(header.labels), u64::from(header.width));
    let length = size_of::<Header>() as u64
        + 4 * (labels * width + 2 * labels)
        + u64::from(header.text_length)
        + u64::from(header.report_length);
    match length == header.file_length {
        true => Ok(header),
        false => Err(malformed("header, file length", length, header.file_length)),
    }
}

/// The labels by where each ends in the text.
fn split_labels(ends: &[u32], text: &[u8]) -> Result<Vec<String>, Error> {
    let mut labels = Vec::with_capacity(ends.len());
    let mut start = 0;
    for (index, &end) in ends.iter().enumerate() {
        let end = end as usize;
        let label = text.get(start..end).ok_or_else(|| {
            let field = format!("labels, end of label {index}");
            malformed(&field, format_args!("{start} to {}", text.len()), end)
        })?;
        let label = str::from_utf8(label)
            .map_err(|_| malformed(&format!("labels, label {index}"), "UTF-8", "other bytes"))?;
        labels.push(label.to_owned());
        start = end;
    }
    match start == text.len() {
        true => Ok(labels),
        false => Err(malformed("labels, end of the last", text.len(), start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> TrainedHead {
        TrainedHead {
            features: Features::mean().normalized(),
            encoder: bytemuck::Zeroable::zeroed(),
            labels: ["BAD", "", "très bien"].map(str::to_owned).to_vec(),
            weights: vec![0.5, -1.0, 0.0, 1e-40, 3.5, -0.0],
            bias: vec![0.25, -2.0, 1e15],
            report: b"{\"texts\":3}".to_vec(),
        }
    }

    /// The example, changed, with a checksum that fits.
    fn altered(change: impl FnOnce(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = example().to_bytes().unwrap();
        let mut header: Header = bytemuck::pod_read_unaligned(&bytes[..size_of::<Header>()]);
        let mut parts = bytes.split_off(size_of::<Header>());
        change(&mut header, &mut parts);
        header.checksum = 0;
        let whole = [bytemuck::bytes_of(&header), &parts].concat();
        header.checksum = crc32fast::hash(&whole);
        [bytemuck::bytes_of(&header), &parts].concat()
    }

    #[track_caller]
    fn refused(bytes: &[u8], code: ErrorCode, part: &str) {
        let error = TrainedHead::from_bytes(bytes).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn a_head_is_the_same_after_its_file() {
        let bytes = example().to_bytes().unwrap();
        let head = TrainedHead::from_bytes(&bytes).unwrap();
        assert_eq!(head, example());
        assert_eq!(head.to_bytes().unwrap(), bytes);
        assert_eq!(TrainedHead::from_bytes(&altered(|_, _| ())).unwrap(), head);
        // Nothing asks where the bytes lie.
        let shifted = [&[0], &bytes[..]].concat();
        assert_eq!(TrainedHead::from_bytes(&shifted[1..]).unwrap(), head);
    }

    #[test]
    fn a_newer_minor_version_is_read() {
        let bytes = altered(|header, _| header.minor = 9);
        assert!(TrainedHead::from_bytes(&bytes).is_ok());
    }

    #[test]
    fn every_cut_and_every_damaged_byte_is_an_error() {
        let bytes = example().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(TrainedHead::from_bytes(&bytes[..length]).is_err());
        }
        assert!(TrainedHead::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                assert!(TrainedHead::from_bytes(&damaged).is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn fields_that_contradict_each_other_are_errors() {
        use ErrorCode::{Checksum, Malformed, NotAModel, Unsupported};
        refused(b"", NotAModel, "magic bytes");
        refused(&MAGIC, NotAModel, "8 bytes long");
        refused(&crate::format::MAGIC, NotAModel, "magic bytes");
        let major = |major| altered(|header, _| header.major = major);
        refused(&major(2), Unsupported, "update the library");
        refused(&major(0), Unsupported, "train the head again");
        let mut damaged = example().to_bytes().unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        refused(&damaged, Checksum, "its checksum is");

        type Change = fn(&mut Header, &mut Vec<u8>);
        let cases: [(Change, &str); 15] = [
            (|h, _| h.file_length -= 1, "header, file length"),
            (|_, parts| parts.push(0), "header, file length"),
            (|h, _| h.labels = 0, "header, labels: expected 2 to 65536"),
            (|h, _| h.labels = u32::MAX, "header, labels"),
            (|h, _| h.labels = 2, "header, file length"),
            (|h, _| h.width = 0, "header, width: expected 1 to 16384"),
            (|h, _| h.width = u32::MAX, "header, width"),
            (|h, _| h.text_length = u32::MAX, "header, file length"),
            (|h, _| h.report_length = u32::MAX, "header, report length"),
            (|h, _| h.reserved = 1, "header, reserved"),
            (|h, _| h.features = 4, "header, features: expected 0 to 3"),
            (
                |_, parts| parts[36..40].fill(0xff),
                "labels, end of label 0",
            ),
            (|_, parts| parts[44..48].fill(0), "labels, end of label 2"),
            (|_, parts| parts[44] -= 1, "labels, end of the last"),
            (
                |_, parts| parts[48] = 0xff,
                "labels, label 0: expected UTF-8",
            ),
        ];
        for (change, part) in cases {
            refused(&altered(change), Malformed, part);
        }
        for unusable in [f32::NAN, f32::INFINITY, -2e15] {
            let bytes = altered(|_, parts| parts[8..12].copy_from_slice(&unusable.to_le_bytes()));
            refused(&bytes, Malformed, "weights, feature 0 of label 1");
            let bytes = altered(|_, parts| parts[32..36].copy_from_slice(&unusable.to_le_bytes()));
            refused(&bytes, Malformed, "bias, label 2");
        }
    }

    #[test]
    fn reports_have_a_longest() {
        let head = example().with_report(vec![b' '; 1 << 20]);
        let bytes = head.to_bytes().unwrap();
        assert_eq!(TrainedHead::from_bytes(&bytes).unwrap(), head);
        let error = head.with_report(vec![b' '; (1 << 20) + 1]).to_bytes();
        assert_eq!(error.unwrap_err().code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn logits_are_sums_in_a_fixed_order() {
        let mut logits = vec![7.0];
        example().push_logits(&[2.0, 0.5], &mut logits);
        assert_eq!(logits, [7.0, 0.75, -2.0, 7.0 + 1e15]);
    }
}
