//! Writes what the fuzzer begins with: a folder for each target, in the folder that is named.

use std::path::PathBuf;
use std::{env, fs, io};

use filbert_tests::fuzz::TARGETS;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).expect("the name of a folder"));
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, input) in (target.seeds)() {
            fs::write(folder.join(name), input)?;
        }
    }
    Ok(())
}
