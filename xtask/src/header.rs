//! `cargo xtask header`: the C header, from the sources of the C library.

use crate::process::{self, root};

/// The header, and the crate that it is made from.
const HEADER: &str = "runtime/capi/include/filbert.h";
const CRATE: &str = "runtime/capi";

pub(crate) fn run(check: bool) -> Result<(), String> {
    let made = generate()?;
    let path = root().join(HEADER);
    if !check {
        process::write(&path, &made)?;
        println!("{HEADER} is written");
        return Ok(());
    }
    if process::read(&path)? != made {
        return Err(format!(
            "{HEADER} is not what its sources say; `cargo xtask header` writes it"
        ));
    }
    println!("{HEADER} is what its sources say");
    Ok(())
}

fn generate() -> Result<String, String> {
    let folder = root().join(CRATE);
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml"))?;
    let bindings = cbindgen::generate_with_config(&folder, config)
        .map_err(|error| format!("{CRATE}: {error}"))?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let header = String::from_utf8(bytes).map_err(|error| format!("{HEADER}: {error}"))?;
    Ok(without_safety(&header))
}

/// Leaves out what a comment says after `# Safety`, which is about the code behind it: that the
/// caller keeps to what the comment says before.
fn without_safety(header: &str) -> String {
    let mut text = String::new();
    let mut is_safety = false;
    for line in header.lines() {
        is_safety |= line.trim_start() == "* # Safety";
        if is_safety && line.trim_start().starts_with("*/") {
            is_safety = false;
            // The line before it is empty.
            let before = text.trim_end_matches(['\n', ' ', '*']).len();
            text.truncate(before);
            text.push('\n');
        }
        if !is_safety {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_its_sources_say() {
        run(true).unwrap();
    }

    #[test]
    fn what_is_said_of_safety_is_left_out() {
        let header = "/**\n * Does it.\n *\n * # Safety\n * None.\n */\nvoid f(void);\n";
        assert_eq!(
            without_safety(header),
            "/**\n * Does it.\n */\nvoid f(void);\n"
        );
    }
}
