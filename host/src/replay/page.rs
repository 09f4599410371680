//! The report as a page: one file that needs no other, for light and dark.

use std::fmt::Write;

use super::outcome::{GroupCounts, ReplayCounts, share};
use super::report::{ReplayReport, percent};
use super::stamp;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7e;--page:#fff;--line:#d9dfe7;--pass:#3f7fc1;--no:#c8452f;\
--other:#8a5fbf}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa7b8;--page:#12171e;--line:#2c3744;--pass:#6ea8e6;\
--no:#f07a62;--other:#b894ec}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;margin:0 auto;\
padding:1.5rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p.soft,figcaption,dt{color:var(--soft)}\
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid \
var(--line);font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}\
figure{margin:1rem 0;overflow-x:auto}svg{width:100%;height:auto;min-width:30rem}text{fill:var(--soft);font-size:11px}\
.key{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin:0 .3rem 0 1rem}";

/// The picture's size, in its own units.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 12.0;
/// So many groups are in the table.
const ROWS_MAX: usize = 50;

/// The page of a report.
pub(super) fn page(report: &ReplayReport<'_>) -> String {
    let counts = report.counts;
    let mut page = String::new();
    let title = escaped(&format!("{} on {}", report.limits, report.logs.join(", ")));
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head>\n<body><h1>\
         {title}</h1>\n"
    );
    if let Some((first, last)) = counts.span_us {
        let _ = writeln!(
            page,
            "<p class=\"soft\">{} requests, {} to {} ({} log)</p>",
            counts.requests,
            stamp::shown(first),
            stamp::shown(last),
            escaped(report.kind)
        );
    }
    page.push_str("<table><thead><tr><th></th><th>pass</th><th>refused</th><th>share</th></tr></thead><tbody>\n");
    for (name, passed, refused) in report.verdicts() {
        row(&mut page, name, &[passed, refused], share(refused, counts.requests));
    }
    page.push_str("</tbody></table>\n<h2>Over time</h2>\n");
    picture(&mut page, counts, report.against);
    let ranked = report.groups();
    if !ranked.is_empty() {
        let by = escaped(report.by);
        let _ = write!(
            page,
            "<h2>Refused by {by}</h2>\n<table><thead><tr><th>{by}</th><th>requests</th><th>refused</th><th>share</th>\
             </tr></thead><tbody>\n"
        );
        for (name, GroupCounts { requests, refused }) in ranked.iter().take(ROWS_MAX) {
            row(&mut page, name, &[*requests, *refused], share(*refused, *requests));
        }
        page.push_str("</tbody></table>\n");
    }
    if !report.notes.is_empty() {
        page.push_str("<h2>To be known</h2>\n<ul>\n");
        for note in report.notes {
            let _ = writeln!(page, "<li>{}</li>", escaped(note));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</body></html>\n");
    page
}

fn row(page: &mut String, name: &str, numbers: &[u64], part: f64) {
    let _ = write!(page, "<tr><td>{}</td>", escaped(name));
    for number in numbers {
        let _ = write!(page, "<td>{number}</td>");
    }
    let _ = writeln!(page, "<td>{}</td></tr>", percent(part));
}

/// What passed and what was refused, as bars over time; what the other verdicts refuse, as a line.
fn picture(page: &mut String, counts: &ReplayCounts, against: Option<&str>) {
    let series = &counts.series;
    let most = series.parts.iter().map(|part| part.requests).max().unwrap_or_default().max(1) as f64;
    let wide = (WIDTH - LEFT) / series.parts.len().max(1) as f64;
    let base = HEIGHT - BOTTOM;
    let high = |number: u64| number as f64 / most * (base - TOP);
    let _ = write!(
        page,
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"requests that pass and requests that \
         are refused, over time\">"
    );
    let mut line = String::new();
    for (number, part) in series.parts.iter().enumerate() {
        let left = LEFT + number as f64 * wide;
        let (passed, refused) = (high(part.requests - part.refused), high(part.refused));
        for (height, below, colour) in [(passed, 0.0, "pass"), (refused, passed, "no")] {
            if height > 0.0 {
                let _ = write!(
                    page,
                    "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{height:.1}\" \
                     fill=\"var(--{colour})\"/>",
                    base - below - height,
                    (wide * 0.9).max(0.5)
                );
            }
        }
        let over = base - high(part.requests - part.other_refused.min(part.requests));
        let _ = write!(line, "{:.1},{over:.1} ", left + wide / 2.0);
    }
    if against.is_some() {
        let _ =
            write!(page, "<polyline points=\"{line}\" fill=\"none\" stroke=\"var(--other)\" stroke-width=\"1.5\"/>");
    }
    let _ = write!(
        page,
        "<line x1=\"{LEFT}\" y1=\"{base}\" x2=\"{WIDTH}\" y2=\"{base}\" stroke=\"var(--line)\"/><text x=\"{:.0}\" \
         y=\"{:.0}\" text-anchor=\"end\">{most}</text><text x=\"{:.0}\" y=\"{base}\" text-anchor=\"end\">0</text>",
        LEFT - 6.0,
        TOP + 8.0,
        LEFT - 6.0
    );
    if let Some((first, last)) = counts.span_us {
        let below = HEIGHT - 6.0;
        let _ = write!(
            page,
            "<text x=\"{LEFT}\" y=\"{below}\">{}</text><text x=\"{WIDTH}\" y=\"{below}\" text-anchor=\"end\">{}</text>",
            stamp::shown(first),
            stamp::shown(last)
        );
    }
    let key = |colour: &str, words: &str| {
        format!("<span class=\"key\" style=\"background:var(--{colour})\"></span>{}", escaped(words))
    };
    let mut keys = key("pass", "pass") + &key("no", "refused");
    if let Some(against) = against {
        keys += &key("other", &format!("pass by {against}"));
    }
    let seconds = series.part_us / 1_000_000;
    let _ = writeln!(page, "</svg><figcaption>{keys}, in parts of {seconds} s</figcaption></figure>");
}

/// Text that is nothing else in a page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
