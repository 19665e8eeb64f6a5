//! A file that appears under its name whole or not at all.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::Error;

/// A file being written: under a temporary name in the target's folder, until
/// [`OutputFile::commit`] renames it. Dropped before that, it is removed, and whatever had the
/// final name is untouched.
pub struct OutputFile {
    target: PathBuf,
    writer: BufWriter<File>,
    /// Removes the file when it is dropped.
    temporary: TempPath,
    length: u64,
}

impl fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputFile")
            .field("target", &self.target)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl OutputFile {
    /// Creates the temporary file, which shows that the folder can be written to.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let target = resolve(path)?;
        if target.file_name().is_none() {
            return Err(Error::in_file(
                path,
                "not the name of a file to write; give one such as model.filbert",
            ));
        }
        let folder = folder_of(&target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".filbert-").suffix(".tmp");
        // As `File::create` would: for everybody whom the umask lets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|error| {
            let reason = reason(folder, &error);
            Error::in_file(path, format!("cannot write to its folder: {reason}"))
        })?;
        // Apart, the file's errors do not name the temporary path.
        let (file, temporary) = file.into_parts();
        Ok(Self {
            target,
            writer: BufWriter::new(file),
            temporary,
            length: 0,
        })
    }

    /// The final name, symbolic links followed.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Waits until the bytes are on the disk, then gives the file its final name, in place of a
    /// file that has it now.
    pub fn commit(self) -> Result<(), Error> {
        let target = self.target;
        let failed = |error: &io::Error| Error::in_file(&target, format!("not written: {error}"));
        let file = self
            .writer
            .into_inner()
            .map_err(|error| failed(error.error()))?;
        file.sync_all().map_err(|error| failed(&error))?;
        drop(file);
        self.temporary
            .persist(&target)
            .map_err(|error| failed(&error.error))?;
        // The name is on the disk once its folder is. Some file systems cannot do this, and the
        // file is whole either way.
        #[cfg(unix)]
        let _ = File::open(folder_of(&target)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Follows symbolic links, so that the file they lead to is replaced and not the link; refuses
/// folders and devices, which a rename would destroy.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Error::in_file(
            path,
            "is a folder; give the name of the file to write",
        )),
        Ok(metadata) if !metadata.is_file() => Err(Error::in_file(
            path,
            "is not a regular file, and only such a file can be replaced",
        )),
        Ok(_) => fs::canonicalize(path).map_err(|error| Error::in_file(path, error)),
        // Nothing there: any other obstacle shows when the temporary file is created.
        Err(_) => Ok(path.to_owned()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Why a file cannot be created in the folder: without its temporary name, which the `tempfile`
/// crate adds and which tells nobody anything.
fn reason(folder: &Path, error: &io::Error) -> io::Error {
    fs::metadata(folder)
        .err()
        .unwrap_or_else(|| error.kind().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn commit_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.filbert");
        fs::write(&target, "before").unwrap();
        let mut file = OutputFile::create(&target).unwrap();
        file.write_all(b"after").unwrap();
        assert_eq!(file.length(), 5);
        assert_eq!(fs::read(&target).unwrap(), b"before");
        file.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"after");
        assert_eq!(names(folder.path()), ["model.filbert"]);
    }

    #[test]
    fn drop_leaves_the_target_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.filbert");
        let mut file = OutputFile::create(&target).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn folders_and_missing_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = OutputFile::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
        let error = OutputFile::create(&folder.path().join("no/model.filbert")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("no/model.filbert: cannot write"), "{error}");
        assert!(!error.contains("at path"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_devices_refused_and_the_umask_kept() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        let link = folder.path().join("link");
        File::create(&plain).unwrap();
        std::os::unix::fs::symlink(&plain, &link).unwrap();
        let mut file = OutputFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&plain).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        let other = folder.path().join("other");
        File::create(&other).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&plain), mode(&other));

        let error = OutputFile::create(Path::new("/dev/null")).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
