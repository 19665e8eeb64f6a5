//! Programs in C, with the shared library and with the static one, and in C++, against the
//! runtime; what the library leaves behind; how it is installed.
//!
//! What needs a tool that is absent is reported as ignored.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use runtime::{Classification, Classifier, ErrorCode};

/// What every compiler is asked for.
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

/// What the system has and the static library needs.
const SYSTEM: &[&str] = &["-lpthread", "-ldl", "-lm"];

/// How often a classifier is opened and freed.
const CYCLES: &str = "100000";

/// Texts that take many seconds, and those that do under valgrind.
const MANY_TEXTS: &str = "200000";
const MANY_TEXTS_OF_VALGRIND: &str = "5000";

/// By how many KiB the memory may grow meanwhile: a byte a cycle.
const MOST_GROWTH: i64 = 100;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cpp = shared::cpp_compiler();
    let valgrind = shared::tool("valgrind");
    let pkg_config = shared::tool("pkg-config");
    let trials = vec![
        Trial::test("a_c_program_has_the_bits_of_the_runtime", || {
            check(Path::new("cc"), &["-std=c99"], &shared_library()?)
        }),
        Trial::test(
            "a_c_program_with_the_static_library_has_the_bits_of_the_runtime",
            || check(Path::new("cc"), &["-std=c99"], &static_library()?),
        ),
        Trial::test("a_cpp_program_has_the_bits_of_the_runtime", {
            let compiler = cpp.clone().unwrap_or_default();
            move || check(&compiler, &["-std=c++11", "-x", "c++"], &shared_library()?)
        })
        .with_ignored_flag(cpp.is_none()),
        Trial::test("threads_share_cancel_and_close_a_classifier", check_posix),
        Trial::test("memory_stays_flat_over_100000_cycles", check_cycles),
        Trial::test("valgrind_finds_nothing", check_valgrind).with_ignored_flag(valgrind.is_none()),
        Trial::test("the_example_labels_lines", check_example),
        Trial::test("the_example_is_one_static_program", check_static_example),
        Trial::test("a_program_finds_the_installed_library", check_installed)
            .with_ignored_flag(pkg_config.is_none()),
        Trial::test("the_readmes_program_runs", check_readme),
        Trial::test("the_header_declares_what_is_exported", check_header),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the libraries and returns their folder. For tests cargo does not: nothing in Rust links
/// with them. They go where this test lies, in its profile.
fn libraries() -> Result<PathBuf, Failed> {
    let test = std::env::current_exe()?;
    let mut folders = test.ancestors().skip(2);
    let (Some(folder), Some(target)) = (folders.next(), folders.next()) else {
        return Err(format!("{}: not in a target folder", test.display()).into());
    };
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => return Err(format!("{}: no profile", folder.display()).into()),
    };
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME")])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(here()))?;
    Ok(folder.to_owned())
}

/// What links a program with the shared library, which it then finds.
fn shared_library() -> Result<Vec<OsString>, Failed> {
    let folder = libraries()?.into_os_string();
    let mut path = OsString::from("-Wl,-rpath,");
    path.push(&folder);
    Ok(vec!["-L".into(), folder, "-lfilbert".into(), path])
}

/// What links a program with the static library.
fn static_library() -> Result<Vec<OsString>, Failed> {
    let mut link = vec![libraries()?.join("libfilbert.a").into_os_string()];
    link.extend(SYSTEM.iter().map(OsString::from));
    Ok(link)
}

fn run(command: &mut Command) -> Result<String, Failed> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {errors}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Compiles a source and links it.
fn compile(
    compiler: &Path,
    language: &[&str],
    source: &Path,
    link: &[OsString],
    program: &Path,
) -> Result<(), Failed> {
    let object = program.with_extension("o");
    run(Command::new(compiler)
        .args(STRICT)
        .args(language)
        .arg("-I")
        .arg(here().join("include"))
        .args(["-c", "-o"])
        .arg(&object)
        .arg(source))?;
    run(Command::new(compiler)
        .arg("-o")
        .args([program, &object])
        .args(link))?;
    Ok(())
}

/// Converts the model of the repository.
fn convert(to: &Path) -> Result<(), Failed> {
    let checkpoint = Checkpoint::open(&shared::tiny_model())?;
    let package = Package::build(&checkpoint, &mut Quiet)?;
    Ok(std::fs::write(to, package.into_bytes())?)
}

/// A program that is compiled, and a model, in a folder of their own.
struct Built {
    folder: tempfile::TempDir,
    program: PathBuf,
    model: PathBuf,
}

/// Compiles a source, which lies in this crate.
fn build(
    compiler: &Path,
    language: &[&str],
    source: &str,
    link: &[OsString],
) -> Result<Built, Failed> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("program");
    compile(compiler, language, &here().join(source), link, &program)?;
    let model = folder.path().join("model.filbert");
    convert(&model)?;
    Ok(Built {
        folder,
        program,
        model,
    })
}

/// Compiles and runs the program, and compares what it prints.
fn check(compiler: &Path, language: &[&str], link: &[OsString]) -> Result<(), Failed> {
    let built = build(compiler, language, "tests/program.c", link)?;
    let printed = run(Command::new(&built.program)
        .arg(&built.model)
        .arg(here().join("Cargo.toml"))
        .arg(shared::texts_file()))?;
    let expected = expected(&built.model)?;
    if printed != expected {
        let lines = printed.lines().zip(expected.lines());
        let first = lines.enumerate().find(|(_, (a, b))| a != b);
        return Err(format!("C prints other lines than the runtime: {first:?}").into());
    }
    Ok(())
}

fn check_posix() -> Result<(), Failed> {
    let language = ["-std=c99", "-pthread"];
    let built = build(
        Path::new("cc"),
        &language,
        "tests/posix.c",
        &shared_library()?,
    )?;
    let printed = run(Command::new(&built.program)
        .arg(&built.model)
        .arg(built.folder.path().join("package"))
        .arg(MANY_TEXTS))?;
    if printed == "done\n" {
        Ok(())
    } else {
        Err(format!("it prints {printed:?}").into())
    }
}

fn check_cycles() -> Result<(), Failed> {
    // `gnu`: what looks at its own memory is not standard C.
    let built = build(
        Path::new("cc"),
        &["-std=gnu99"],
        "tests/cycles.c",
        &shared_library()?,
    )?;
    let growth = run(Command::new(&built.program).arg(&built.model).arg(CYCLES))?;
    let growth: i64 = growth.trim().parse()?;
    if growth > MOST_GROWTH {
        return Err(format!("the memory in use grew by {growth} KiB").into());
    }
    Ok(())
}

/// Memory that is lost or misused, in all that the programs do.
fn check_valgrind() -> Result<(), Failed> {
    for (source, more) in [
        ("tests/program.c", here().join("Cargo.toml")),
        ("tests/posix.c", PathBuf::from("package")),
    ] {
        let language = ["-std=c99", "-pthread"];
        let built = build(Path::new("cc"), &language, source, &shared_library()?)?;
        let texts = built.folder.path().join("texts");
        // Some of them: valgrind is slow.
        let all = std::fs::read_to_string(shared::texts_file())?;
        let some = all.lines().filter(|line| line.len() < 60).step_by(8);
        std::fs::write(
            &texts,
            some.fold(String::new(), |all, line| all + line + "\n"),
        )?;
        let mut command = Command::new("valgrind");
        command
            // Else a busy thread may keep the others waiting for ever.
            .arg("--fair-sched=yes")
            .args(["--quiet", "--error-exitcode=9", "--leak-check=full"])
            .args(["--errors-for-leak-kinds=definite,indirect,possible"])
            .arg(&built.program)
            .arg(&built.model)
            .arg(more)
            .current_dir(built.folder.path());
        if source.ends_with("program.c") {
            command.arg(&texts);
        } else {
            command.arg(MANY_TEXTS_OF_VALGRIND);
        }
        // It does not know AVX-512.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            command.env("FILBERT_ISA", "avx2");
        }
        run(&mut command)?;
    }
    Ok(())
}

/// The example reads lines and prints labels.
fn check_lines(built: &Built) -> Result<(), Failed> {
    let mut child = Command::new(&built.program)
        .arg(&built.model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = b"a gorgeous, witty film\r\n\nno \xff text\ndull, without an end of line";
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    std::io::Write::write_all(&mut stdin, lines)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<_>> = printed
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let expected = lines.len() == 4
        && (lines[0][0], lines[0][2]) == ("POSITIVE", "a gorgeous, witty film")
        && lines[1][2].is_empty()
        && lines[2][0] == "error"
        && (lines[3][0], lines[3][2]) == ("NEGATIVE", "dull, without an end of line");
    // One line failed.
    if output.status.code() != Some(1) || !expected {
        return Err(format!("{}: {printed:?}", output.status).into());
    }
    // What it says of a file that is none.
    let refused = Command::new(&built.program)
        .arg(here().join("Cargo.toml"))
        .output()?;
    let message = String::from_utf8(refused.stderr)?;
    if refused.status.code() != Some(1) || !message.contains("is not a .filbert file") {
        return Err(format!("{}: {message:?}", refused.status).into());
    }
    Ok(())
}

fn check_example() -> Result<(), Failed> {
    check_lines(&build(
        Path::new("cc"),
        &["-std=c99"],
        "examples/label_lines.c",
        &shared_library()?,
    )?)
}

/// As docs/c-api.md has it.
fn check_static_example() -> Result<(), Failed> {
    let mut link = static_library()?;
    link.insert(0, "-static".into());
    let built = build(
        Path::new("cc"),
        &["-std=c99"],
        "examples/label_lines.c",
        &link,
    )?;
    let headers = run(Command::new("readelf")
        .arg("--program-headers")
        .arg(&built.program))?;
    if headers.contains("INTERP") {
        return Err("the program needs a dynamic linker".into());
    }
    check_lines(&built)
}

/// `cargo xtask install`, and a program that pkg-config compiles, both ways.
fn check_installed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let prefix = folder.path().join("usr");
    install(&prefix)?;
    let flags = |more: &[&str]| -> Result<Vec<OsString>, Failed> {
        let flags = run(Command::new("pkg-config")
            .args(more)
            .args(["--cflags", "--libs", "filbert"])
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))?;
        Ok(flags.split_whitespace().map(OsString::from).collect())
    };
    let model = folder.path().join("model.filbert");
    convert(&model)?;
    for (name, more) in [("shared", &[][..]), ("static", &["--static"][..])] {
        let program = folder.path().join(name);
        let mut command = Command::new("cc");
        command.arg(here().join("examples/label_lines.c"));
        if name == "static" {
            command.arg("-static");
        }
        run(command.arg("-o").arg(&program).args(flags(more)?))?;
        let built = Command::new(&program)
            .arg(&model)
            .env("LD_LIBRARY_PATH", prefix.join("lib"))
            .stdin(Stdio::null())
            .output()?;
        if !built.status.success() {
            let message = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(format!("{name}: {}: {message}", built.status).into());
        }
    }
    Ok(())
}

/// Installs the libraries that this test built.
fn install(prefix: &Path) -> Result<(), Failed> {
    run(Command::new(env!("CARGO"))
        .args(["xtask", "install", "--prefix"])
        .arg(prefix)
        .arg("--libraries")
        .arg(libraries()?)
        .current_dir(shared::repository()))?;
    Ok(())
}

/// The program in the README labels its text.
fn check_readme() -> Result<(), Failed> {
    let readme = std::fs::read_to_string(shared::repository().join("README.md"))?;
    let (_, rest) = readme.split_once("```c\n").ok_or("no program")?;
    let (program, _) = rest.split_once("```").ok_or("no end of it")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("example.c"), program)?;
    compile(
        Path::new("cc"),
        &["-std=c99"],
        &path("example.c"),
        &shared_library()?,
        &path("example"),
    )?;
    convert(&path("model.filbert"))?;
    let printed = run(Command::new(path("example")).current_dir(folder.path()))?;
    if printed.starts_with("NEGATIVE 0.") {
        Ok(())
    } else {
        Err(format!("it prints {printed:?}").into())
    }
}

/// What the program must print, by the runtime.
fn expected(model: &Path) -> Result<String, Failed> {
    let mut lines = format!("version {}\ncodes", env!("CARGO_PKG_VERSION"));
    for code in [
        ErrorCode::Io,
        ErrorCode::NotAModel,
        ErrorCode::Unsupported,
        ErrorCode::Malformed,
        ErrorCode::Checksum,
        ErrorCode::InvalidArgument,
        ErrorCode::TextTooLong,
        ErrorCode::SelfTest,
        ErrorCode::Cancelled,
        ErrorCode::Closed,
    ] {
        write!(lines, " {}", code as u32)?;
    }
    lines.push('\n');
    let classifier = Classifier::open(model)?;
    for text in std::fs::read_to_string(shared::texts_file())?.lines() {
        write_result(&classifier.classify(text)?, &mut lines)?;
    }
    write_result(&classifier.classify_pair("a film", "of joy")?, &mut lines)?;
    Ok(lines)
}

fn write_result(result: &Classification<'_>, lines: &mut String) -> std::fmt::Result {
    let truncated = if result.truncated() {
        ", truncated"
    } else {
        ""
    };
    writeln!(lines, "tokens {}{truncated}", result.tokens())?;
    for category in result.categories() {
        let (index, label) = (category.index, category.label);
        let score = category.score.to_bits();
        writeln!(lines, "category {index} {label} {score:08x}")?;
    }
    for logit in result.logits() {
        writeln!(lines, "logit {:08x}", logit.to_bits())?;
    }
    Ok(())
}

/// The functions that are exported by name are those of the header. `cargo xtask size --check`
/// looks at the symbols of the library.
fn check_header() -> Result<(), Failed> {
    let mut exported = Vec::new();
    for file in std::fs::read_dir(here().join("src"))? {
        let source = std::fs::read_to_string(file?.path())?;
        let functions = source.split("#[unsafe(no_mangle)]").skip(1);
        exported.extend(functions.filter_map(name).map(str::to_owned));
    }
    exported.sort();
    let header = std::fs::read_to_string(here().join("include/filbert.h"))?;
    // Declarations are at the start of a line; the text between is indented or in comments.
    let mut declared: Vec<_> = header
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(name)
        .map(str::to_owned)
        .collect();
    declared.sort();
    if exported.is_empty() || exported != declared {
        return Err(format!("exported: {exported:?}, in the header: {declared:?}").into());
    }
    Ok(())
}

/// The first name of a function of the library.
fn name(text: &str) -> Option<&str> {
    let (before, _) = text.split_once('(')?;
    let (start, _) = before.rmatch_indices("filbert_").next()?;
    Some(&before[start..])
}
