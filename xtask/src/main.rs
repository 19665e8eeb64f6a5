//! `cargo xtask TASK`: what is done with the repository beside building it.

mod android;
mod arm;
mod cross;
mod header;
mod install;
mod ios;
mod jvm;
mod kernels;
mod process;
mod sanitize;
mod size;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  android [--libraries | --check]
      Builds the library for Android apps: native libraries for three ABIs, by cargo-ndk, and the
      Kotlin classes, by Maven. Writes an AAR as a Maven repository, target/android/maven.
      --libraries  the native libraries only, where Gradle looks for them
      --check      on Debian, without the NDK: builds all of it to look at; fails if a library
                   exports what is not of JNI or is laid out for small pages, or if the AAR has
                   not what it must have
  cross [--quick] [--armv7]
      Builds for 64-bit Arm, runs the tests under qemu with NEON alone, with dotprod and with
      i8mm, and compares files and logits with those of this machine, bit for bit.
      --quick  20 texts instead of 200, and only the model in the repository converted on Arm
      --armv7  32-bit Arm too: builds the standard library
  header [--check]
      Writes the C header from the sources of the C library.
      --check  writes nothing; fails if the header is not what the sources say
  install [--prefix DIR] [--libraries DIR]
      Builds the C library as it ships, and copies it with its header and a file for pkg-config
      under DIR, /usr/local if none is given.
      --libraries  a folder in which the libraries are built already
  ios [--check]
      Builds the C library for iOS, its simulator and macOS, and puts it into the Swift package
      as ios/CFilbert.xcframework: on a Mac, with Xcode.
      --check  on Debian: builds it for iOS and Android as far as the link, with the standard
               library from its source; fails if a function of the C ABI is missing, or if one
               is used for which Apple demands a reason that the privacy manifest does not have
  jvm [--overhead] [--without-onnx]
      Builds the library for the JVM and tests the Kotlin code with it; fails if the JVM finds
      that a rule of JNI is broken. FILBERT_CYCLES is how often a model is opened and closed.
      --overhead      measures how long a call through JNI takes beyond the same in Rust
      --without-onnx  builds the command, which converts the model, without ONNX
  kernels [--check]
      Predicts the speed of the Arm kernels with llvm-mca, and writes the table in
      docs/kernels.md.
      --check  writes nothing; fails if a tile of a set is not found in the code
  sanitize
      Builds the C library with AddressSanitizer and runs the C programs that test it.
  size [--check]
      Builds the C library as it ships for x86-64 and 64-bit Arm, and writes how large it is and
      what it is made of in docs/size.md.
      --check  writes nothing; fails if a library is larger than 1 MiB or than recorded by more
               than 5 %, exports what is not of the C ABI, or is laid out for small pages

`android --check`, `cross`, `kernels` and `size` need an Arm toolchain: docs/kernels.md says which.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["android"] => android::run(android::Task::Aar),
        ["android", "--libraries"] => android::run(android::Task::Libraries),
        ["android", "--check"] => android::run(android::Task::Check),
        ["cross", ref options @ ..] if known(options, &["--quick", "--armv7"]) => {
            cross::run(options.contains(&"--quick"), options.contains(&"--armv7"))
        }
        ["header", ref options @ ..] if known(options, &["--check"]) => {
            header::run(options.contains(&"--check"))
        }
        ["install", ref options @ ..] => match install_options(options) {
            Some((prefix, libraries)) => install::run(Path::new(prefix), libraries.map(Path::new)),
            None => return usage(),
        },
        ["ios", ref options @ ..] if known(options, &["--check"]) => {
            ios::run(options.contains(&"--check"))
        }
        ["sanitize"] => sanitize::run(),
        ["jvm", ref options @ ..] if known(options, &["--overhead", "--without-onnx"]) => {
            let task = match options.contains(&"--overhead") {
                true => jvm::Task::Overhead,
                false => jvm::Task::Test,
            };
            jvm::run(task, !options.contains(&"--without-onnx"))
        }
        ["kernels", ref options @ ..] if known(options, &["--check"]) => {
            kernels::run(options.contains(&"--check"))
        }
        ["size", ref options @ ..] if known(options, &["--check"]) => {
            size::run(options.contains(&"--check"))
        }
        ["-h" | "--help" | "help"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{HELP}");
    ExitCode::from(2)
}

/// The prefix, and the folder of the libraries.
fn install_options<'a>(options: &[&'a str]) -> Option<(&'a str, Option<&'a str>)> {
    let (mut prefix, mut libraries) = ("/usr/local", None);
    for option in options.chunks(2) {
        match *option {
            ["--prefix", folder] => prefix = folder,
            ["--libraries", folder] => libraries = Some(folder),
            _ => return None,
        }
    }
    Some((prefix, libraries))
}

fn known(options: &[&str], all: &[&str]) -> bool {
    options.iter().all(|option| all.contains(option))
}
