//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let system = variable("CARGO_CFG_TARGET_OS");
    if variable("CARGO_CFG_TARGET_VENDOR") == "apple" {
        // Programs find it where they are told to look, not where it was built.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libfilbert.dylib");
    }
    if system == "linux" || system == "android" {
        // Programs linked by its path find it by its name, as Android demands.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libfilbert.so");
        // Android has devices with pages of 16 KiB, and does not load what is laid out for
        // smaller ones.
        if variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64" {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-z,max-page-size=16384");
        }
    }
}
