//! The toolchain for Arm.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use crate::process::command;

/// 64-bit Arm Linux.
pub(crate) const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// 32-bit Arm Linux.
pub(crate) const ARMV7: &str = "armv7-unknown-linux-gnueabihf";

/// Where Debian's compiler is: the one with a standard library for Arm where rustup has none.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Everything is static, so that tests and programs share what they are built from.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// What runs a 64-bit Arm program here.
pub(crate) const EMULATOR: &str = "qemu-aarch64-static";

/// `cargo` for 64-bit Arm, in release, static.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = cargo_shared(subcommand);
    cargo.arg("--release").env("RUSTFLAGS", STATIC);
    cargo
}

/// `cargo` for shared libraries for 64-bit Arm, which cannot be static; the caller names the
/// profile. It has a target folder of its own.
pub(crate) fn cargo_shared(subcommand: &str) -> Command {
    let mut cargo = command("cargo");
    cargo
        .arg(subcommand)
        .args(["--locked", "--target", AARCH64]);
    cargo.args(["--target-dir", "target/cross"]);
    cargo.env(
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
        "aarch64-linux-gnu-gcc",
    );
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR);
    let rustc = rustc();
    if rustc == DEBIAN_RUSTC {
        // Both from one place, or documentation tests do not link.
        cargo.env("RUSTDOC", "/usr/bin/rustdoc");
    }
    cargo.env("RUSTC", rustc);
    cargo
}

/// The compiler for 64-bit Arm: that of the environment if it can build for it, and else
/// Debian's.
pub(crate) fn rustc() -> OsString {
    let usual = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if !has_standard_library(&usual) && Path::new(DEBIAN_RUSTC).exists() {
        return DEBIAN_RUSTC.into();
    }
    usual
}

/// Whether a compiler has a standard library for 64-bit Arm.
fn has_standard_library(rustc: &OsStr) -> bool {
    let folder = command(rustc)
        .args(["--print", "target-libdir", "--target", AARCH64])
        .output();
    folder.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&path).exists()
    })
}

/// `cargo` for 32-bit Arm, which builds the standard library from Debian's source.
pub(crate) fn cargo_armv7(subcommand: &str) -> Command {
    let mut cargo = command("/usr/bin/cargo");
    cargo
        .arg(subcommand)
        .args(["--release", "--locked", "--target", ARMV7]);
    cargo.args([
        "--target-dir",
        "target/cross-armv7",
        "-Zbuild-std=std,panic_unwind",
    ]);
    cargo
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTDOC", "/usr/bin/rustdoc");
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env(
        "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER",
        "arm-linux-gnueabihf-gcc",
    );
    cargo.env("RUSTFLAGS", STATIC);
    cargo
}
