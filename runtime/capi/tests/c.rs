//! A program in C, with the shared library and with the static one, and the same as C++, against
//! the runtime.
//!
//! C++ is reported as ignored where there is no compiler for it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use runtime::{Classifier, ErrorCode};

const TEXTS: &[&str] = &["a gorgeous, witty film", "dull 😀", ""];

/// What every compiler is asked for.
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

/// What the system has and the static library needs.
const SYSTEM: &[&str] = &["-lpthread", "-ldl", "-lm"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cpp = shared::cpp_compiler();
    let trials = vec![
        Trial::test("a_c_program_has_the_bits_of_the_runtime", || {
            check(Path::new("cc"), &["-std=c99"], &shared_library()?)
        }),
        Trial::test(
            "a_c_program_with_the_static_library_has_the_bits_of_the_runtime",
            || {
                let mut link = vec![libraries()?.join("libfilbert.a").into_os_string()];
                link.extend(SYSTEM.iter().map(OsString::from));
                check(Path::new("cc"), &["-std=c99"], &link)
            },
        ),
        Trial::test("a_cpp_program_has_the_bits_of_the_runtime", {
            let compiler = cpp.clone().unwrap_or_default();
            move || check(&compiler, &["-std=c++11", "-x", "c++"], &shared_library()?)
        })
        .with_ignored_flag(cpp.is_none()),
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

/// Compiles and runs the program, and compares what it prints.
fn check(compiler: &Path, language: &[&str], link: &[OsString]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("program");
    let source = here().join("tests/program.c");
    compile(compiler, language, &source, link, &program)?;
    let model = folder.path().join("model.filbert");
    convert(&model)?;
    let printed = run(Command::new(&program)
        .arg(&model)
        .arg(here().join("Cargo.toml"))
        .args(TEXTS))?;
    let expected = expected(&model)?;
    if printed != expected {
        return Err(format!("C has\n{printed}and the runtime\n{expected}").into());
    }
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
    ] {
        write!(lines, " {}", code as u32)?;
    }
    lines.push('\n');
    let classifier = Classifier::open(model)?;
    for text in TEXTS {
        let result = classifier.classify(text)?;
        for category in result.categories() {
            let (index, label) = (category.index, category.label);
            let score = category.score.to_bits();
            writeln!(lines, "category {index} {label} {score:08x}")?;
        }
        for logit in result.logits() {
            writeln!(lines, "logit {:08x}", logit.to_bits())?;
        }
    }
    Ok(lines)
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
