//! `cargo xtask ios`: the C library for apps on Apple's systems, and what can be said of it
//! without a Mac.
//!
//! The profile `ship` links all of Rust into one object, of which only what the C ABI reaches is
//! left. So what this object refers to is what an app gets; without a Mac, Rust's linker confirms
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};
use object::{BinaryFormat, SectionKind};

use crate::process::{self, command, folder, root};

const HEADER: &str = "runtime/capi/include/filbert.h";
const MODULE: &str = "ios/Sources/CFilbert/module.modulemap";
const MANIFEST: &str = "ios/Sources/Filbert/PrivacyInfo.xcprivacy";
const XCFRAMEWORK: &str = "ios/CFilbert.xcframework";
const LIBRARY: &str = "libfilbert.a";

/// What an XCFramework has a library for: a name, and the targets that it is made of.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("device", &["aarch64-apple-ios"]),
    ("simulator", &["aarch64-apple-ios-sim", "x86_64-apple-ios"]),
    ("mac", &["aarch64-apple-darwin", "x86_64-apple-darwin"]),
];

/// The oldest systems that run it: those of `ios/Package.swift`.
const OLDEST: &[(&str, &str)] = &[
    ("IPHONEOS_DEPLOYMENT_TARGET", "15.0"),
    ("MACOSX_DEPLOYMENT_TARGET", "12.0"),
];

/// What is built to see that it can be.
const CHECKED: &[&str] = &["aarch64-apple-ios", "aarch64-linux-android"];

/// Apple's categories of functions and classes that an app may use for stated reasons only.
const REASONS_REQUIRED: &[(&str, &[&str])] = &[
    (
        "NSPrivacyAccessedAPICategoryFileTimestamp",
        &[
            "stat",
            "fstat",
            "fstatat",
            "lstat",
            "stat64",
            "fstat64",
            "lstat64",
            "getattrlist",
            "fgetattrlist",
            "getattrlistat",
            "getattrlistbulk",
            "NSFileCreationDate",
            "NSFileModificationDate",
            "NSURLContentModificationDateKey",
            "NSURLCreationDateKey",
        ],
    ),
    (
        "NSPrivacyAccessedAPICategorySystemBootTime",
        &["mach_absolute_time", "mach_continuous_time"],
    ),
    (
        "NSPrivacyAccessedAPICategoryDiskSpace",
        &[
            "statfs",
            "statfs64",
            "fstatfs",
            "fstatfs64",
            "statvfs",
            "fstatvfs",
            "getattrlist",
            "fgetattrlist",
            "getattrlistat",
            "NSFileSystemFreeSize",
            "NSFileSystemSize",
            "NSURLVolumeAvailableCapacityKey",
            "NSURLVolumeAvailableCapacityForImportantUsageKey",
            "NSURLVolumeAvailableCapacityForOpportunisticUsageKey",
            "NSURLVolumeTotalCapacityKey",
        ],
    ),
    (
        "NSPrivacyAccessedAPICategoryActiveKeyboards",
        &["OBJC_CLASS_$_UITextInputMode"],
    ),
    (
        "NSPrivacyAccessedAPICategoryUserDefaults",
        &[
            "OBJC_CLASS_$_NSUserDefaults",
            "CFPreferencesCopyAppValue",
            "CFPreferencesCopyValue",
        ],
    ),
];

pub(crate) fn run(check: bool) -> Result<(), String> {
    if check {
        return check_targets();
    }
    if std::env::consts::OS != "macos" {
        return Err(
            "an XCFramework is made by Xcode, on a Mac; elsewhere, `cargo xtask ios --check` \
             builds the library for a device and looks at it"
                .into(),
        );
    }
    make()
}

/// Builds for every platform and puts the libraries together.
fn make() -> Result<(), String> {
    let headers = folder("ios/include")?;
    for from in [HEADER, MODULE] {
        // In a folder that has the module's name, where the compiler looks too: Xcode copies the
        // headers of all XCFrameworks to one place.
        let name = Path::new(from).file_name().unwrap_or_default();
        copy(
            &root().join(from),
            &folder("ios/include/CFilbert")?.join(name),
        )?;
    }
    let mut xcodebuild = command("xcodebuild");
    xcodebuild.arg("-create-xcframework");
    for (platform, targets) in PLATFORMS {
        let mut lipo = command("lipo");
        lipo.arg("-create");
        for target in *targets {
            let mut cargo = command("cargo");
            cargo.env_remove("RUSTC").envs(OLDEST.iter().copied());
            let library = build(cargo, target, "target/ios").map_err(|error| {
                format!("{error}; `rustup target add {target}` installs what it needs")
            })?;
            inspect(target, &library)?;
            lipo.arg(library);
        }
        let library = folder(&format!("ios/{platform}"))?.join(LIBRARY);
        process::run(lipo.arg("-output").arg(&library))?;
        xcodebuild.arg("-library").arg(library);
        xcodebuild.arg("-headers").arg(&headers);
    }
    let xcframework = root().join(XCFRAMEWORK);
    if xcframework.exists() {
        fs::remove_dir_all(&xcframework).map_err(|error| in_file(&xcframework, error))?;
    }
    process::run(xcodebuild.arg("-output").arg(&xcframework))?;
    copy(
        &root().join(MANIFEST),
        &xcframework.join("PrivacyInfo.xcprivacy"),
    )?;
    println!("{XCFRAMEWORK} is made; the folder ios is a whole Swift package now");
    Ok(())
}

/// Builds for phones with Debian's compiler and the standard library's source.
fn check_targets() -> Result<(), String> {
    for target in CHECKED {
        let mut cargo = command("/usr/bin/cargo");
        cargo.env("RUSTC", "/usr/bin/rustc");
        cargo.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS");
        cargo.envs(OLDEST.iter().copied());
        cargo.arg("-Zbuild-std=std,panic_unwind");
        let library = build(cargo, target, "target/mobile")?;
        if inspect(target, &library)?.format == BinaryFormat::MachO {
            inspect_linked(target, &link(&library)?)?;
        }
    }
    Ok(())
}

/// Links a library for a device as an app does, with what no function of the C ABI reaches left
/// out. What the system has is not here, and stays open.
fn link(library: &Path) -> Result<PathBuf, String> {
    let sysroot = process::output(command("rustc").args(["--print", "sysroot"]))?;
    let host = process::output(command("rustc").args(["--print", "host-tuple"]))?;
    let linker = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host.trim())
        .join("bin/rust-lld");
    let linked = library.with_extension("dylib");
    let version = OLDEST[0].1;
    let mut link = command(linker);
    link.args(["-flavor", "darwin", "-arch", "arm64", "-dylib"]);
    link.args(["-platform_version", "ios", version, version]);
    link.args(["-undefined", "dynamic_lookup", "-dead_strip", "-x"]);
    link.args(["-exported_symbol", "_filbert_*", "-all_load"]);
    process::run(link.arg("-o").arg(&linked).arg(library))?;
    Ok(linked)
}

/// Fails unless what is left after the link is all of the C ABI and what the manifest declares.
fn inspect_linked(target: &str, path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| in_file(path, error))?;
    let mut linked = Symbols::new();
    let file = object::File::parse(&*bytes).map_err(|error| in_file(path, error))?;
    linked.add(&file).map_err(|error| in_file(path, error))?;
    let in_file = |message: String| in_file(path, message);
    check_functions(&process::read(&root().join(HEADER))?, &linked).map_err(in_file)?;
    let used = check_reasons(&process::read(&root().join(MANIFEST))?, &linked).map_err(in_file)?;
    println!(
        "{target}: linked, {} KB of code and data; Apple demands a reason, which is declared, for: {}",
        linked.loaded / 1000,
        list(used),
    );
    Ok(())
}

/// Builds the static library as it ships, with what `cargo` says already.
fn build(mut cargo: Command, target: &str, target_folder: &str) -> Result<PathBuf, String> {
    cargo.args(["rustc", "--locked", "--profile", "ship"]);
    cargo.args(["-p", "filbert-capi", "--lib", "--crate-type", "staticlib"]);
    cargo.args(["--target", target, "--target-dir", target_folder]);
    process::run(&mut cargo)?;
    let folder = root().join(target_folder).join(target);
    Ok(folder.join("ship").join(LIBRARY))
}

/// Fails unless a static library has all of the C ABI, and needs no reason that is not declared.
fn inspect(target: &str, path: &Path) -> Result<Symbols, String> {
    let bytes = fs::read(path).map_err(|error| in_file(path, error))?;
    let library = Symbols::of_archive(&bytes).map_err(|error| in_file(path, error))?;
    let in_file = |message: String| in_file(path, message);
    check_functions(&process::read(&root().join(HEADER))?, &library).map_err(in_file)?;
    if library.format == BinaryFormat::MachO {
        check_reasons(&process::read(&root().join(MANIFEST))?, &library).map_err(in_file)?;
    }
    println!(
        "{target}: all {} functions; an archive of {} KB, of which an app gets at most {} KB",
        library.functions().count(),
        bytes.len() / 1000,
        library.loaded / 1000,
    );
    Ok(library)
}

/// What is looked at of a library.
struct Symbols {
    format: BinaryFormat,
    /// Names that other files can use, and names of other files that it uses; without the
    /// underscore that Apple's systems put before each.
    defined: BTreeSet<String>,
    undefined: BTreeSet<String>,
    /// Bytes of code and data beside the functions of the C ABI, in the file.
    loaded: u64,
}

impl Symbols {
    fn new() -> Self {
        Self {
            format: BinaryFormat::Elf,
            defined: BTreeSet::new(),
            undefined: BTreeSet::new(),
            loaded: 0,
        }
    }

    fn of_archive(bytes: &[u8]) -> object::Result<Self> {
        let mut symbols = Self::new();
        for member in ArchiveFile::parse(bytes)?.members() {
            symbols.add(&object::File::parse(member?.data(bytes)?)?)?;
        }
        // What one member has for another is not of another file.
        let defined = &symbols.defined;
        symbols.undefined.retain(|name| !defined.contains(name));
        Ok(symbols)
    }

    fn add(&mut self, file: &object::File<'_>) -> object::Result<()> {
        self.format = file.format();
        let mut has_functions = false;
        for symbol in file.symbols() {
            let name = symbol.name()?;
            let name = match self.format {
                BinaryFormat::MachO => name.strip_prefix('_').unwrap_or(name),
                _ => name,
            };
            if symbol.is_undefined() && !name.is_empty() {
                self.undefined.insert(name.into());
            } else if symbol.is_global() && symbol.is_definition() {
                has_functions |= name.starts_with("filbert_");
                self.defined.insert(name.into());
            }
        }
        if has_functions {
            let loaded = file.sections().filter(|section| is_loaded(section.kind()));
            self.loaded += loaded.map(|section| section.size()).sum::<u64>();
        }
        Ok(())
    }

    /// The functions of the C ABI.
    fn functions(&self) -> impl Iterator<Item = &str> {
        let names = self.defined.iter().map(String::as_str);
        names.filter(|name| name.starts_with("filbert_"))
    }
}

fn is_loaded(kind: SectionKind) -> bool {
    !matches!(
        kind,
        SectionKind::Debug
            | SectionKind::DebugString
            | SectionKind::Metadata
            | SectionKind::Note
            | SectionKind::OtherString
            | SectionKind::UninitializedData
            | SectionKind::UninitializedTls
            | SectionKind::Linker
    )
}

/// Fails unless a library defines the functions that the header declares, and no others.
fn check_functions(header: &str, library: &Symbols) -> Result<(), String> {
    let declared: BTreeSet<&str> = functions(header).collect();
    let defined: BTreeSet<&str> = library.functions().collect();
    if let Some(name) = declared.difference(&defined).next() {
        return Err(format!("{LIBRARY} has no {name}"));
    }
    if let Some(name) = defined.difference(&declared).next() {
        return Err(format!(
            "{LIBRARY} has {name}, of which {HEADER} says nothing"
        ));
    }
    if declared.is_empty() {
        return Err(format!("{HEADER} declares nothing"));
    }
    Ok(())
}

/// The functions that a header declares.
fn functions(header: &str) -> impl Iterator<Item = &str> {
    let code = header.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("/*") && !line.starts_with('*')
    });
    code.filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        name.starts_with("filbert_").then_some(name)
    })
}

/// What a library uses for which Apple demands a reason. Fails unless the privacy manifest
/// declares just these categories.
fn check_reasons(manifest: &str, library: &Symbols) -> Result<BTreeSet<String>, String> {
    let declared = categories(manifest);
    let mut used = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for symbol in &library.undefined {
        for category in categories_of(symbol) {
            if !declared.contains_key(category) {
                return Err(format!(
                    "{LIBRARY} uses {symbol}, for which Apple demands a reason; do without it, or \
                     declare {category} in {MANIFEST}"
                ));
            }
            used.insert(symbol.clone());
            needed.insert(category);
        }
    }
    for (category, reasons) in declared {
        if !needed.contains(category) {
            return Err(format!(
                "{MANIFEST} declares {category}, and {LIBRARY} uses nothing of it"
            ));
        }
        if reasons == 0 {
            return Err(format!("{MANIFEST} declares {category} without a reason"));
        }
    }
    Ok(used)
}

fn categories_of(symbol: &str) -> impl Iterator<Item = &'static str> {
    // Some have variants, such as `stat$INODE64`.
    let (plain, _) = symbol.split_once('$').unwrap_or((symbol, ""));
    REASONS_REQUIRED
        .iter()
        .filter(move |(_, symbols)| symbols.contains(&symbol) || symbols.contains(&plain))
        .map(|&(category, _)| category)
        .collect::<Vec<_>>()
        .into_iter()
}

/// The categories that a privacy manifest declares, and how many reasons it has for each.
fn categories(manifest: &str) -> BTreeMap<&str, usize> {
    let mut categories = BTreeMap::new();
    let mut category = None;
    for rest in manifest.split("<string>").skip(1) {
        let Some((value, _)) = rest.split_once("</string>") else {
            continue;
        };
        if value.starts_with("NSPrivacyAccessedAPICategory") {
            category = Some(value);
            categories.insert(value, 0);
        } else if let Some(reasons) = category.and_then(|category| categories.get_mut(category)) {
            *reasons += 1;
        }
    }
    categories
}

fn list(names: BTreeSet<String>) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map_err(|error| in_file(from, error))?;
    Ok(())
}

fn in_file(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(defined: &[&str], undefined: &[&str]) -> Symbols {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Symbols {
            format: BinaryFormat::MachO,
            defined: set(defined),
            undefined: set(undefined),
            loaded: 0,
        }
    }

    fn manifest(entries: &[(&str, &str)]) -> String {
        entries
            .iter()
            .map(|(category, reason)| {
                format!(
                    "<key>NSPrivacyAccessedAPIType</key><string>NSPrivacyAccessedAPICategory\
                     {category}</string><key>NSPrivacyAccessedAPITypeReasons</key><array>{reason}\
                     </array>"
                )
            })
            .collect()
    }

    #[test]
    fn the_swift_package_has_the_header_of_the_c_library() {
        let packaged = root().join("ios/Sources/CFilbert/filbert.h");
        assert_eq!(process::same(&root().join(HEADER), &packaged), Ok(true));
    }

    #[test]
    fn the_oldest_systems_are_those_of_the_package() {
        let package = process::read(&root().join("ios/Package.swift")).unwrap();
        assert_eq!(
            OLDEST
                .iter()
                .map(|&(_, version)| version)
                .collect::<Vec<_>>(),
            ["15.0", "12.0"]
        );
        assert!(package.contains("[.iOS(.v15), .macOS(.v12)]"), "{package}");
    }

    #[test]
    fn a_function_that_is_missing_or_not_declared_is_found() {
        let header = "/* filbert_old( is gone\n * filbert_old(x) */\nconst char *filbert_a(void);\n\
                      filbert_error *filbert_b(int x,\n                 filbert_c **c);\n";
        assert_eq!(
            functions(header).collect::<Vec<_>>(),
            ["filbert_a", "filbert_b"]
        );
        let check = |defined: &[&str]| check_functions(header, &library(defined, &[]));
        assert_eq!(check(&["filbert_a", "filbert_b", "rust"]), Ok(()));
        assert!(check(&["filbert_a"]).is_err());
        assert!(check(&["filbert_a", "filbert_b", "filbert_d"]).is_err());
        assert!(check_functions("", &library(&[], &[])).is_err());
    }

    #[test]
    fn what_needs_a_reason_is_declared_and_nothing_else() {
        let check = |manifest: &str, undefined: &[&str]| {
            check_reasons(manifest, &library(&[], undefined)).map(|used| used.len())
        };
        let reason = "<string>C617.1</string>";
        let files = manifest(&[("FileTimestamp", reason)]);
        assert_eq!(check("", &["open", "clock_gettime"]), Ok(0));
        assert_eq!(check(&files, &["open", "stat$INODE64", "fstat"]), Ok(2));
        assert!(check("", &["stat"]).is_err());
        assert!(check(&files, &["open"]).is_err(), "not used");
        assert!(check(&manifest(&[("FileTimestamp", "")]), &["stat"]).is_err());
        for other in [
            "mach_absolute_time",
            "statvfs",
            "getattrlist",
            "OBJC_CLASS_$_NSUserDefaults",
        ] {
            assert!(check(&files, &["stat", other]).is_err(), "{other}");
        }
        let two = manifest(&[
            ("FileTimestamp", reason),
            ("DiskSpace", "<string>E</string>"),
        ]);
        assert_eq!(check(&two, &["getattrlist"]), Ok(1));
    }

    #[test]
    fn the_manifest_of_the_package_can_be_read() {
        let manifest = process::read(&root().join(MANIFEST)).unwrap();
        let declared = categories(&manifest);
        assert_eq!(
            declared.keys().copied().collect::<Vec<_>>(),
            ["NSPrivacyAccessedAPICategoryFileTimestamp"]
        );
        assert!(declared.values().all(|&reasons| reasons > 0));
    }
}
