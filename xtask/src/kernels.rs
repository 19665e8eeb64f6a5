//! `cargo xtask kernels`: what `llvm-mca` predicts of the inner loops of the Arm kernels.
//!
//! The loops are found in the compiler's output: innermost ones that multiply. A tile is known
//! by its function, its instruction and its number of sums.

use std::fmt::Write as _;
use std::path::Path;

use crate::arm;
use crate::process::{self, command, folder, output, root};

/// `llvm-mca` of a version that knows the CPUs below.
const ANALYZERS: &[&str] = &["llvm-mca-22", "llvm-mca"];

/// Times that a loop is run: enough that its first and last rounds do not count.
const ROUNDS: u32 = 200;

/// A tile that must be found.
struct Tile {
    set: &'static str,
    /// What its rows and columns are called.
    name: &'static str,
    /// A part of the function's name.
    function: &'static str,
    instruction: &'static str,
    /// Registers of sums.
    sums: usize,
    /// Times the instruction is in the loop.
    count: usize,
    /// Multiplications of one.
    multiplications: usize,
}

const TILES: &[Tile] = &[
    tile("neon", "3x8", "4neon13multiply_half", "sadalp", 12, 12, 16),
    tile("neon", "peak", "4neon8run_peak", "sadalp", 12, 12, 16),
    tile("dotprod", "6x16", "7dotprod8multiply", "sdot", 24, 96, 16),
    tile("dotprod", "2x32", "7dotprod8multiply", "sdot", 16, 64, 16),
    tile("dotprod", "1x64", "7dotprod8multiply", "sdot", 16, 64, 16),
    tile("dotprod", "peak", "7dotprod8run_peak", "sdot", 24, 24, 16),
    tile("i8mm", "6x16", "4i8mm8multiply", "usmmla", 24, 24, 32),
    tile("i8mm", "2x32", "4i8mm8multiply", "sudot", 16, 64, 16),
    tile("i8mm", "1x64", "4i8mm8multiply", "sudot", 16, 64, 16),
    tile("i8mm", "peak", "4i8mm8run_peak", "usmmla", 24, 24, 32),
];

const fn tile(
    set: &'static str,
    name: &'static str,
    function: &'static str,
    instruction: &'static str,
    sums: usize,
    count: usize,
    multiplications: usize,
) -> Tile {
    Tile {
        set,
        name,
        function,
        instruction,
        sums,
        count,
        multiplications,
    }
}

/// A CPU as the table calls it, and as `llvm-mca` does.
const CPUS: &[(&str, &str, &[&str])] = &[
    ("Cortex-A53", "cortex-a53", &["neon"]),
    ("Cortex-A72", "cortex-a72", &["neon"]),
    ("Cortex-A55", "cortex-a55", &["dotprod"]),
    ("Cortex-A76", "cortex-a76", &["dotprod"]),
    ("Cortex-A78", "cortex-a78", &["dotprod"]),
    ("Cortex-X1", "cortex-x1", &["dotprod"]),
    ("Neoverse N1", "neoverse-n1", &["dotprod"]),
    ("Apple M1", "apple-m1", &["dotprod"]),
    ("Cortex-A510", "cortex-a510", &["i8mm"]),
    ("Cortex-A710", "cortex-a710", &["i8mm"]),
    ("Cortex-X2", "cortex-x2", &["i8mm"]),
    ("Neoverse N2", "neoverse-n2", &["i8mm"]),
    ("Neoverse V1", "neoverse-v1", &["i8mm"]),
];

const BEGIN: &str = "<!-- written by `cargo xtask kernels` -->";
const END: &str = "<!-- end -->";

/// An innermost loop.
struct Loop {
    function: String,
    lines: Vec<String>,
}

pub(crate) fn run(check: bool) -> Result<(), String> {
    let mut compile = arm::cargo("rustc");
    compile.args(["-p", "filbert", "--lib", "--", "--emit=asm"]);
    compile.args(["-Ccodegen-units=1", "-Cdebuginfo=0"]);
    process::run(&mut compile)?;
    let loops = find_loops(&process::read(&newest_assembly()?)?);
    let tiles = TILES
        .iter()
        .map(|tile| Ok((tile, find_tile(tile, &loops)?)))
        .collect::<Result<Vec<_>, String>>()?;
    println!(
        "all {} loops are there, none of them with a sum in memory",
        tiles.len()
    );
    if check {
        return Ok(());
    }
    let analyzer = ANALYZERS
        .iter()
        .find(|name| command(name).arg("--version").output().is_ok())
        .ok_or(format!(
            "{}: not found; docs/kernels.md says what to install",
            ANALYZERS[0]
        ))?;
    let table = write_table(analyzer, &tiles)?;
    let document = root().join("docs/kernels.md");
    let text = process::read(&document)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .ok_or("docs/kernels.md: no mark to write at")?;
    let (_, after) = rest
        .split_once(END)
        .ok_or("docs/kernels.md: no mark to end at")?;
    process::write(
        &document,
        &format!("{before}{BEGIN}\n\n{table}\n{END}{after}"),
    )?;
    println!("docs/kernels.md: the table is written");
    Ok(())
}

fn newest_assembly() -> Result<std::path::PathBuf, String> {
    let folder = root()
        .join("target/cross")
        .join(arm::AARCH64)
        .join("release/deps");
    let files = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    files
        .filter_map(Result::ok)
        .filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("filbert-") && name.ends_with(".s")
        })
        .max_by_key(|file| file.metadata().and_then(|data| data.modified()).ok())
        .map(|file| file.path())
        .ok_or(format!("{}: no assembly", folder.display()))
}

/// The innermost loops: from a label to the first branch back to it, with no label between.
fn find_loops(assembly: &str) -> Vec<Loop> {
    let mut loops = Vec::new();
    let mut function = String::new();
    // The last label, and what came since.
    let mut label = String::new();
    let mut lines: Vec<String> = Vec::new();
    for line in assembly.lines() {
        if let Some(name) = line
            .strip_suffix(':')
            .filter(|name| !name.starts_with([' ', '\t']))
        {
            if !name.starts_with(".L") {
                name.clone_into(&mut function);
            }
            name.clone_into(&mut label);
            lines.clear();
            continue;
        }
        let code = line.trim();
        if code.is_empty() || code.starts_with(['.', '/']) {
            continue;
        }
        lines.push(code.to_owned());
        let branches = code.starts_with("b.") || code.starts_with("cb") || code.starts_with("tb");
        if branches && code.split([' ', '\t', ',']).next_back() == Some(&label) {
            loops.push(Loop {
                function: function.clone(),
                lines: lines.clone(),
            });
        }
    }
    loops
}

/// The loop of a tile.
///
/// # Errors
/// If it is not there, or keeps a sum in memory.
fn find_tile<'a>(tile: &Tile, loops: &'a [Loop]) -> Result<&'a Loop, String> {
    let fits = |found: &&Loop| {
        let uses: Vec<_> = found
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(tile.instruction)?.split(',').next())
            .collect();
        let mut sums = uses.clone();
        sums.sort_unstable();
        sums.dedup();
        found.function.contains(tile.function)
            && uses.len() == tile.count
            && sums.len() == tile.sums
            // One and two rows have as many sums; their rows are loaded apart.
            && match tile.name {
                "1x64" => loads(found) > 20,
                "2x32" => loads(found) <= 20,
                _ => true,
            }
    };
    let found = loops.iter().find(fits).ok_or(format!(
        "{} {}: no loop of {} `{}` with {} sums in the compiler's output",
        tile.set, tile.name, tile.count, tile.instruction, tile.sums
    ))?;
    if let Some(line) = found.lines.iter().find(|line| line.contains("[sp")) {
        return Err(format!(
            "{} {}: a value is kept in memory: {line}",
            tile.set, tile.name
        ));
    }
    Ok(found)
}

fn loads(found: &Loop) -> usize {
    found
        .lines
        .iter()
        .filter(|line| line.starts_with("ld"))
        .count()
}

/// The multiplications of one round of a loop.
fn multiplications(tile: &Tile) -> f64 {
    (tile.count * tile.multiplications) as f64
}

fn write_table(analyzer: &str, tiles: &[(&Tile, &Loop)]) -> Result<String, String> {
    let mut table = String::from(
        "| CPU | set | tile | instructions | cycles | multiplications a cycle | of the peak |\n\
         |---|---|---|---:|---:|---:|---:|\n",
    );
    for (name, cpu, sets) in CPUS {
        let of_cpu = |tile: &Tile| sets.contains(&tile.set);
        let rates = tiles
            .iter()
            .filter(|(tile, _)| of_cpu(tile))
            .map(|(tile, found)| {
                let cycles = analyze(analyzer, cpu, found)?;
                Ok((tile, found, cycles, multiplications(tile) / cycles))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let peak = rates
            .iter()
            .find(|(tile, ..)| tile.name == "peak")
            .map_or(f64::NAN, |(.., rate)| *rate);
        for (tile, found, cycles, rate) in rates {
            if tile.name == "peak" {
                continue;
            }
            let share = 100.0 * rate / peak;
            let _ = writeln!(
                table,
                "| {name} | {} | {} | {} | {cycles:.1} | {rate:.1} | {share:.0} % |",
                tile.set,
                tile.name,
                found.lines.len(),
            );
        }
    }
    Ok(table)
}

/// Cycles of one round of a loop.
fn analyze(analyzer: &str, cpu: &str, found: &Loop) -> Result<f64, String> {
    let path = folder("cross")?.join("loop.s");
    write_loop(&path, found)?;
    let report = output(
        command(analyzer)
            .args(["-mtriple=aarch64", "-mattr=+dotprod,+i8mm"])
            .arg(format!("-mcpu={cpu}"))
            .arg(format!("-iterations={ROUNDS}"))
            .arg(&path),
    )?;
    let cycles = report
        .lines()
        .find_map(|line| line.strip_prefix("Total Cycles:"))
        .and_then(|rest| rest.trim().parse::<f64>().ok())
        .ok_or(format!("{analyzer} on {cpu}: no cycles in its report"))?;
    Ok(cycles / f64::from(ROUNDS))
}

fn write_loop(path: &Path, found: &Loop) -> Result<(), String> {
    process::write(path, &(found.lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSEMBLY: &str = "\
_ZN7filbert7kernels7aarch644i8mm8run_peak17h0E:
\t.cfi_startproc
\tmov\tx0, #1
.LBB0_1:
\t// a comment
\tusmmla\tv0.4s, v2.16b, v3.16b
\tusmmla\tv1.4s, v2.16b, v3.16b
\tsubs\tx0, x0, #1
\tb.ne\t.LBB0_1
\tcbz\tx0, .LBB0_3
.LBB0_2:
\tb.ne\t.LBB0_1
.LBB0_3:
\tret
";

    fn found(sums: usize) -> Result<usize, String> {
        let tile = tile("i8mm", "peak", "4i8mm8run_peak", "usmmla", sums, 2, 32);
        let loops = find_loops(ASSEMBLY);
        find_tile(&tile, &loops).map(|found| found.lines.len())
    }

    #[test]
    fn a_loop_is_what_branches_back_to_its_label() {
        assert_eq!(find_loops(ASSEMBLY).len(), 1);
        assert_eq!(found(2), Ok(4));
    }

    #[test]
    fn a_tile_with_other_sums_is_missed_by_name() {
        let message = found(24).unwrap_err();
        assert!(message.contains("i8mm peak"), "{message}");
    }

    #[test]
    fn a_sum_in_memory_is_an_error() {
        let spilled = ASSEMBLY.replace("subs\tx0, x0, #1", "str\tq0, [sp, #16]");
        let tile = tile("i8mm", "peak", "4i8mm8run_peak", "usmmla", 2, 2, 32);
        let message = find_tile(&tile, &find_loops(&spilled)).err().unwrap();
        assert!(message.contains("in memory"), "{message}");
    }
}
