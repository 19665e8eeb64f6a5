//! `cargo xtask sanitize`: the C library and the programs that test it under AddressSanitizer.

use std::path::Path;

use crate::process::{self, command, folder, output, root};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Opens and frees a classifier so often, with leaks looked for at the end.
const CYCLES: &str = "1000";

pub(crate) fn run() -> Result<(), String> {
    let folder = folder("sanitize")?;
    // The sanitizer's switch is not stable; what it does is the same in every build of rustc.
    process::run(
        command("cargo")
            .args(["rustc", "--release", "--locked", "--lib"])
            .args(["-p", "filbert-capi", "--crate-type", "staticlib"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&folder)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address"),
    )?;
    let model = folder.join("model.filbert");
    process::run(
        command("cargo")
            .args([
                "run",
                "--release",
                "--locked",
                "--quiet",
                "-p",
                "filbert-cli",
            ])
            .args(["--", "convert", "models/tiny-sst2", "-o"])
            .arg(&model),
    )?;
    for name in ["program", "posix", "cycles"] {
        let program = folder.join(name);
        compile(name, &program, &folder)?;
        let mut run = command(&program);
        run.arg(&model);
        match name {
            "program" => run.args(["Cargo.toml", "tests/texts/every_script.txt"]),
            "posix" => run.arg(folder.join("package")).arg("100000"),
            _ => run.arg(CYCLES),
        };
        let lines = output(run.env("ASAN_OPTIONS", "detect_leaks=1"))?
            .lines()
            .count();
        println!("{name}: AddressSanitizer finds nothing ({lines} lines)");
    }
    Ok(())
}

fn compile(name: &str, program: &Path, folder: &Path) -> Result<(), String> {
    process::run(
        command("cc")
            .args(["-std=gnu99", "-g", "-fsanitize=address", "-pthread"])
            .arg("-Iruntime/capi/include")
            .arg(root().join(format!("runtime/capi/tests/{name}.c")))
            .arg(folder.join(TARGET).join("release/libfilbert.a"))
            .args(["-ldl", "-lm", "-o"])
            .arg(program),
    )
}
