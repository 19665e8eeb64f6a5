//! `cargo xtask install`: the C library where other programs find it.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

use crate::process::{self, command, root};

const HEADER: &str = "runtime/capi/include/filbert.h";
const PACKAGE: &str = "runtime/capi/filbert.pc.in";
const STATIC: &str = "libfilbert.a";

/// Copies libraries and header under `prefix`, and writes the file for pkg-config. The libraries
/// are those in a folder, or built as they ship.
pub(crate) fn run(prefix: &Path, libraries: Option<&Path>) -> Result<(), String> {
    let from = match libraries {
        Some(folder) => folder.to_owned(),
        None => build()?,
    };
    let folder = |name: &str| -> Result<PathBuf, String> {
        let folder = prefix.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    };
    let lib = folder("lib")?;
    let shared = format!("{DLL_PREFIX}filbert{DLL_SUFFIX}");
    for name in [STATIC, &shared] {
        copy(&from.join(name), &lib.join(name))?;
    }
    copy(&root().join(HEADER), &folder("include")?.join("filbert.h"))?;
    let prefix =
        std::path::absolute(prefix).map_err(|error| format!("{}: {error}", prefix.display()))?;
    let package = process::read(&root().join(PACKAGE))?
        .replace("@PREFIX@", &prefix.display().to_string())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    process::write(&folder("lib/pkgconfig")?.join("filbert.pc"), &package)?;
    println!("installed under {}", prefix.display());
    Ok(())
}

fn build() -> Result<PathBuf, String> {
    let target = root().join("target");
    process::run(
        command("cargo")
            .args([
                "build",
                "--locked",
                "-p",
                "filbert-capi",
                "--profile",
                "ship",
            ])
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(target.join("ship"))
}

/// Puts a copy in the place of what was there, which programs may have mapped.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new).map_err(|error| format!("{}: {error}", from.display()))?;
    std::fs::rename(&new, to).map_err(|error| format!("{}: {error}", to.display()))
}
