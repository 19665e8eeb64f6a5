//! How a long task tells where it is.

/// Follows tasks, one after another: each begins, advances to its number of steps, and
/// finishes.
pub trait Progress {
    /// A task begins: what it does, for people, and in how many steps.
    fn begin(&mut self, what: &str, steps: u64);
    /// So many more steps are done.
    fn advance(&mut self, steps: u64);
    /// The task is done.
    fn finish(&mut self);
    /// Something that people should know, and that is no error.
    fn note(&mut self, _message: &str) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn finish(&mut self) {}
}
