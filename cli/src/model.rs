//! The model that a command works on.

use std::path::Path;

use filbert::{Classifier, ErrorCode, Model, Options, TrainedHead};
#[cfg(feature = "convert")]
use filbert_convert::{hub, package::Package};

use crate::Failure;
use crate::help::CONVERT;
#[cfg(feature = "convert")]
use crate::terminal::{self, ProgressBars};

/// Opens a `.filbert` file, or converts a checkpoint in memory and says so.
pub(crate) fn open(path: &Path) -> Result<Model, Failure> {
    #[cfg(feature = "convert")]
    if is_checkpoint(path) {
        return Ok(Model::from_vec(convert(path)?.into_bytes())?);
    }
    check_file(path)?;
    Model::open(path).map_err(|error| {
        let is_head = error.code() == ErrorCode::NotAModel && TrainedHead::open(path).is_ok();
        match is_head {
            true => Failure::Failed(format!(
                "{}: is a trained head, not an encoder; give its encoder as the model, and this \
                 file to `filbert classify` or `eval` as --head",
                path.display()
            )),
            false => error.into(),
        }
    })
}

/// Opens a trained head, if there is one, for this encoder.
pub(crate) fn open_head(
    path: Option<&Path>,
    encoder: &Model,
) -> Result<Option<TrainedHead>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let head = TrainedHead::open(path)?;
    head.check_encoder(encoder)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    Ok(Some(head))
}

/// Classifies by the model's own head, or by a trained one.
pub(crate) fn classifier(
    model: Model,
    head: Option<TrainedHead>,
    options: &Options,
) -> Result<Classifier, Failure> {
    Ok(match head {
        Some(head) => Classifier::with_head(model, head, options)?,
        None => Classifier::new(model, options)?,
    })
}

/// Converts a checkpoint, be it a folder, an ONNX file or a name on the hub, in memory and says so.
#[cfg(feature = "convert")]
pub(crate) fn convert(source: &Path) -> Result<Package, Failure> {
    let mut progress = ProgressBars::default();
    let checkpoint = hub::open(source, &mut progress)?;
    terminal::note(&format!(
        "{0} is a checkpoint: converting it in memory; `filbert convert {0} -o FILE` does so once \
         and for all",
        source.display()
    ));
    Ok(Package::build(&checkpoint, &mut progress)?)
}

/// Whether this is a checkpoint, to be converted, and not a `.filbert` file.
pub(crate) fn is_checkpoint(path: &Path) -> bool {
    path.is_dir() || is_name(path) || is_onnx(path)
}

/// Whether this is how a model in ONNX is named.
fn is_onnx(path: &Path) -> bool {
    path.extension() == Some("onnx".as_ref())
}

/// Whether this is how a model on the Hugging Face hub is named.
fn is_name(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with("hf:"))
}

/// Refuses a folder, an ONNX file or a name on the hub, with the advice to convert it.
pub(crate) fn check_file(path: &Path) -> Result<(), Failure> {
    let what = if path.is_dir() {
        "is a folder"
    } else if is_name(path) {
        "names a model on the Hugging Face hub"
    } else if is_onnx(path) {
        "is a model in ONNX"
    } else {
        return Ok(());
    };
    let path = path.display();
    Err(Failure::Failed(if CONVERT {
        format!(
            "{path}: {what}, not a .filbert file; make one with `filbert convert {path} -o FILE`"
        )
    } else {
        format!(
            "{path}: {what}, not a .filbert file, and this build has no converter; run \
             `filbert convert {path} -o FILE` with a build that has it, and copy the file here"
        )
    }))
}
