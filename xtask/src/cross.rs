//! `cargo xtask cross`: 64-bit Arm under qemu, against this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arm::{self, AARCH64, ARMV7, EMULATOR};
use crate::process::{self, command, folder, output, root};

/// A CPU of qemu, and the kernel sets that run on it.
const LEVELS: &[(&str, &str)] = &[
    ("cortex-a53", "neon"),
    ("cortex-a76", "dotprod neon"),
    ("max", "i8mm dotprod neon"),
];

/// The sets of 64-bit Arm, to be forced one by one.
const ARM_SETS: &[&str] = &["i8mm", "dotprod", "neon"];

/// Texts for programs that read a file of them.
const TEXTS_OF_EVERY_SCRIPT: &str = "tests/texts/every_script.txt";

/// Texts whose logits are compared.
const TEXTS: usize = 200;
const FEW_TEXTS: usize = 20;

/// A checkpoint, and the labelled texts that it is tried on, under the shared folder.
const SHARED: &[(&str, &str)] = &[
    ("minilm-sst2", "sst2"),
    ("distil-minilm-sst2", "sst2"),
    ("minilm-pair", "mrpc"),
];

fn run_tests() -> Result<(), String> {
    for (cpu, sets) in LEVELS {
        eprintln!("=== The runtime's tests on {cpu}");
        process::run(
            arm::cargo("test")
                .args(["-p", "filbert", "--lib", "--tests"])
                .env("QEMU_CPU", cpu)
                .env("FILBERT_REQUIRE_ISA", sets),
        )?;
        process::run(
            arm::cargo("test")
                .args(["-p", "filbert", "--lib", "--", "--nocapture"])
                .arg("the_required_sets_are_tested")
                .env("QEMU_CPU", cpu)
                .env("FILBERT_REQUIRE_ISA", sets),
        )?;
    }
    eprintln!("=== Whole models of odd shapes, and hostile files");
    process::run(
        arm::cargo("test")
            .args(["-p", "filbert-tests", "--no-default-features"])
            .args(["--test", "shapes", "--test", "hostile"])
            .env("QEMU_CPU", "max")
            .env("FILBERT_RUNNER", EMULATOR),
    )
}

pub(crate) fn run(quick: bool, armv7: bool) -> Result<(), String> {
    run_tests()?;

    eprintln!("=== The command, for this machine and for Arm");
    process::run(command("cargo").args(["build", "--release", "--locked", "-p", "filbert-cli"]))?;
    process::run(
        arm::cargo("build")
            .args(["-p", "filbert-cli", "--no-default-features"])
            .args(["--features", "convert"]),
    )?;
    let made = |target: &str| {
        root()
            .join("target/cross")
            .join(target)
            .join("release/filbert")
    };
    let folder = folder("cross/files")?;
    let converter = folder.join("filbert-aarch64-convert");
    copy(&made(AARCH64), &converter)?;
    // For devices: without the converter, and all in one file.
    process::run(arm::cargo("build").args(["-p", "filbert-cli", "--no-default-features"]))?;
    let device = folder.join("filbert-aarch64");
    process::strip("aarch64-linux-gnu-strip", &made(AARCH64), &device)?;
    check_static(&device)?;

    let host = root().join("target/release/filbert");
    let mut models = vec![("tiny-sst2", root().join("models/tiny-sst2"), "sst2")];
    let shared = std::env::var_os("FILBERT_SHARED").map_or(root().join("../shared"), PathBuf::from);
    for (model, data) in SHARED {
        models.push((model, shared.join("models").join(model), data));
    }
    let mut agreed = Vec::new();
    for (name, checkpoint, data) in models {
        if !checkpoint.exists() {
            eprintln!(
                "=== {name}: not here, so not compared ({})",
                checkpoint.display()
            );
            continue;
        }
        eprintln!("=== {name}: one file and the same logits");
        let file = folder.join(format!("{name}.filbert"));
        process::run(
            command(&host)
                .arg("convert")
                .arg(&checkpoint)
                .arg("-o")
                .arg(&file),
        )?;
        let small = name == "tiny-sst2";
        if small || !quick {
            let other = folder.join(format!("{name}-from-arm.filbert"));
            process::run(
                emulate(&converter, "max")
                    .arg("convert")
                    .arg(&checkpoint)
                    .arg("-o")
                    .arg(&other),
            )?;
            if !process::same(&file, &other)? {
                return Err(format!("{name}: Arm writes another file than this machine"));
            }
            println!("{name}: Arm writes the same file");
        }
        let texts = folder.join(format!("{name}.txt"));
        let count = write_texts(&shared, data, if quick { FEW_TEXTS } else { TEXTS }, &texts)?;
        if small {
            let fine = compare_calibrated(&host, &converter, &checkpoint, &folder)?;
            println!("{name}: Arm writes the same file by calibration texts");
            println!("{name}, some products in 16 bits: {count} texts");
            compare_fingerprints(&host, &device, &fine, &texts, small)?;
        }
        println!("{name}: {count} texts");
        let fingerprint = compare_fingerprints(&host, &device, &file, &texts, small)?;
        agreed.push((file, texts, fingerprint));
    }
    compare_c_programs(&agreed[0].0, &device)?;
    if armv7 {
        run_armv7(&agreed[0])?;
    }
    let size = std::fs::metadata(&device)
        .map_err(|error| error.to_string())?
        .len();
    println!("the command for 64-bit Arm, static, without the converter: {size} bytes");
    println!("kernel sets that ran on Arm: {}", ARM_SETS.join(" "));
    Ok(())
}

/// The fingerprint, which is the same on every set that runs here or under qemu.
fn compare_fingerprints(
    host: &Path,
    device: &Path,
    file: &Path,
    texts: &Path,
    small: bool,
) -> Result<String, String> {
    let fingerprints = compute(host, device, file, texts, small)?;
    let mut sets: Vec<_> = fingerprints.iter().map(|(set, _)| set.as_str()).collect();
    let first = &fingerprints[0].1;
    if fingerprints
        .iter()
        .any(|(_, fingerprint)| fingerprint != first)
    {
        return Err(format!("{}: {fingerprints:?}", file.display()));
    }
    if sets.contains(&"avx512vnni") && !sets.contains(&"avxvnni") {
        test_avxvnni_tiles(file, texts, first)?;
        sets.push("the tiles of avxvnni");
    }
    println!("fingerprint {first} on {}", sets.join(", "));
    Ok(first.clone())
}

/// The fingerprint of every set that runs here or under qemu.
fn compute(
    host: &Path,
    device: &Path,
    file: &Path,
    texts: &Path,
    small: bool,
) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    // In every way to run, where that does not take all day.
    let ways: &[&str] = if small {
        &["--threads", "1,2,3,8"]
    } else {
        &[]
    };
    for set in sets_of(host)? {
        let mut selftest = command(host);
        selftest.env("FILBERT_ISA", &set);
        let fingerprint = fingerprint(&mut selftest, file, texts, ways)?;
        found.push((set, fingerprint));
    }
    for set in ARM_SETS
        .iter()
        .chain(if small { &["scalar"][..] } else { &[] })
    {
        let mut selftest = emulate(device, "max");
        selftest.env("FILBERT_ISA", set);
        found.push((
            format!("{set} (Arm)"),
            fingerprint(&mut selftest, file, texts, ways)?,
        ));
    }
    Ok(found)
}

/// The tiles of AVX-VNNI by the encoding of AVX-512, where this machine has only that.
fn test_avxvnni_tiles(file: &Path, texts: &Path, fingerprint: &str) -> Result<(), String> {
    let open = std::fs::File::open(texts);
    let texts = open.map_err(|error| format!("{}: {error}", texts.display()))?;
    let printed = output(
        command("cargo")
            .stdin(texts)
            .args(["test", "--release", "--locked", "-p", "filbert", "--lib"])
            .args(["--", "--ignored", "--nocapture", "--exact"])
            .arg("classifier::tests::the_tiles_of_avxvnni_give_the_fingerprint_of_other_sets")
            .env("FILBERT_FILE", file)
            .env("FILBERT_FINGERPRINT", fingerprint),
    )?;
    if printed.contains(&format!("avx512vl: fingerprint {fingerprint}")) {
        Ok(())
    } else {
        Err(format!("the tiles of AVX-VNNI were not tested: {printed}"))
    }
}

/// The sets that this machine has: the list in the refusal of one that no machine has.
fn sets_of(host: &Path) -> Result<Vec<String>, String> {
    let refusal = command(host)
        .args(["classify", "models/tiny-sst2", "x"])
        .env("FILBERT_ISA", "none")
        .output()
        .map_err(|error| format!("{}: {error}", host.display()))?;
    let message = String::from_utf8_lossy(&refusal.stderr).into_owned();
    let (_, list) = message.rsplit_once("it has ").ok_or(message.clone())?;
    Ok(list.trim().split(", ").map(str::to_owned).collect())
}

fn fingerprint(
    selftest: &mut Command,
    file: &Path,
    texts: &Path,
    ways: &[&str],
) -> Result<String, String> {
    let printed = output(
        selftest
            .arg("selftest")
            .arg(file)
            .arg("--texts")
            .arg(texts)
            .args(ways),
    )?;
    printed
        .rsplit_once("fingerprint ")
        .and_then(|(_, rest)| rest.get(..16))
        .map(str::to_owned)
        .ok_or(format!("no fingerprint in {printed:?}"))
}

/// A program under qemu.
fn emulate(program: &Path, cpu: &str) -> Command {
    let mut emulator = command(EMULATOR);
    emulator.arg(program).env("QEMU_CPU", cpu);
    emulator
}

/// Lines by which products are chosen to be in 16 bits: to run them takes long under qemu.
const FEW_LINES: usize = 6;

/// Converts by calibration texts, the lines of a file of ours, on this machine and on Arm; then
/// by the first of them, with some products in 16 bits, which is returned.
fn compare_calibrated(
    host: &Path,
    converter: &Path,
    checkpoint: &Path,
    folder: &Path,
) -> Result<PathBuf, String> {
    let lines = process::read(&root().join("tests/texts/every_script.txt"))?;
    let compare = |name: &str, count: usize, more: &[&str]| {
        let texts = folder.join(format!("{name}.tsv"));
        let lines = lines.lines().take(count);
        let lines: String = lines.map(|line| format!("{line}\t-\n")).collect();
        let written = std::fs::write(&texts, format!("text\tlabel\n{lines}"));
        written.map_err(|error| error.to_string())?;
        let convert = |mut command: Command, name: String| {
            let file = folder.join(name);
            let arguments = command.arg("convert").arg(checkpoint).arg("-o").arg(&file);
            process::run(arguments.arg("--calibrate").arg(&texts).args(more))?;
            Ok::<_, String>(file)
        };
        let ours = convert(command(host), format!("{name}.filbert"))?;
        let theirs = convert(
            emulate(converter, "max"),
            format!("{name}-from-arm.filbert"),
        )?;
        match process::same(&ours, &theirs)? {
            true => Ok(ours),
            false => Err(format!("{name}: Arm writes another file than this machine")),
        }
    };
    compare("calibrated", usize::MAX, &[])?;
    compare("fine", FEW_LINES, &["--fine-products", "4"])
}

/// Writes the first texts of a labelled set, a line each, and returns their number; lines of the
/// README where the set is not there.
fn write_texts(shared: &Path, data: &str, most: usize, to: &Path) -> Result<usize, String> {
    let set = shared.join("data").join(data).join("dev.tsv");
    let lines: Vec<String> = if set.exists() {
        // The label is the last column.
        let text = |line: &str| line.rsplit_once('\t').map(|(text, _)| text.to_owned());
        process::read(&set)?
            .lines()
            .skip(1)
            .filter_map(text)
            .collect()
    } else {
        let readme = process::read(&root().join("README.md"))?;
        readme
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect()
    };
    let lines = &lines[..lines.len().min(most)];
    process::write(to, &(lines.join("\n") + "\n"))?;
    Ok(lines.len())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(())
}

/// The programs that test the C library, one of which prints the bits of logits, here and on Arm;
/// and the example for a device, as docs/c-api.md has it built.
fn compare_c_programs(file: &Path, device: &Path) -> Result<(), String> {
    eprintln!("=== Programs in C");
    let mut host = command("cargo");
    host.args(["rustc", "--release", "--locked"]);
    let mut printed = Vec::new();
    for (mut cargo, target, compiler, flags) in [
        (host, "target".to_owned(), "cc", &["-pthread"][..]),
        (
            arm::cargo("rustc"),
            format!("target/cross/{AARCH64}"),
            "aarch64-linux-gnu-gcc",
            &["-pthread", "-static", "-Wl,--gc-sections"],
        ),
    ] {
        process::run(cargo.args(["-p", "filbert-capi", "--lib", "--crate-type", "staticlib"]))?;
        let library = root().join(target).join("release/libfilbert.a");
        let files = folder("cross/files")?;
        let run = |source: &str| -> Result<Command, String> {
            let name = Path::new(source).file_stem().unwrap_or_default();
            let program = files.join(format!("{}-{compiler}", name.display()));
            process::run(
                command(compiler)
                    .args(["-Iruntime/capi/include", source])
                    .arg(&library)
                    .args(["-lpthread", "-ldl", "-lm", "-o"])
                    .arg(&program)
                    .args(flags),
            )?;
            let mut run = match compiler {
                "cc" => command(&program),
                _ => emulate(&program, "max"),
            };
            run.arg(file);
            Ok(run)
        };
        process::run(
            run("runtime/capi/tests/posix.c")?
                .args([files.join("package").as_path(), Path::new("50000")]),
        )?;
        let mut lines = run("runtime/capi/examples/label_lines.c")?;
        let texts = std::fs::File::open(root().join(TEXTS_OF_EVERY_SCRIPT))
            .map_err(|error| format!("{TEXTS_OF_EVERY_SCRIPT}: {error}"))?;
        let labels = output(lines.stdin(texts))?;
        let logits = output(
            run("runtime/capi/tests/program.c")?
                .arg("Cargo.toml")
                .arg(TEXTS_OF_EVERY_SCRIPT),
        )?;
        printed.push([labels, logits]);
    }
    if printed[0] != printed[1] {
        return Err("programs in C print other labels or logits on Arm".into());
    }
    println!("programs in C print the same bits and labels on Arm");
    let example = device.with_file_name("label_lines-aarch64-linux-gnu-gcc");
    check_static(&example)?;
    Ok(())
}

/// Fails if a program needs a dynamic linker.
fn check_static(program: &Path) -> Result<(), String> {
    let headers = output(
        command("aarch64-linux-gnu-readelf")
            .arg("--program-headers")
            .arg(program),
    )?;
    if headers.contains("INTERP") {
        return Err(format!("{} is not static", program.display()));
    }
    Ok(())
}

/// The scalar kernels on 32-bit Arm give the same logits.
fn run_armv7((file, texts, expected): &(PathBuf, PathBuf, String)) -> Result<(), String> {
    eprintln!("=== 32-bit Arm");
    process::run(arm::cargo_armv7("build").args(["-p", "filbert-cli", "--no-default-features"]))?;
    let made = root()
        .join("target/cross-armv7")
        .join(ARMV7)
        .join("release/filbert");
    let program = folder("cross/files")?.join("filbert-armv7");
    process::strip("arm-linux-gnueabihf-strip", &made, &program)?;
    let found = fingerprint(command("qemu-arm-static").arg(&program), file, texts, &[])?;
    if found != *expected {
        return Err(format!("32-bit Arm: fingerprint {found}, not {expected}"));
    }
    let size = std::fs::metadata(&program)
        .map_err(|error| error.to_string())?
        .len();
    println!("32-bit Arm: the same fingerprint; the command has {size} bytes, static");
    Ok(())
}
