//! A measurement as one page that needs nothing beside itself.

use std::fmt::Write;

use super::plot::{self, COLOURS};
use super::record::{Profile, Record};
use super::summary::{counted, readable_ms};
use crate::terminal::readable_size;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fcfcfa;--text:#1d1d1b;--soft:#6b6b66;--rule:#dcdcd6;\
--c0:#1f6f8b;--c1:#c2571a;--c2:#4d7d2a;--c3:#8a4fa3;--c4:#b0894f;--c5:#a8324a}\
@media(prefers-color-scheme:dark){:root{--page:#161718;--text:#e8e8e4;--soft:#9c9c96;\
--rule:#35373a;--c0:#62b5d2;--c1:#f0935c;--c2:#93c46b;--c3:#c48fdd;--c4:#d8b98a;--c5:#ec7d92}}\
*{box-sizing:border-box}\
body{margin:0 auto;padding:16px;max-width:720px;background:var(--page);color:var(--text);\
font:16px/1.45 system-ui,sans-serif}\
h1{font-size:1.4rem;line-height:1.2;margin:.4rem 0 1rem;overflow-wrap:anywhere}\
h2{font-size:1.1rem;margin:2rem 0 .5rem}\
dl{display:grid;grid-template-columns:minmax(5.5rem,max-content) 1fr;gap:.2rem .9rem;margin:0}\
dt,p,summary,figcaption{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
p{font-size:.9rem}figure{margin:0}figcaption{font-size:.85rem}\
svg{display:block;width:100%;height:auto;overflow:visible}\
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .name{fill:var(--text)}\
.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--c);stroke-width:2}circle{fill:var(--c)}\
.whisker{stroke:var(--c);opacity:.5}.p90{fill:var(--c);opacity:.22}.p99{fill:var(--c);opacity:.14}\
.track{fill:var(--rule);opacity:.6}.bar{fill:var(--c)}\
.key{display:inline-block;margin-right:1rem}\
.key::before{content:\"\";display:inline-block;width:.8em;height:.8em;border-radius:50%;\
background:var(--c);margin-right:.35em}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;\
font-size:.9rem;white-space:nowrap}\
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}\
th{font-weight:600;color:var(--soft)}.left{text-align:left}\
details{margin:.8rem 0}summary{cursor:pointer}";

/// Text as HTML shows it, in an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The page.
pub(crate) fn page(record: &Record) -> String {
    let name = escape(&record.model.name);
    let mut colours = String::new();
    for number in 0..COLOURS {
        let _ = write!(colours, ".s{number}{{--c:var(--c{number})}}");
    }
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}: filbert bench</title>\n<style>{STYLE}{colours}</style>\n</head>\n<body>\n\
         <h1>{name}</h1>\n"
    );
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
        facts.push(("First label", format!("{}, the open included", ms(first))));
    }
    if let Some(first) = record.process_first_ms {
        facts.push((
            "Start",
            format!("{} from the start of a process to a label", ms(first)),
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
    page.push_str("<h2>From text to label</h2>\n<figure>\n");
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
