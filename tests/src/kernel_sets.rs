//! The same test program with each kernel set that the CPU has.

use std::process::{Command, Output};

/// What this test program does as a child process that `FILBERT_ISA` forces to a kernel set,
/// for each that the CPU has. `prepare` gives the child its arguments and environment.
///
/// # Panics
/// If a child cannot be started.
pub fn run_each(prepare: impl Fn(&mut Command)) -> Vec<(&'static str, Output)> {
    let sets = filbert::benchmark::sets().into_iter();
    sets.map(|set| {
        let mut child = this_program();
        prepare(&mut child);
        let output = child.env("FILBERT_ISA", set).output();
        let output = output.unwrap_or_else(|error| panic!("{child:?}: {error}"));
        (set, output)
    })
    .collect()
}

/// A command that starts this test program, through `FILBERT_RUNNER` if that is set: an emulator
/// that runs tests of another CPU does not start their children by itself.
fn this_program() -> Command {
    let program = std::env::current_exe().expect("the system knows this program's path");
    match std::env::var("FILBERT_RUNNER") {
        Ok(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("FILBERT_RUNNER names a program"));
            command.args(words).arg(program);
            command
        }
        Err(_) => Command::new(program),
    }
}
