//! `cargo xtask size`: how large the C library is, and what it is made of.
//!
//! Sections are those of the stripped library. What is in them is told by the symbols of the same
//! library before it is stripped, so a function that was inlined counts for where it is inlined.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use object::read::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _};

use crate::arm;
use crate::process::{self, command, folder, output, root};

/// A size that no library may pass, in bytes: what is promised of it.
const LIMIT: u64 = 1 << 20;

/// Percent by which a library may be larger than recorded.
const MARGIN: u64 = 5;

/// Alignment of what is loaded: pages of some Android devices have as many bytes.
const PAGE: u64 = 16384;

const PROFILE: &str = "ship";
const FILE: &str = "libfilbert.so";

/// So that names have the types that a function is generic over.
const FLAGS: &str = "-Csymbol-mangling-version=v0";

const DOCUMENT: &str = "docs/size.md";
const BEGIN: &str = "<!-- written by `cargo xtask size` -->";
const END: &str = "<!-- end -->";

/// The row of the table that `--check` reads.
const TOTAL: &str = "**file**";

/// What the parts of a library are for, in the table's order, and the sections of each.
const GROUPS: &[(&str, &[&str])] = &[
    (CODE, &[".text", ".init", ".fini", ".plt"]),
    (READ_ONLY, &[".rodata"]),
    (
        RELOCATED,
        &[
            ".data.rel.ro",
            ".got",
            ".got.plt",
            ".init_array",
            ".fini_array",
            ".dynamic",
        ],
    ),
    (WRITABLE, &[".data", ".tdata"]),
    (
        "unwind tables",
        &[".eh_frame", ".eh_frame_hdr", ".gcc_except_table"],
    ),
    ("relocations", &[".rela.dyn", ".rela.plt", ".relr.dyn"]),
    (
        "dynamic symbols",
        &[
            ".dynsym",
            ".dynstr",
            ".gnu.hash",
            ".gnu.version",
            ".gnu.version_r",
        ],
    ),
];
const CODE: &str = "code";
const READ_ONLY: &str = "read-only data";
const RELOCATED: &str = "data with addresses";
const WRITABLE: &str = "writable data";
const REST: &str = "headers, notes, alignment";

/// Crates by which the standard library prints backtraces.
const BACKTRACE: &[&str] = &[
    "addr2line",
    "gimli",
    "miniz_oxide",
    "object",
    "rustc_demangle",
];

/// A library as it is measured.
struct Library {
    target: &'static str,
    compiler: String,
    /// Bytes of the stripped file.
    length: u64,
    /// Bytes of each group.
    groups: BTreeMap<&'static str, u64>,
    /// Bytes of code and of data, by the names of [`owner`].
    parts: BTreeMap<String, [u64; 2]>,
}

pub(crate) fn run(check: bool) -> Result<(), String> {
    let document = root().join(DOCUMENT);
    let text = process::read(&document)?;
    let (before, recorded, after) = split(&text)?;
    let libraries = [measure_x86_64()?, measure_aarch64()?];
    for library in &libraries {
        println!("{}: {} bytes", library.target, thousands(library.length));
        if library.length > LIMIT {
            return Err(format!(
                "{}: {FILE} has {} bytes, more than {LIMIT}",
                library.target, library.length
            ));
        }
    }
    if !check {
        let tables = write_tables(&libraries);
        process::write(
            &document,
            &format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"),
        )?;
        println!("{DOCUMENT}: the tables are written");
        return Ok(());
    }
    let recorded = read_total(recorded)?;
    if recorded.len() != libraries.len() {
        return Err(format!("{DOCUMENT}: {} sizes", recorded.len()));
    }
    for (library, recorded) in libraries.iter().zip(recorded) {
        check_growth(library.target, library.length, recorded)?;
    }
    println!("none is more than {MARGIN} % larger than recorded");
    Ok(())
}

/// The document before the tables, the tables, and what follows.
fn split(text: &str) -> Result<(&str, &str, &str), String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .ok_or(format!("{DOCUMENT}: no mark to write at"))?;
    let (tables, after) = rest
        .split_once(END)
        .ok_or(format!("{DOCUMENT}: no mark to end at"))?;
    Ok((before, tables, after))
}

/// The sizes in the table's row of whole files.
fn read_total(tables: &str) -> Result<Vec<u64>, String> {
    let row = tables
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| {TOTAL} |")))
        .ok_or(format!("{DOCUMENT}: no row {TOTAL}"))?;
    row.split('|')
        .map(|cell| {
            cell.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
        })
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().map_err(|error| format!("{digits}: {error}")))
        .collect()
}

fn check_growth(target: &str, length: u64, recorded: u64) -> Result<(), String> {
    if length * 100 > recorded * (100 + MARGIN) {
        return Err(format!(
            "{target}: {FILE} has {length} bytes, over {MARGIN} % more than the {recorded} in \
             {DOCUMENT}; if that must be, `cargo xtask size` records it"
        ));
    }
    Ok(())
}

fn measure_x86_64() -> Result<Library, String> {
    let target = "x86_64-unknown-linux-gnu";
    let mut cargo = command("cargo");
    cargo.args(["build", "--locked", "--target", target]);
    cargo.args(["--target-dir", "target/cross"]);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    measure("x86-64", target, cargo, command(rustc), "strip")
}

fn measure_aarch64() -> Result<Library, String> {
    let rustc = command(arm::rustc());
    let cargo = arm::cargo_shared("build");
    measure(
        "aarch64",
        arm::AARCH64,
        cargo,
        rustc,
        "aarch64-linux-gnu-strip",
    )
}

fn measure(
    name: &'static str,
    target: &str,
    mut cargo: Command,
    mut rustc: Command,
    strip: &str,
) -> Result<Library, String> {
    cargo.args(["-p", "filbert-capi", "--profile", PROFILE]);
    // The symbols are looked at first. That and their mangling leave the rest as it is.
    cargo.env("CARGO_PROFILE_SHIP_STRIP", "none");
    cargo.env("RUSTFLAGS", FLAGS);
    process::run(&mut cargo)?;
    let with_symbols = root()
        .join("target/cross")
        .join(target)
        .join(PROFILE)
        .join(FILE);
    let stripped = folder("cross/files")?.join(format!("{name}-{FILE}"));
    process::strip(strip, &with_symbols, &stripped)?;

    let bytes = read(&stripped)?;
    let file = parse(&stripped, &bytes)?;
    check_exports(name, &file)?;
    check_alignment(name, &file)?;
    let length = bytes.len() as u64;
    let mut groups = measure_groups(&file);
    groups.insert(REST, length - groups.values().sum::<u64>());
    let bytes = read(&with_symbols)?;
    Ok(Library {
        target: name,
        compiler: output(rustc.arg("--version"))?
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" "),
        length,
        groups,
        parts: measure_parts(&parse(&with_symbols, &bytes)?),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<object::File<'a>, String> {
    object::File::parse(bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Only functions of the C ABI may be found by name: another one could take the place of one of
/// the app's own.
fn check_exports(target: &str, file: &object::File<'_>) -> Result<(), String> {
    let exported: Vec<_> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    match exported.iter().find(|name| !name.starts_with("filbert_")) {
        Some(name) => Err(format!("{target}: {FILE} exports {name}")),
        None if exported.is_empty() => Err(format!("{target}: {FILE} exports nothing")),
        None => Ok(()),
    }
}

fn check_alignment(target: &str, file: &object::File<'_>) -> Result<(), String> {
    match file.segments().find(|segment| segment.align() < PAGE) {
        Some(segment) => Err(format!(
            "{target}: {FILE} has a segment aligned to {}, which devices with pages of {PAGE} do \
             not load",
            segment.align()
        )),
        None => Ok(()),
    }
}

/// The group of a section.
fn group(section: &str) -> Option<&'static str> {
    GROUPS
        .iter()
        .find(|(_, sections)| sections.contains(&section))
        .map(|&(group, _)| group)
}

fn measure_groups(file: &object::File<'_>) -> BTreeMap<&'static str, u64> {
    let mut groups = BTreeMap::new();
    for section in file.sections() {
        // A section that is zero at first is not in the file.
        if let (Some((_, bytes)), Ok(name)) = (section.file_range(), section.name())
            && let Some(group) = group(name)
        {
            *groups.entry(group).or_default() += bytes;
        }
    }
    groups
}

/// Code and data by owner, and what no symbol names.
fn measure_parts(file: &object::File<'_>) -> BTreeMap<String, [u64; 2]> {
    let mut parts: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for section in file.sections() {
        let kind = match section.name().ok().and_then(group) {
            Some(CODE) => 0,
            Some(READ_ONLY | RELOCATED | WRITABLE) => 1,
            _ => continue,
        };
        if section.file_range().is_none() {
            continue;
        }
        let mut symbols: Vec<(Range<u64>, String)> = file
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(section.index()) && symbol.size() > 0)
            .filter_map(|symbol| {
                let (start, name) = (symbol.address(), symbol.name().ok()?);
                Some((start..start + symbol.size(), owner(name)))
            })
            .collect();
        symbols.sort_by_key(|(range, _)| range.start);
        // Some symbols are other names of the same bytes.
        let mut end = section.address();
        for (range, owner) in symbols {
            let start = range.start.max(end);
            if start < range.end {
                parts.entry(owner).or_default()[kind] += range.end - start;
                end = range.end;
            }
        }
    }
    let groups = measure_groups(file);
    for (kind, names) in [&[CODE][..], &[READ_ONLY, RELOCATED, WRITABLE]]
        .iter()
        .enumerate()
    {
        let whole: u64 = names.iter().filter_map(|name| groups.get(name)).sum();
        let named: u64 = parts.values().map(|part| part[kind]).sum();
        parts.entry(UNNAMED.into()).or_default()[kind] = whole - named;
    }
    parts
}

const UNNAMED: &str = "not attributed";
const C_ABI: &str = "filbert: C ABI";

/// To which row of the table a symbol belongs: a crate, or a module of Filbert. A function that
/// is generic over another crate's type belongs to that crate.
fn owner(symbol: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    if name.starts_with("filbert_") {
        return C_ABI.into();
    }
    let paths = paths(&name);
    let of = |path: &&&str| path.split("::").next().unwrap_or_default().to_owned();
    let generic = |path: &&&str| ["core", "alloc", "std"].contains(&&*of(path));
    let path = paths
        .iter()
        .find(|path| !generic(path))
        .or(paths.iter().find(|path| of(path) == "std"))
        .or(paths.first());
    let Some(path) = path else {
        return "start-up code, personality".into();
    };
    let mut segments = path.split("::");
    match segments.next().unwrap_or_default() {
        "filbert" => match (segments.next(), segments.next(), segments.next()) {
            (Some("kernels"), Some("x86_64" | "aarch64"), Some(set))
            | (Some("kernels"), Some(set @ "scalar"), _) => format!("filbert: kernels, {set}"),
            (Some(module), ..) => format!("filbert: {module}"),
            (None, ..) => C_ABI.into(),
        },
        "std" if path.starts_with("std::backtrace_rs") => "std: backtraces".into(),
        name if BACKTRACE.contains(&name) => "std: backtraces".into(),
        name @ ("std" | "core" | "alloc") => name.into(),
        name @ ("crc32fast" | "memmap2" | "bytemuck") => name.into(),
        _ => "std: what it uses".into(),
    }
}

/// The paths in a demangled name, such as `core::ptr::drop_in_place` and `filbert::model::Model`
/// in `core::ptr::drop_in_place::<filbert::model::Model>`.
fn paths(name: &str) -> Vec<&str> {
    name.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        // What begins with colons goes on after a type.
        .filter(|path| !path.starts_with(':') && path.contains("::"))
        .collect()
}

fn write_tables(libraries: &[Library; 2]) -> String {
    let mut tables = String::new();
    let [a, b] = libraries;
    let _ = writeln!(
        tables,
        "| bytes | {} | {} |\n|---|---:|---:|",
        a.target, b.target
    );
    for group in GROUPS.iter().map(|(group, _)| *group).chain([REST]) {
        let of = |library: &Library| thousands(library.groups.get(group).copied().unwrap_or(0));
        let _ = writeln!(tables, "| {group} | {} | {} |", of(a), of(b));
    }
    let _ = writeln!(
        tables,
        "| {TOTAL} | **{}** | **{}** |\n| compiler | {} | {} |\n",
        thousands(a.length),
        thousands(b.length),
        a.compiler,
        b.compiler
    );

    let _ = writeln!(
        tables,
        "| bytes | {0}, code | {0}, data | {1}, code | {1}, data |\n|---|---:|---:|---:|---:|",
        a.target, b.target
    );
    let mut names: Vec<_> = a.parts.keys().chain(b.parts.keys()).collect();
    names.sort();
    names.dedup();
    let order = |name: &str| match name {
        UNNAMED => 2,
        name if name.starts_with("filbert") => 0,
        _ => 1,
    };
    let size = |name: &str| {
        let parts = libraries
            .iter()
            .filter_map(|library| library.parts.get(name));
        parts.flatten().sum::<u64>()
    };
    names.sort_by_key(|name| (order(name), std::cmp::Reverse(size(name))));
    let mut row = |name: &str, of: &dyn Fn(&Library) -> [u64; 2]| {
        let ([a, b], [c, d]) = (of(a), of(b));
        let [a, b, c, d] = [a, b, c, d].map(thousands);
        let _ = writeln!(tables, "| {name} | {a} | {b} | {c} | {d} |");
    };
    for name in names {
        row(name, &|library| {
            library.parts.get(name).copied().unwrap_or_default()
        });
    }
    row("**all**", &|library| {
        let parts = library.parts.values();
        parts.fold([0, 0], |[a, b], [c, d]| [a + c, b + d])
    });
    tables
}

/// A number with a comma after each three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_belongs_to_the_crate_of_its_types() {
        for (name, expected) in [
            ("filbert_error_free", C_ABI),
            (
                "filbert::kernels::x86_64::avx2::multiply_panels::<8>",
                "filbert: kernels, avx2",
            ),
            (
                "<filbert::kernels::scalar::Scalar as filbert::kernels::simd::Simd>::round",
                "filbert: kernels, scalar",
            ),
            ("filbert::kernels::select", "filbert: kernels"),
            (
                "core::ptr::drop_in_place::<filbert::model::Model>",
                "filbert: model",
            ),
            ("<&str as core::fmt::Display>::fmt", "core"),
            ("<alloc::vec::Vec<u8> as std::io::Write>::write", "std"),
            ("core::slice::sort::sort::<gimli::Range>", "std: backtraces"),
            ("std::backtrace_rs::resolve", "std: backtraces"),
            ("memmap2::os::page_size", "memmap2"),
            ("hashbrown::hash", "std: what it uses"),
            ("rust_eh_personality", "start-up code, personality"),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn the_recorded_sizes_are_those_that_were_written() {
        let library = |target, length| Library {
            target,
            compiler: "rustc 1".into(),
            length,
            groups: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let tables = write_tables(&[library("a", 1_048_576), library("b", 999)]);
        assert_eq!(read_total(&tables), Ok(vec![1_048_576, 999]));
        let text = format!("before {BEGIN}{tables}{END} after");
        assert_eq!(split(&text), Ok(("before ", &*tables, " after")));
        assert!(read_total("nothing").is_err());
    }

    #[test]
    fn five_percent_more_is_allowed_and_no_more() {
        assert_eq!(check_growth("a", 105_000, 100_000), Ok(()));
        assert!(check_growth("a", 105_001, 100_000).is_err());
        assert_eq!(check_growth("a", 1, 100_000), Ok(()));
    }
}
