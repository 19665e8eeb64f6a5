//! A measurement as text, for people.

use std::io::{self, Write};

use super::record::{Profile, Record};
use crate::terminal::{one_line, readable_size};

/// Writes everything.
pub(crate) fn write(out: &mut impl Write, record: &Record) -> io::Result<()> {
    write_head(out, record)?;
    write_runs(out, record)?;
    write_throughput(out, record)?;
    for profile in record.profile.iter().flatten() {
        write_profile(out, profile)?;
    }
    Ok(())
}

/// A time in the decimals that matter.
pub(crate) fn readable_ms(ms: f64) -> String {
    let decimals = match ms {
        ms if ms < 0.9995 => 4,
        ms if ms < 9.995 => 3,
        ms if ms < 99.95 => 2,
        _ => 1,
    };
    format!("{ms:.decimals$}")
}

/// A number and its noun, in the plural if need be.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn write_head(out: &mut impl Write, record: &Record) -> io::Result<()> {
    let model = &record.model;
    writeln!(
        out,
        "model    {}: {}; layers {}, hidden {}",
        one_line(&model.name),
        readable_size(model.bytes),
        model.shape.layers,
        model.shape.hidden
    )?;
    writeln!(
        out,
        "CPU      {}; {} kernels, at most {:.1} GMAC/s on one core",
        one_line(&record.cpu),
        record.kernels,
        record.peak_gmacs
    )?;
    write!(out, "open     {} ms", readable_ms(record.open_ms))?;
    if let Some(ms) = record.first_ms {
        write!(out, "; with the first answer {} ms", readable_ms(ms))?;
    }
    if let Some(ms) = record.process_first_ms {
        write!(out, "; from the start of a process {} ms", readable_ms(ms))?;
    }
    writeln!(out)?;
    if let Some(run) = record.runs.iter().max_by_key(|run| run.tokens) {
        writeln!(
            out,
            "buffers  {} for a text of {} tokens",
            readable_size(run.workspace_bytes as u64),
            run.tokens
        )?;
    }
    match (record.private_bytes, record.peak_rss_bytes) {
        (None, None) => Ok(()),
        (private, resident) => {
            let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), readable_size);
            writeln!(
                out,
                "memory   {} private; {} resident at most, the mapped file included",
                size(private),
                size(resident)
            )
        }
    }
}

fn write_runs(out: &mut impl Write, record: &Record) -> io::Result<()> {
    let texts = record.runs.first().map_or(1, |run| run.texts);
    let per_call = match texts {
        1 => "one text a call".to_owned(),
        texts => format!("{texts} texts a call"),
    };
    writeln!(
        out,
        "\nfrom text to {}, ms ({per_call}; tok.: the tokenizer's part)",
        record.model.shape.answer()
    )?;
    write!(
        out,
        "tokens threads      p50      p90      p95      p99    p99.9     tok. GMAC/s  peak"
    )?;
    let compared = record.comparison.as_ref();
    match compared {
        Some(comparison) => writeln!(out, "  against {}", one_line(&comparison.with))?,
        None => writeln!(out)?,
    }
    for (index, run) in record.runs.iter().enumerate() {
        write!(out, "{:>6} {:>7}", run.tokens, run.threads)?;
        let tokenize = run.tokenize_us / 1e3;
        for ms in [
            run.p50_ms,
            run.p90_ms,
            run.p95_ms,
            run.p99_ms,
            run.p999_ms,
            tokenize,
        ] {
            write!(out, " {:>8}", readable_ms(ms))?;
        }
        write!(out, " {:>6.1} {:>3.0} %", run.gmacs, 100.0 * run.peak_share)?;
        match compared.and_then(|comparison| comparison.runs.get(index)) {
            Some(compared) => writeln!(out, "  {}", compared.verdict)?,
            None => writeln!(out)?,
        }
    }
    if let Some(comparison) = compared {
        let mut others = Vec::new();
        if !comparison.same_cpu {
            others.push("CPU");
        }
        if !comparison.same_kernels {
            others.push("set of kernels");
        }
        if !others.is_empty() {
            let with = one_line(&comparison.with);
            writeln!(
                out,
                "{with} was measured with another {}",
                others.join(" and ")
            )?;
        }
    }
    Ok(())
}

fn write_throughput(out: &mut impl Write, record: &Record) -> io::Result<()> {
    let throughput = &record.throughput;
    writeln!(
        out,
        "\ntexts per second ({}: {}, median {} tokens, longest {})",
        one_line(&throughput.source),
        counted(throughput.texts, "text"),
        throughput.median_tokens,
        throughput.longest_tokens
    )?;
    writeln!(out, "threads    batched   one by one")?;
    for rate in &throughput.results {
        writeln!(
            out,
            "{:>7} {:>10.1} {:>12.1}",
            rate.threads, rate.batched_texts_per_second, rate.single_texts_per_second
        )?;
    }
    Ok(())
}

fn write_profile(out: &mut impl Write, profile: &Profile) -> io::Result<()> {
    writeln!(
        out,
        "\nprofile: {}, {}, {}: {} ms",
        counted(profile.tokens, "token"),
        counted(profile.threads, "thread"),
        counted(profile.texts, "text"),
        readable_ms(profile.total_ms)
    )?;
    writeln!(out, "operation                ms   share   GMAC/s     GB/s")?;
    let mut operations: Vec<_> = profile.operations.iter().collect();
    operations.sort_by(|a, b| b.cost.ms.total_cmp(&a.cost.ms));
    for operation in operations {
        let cost = operation.cost;
        let speed = |value: f64| match value {
            0.0 => "-".to_owned(),
            value => format!("{value:.1}"),
        };
        writeln!(
            out,
            "{:<18} {:>8} {:>5.1} % {:>8} {:>8}",
            operation.operation,
            readable_ms(cost.ms),
            100.0 * cost.share,
            speed(cost.gmacs),
            speed(cost.gb_per_second)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_decimals_that_matter() {
        for (ms, expected) in [
            (0.01234, "0.0123"),
            (0.9999, "1.000"),
            (1.2345, "1.234"),
            (56.789, "56.79"),
            (1234.5, "1234.5"),
        ] {
            assert_eq!(readable_ms(ms), expected);
        }
        assert_eq!(counted(1, "text"), "1 text");
        assert_eq!(counted(2, "text"), "2 texts");
    }
}
