//! Writes what the fuzzer begins with: a folder for each target, in the folder that is named.

use std::path::PathBuf;
use std::{env, fs, io};

use filbert_tests::fuzz::{Seed, model_seeds, vocabulary_seeds};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).expect("the name of a folder"));
    write(folder.join("vocabulary"), vocabulary_seeds())?;
    write(folder.join("model"), model_seeds())
}

fn write(folder: PathBuf, seeds: Vec<Seed>) -> io::Result<()> {
    fs::create_dir_all(&folder)?;
    for (name, input) in seeds {
        fs::write(folder.join(name), input)?;
    }
    Ok(())
}
