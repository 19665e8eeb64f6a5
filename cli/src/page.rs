//! A page that needs nothing beside itself: its style, and text as HTML shows it.

use std::fmt::Write;

/// Colours that the page has: `s0`, `s1` … are classes that set one.
pub(crate) const COLOURS: usize = 6;

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

/// The page as far as the start of its body; the title is escaped already.
pub(crate) fn begin(title: &str) -> String {
    let mut colours = String::new();
    for number in 0..COLOURS {
        let _ = write!(colours, ".s{number}{{--c:var(--c{number})}}");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}{colours}</style>\n</head>\n<body>\n"
    )
}
