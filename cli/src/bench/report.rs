//! A measurement as one page that needs nothing beside itself.

use std::fmt::Write;

use super::plot;
use super::record::{Profile, Record};
use super::summary::{counted, readable_ms};
use crate::page::{self, COLOURS, escape};
use crate::terminal::readable_size;

/// The page.
pub(crate) fn page(record: &Record) -> String {
    let name = escape(&record.model.name);
    let mut page = page::begin(&format!("{name}: filbert bench"));
    let _ = writeln!(page, "<h1>{name}</h1>");
    push_facts(&mut page, record);
    push_latency(&mut page, record);
    push_throughput(&mut page, record);
    push_profiles(&mut page, record);
    let _ = writeln!(
        page,
        "<p>Measured by filbert {}, at least {} s a run, all runs in turn.</p>\n</body>\n</html>",
        escape(&record.version),
        record.seconds
    );
    page
}

fn push_facts(page: &mut String, record: &Record) {
    let ms = |ms: f64| format!("{} ms", readable_ms(ms));
    let mut facts = vec![
        ("CPU", record.cpu.clone()),
        (
            "Kernels",
            format!(
                "{}, at most {:.1} GMAC/s on one core",
                record.kernels, record.peak_gmacs
            ),
        ),
        (
            "Model",
            format!(
                "{}, {}",
                readable_size(record.model.bytes),
                record.model.shape
            ),
        ),
        ("Open", ms(record.open_ms)),
    ];
    if let Some(first) = record.first_ms {
        facts.push(("First answer", format!("{}, the open included", ms(first))));
    }
    if let Some(first) = record.process_first_ms {
        facts.push((
            "Start",
            format!("{} from the start of a process to an answer", ms(first)),
        ));
    }
    if let Some(bytes) = record.private_bytes {
        facts.push(("Memory", format!("{} private", readable_size(bytes))));
    }
    if let Some(bytes) = record.peak_rss_bytes {
        let size = readable_size(bytes);
        facts.push((
            "Resident",
            format!("{size} at most, the mapped file included"),
        ));
    }
    if let Some(cpus) = &record.cpus {
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        facts.push(("On CPUs", cpus.join(", ")));
    }
    page.push_str("<dl>\n");
    for (name, fact) in facts {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escape(&fact));
    }
    page.push_str("</dl>\n");
}

fn push_latency(page: &mut String, record: &Record) {
    let answer = record.model.shape.answer();
    let _ = writeln!(page, "<h2>From text to {answer}</h2>\n<figure>");
    page.push_str(&plot::latency(&record.runs));
    page.push_str("<figcaption>");
    for (number, threads) in plot::series(&record.runs).into_iter().enumerate() {
        let _ = write!(
            page,
            "<span class=\"key s{}\">{}</span>",
            number % COLOURS,
            counted(threads, "thread")
        );
    }
    let texts = record.runs.first().map_or(1, |run| run.texts);
    let _ = write!(
        page,
        "{} a call. The line is the median; the bands reach to p90 and p99.{}</figcaption>\n\
         </figure>\n<div class=\"wide\"><table>\n<tr><th>tokens</th><th>threads</th><th>p50 \
         ms</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>GMAC/s</th><th>of peak</th>",
        counted(texts, "text"),
        match plot::is_cut(&record.runs) {
            true => " A band that ends at the top goes on beyond it.",
            false => "",
        }
    );
    let compared = record.comparison.as_ref();
    if let Some(comparison) = compared {
        let with = escape(&comparison.with);
        let _ = write!(page, "<th class=\"left\">against {with}</th>");
    }
    page.push_str("</tr>\n");
    for (index, run) in record.runs.iter().enumerate() {
        let _ = write!(page, "<tr><td>{}</td><td>{}</td>", run.tokens, run.threads);
        for ms in [run.p50_ms, run.p90_ms, run.p95_ms, run.p99_ms, run.p999_ms] {
            let _ = write!(page, "<td>{}</td>", readable_ms(ms));
        }
        let _ = write!(
            page,
            "<td>{:.1}</td><td>{:.0} %</td>",
            run.gmacs,
            100.0 * run.peak_share
        );
        if let Some(compared) = compared.and_then(|comparison| comparison.runs.get(index)) {
            let _ = write!(
                page,
                "<td class=\"left\">{}</td>",
                escape(&compared.verdict)
            );
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn push_throughput(page: &mut String, record: &Record) {
    let throughput = &record.throughput;
    let _ = writeln!(
        page,
        "<h2>Texts per second</h2>\n<div class=\"wide\"><table>\n\
         <tr><th>threads</th><th>batched</th><th>one by one</th></tr>"
    );
    for rate in &throughput.results {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            rate.threads, rate.batched_texts_per_second, rate.single_texts_per_second
        );
    }
    let _ = writeln!(
        page,
        "</table></div>\n<p>{}: {}, median {} tokens, longest {}.</p>",
        escape(&throughput.source),
        counted(throughput.texts, "text"),
        throughput.median_tokens,
        throughput.longest_tokens
    );
}

fn push_profiles(page: &mut String, record: &Record) {
    let profiles = record.profile.as_deref().unwrap_or_default();
    if profiles.is_empty() {
        return;
    }
    page.push_str("<h2>Where the time goes</h2>\n");
    // The longest text on the fewest threads is where the products count most.
    let shown = |profile: &Profile| (profile.tokens, std::cmp::Reverse(profile.threads));
    let most = profiles.iter().map(shown).max();
    for profile in profiles {
        let open = if Some(shown(profile)) == most {
            " open"
        } else {
            ""
        };
        let _ = write!(
            page,
            "<details{open}><summary>{}, {}: {} ms</summary>\n{}</details>\n",
            counted(profile.tokens, "token"),
            counted(profile.threads, "thread"),
            readable_ms(profile.total_ms),
            plot::bars(profile)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(
            escape("<b a=\"x\" b='y'>&amp;</b> 😀"),
            "&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;&lt;/b&gt; 😀"
        );
        assert_eq!(escape("plain"), "plain");
    }
}
