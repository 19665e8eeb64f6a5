//! The interface of the JVM: all of JNI that is used, and no more.
//!
//! The types here are those of the arguments of native functions. Only the JVM makes an [`Env`],
//! an [`Object`] or an array, by calling a function that was registered with them in its
//! signature, and none outlives that call. So to have one is the proof that it is valid, that
//! this thread is attached, and that an array has the element type of its name.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use jni_sys::{
    JNI_VERSION_1_6, JNIEnv, JNINativeMethod, JavaVM, jclass, jint, jmethodID, jobject, jsize,
    jvalue,
};

use crate::error::Failure;

/// The JVM as the current thread sees it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Env<'a>(NonNull<JNIEnv>, PhantomData<&'a ()>);

/// A reference to an object, or null, during a call.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Object<'a>(jobject, PhantomData<&'a ()>);

/// A `byte[]`, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bytes<'a>(Object<'a>);

/// An `int[]`, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Ints<'a>(Object<'a>);

/// A `byte[][]`, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct ByteArrays<'a>(Object<'a>);

/// A `String[]`, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Strings<'a>(Object<'a>);

/// A `java.nio.ByteBuffer`, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Buffer<'a>(Object<'a>);

macro_rules! null {
    ($($name:ident)*) => {$(
        impl $name<'_> {
            /// What is returned where an exception is pending.
            pub(crate) const NULL: Self = Self(Object::NULL);
        }
    )*};
}
null!(Ints Strings);

impl Object<'_> {
    const NULL: Self = Self(ptr::null_mut(), PhantomData);
}

impl Ints<'_> {
    pub(crate) fn is_null(self) -> bool {
        self.0.0.is_null()
    }
}

/// Calls a function of the interface.
macro_rules! call {
    ($env:expr, $function:ident $(, $argument:expr)*) => {
        ((**$env.0.as_ptr()).v1_6.$function)($env.0.as_ptr() $(, $argument)*)
    };
}

fn count(length: jsize) -> usize {
    usize::try_from(length).unwrap_or(0)
}

fn size(length: usize) -> Result<jsize, Failure> {
    jsize::try_from(length)
        .map_err(|_| Failure::invalid(format!("{length} values are more than an array holds")))
}

impl<'a> Env<'a> {
    /// The length of an array that is not null.
    fn length(self, array: Object<'_>) -> Result<usize, Failure> {
        if array.0.is_null() {
            return Err(Failure::invalid("an array is null"));
        }
        // SAFETY: the array is valid, as the module says, and not null.
        Ok(count(unsafe { call!(self, GetArrayLength, array.0) }))
    }

    /// A copy of a part of a `byte[]`.
    pub(crate) fn part(
        self,
        array: Bytes<'_>,
        start: usize,
        length: usize,
    ) -> Result<Vec<u8>, Failure> {
        let whole = self.length(array.0)?;
        if start.checked_add(length).is_none_or(|end| end > whole) {
            return Err(Failure::invalid(format!(
                "{length} bytes from {start} on are not in an array of {whole}"
            )));
        }
        let mut bytes = vec![0u8; length];
        let (start, length) = (size(start)?, size(length)?);
        // SAFETY: the array is valid and has the range, as was checked; `bytes` has as many.
        unsafe {
            call!(
                self,
                GetByteArrayRegion,
                array.0.0,
                start,
                length,
                bytes.as_mut_ptr().cast()
            );
        }
        Ok(bytes)
    }

    /// A copy of a `byte[]`.
    pub(crate) fn bytes(self, array: Bytes<'_>) -> Result<Vec<u8>, Failure> {
        let length = self.length(array.0)?;
        self.part(array, 0, length)
    }

    /// A copy of a `byte[]` of UTF-8.
    pub(crate) fn text(self, array: Bytes<'_>) -> Result<String, Failure> {
        String::from_utf8(self.bytes(array)?)
            .map_err(|error| Failure::invalid(format!("the text is not UTF-8: {error}")))
    }

    /// Copies of the texts of a `byte[][]`; none, if it is null.
    pub(crate) fn texts(self, arrays: ByteArrays<'_>) -> Result<Vec<String>, Failure> {
        if arrays.0.0.is_null() {
            return Ok(Vec::new());
        }
        let length = size(self.length(arrays.0)?)?;
        let mut texts = Vec::new();
        for index in 0..length {
            // SAFETY: the array is valid and its elements are `byte[]` or null, as the module
            // says, and the index is below its length.
            let element = unsafe { call!(self, GetObjectArrayElement, arrays.0.0, index) };
            let text = self.text(Bytes(Object(element, PhantomData)));
            // SAFETY: the reference came from the JVM in this call and is not used after this.
            unsafe { call!(self, DeleteLocalRef, element) };
            texts.push(text?);
        }
        Ok(texts)
    }

    /// A copy of an `int[]`.
    pub(crate) fn ints(self, array: Ints<'_>) -> Result<Vec<i32>, Failure> {
        let mut values = vec![0; self.length(array.0)?];
        let length = size(values.len())?;
        // SAFETY: the array is valid and as long as `values`.
        unsafe {
            call!(
                self,
                GetIntArrayRegion,
                array.0.0,
                0,
                length,
                values.as_mut_ptr()
            );
        }
        Ok(values)
    }

    /// An `int[]` of these values.
    pub(crate) fn new_ints(self, values: &[i32]) -> Result<Ints<'a>, Failure> {
        let length = size(values.len())?;
        // SAFETY: the interface is valid; the length is not negative.
        let array = unsafe { call!(self, NewIntArray, length) };
        if array.is_null() {
            return Err(Failure::Thrown);
        }
        // SAFETY: the array is new, not null and as long as `values`.
        unsafe { call!(self, SetIntArrayRegion, array, 0, length, values.as_ptr()) };
        Ok(Ints(Object(array, PhantomData)))
    }

    /// A `String[]` of these texts.
    pub(crate) fn new_strings(self, texts: &[&str]) -> Result<Strings<'a>, Failure> {
        let length = size(texts.len())?;
        let class = self.class(c"java/lang/String")?;
        // SAFETY: the class is valid and not null; null is an element of any array of objects.
        let array = unsafe { call!(self, NewObjectArray, length, class, ptr::null_mut()) };
        if array.is_null() {
            return Err(Failure::Thrown);
        }
        for (index, text) in (0..).zip(texts) {
            let string = self.string(text)?;
            // SAFETY: the array is new and the index below its length; the element is a string.
            unsafe {
                call!(self, SetObjectArrayElement, array, index, string);
                call!(self, DeleteLocalRef, string);
            }
        }
        Ok(Strings(Object(array, PhantomData)))
    }

    /// A string, by UTF-16: JNI has no function that takes UTF-8.
    fn string(self, text: &str) -> Result<jobject, Failure> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let length = size(units.len())?;
        // SAFETY: so many units are there.
        let string = unsafe { call!(self, NewString, units.as_ptr(), length) };
        match string.is_null() {
            true => Err(Failure::Thrown),
            false => Ok(string),
        }
    }

    fn class(self, name: &CStr) -> Result<jclass, Failure> {
        // SAFETY: the name ends with a NUL, and is ASCII, hence modified UTF-8 too.
        let class = unsafe { call!(self, FindClass, name.as_ptr()) };
        match class.is_null() {
            true => Err(Failure::Thrown),
            false => Ok(class),
        }
    }

    /// Where the bytes of a direct buffer are, and how many. They are there as long as the
    /// buffer is.
    pub(crate) fn direct(self, buffer: Buffer<'_>) -> Result<(*const u8, usize), Failure> {
        let not_direct = || Failure::invalid("the buffer is not direct");
        if buffer.0.0.is_null() {
            return Err(not_direct());
        }
        // SAFETY: the buffer is a valid `ByteBuffer`, as the module says, and not null.
        let (address, capacity) = unsafe {
            (
                call!(self, GetDirectBufferAddress, buffer.0.0),
                call!(self, GetDirectBufferCapacity, buffer.0.0),
            )
        };
        match usize::try_from(capacity) {
            Ok(capacity) if !address.is_null() => Ok((address.cast_const().cast(), capacity)),
            _ => Err(not_direct()),
        }
    }

    /// Keeps a buffer from being freed.
    pub(crate) fn keep(self, buffer: Buffer<'_>) -> Result<Kept, Failure> {
        let mut vm = ptr::null_mut();
        // SAFETY: the interface is valid, and `vm` may be written.
        if unsafe { call!(self, GetJavaVM, &mut vm) } != 0 {
            return Err(Failure::invalid("the JVM does not tell where it is"));
        }
        // SAFETY: the buffer is valid; null gives null.
        let object = unsafe { call!(self, NewGlobalRef, buffer.0.0) };
        match object.is_null() {
            true => Err(Failure::Thrown),
            false => Ok(Kept { object, vm }),
        }
    }

    /// Makes a `FilbertException` pending. If even that fails, what the JVM threw meanwhile is.
    pub(crate) fn throw(self, code: i32, message: &str) {
        // Every function is registered after this is set.
        let Some(exception) = EXCEPTION.get() else {
            return;
        };
        let Ok(message) = self.string(message) else {
            return;
        };
        let arguments = [jvalue { i: code }, jvalue { l: message }];
        // SAFETY: the class is a global reference that is never deleted, the constructor is of
        // that class, and takes an int and a string.
        unsafe {
            let thrown = call!(
                self,
                NewObjectA,
                exception.class,
                exception.constructor,
                arguments.as_ptr()
            );
            if !thrown.is_null() {
                call!(self, Throw, thrown);
            }
        }
    }

    /// Finds the classes of the Kotlin library and registers its native functions. On failure an
    /// exception tells what is missing, and is pending.
    ///
    /// # Safety
    /// Each function has the parameters of its signature: an [`Env`], the class as an
    /// [`Object`], then what the signature lists.
    pub(crate) unsafe fn register(
        self,
        class: &CStr,
        functions: &[(&CStr, &CStr, *const c_void)],
    ) -> Result<(), Failure> {
        let exception = self.class(c"dev/filbert/FilbertException")?;
        let signature = c"(ILjava/lang/String;)V";
        // SAFETY: the class is valid; both names end with a NUL and are ASCII.
        let (constructor, global) = unsafe {
            let name = c"<init>".as_ptr();
            (
                call!(self, GetMethodID, exception, name, signature.as_ptr()),
                call!(self, NewGlobalRef, exception),
            )
        };
        if constructor.is_null() || global.is_null() {
            return Err(Failure::Thrown);
        }
        EXCEPTION.get_or_init(|| Exception {
            class: global,
            constructor,
        });
        let class = self.class(class)?;
        let methods: Vec<JNINativeMethod> = functions
            .iter()
            .map(|(name, signature, function)| JNINativeMethod {
                name: name.as_ptr().cast_mut(),
                signature: signature.as_ptr().cast_mut(),
                fnPtr: function.cast_mut(),
            })
            .collect();
        let count = size(methods.len())?;
        // SAFETY: the class is valid and so many methods are there, with names that end with a
        // NUL; JNI does not write to them. The caller says that the functions fit.
        match unsafe { call!(self, RegisterNatives, class, methods.as_ptr(), count) } {
            0 => Ok(()),
            _ => Err(Failure::Thrown),
        }
    }
}

/// `dev.filbert.FilbertException`.
struct Exception {
    class: jclass,
    constructor: jmethodID,
}

// SAFETY: a global reference and a method id may be used on any thread.
unsafe impl Send for Exception {}
// SAFETY: as above; neither changes.
unsafe impl Sync for Exception {}

static EXCEPTION: OnceLock<Exception> = OnceLock::new();

/// An object that the garbage collector leaves where it is, until this is dropped.
pub(crate) struct Kept {
    object: jobject,
    vm: *mut JavaVM,
}

// SAFETY: a global reference and the JVM itself may be used on any thread.
unsafe impl Send for Kept {}
// SAFETY: as above; neither changes.
unsafe impl Sync for Kept {}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: the JVM is there as long as its native code runs.
        if let Some(env) = unsafe { attached(self.vm) } {
            // SAFETY: the reference came from `NewGlobalRef` and is deleted once.
            unsafe { call!(env, DeleteGlobalRef, self.object) };
        }
    }
}

/// The interface on this thread, if it is attached; it is in every call of Kotlin.
///
/// # Safety
/// `vm` points to the JVM, and `'a` does not outlive the current call of it.
pub(crate) unsafe fn attached<'a>(vm: *mut JavaVM) -> Option<Env<'a>> {
    let mut env: *mut c_void = ptr::null_mut();
    // SAFETY: the caller says that the JVM is there, and `env` may be written.
    let outcome: jint = unsafe { ((**vm).v1_4.GetEnv)(vm, &mut env, JNI_VERSION_1_6) };
    let env = NonNull::new(env.cast::<JNIEnv>()).filter(|_| outcome == 0)?;
    Some(Env(env, PhantomData))
}

// An argument has the size of the pointer that the JVM passes.
const _: () = assert!(size_of::<Env<'_>>() == size_of::<*const c_char>());
const _: () = assert!(size_of::<Bytes<'_>>() == size_of::<*const c_char>());
