//! The runtime for the JVM: what `dev.filbert.Native` of the Kotlin library calls.
//!
//! There is no logic here: arguments are checked, the runtime is called, and what it returns is
//! packed into arrays that the Kotlin code reads. The Kotlin classes are the documentation.
//!
//! Three rules hold for every function. No panic leaves it: [`error::guard`] makes an exception
//! of it. Kotlin holds no pointer: it has numbers, which [`registry`] looks up, so that a closed
//! classifier is an exception and not a pointer to memory that is gone. Text is UTF-8 in a
//! `byte[]`: what JNI calls UTF-8 is not, beyond U+FFFF and at U+0000.
//!
//! The library exports `JNI_OnLoad` only. It registers the functions by name and signature, so
//! that a class which does not fit fails when the library is loaded, not in some later call.
//!
//! `unsafe` is what touches the interface of the JVM, in `env.rs`, and three places in
//! `natives.rs`, each with its reason.

#[expect(unsafe_code, reason = "JNI is a table of C functions")]
mod env;
mod error;
#[expect(
    unsafe_code,
    reason = "a descriptor and a buffer of the caller, and the function that the JVM calls by name"
)]
mod natives;
mod registry;
