//! Help texts, which differ with what a build can do.

/// In every build.
pub(crate) const ALWAYS: bool = true;
/// In builds that convert checkpoints.
pub(crate) const CONVERT: bool = cfg!(feature = "convert");
/// In builds that write ONNX and compute in float32.
pub(crate) const ONNX: bool = cfg!(feature = "onnx");

/// What a MODEL may be.
pub(crate) const MODEL: &str = if CONVERT {
    "A .filbert file, or a checkpoint: its folder or its name hf:org/name (converted in memory)"
} else {
    "A .filbert file"
};

/// What an ENCODER may be.
pub(crate) const ENCODER: &str = if CONVERT {
    "The frozen encoder: a .filbert file, or a checkpoint's folder (converted in memory)"
} else {
    "The frozen encoder: a .filbert file"
};

/// Those lines that this build has; each comes with whether it does.
pub(crate) fn lines(all: &[(bool, &str)]) -> String {
    let lines = all.iter().filter(|(has, _)| *has);
    lines.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
}
