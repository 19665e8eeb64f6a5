//! An export as a file on the disk, whose bytes are the steps of a task.

use std::io::{self, Write};

use crate::output::OutputFile;
use crate::progress::Progress;
use crate::quantization::Quantization;
use crate::{Checkpoint, Error};

/// As [`super::export_float32`].
pub(crate) fn write_float32(
    checkpoint: &Checkpoint,
    file: &mut OutputFile,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    progress.begin("writing ONNX", checkpoint.float32_length());
    super::export_float32(checkpoint, &mut Followed { file, progress })?;
    progress.finish();
    Ok(())
}

/// As [`super::export_int8`].
pub(crate) fn write_int8(
    checkpoint: &Checkpoint,
    quantization: &Quantization,
    file: &mut OutputFile,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    progress.begin("writing int8 ONNX", checkpoint.float32_length() / 4);
    super::export_int8(checkpoint, quantization, &mut Followed { file, progress })?;
    progress.finish();
    Ok(())
}

/// Tells the progress what is written, and errors where.
struct Followed<'a> {
    file: &'a mut OutputFile,
    progress: &'a mut dyn Progress,
}

impl Write for Followed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).map_err(|error| {
            let message = format!("{}: {error}", self.file.target().display());
            io::Error::new(error.kind(), message)
        })?;
        self.progress.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
