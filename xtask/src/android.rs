//! `cargo xtask android`: the library for Android apps, and what can be said of it without the
//! NDK.
//!
//! An AAR is a zip of the Kotlin classes and a native library for each ABI. It is assembled here,
//! of what Maven and cargo have made, so that neither Gradle nor the SDK is needed.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

use object::read::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _};
use object::{Architecture, File};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::process::{self, command, folder, root};

/// The oldest Android that is supported. `filbert/build.gradle.kts` has the same number.
const OLDEST: &str = "24";

/// Alignment of what is loaded: pages of some devices have as many bytes.
const PAGE: u64 = 16384;

const LIBRARY: &str = "libfilbert_jni.so";

/// Where Gradle looks for native libraries.
const GRADLE_LIBRARIES: &str = "android/filbert/src/main/jniLibs";

/// Compiles the Kotlin code, and has the versions of what it depends on.
const POM: &str = "android/desktop/pom.xml";
const RULES: &str = "android/filbert/consumer-rules.pro";
const CLASSES: &str = "target/jvm/maven/classes";

/// Class files up to this version are read by every Android Gradle plugin since 7.0: Java 11.
const NEWEST_CLASS: u16 = 55;

/// System libraries that apps may use.
const SYSTEM: &[&str] = &["libc.so", "libdl.so", "liblog.so", "libm.so"];

/// An architecture as Android names it.
struct Abi {
    name: &'static str,
    target: &'static str,
    architecture: Architecture,
    /// What links for the architecture, if not for Android, on Debian.
    linker: &'static str,
    /// Where the check builds: builds at the same time need folders of their own.
    folder: &'static str,
}

const ABIS: [Abi; 3] = [
    Abi {
        name: "arm64-v8a",
        target: "aarch64-linux-android",
        architecture: Architecture::Aarch64,
        linker: "aarch64-linux-gnu-gcc",
        folder: "target/mobile",
    },
    Abi {
        name: "armeabi-v7a",
        target: "armv7-linux-androideabi",
        architecture: Architecture::Arm,
        linker: "arm-linux-gnueabihf-gcc",
        folder: "target/mobile-armv7",
    },
    Abi {
        name: "x86_64",
        target: "x86_64-linux-android",
        architecture: Architecture::X86_64,
        linker: "gcc",
        folder: "target/mobile-x86_64",
    },
];

/// What is made.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Task {
    /// The AAR, with the NDK.
    Aar,
    /// The native libraries only, with the NDK: for Gradle.
    Libraries,
    /// The AAR without the NDK, to look at.
    Check,
}

pub(crate) fn run(task: Task) -> Result<(), String> {
    let libraries = match task {
        Task::Check => build_without_ndk()?,
        Task::Aar | Task::Libraries => build_with_ndk()?,
    };
    for (abi, bytes) in ABIS.iter().zip(&libraries) {
        let library = File::parse(&bytes[..]).map_err(|error| format!("{}: {error}", abi.name))?;
        Layout::read(&library)
            .and_then(|layout| layout.check(abi))
            .map_err(|problem| format!("{LIBRARY} for {}: {problem}", abi.name))?;
        println!("{}: {} bytes", abi.name, bytes.len());
    }
    if task == Task::Libraries {
        println!("{GRADLE_LIBRARIES} has them");
        return Ok(());
    }
    let aar = assemble(&Contents {
        rules: process::read(&root().join(RULES))?,
        classes: compile_kotlin()?,
        libraries,
    })?;
    check_aar(&aar)?;
    if task == Task::Check {
        println!(
            "an AAR of them has {} bytes and is as it must be",
            aar.len()
        );
        return Ok(());
    }
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("filbert-{version}");
    let place = folder(&format!("android/maven/dev/filbert/filbert/{version}"))?;
    write(&place.join(format!("{name}.aar")), &aar)?;
    let pom = describe_dependencies(&process::read(&root().join(POM))?, version)?;
    write(&place.join(format!("{name}.pom")), pom.as_bytes())?;
    println!(
        "target/android/maven is a Maven repository with dev.filbert:filbert:{version}, an AAR of \
         {} bytes",
        aar.len()
    );
    Ok(())
}

/// Builds the libraries as apps get them.
fn build_with_ndk() -> Result<Vec<Vec<u8>>, String> {
    if !has_ndk() {
        return Err(
            "no Android NDK: install it in Android Studio (SDK Manager, SDK Tools, NDK), or set \
             ANDROID_NDK_HOME to its folder; `cargo xtask android --check` needs none"
                .into(),
        );
    }
    let version = command("cargo").args(["ndk", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err("no cargo-ndk: `cargo install cargo-ndk` installs it".into());
    }
    let mut cargo = command("cargo");
    cargo.arg("ndk");
    for abi in &ABIS {
        cargo.args(["--target", abi.name]);
    }
    cargo.args(["--platform", OLDEST, "--output-dir"]);
    cargo.arg(root().join(GRADLE_LIBRARIES));
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "ship",
        "-p",
        "filbert-jni",
    ]);
    process::run(&mut cargo).map_err(|error| {
        let targets = ABIS.map(|abi| abi.target).join(" ");
        format!("{error}; `rustup target add {targets}` installs what it needs")
    })?;
    let place = |abi: &Abi| root().join(GRADLE_LIBRARIES).join(abi.name).join(LIBRARY);
    ABIS.iter().map(|abi| read(&place(abi))).collect()
}

/// Whether cargo-ndk will find an NDK.
fn has_ndk() -> bool {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let named = [
        "ANDROID_NDK_HOME",
        "ANDROID_NDK_ROOT",
        "ANDROID_NDK_PATH",
        "NDK_HOME",
    ];
    let in_sdk = ["ANDROID_HOME", "ANDROID_SDK_ROOT", "ANDROID_SDK_HOME"];
    let usual = ["Android/Sdk/ndk", "Library/Android/sdk/ndk"];
    let home = |place: &str| variable("HOME").map(|home| home.join(place));
    named
        .iter()
        .filter_map(|name| variable(name))
        .chain(
            in_sdk
                .iter()
                .filter_map(|name| Some(variable(name)?.join("ndk"))),
        )
        .chain(usual.iter().filter_map(|place| home(place)))
        .chain(variable("LOCALAPPDATA").map(|data| data.join("Android/Sdk/ndk")))
        .any(|folder| folder.is_dir())
}

/// Builds the libraries for Android with Debian's compilers and the standard library's source.
/// Nothing of Android is there to link with, so what they use of it stays open, and so do the
/// functions that unwind, which the NDK adds. They cannot be loaded, but can be looked at.
fn build_without_ndk() -> Result<Vec<Vec<u8>>, String> {
    // So that the linker finds neither glibc's libraries nor nothing.
    let empty = folder("mobile/empty")?;
    for name in ["c", "dl", "log", "m", "unwind"] {
        write(&empty.join(format!("lib{name}.a")), b"!<arch>\n")?;
    }
    let build = &|abi: &Abi| -> Result<Vec<u8>, String> {
        let variable = abi.target.to_uppercase().replace('-', "_");
        let mut cargo = command("/usr/bin/cargo");
        cargo.env("RUSTC", "/usr/bin/rustc");
        cargo.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS");
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), abi.linker);
        cargo.args(["-Zbuild-std=std,panic_unwind", "rustc", "--locked"]);
        cargo.args(["--profile", "ship", "-p", "filbert-jni", "--lib"]);
        cargo.args(["--target", abi.target, "--target-dir", abi.folder]);
        cargo.args(["--", "-Clink-arg=-nostdlib", "-L"]).arg(&empty);
        process::run(&mut cargo)?;
        let folder = root().join(abi.folder).join(abi.target);
        read(&folder.join("ship").join(LIBRARY))
    };
    // One build keeps one core busy: crates of the standard library wait for one another.
    thread::scope(|scope| {
        let builds = ABIS.each_ref().map(|abi| scope.spawn(move || build(abi)));
        let built = builds.map(|build| build.join().unwrap_or_else(|_| Err("a panic".into())));
        built.into_iter().collect()
    })
}

/// What Android's loader looks at in a library.
#[derive(Clone, Debug)]
struct Layout {
    architecture: Architecture,
    name: Option<String>,
    needed: Vec<String>,
    exported: Vec<String>,
    /// Of each part that is loaded: alignment, and by how much its place in the file is off.
    segments: Vec<(u64, u64)>,
    relocates_code: bool,
    stripped: bool,
}

impl Layout {
    fn read(file: &File<'_>) -> Result<Self, String> {
        let unreadable = |error: object::Error| error.to_string();
        let mut layout = Self {
            architecture: file.architecture(),
            name: None,
            needed: Vec::new(),
            exported: Vec::new(),
            segments: Vec::new(),
            relocates_code: false,
            stripped: file.symbols().next().is_none(),
        };
        for symbol in file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_definition())
        {
            layout
                .exported
                .push(symbol.name().map_err(unreadable)?.into());
        }
        for segment in file.segments() {
            let align = segment.align().max(1);
            let off = segment.address().wrapping_sub(segment.file_range().0) % align;
            layout.segments.push((align, off));
        }
        let data = |name: &str| -> Result<&[u8], String> {
            let section = file.section_by_name(name).ok_or(format!("no {name}"))?;
            section.data().map_err(unreadable)
        };
        let (dynamic, names) = (data(".dynamic")?, data(".dynstr")?);
        let word = if file.is_64() { 8 } else { 4 };
        for entry in dynamic.chunks_exact(2 * word) {
            // Every Android is little-endian.
            let number = |bytes: &[u8]| {
                bytes
                    .iter()
                    .rev()
                    .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
            };
            let (tag, value) = (number(&entry[..word]), number(&entry[word..]));
            let text = || {
                let rest = usize::try_from(value)
                    .ok()
                    .and_then(|start| names.get(start..));
                let name = rest.and_then(|rest| rest.split(|byte| *byte == 0).next());
                name.map(|name| String::from_utf8_lossy(name).into_owned())
                    .ok_or("a name lies outside .dynstr")
            };
            match tag {
                1 => layout.needed.push(text()?),
                14 => layout.name = Some(text()?),
                22 => layout.relocates_code = true,
                _ => {}
            }
        }
        Ok(layout)
    }

    /// Fails unless every device with this ABI loads it.
    fn check(&self, abi: &Abi) -> Result<(), String> {
        if self.architecture != abi.architecture {
            return Err(format!("it is for {:?}", self.architecture));
        }
        if self.name.as_deref() != Some(LIBRARY) {
            return Err(format!("its name is {:?}", self.name));
        }
        if let Some(name) = self.needed.iter().find(|name| !SYSTEM.contains(&&***name)) {
            return Err(format!("it needs {name}, which apps cannot use"));
        }
        // Another name could take the place of one of the app's own.
        let of_jni = |name: &String| name == "JNI_OnLoad" || name.starts_with("Java_");
        if let Some(name) = self.exported.iter().find(|name| !of_jni(name)) {
            return Err(format!("it exports {name}"));
        }
        if self.exported.is_empty() {
            return Err("it exports nothing".into());
        }
        if self.segments.is_empty() {
            return Err("nothing of it is loaded".into());
        }
        match self
            .segments
            .iter()
            .find(|(align, off)| *align < PAGE || *off != 0)
        {
            Some((align, 0)) => {
                return Err(format!(
                    "a segment is aligned to {align}, which devices with pages of {PAGE} do not load"
                ));
            }
            Some((align, off)) => {
                return Err(format!(
                    "a segment is {off} bytes off its alignment of {align}"
                ));
            }
            None => {}
        }
        if self.relocates_code {
            return Err("it relocates code, which Android refuses".into());
        }
        if !self.stripped {
            return Err("it is not stripped".into());
        }
        Ok(())
    }
}

/// Compiles the Kotlin code with Maven and returns the class files and what Kotlin needs to know
/// of them, by name.
fn compile_kotlin() -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut maven = command("mvn");
    maven.args(["--quiet", "--batch-mode", "--file", POM, "compile"]);
    process::run(&mut maven)?;
    let folder = root().join(CLASSES);
    let mut files = Vec::new();
    collect(&folder, &folder, &mut files)?;
    files.sort();
    Ok(files)
}

/// All files under a folder, by their names in it.
fn collect(top: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<(), String> {
    let in_folder = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(in_folder)? {
        let path = entry.map_err(in_folder)?.path();
        if path.is_dir() {
            collect(top, &path, files)?;
        } else {
            let name = path.strip_prefix(top).expect("it lies in the folder");
            let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
            files.push((parts.join("/"), read(&path)?));
        }
    }
    Ok(())
}

/// What an AAR is made of.
struct Contents {
    rules: String,
    classes: Vec<(String, Vec<u8>)>,
    /// In the order of [`ABIS`].
    libraries: Vec<Vec<u8>>,
}

/// Puts an AAR together: the same bytes for the same contents.
fn assemble(contents: &Contents) -> Result<Vec<u8>, String> {
    let manifest = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <manifest xmlns:android=\"http://schemas.android.com/apk/res/android\" \
         package=\"dev.filbert\">\n    <uses-sdk android:minSdkVersion=\"{OLDEST}\" />\n\
         </manifest>\n"
    );
    let jar = pack(&contents.classes)?;
    let mut files = vec![
        ("AndroidManifest.xml".into(), manifest.into_bytes()),
        ("classes.jar".into(), jar),
        ("R.txt".into(), Vec::new()),
        ("proguard.txt".into(), contents.rules.clone().into_bytes()),
    ];
    for (abi, library) in ABIS.iter().zip(&contents.libraries) {
        files.push((format!("jni/{}/{LIBRARY}", abi.name), library.clone()));
    }
    pack(&files)
}

/// A zip of files, in their order and all of the same age.
fn pack(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let failed = |error: zip::result::ZipError| format!("a zip: {error}");
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(&**name, options).map_err(failed)?;
        zip.write_all(bytes)
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}

/// The files in a zip, in their order.
fn unpack(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let failed = |error: zip::result::ZipError| format!("a zip: {error}");
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).map_err(failed)?;
        let mut bytes = Vec::new();
        let name = file.name().map_err(failed)?.into_owned();
        file.read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        files.push((name, bytes));
    }
    Ok(files)
}

/// Fails unless an AAR has what the Android Gradle plugin expects, and nothing else.
fn check_aar(aar: &[u8]) -> Result<(), String> {
    let files = unpack(aar)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let libraries = ABIS.map(|abi| format!("jni/{}/{LIBRARY}", abi.name));
    let expected: Vec<&str> = [
        "AndroidManifest.xml",
        "classes.jar",
        "R.txt",
        "proguard.txt",
    ]
    .into_iter()
    .chain(libraries.iter().map(String::as_str))
    .collect();
    if names != expected {
        return Err(format!("the AAR has {names:?}; expected {expected:?}"));
    }
    let classes = unpack(&files[1].1).map_err(|error| format!("classes.jar: {error}"))?;
    check_classes(&classes).map_err(|error| format!("classes.jar: {error}"))?;
    let rules = String::from_utf8_lossy(&files[3].1);
    // What the native library finds by name.
    for class in ["dev.filbert.Native", "dev.filbert.FilbertException"] {
        if !rules.contains(&format!("-keep class {class} ")) {
            return Err(format!("proguard.txt does not keep {class}"));
        }
    }
    Ok(())
}

fn check_classes(files: &[(String, Vec<u8>)]) -> Result<(), String> {
    for name in ["TextClassifier", "Native", "FilbertException"] {
        let name = format!("dev/filbert/{name}.class");
        if !files.iter().any(|(file, _)| *file == name) {
            return Err(format!("no {name}"));
        }
    }
    for (name, bytes) in files {
        // By this Kotlin finds extension functions and the like.
        if name == "META-INF/filbert.kotlin_module" {
            continue;
        }
        if !name.starts_with("dev/filbert/") || !name.ends_with(".class") {
            return Err(format!("{name} is none of ours"));
        }
        let &[0xca, 0xfe, 0xba, 0xbe, _, _, high, low, ..] = &bytes[..] else {
            return Err(format!("{name} is no class"));
        };
        let version = u16::from_be_bytes([high, low]);
        if version > NEWEST_CLASS {
            return Err(format!(
                "{name} has version {version}, more than {NEWEST_CLASS}"
            ));
        }
    }
    Ok(())
}

/// The POM of the AAR: what an app needs beside it, in the versions that it was tested with.
fn describe_dependencies(tested: &str, version: &str) -> Result<String, String> {
    let property = |name: &str| {
        let after = tested
            .split_once(&format!("<{name}>"))
            .map(|(_, after)| after);
        after
            .and_then(|after| after.split_once("</"))
            .map(|(value, _)| value.to_owned())
            .ok_or(format!("{POM} has no {name}"))
    };
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency>\n      <groupId>{group}</groupId>\n      \
             <artifactId>{artifact}</artifactId>\n      <version>{version}</version>\n      \
             <scope>compile</scope>\n    </dependency>\n"
        )
    };
    let kotlin = dependency(
        "org.jetbrains.kotlin",
        "kotlin-stdlib",
        &property("kotlin.version")?,
    );
    let coroutines = dependency(
        "org.jetbrains.kotlinx",
        "kotlinx-coroutines-core",
        &property("coroutines.version")?,
    );
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  \
         <modelVersion>4.0.0</modelVersion>\n  <groupId>dev.filbert</groupId>\n  \
         <artifactId>filbert</artifactId>\n  <version>{version}</version>\n  \
         <packaging>aar</packaging>\n  <dependencies>\n{kotlin}{coroutines}  \
         </dependencies>\n</project>\n"
    ))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(version: u8) -> Vec<u8> {
        vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, version, 0]
    }

    fn contents() -> Contents {
        let file = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
        Contents {
            rules: process::read(&root().join(RULES)).unwrap(),
            classes: vec![
                file("META-INF/filbert.kotlin_module", vec![1, 2, 3]),
                file("dev/filbert/FilbertException.class", class(55)),
                file("dev/filbert/Native.class", class(55)),
                file("dev/filbert/TextClassifier.class", class(52)),
            ],
            libraries: vec![b"a".repeat(5000), b"b".to_vec(), b"c".to_vec()],
        }
    }

    #[test]
    fn an_aar_has_each_file_in_its_place() {
        let aar = assemble(&contents()).unwrap();
        assert_eq!(check_aar(&aar), Ok(()));
        let files = unpack(&aar).unwrap();
        assert_eq!(
            files[4],
            ("jni/arm64-v8a/libfilbert_jni.so".into(), b"a".repeat(5000))
        );
        assert_eq!(files[5].0, "jni/armeabi-v7a/libfilbert_jni.so");
        assert_eq!(
            files[6],
            ("jni/x86_64/libfilbert_jni.so".into(), b"c".to_vec())
        );
        assert_eq!(unpack(&files[1].1).unwrap(), contents().classes);
        let manifest = String::from_utf8(files[0].1.clone()).unwrap();
        assert!(manifest.contains("package=\"dev.filbert\""), "{manifest}");
        assert!(manifest.contains("minSdkVersion=\"24\""), "{manifest}");
        assert_eq!(assemble(&contents()).unwrap(), aar);
    }

    #[test]
    fn an_aar_that_lacks_something_is_refused() {
        let refused = |change: fn(&mut Contents), says: &str| {
            let mut contents = contents();
            change(&mut contents);
            let outcome = check_aar(&assemble(&contents).unwrap());
            let message = outcome.unwrap_err();
            assert!(message.contains(says), "{message}");
        };
        refused(|c| drop(c.libraries.pop()), "expected");
        refused(
            |c| drop(c.classes.pop()),
            "no dev/filbert/TextClassifier.class",
        );
        refused(|c| c.classes[2].1 = class(61), "version 61");
        refused(|c| c.classes[2].1 = vec![1], "no class");
        refused(
            |c| {
                c.classes
                    .push(("android/content/Context.class".into(), class(55)))
            },
            "ours",
        );
        refused(
            |c| c.rules = c.rules.replace("dev.filbert.Native", "x"),
            "does not keep",
        );
        assert!(check_aar(b"not a zip").is_err());
    }

    #[test]
    fn a_library_that_some_device_does_not_load_is_refused() {
        let good = Layout {
            architecture: Architecture::Aarch64,
            name: Some(LIBRARY.into()),
            needed: vec!["libc.so".into()],
            exported: vec!["JNI_OnLoad".into()],
            segments: vec![(16384, 0), (65536, 0)],
            relocates_code: false,
            stripped: true,
        };
        assert_eq!(good.check(&ABIS[0]), Ok(()));
        let refused = |change: fn(&mut Layout), says: &str| {
            let mut layout = good.clone();
            change(&mut layout);
            let message = layout.check(&ABIS[0]).unwrap_err();
            assert!(message.contains(says), "{message}");
        };
        refused(|l| l.architecture = Architecture::Arm, "Arm");
        refused(|l| l.name = None, "name");
        refused(|l| l.needed.push("libc.so.6".into()), "libc.so.6");
        refused(|l| l.exported.push("malloc".into()), "malloc");
        refused(|l| l.exported.clear(), "nothing");
        refused(|l| l.segments[1].0 = 4096, "aligned to 4096");
        refused(|l| l.segments[0].1 = 8, "8 bytes off");
        refused(|l| l.segments.clear(), "loaded");
        refused(|l| l.relocates_code = true, "relocates");
        refused(|l| l.stripped = false, "stripped");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_read_of_a_file_is_what_it_has() {
        let bytes = read(&std::env::current_exe().unwrap()).unwrap();
        let layout = Layout::read(&File::parse(&bytes[..]).unwrap()).unwrap();
        // This program is no library, is not stripped, and needs glibc.
        assert_eq!(layout.name, None);
        assert!(!layout.stripped && !layout.relocates_code);
        assert!(layout.needed.contains(&"libc.so.6".into()), "{layout:?}");
        assert!(layout.segments.len() > 1);
        assert!(
            layout
                .segments
                .iter()
                .all(|(align, off)| *align >= 4096 && *off == 0)
        );
    }

    #[test]
    fn the_pom_names_what_was_tested() {
        let tested = process::read(&root().join(POM)).unwrap();
        let pom = describe_dependencies(&tested, "1.2.3").unwrap();
        assert!(pom.contains("<artifactId>kotlinx-coroutines-core</artifactId>"));
        assert_eq!(pom.matches("<version>").count(), 3);
        assert!(pom.contains("<version>1.2.3</version>") && !pom.contains("${"));
        assert!(describe_dependencies("<kotlin.version>2</kotlin.version>", "1").is_err());
    }

    #[test]
    fn gradle_supports_the_same_androids() {
        let build = process::read(&root().join("android/filbert/build.gradle.kts")).unwrap();
        assert!(build.contains(&format!("minSdk = {OLDEST}\n")), "{build}");
        for abi in ABIS {
            assert!(build.contains(&format!("\"{}\"", abi.name)), "{}", abi.name);
        }
    }
}
