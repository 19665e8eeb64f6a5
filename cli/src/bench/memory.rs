//! How much memory this process holds, where the operating system says so.

/// Bytes, of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Pages that only this process has and that it has written to: what it costs the machine.
    /// The pages of a mapped file are not among them.
    pub(crate) private_dirty: Option<u64>,
    /// The most that was resident at once, shared and mapped pages included.
    pub(crate) peak_resident: Option<u64>,
}

impl Memory {
    /// As it is now. Linux and Android tell; elsewhere nothing is known.
    pub(crate) fn read() -> Self {
        let field = |path: &str, name: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            kilobytes(&text, name)
        };
        Self {
            private_dirty: field("/proc/self/smaps_rollup", "Private_Dirty:"),
            peak_resident: field("/proc/self/status", "VmHWM:"),
        }
    }
}

/// The bytes in a line such as `VmHWM:   1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "Rss:      100 kB\nPrivate_Clean:   3 kB\nPrivate_Dirty:\t  12 kB\nX: 1\n";
        assert_eq!(kilobytes(text, "Private_Dirty:"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "X:"), None);
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        let memory = Memory::read();
        assert!(memory.private_dirty.is_some_and(|bytes| bytes > 0));
        assert!(memory.peak_resident.is_some_and(|bytes| bytes > 0));
    }
}
