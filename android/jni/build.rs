//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let system = variable("CARGO_CFG_TARGET_OS");
    if system == "linux" || system == "android" {
        // Android finds a library by its name.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libfilbert_jni.so");
        // Android has devices with pages of 16 KiB, and does not load what is laid out for
        // smaller ones.
        if system == "android" || variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64" {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-z,max-page-size=16384");
        }
    }
}
