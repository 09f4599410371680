//! The line that a mistake is about, with carets below what is meant. What may be a secret is not shown, nor is
//! anything whose meaning is not known, such as remarks.

use std::ops::Range;

use slidegate_document::{Node, Span};
use unicode_width::UnicodeWidthStr;

use super::known::parts;
use super::mistake::Place;
use super::secret::HIDDEN;
use super::words;

/// Of longer lines only so many characters before and after what is meant are shown.
const BEFORE_MAX: usize = 60;
const AFTER_MAX: usize = 80;

/// Signs that give a document its shape.
const SIGNS: &str = "{}[],:-\"'|>&*!?+";

/// A text, and which parts of it may be shown.
pub(super) struct Text<'t> {
    text: &'t str,
    lines: Vec<usize>,
    /// Names and values in their order, each with whether it is a secret.
    known: Vec<(Range<usize>, bool)>,
}

impl<'t> Text<'t> {
    /// A text that says these documents.
    pub(super) fn new(text: &'t str, documents: &[&Node]) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut known = Vec::new();
        for document in documents {
            known.extend(parts(document));
        }
        // Of what stands in several places by aliases, one secret makes all of them one.
        known.sort_by_key(|(range, is_secret)| (range.start, range.end, !is_secret));
        known.dedup_by(|later, first| later.0 == first.0);
        Self { text, lines, known }
    }

    /// Where a part of the text stands, if that is known.
    pub(super) fn place(&self, span: Span) -> Option<Place> {
        let range = span.range()?;
        let start = self.boundary(range.start);
        let number = self.lines.partition_point(|line| *line <= start);
        let line_start = *self.lines.get(number.checked_sub(1)?)?;
        let line_end = self.lines.get(number).map_or(self.text.len(), |next| next - 1);
        let line_end = line_start + self.text.get(line_start..line_end)?.trim_end().len();
        let end = self.boundary(range.end).min(line_end).max(start);
        let column = self.text.get(line_start..start)?.chars().count() + 1;
        let length = self.text.get(start..end)?.chars().count().max(1);
        let snippet = self.snippet(number, line_start..line_end.max(start), start..end);
        Some(Place { start: (number, column), end: (number, column + length), snippet })
    }

    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn snippet(&self, number: usize, line: Range<usize>, meant: Range<usize>) -> String {
        let before = self.text[line.start..meant.start]
            .char_indices()
            .rev()
            .nth(BEFORE_MAX)
            .map_or(line.start, |(at, _)| line.start + at);
        let after =
            self.text[meant.start..line.end].char_indices().nth(AFTER_MAX).map_or(line.end, |(at, _)| meant.start + at);
        let (mut shown, mut carets_from, mut carets_to) = (String::new(), None, 0);
        if before > line.start {
            shown.push_str("...");
        }
        for (source, text) in self.pieces(before..after) {
            let is_same = self.text.get(source.clone()) == Some(&text);
            let width_to = |at: usize| match self.text.get(source.start..at.clamp(source.start, source.end)) {
                Some(beginning) if is_same => printable(beginning).width(),
                _ => 0,
            };
            if source.end > meant.start && carets_from.is_none() {
                carets_from = Some(shown.width() + width_to(meant.start));
            }
            if source.start < meant.end {
                carets_to = shown.width() + if is_same { width_to(meant.end) } else { text.width() };
            }
            shown.push_str(&printable(&text));
        }
        if after < line.end {
            shown.push_str("...");
        }
        let from = carets_from.unwrap_or(shown.width());
        let carets = "^".repeat(carets_to.saturating_sub(from).max(1));
        let (shown, margin) = (shown.trim_end(), " ".repeat(number.to_string().len()));
        format!("  {number} | {shown}\n  {margin} | {}{carets}", " ".repeat(from))
    }

    /// A part of a line in pieces, each as it is shown.
    fn pieces(&self, part: Range<usize>) -> Vec<(Range<usize>, String)> {
        let mut pieces = Vec::new();
        let mut at = part.start;
        // What begins before this part may reach into it: a text of several lines, or the beginning of a long one.
        let first = self.known.partition_point(|(known, _)| known.start < part.start);
        let reaching = self.known[..first].iter().rev().take(64).find(|(known, _)| known.end > part.start);
        for (known, is_secret) in
            reaching.into_iter().chain(&self.known[first..]).take_while(|(known, _)| known.start < part.end)
        {
            let known = known.start.max(at)..known.end.min(part.end);
            if known.is_empty() {
                continue;
            }
            if self.unknown(at..known.start, &mut pieces) {
                return pieces;
            }
            at = known.end;
            let text = if *is_secret { HIDDEN } else { &self.text[known.clone()] };
            pieces.push((known, text.to_owned()));
        }
        self.unknown(at..part.end, &mut pieces);
        pieces
    }

    /// What is no name and no value: its shape only. Whether a remark ended it.
    fn unknown(&self, part: Range<usize>, pieces: &mut Vec<(Range<usize>, String)>) -> bool {
        let is_shape = |letter: char| letter.is_whitespace() || SIGNS.contains(letter);
        let mut at = part.start;
        while at < part.end {
            let rest = &self.text[at..part.end];
            if rest.starts_with('#') {
                return true;
            }
            let is_word = !rest.starts_with(is_shape);
            let length = rest
                .find(|letter: char| letter == '#' || is_shape(letter) == is_word)
                .filter(|length| *length > 0)
                .unwrap_or(rest.len());
            let text = &rest[..length];
            let shown = if !is_word || words::is_field(text) { text } else { "…" };
            pieces.push((at..at + length, shown.to_owned()));
            at += length;
        }
        false
    }
}

/// One column or more for each character.
fn printable(text: &str) -> String {
    let printable = |letter: char| match letter {
        '\t' => ' ',
        letter if letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            '\u{fffd}'
        }
        letter => letter,
    };
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{self, Schema};
    use super::*;
    use slidegate_document::Finder;

    /// What is shown of the part of a text that a path leads to.
    fn snippet(text: &str, path: &str) -> String {
        let documents = yaml::read(text, Schema::AsWritten).unwrap();
        let span = Finder::new(&documents[0]).at(path).span(false);
        Text::new(text, &[&documents[0]]).place(span).unwrap().snippet
    }

    #[test]
    fn carets_stand_below_what_is_meant() {
        assert_eq!(
            snippet("listen: 1\nlimits: {streams: 0, requests: 2}\n", "limits.streams"),
            "  2 | limits: {streams: 0, requests: 2}\n    |                   ^"
        );
        assert_eq!(snippet("upstream: '日本'\nlisten: here\n", "listen"), "  2 | listen: here\n    |         ^^^^");
        assert_eq!(
            snippet("redis: {names: {ü日: 'redis://h', b: 'redis://zwei'}}\n", "redis.names.b"),
            "  1 | redis: {names: {ü日: 'redis://h', b: 'redis://zwei'}}\n    |                                      \
             ^^^^^^^^^^^^^^"
        );
        assert_eq!(snippet("workers:\t5\r\nlisten: 6\r\n", "workers"), "  1 | workers: 5\n    |          ^");
        assert_eq!(snippet("routes:\n  - name: 1\n    host: 2\n", "routes[0]"), "  2 |   - name: 1\n    |     ^^^^^^^");
    }

    #[test]
    fn no_secret_is_in_a_snippet() {
        let rule = |rest: &str| format!("filter: {{rule_items: [{{{rest}}}]}}\n");
        for (text, path) in [
            ("redis: {names: {}, password: hush, required: -1}\n".to_owned(), "redis.required"),
            ("redis: {password: [hush], 'url': \"redis://u:hush@h\"}\n".to_owned(), "redis.password"),
            ("listen: x # password: hush\n".to_owned(), "listen"),
            (rule("limit_keys: [hush, {kye: hush, query_per_day: 0}]"),
                "filter.rule_items[0].limit_keys[1].query_per_day"),
            (
                rule("limit_keys: [{'hush-0123456789abcdef': 5, query_per_day: 0}]"),
                "filter.rule_items[0].limit_keys[0].query_per_day",
            ),
            (
                rule("limit_by_cookie: c, limit_keys: [{key: hush, query_per_day: 0}]"),
                "filter.rule_items[0].limit_keys[0].query_per_day",
            ),
            (
                rule("limit_by_cokie: c, limit_keys: [{key: hush, query_per_day: 0}]"),
                "filter.rule_items[0].limit_keys[0].query_per_day",
            ),
            ("filter: {exempt: {headers: {x: hush}, methods: 5}}\n".to_owned(), "filter.exempt.methods"),
            ("a: &hush {x: 1}\nredis: {<<: {password: hush}, password: 5, url: *hush}\n".to_owned(), "redis.url"),
            ("redis:\n  password: |\n    hush\n  url: 1\n".to_owned(), "redis.password"),
            ("redis: {password: &a hush, url: *a}\n".to_owned(), "redis.url"),
            ("tls: {cert: a, key: \"-----BEGIN PRIVATE KEY-----hush\"}\n".to_owned(), "tls.key"),
            ("tls:\n  key: |\n    -----BEGIN PRIVATE KEY-----\n    hush\n".to_owned(), "tls.key"),
            // What nobody reads: misspelt, below what is misspelt, in the place of an object.
            ("redis: {pasword: hush, hash_ky: {hush: hush}, url: 5}\n".to_owned(), "redis.url"),
            ("redsi: {url: hush, names: {hush: [hush]}}\n".to_owned(), "redsi"),
            ("filter: 'rule_name: hush'\n".to_owned(), "filter"),
            ("redis:\n  password:hush\n".to_owned(), "redis"),
            ("redis:\n  password hush\n".to_owned(), "redis"),
            ("redis:\n  password：hush\n".to_owned(), "redis"),
            ("redis: hush\n".to_owned(), "redis"),
            ("redis: redis://h/hush\n".to_owned(), "redis"),
            ("redis: redis://h?hush=x\n".to_owned(), "redis"),
            ("redis: {url: 'pw hush', names: 5}\n".to_owned(), "redis.names"),
            ("redis: {names: {a: hush}}\n".to_owned(), "redis.names.a"),
            ("redis: {password:hush, names: 5}\n".to_owned(), "redis.names"),
            ("redis: {password=hush, names: 5}\n".to_owned(), "redis.names"),
            ("redis: {password, hush, names: 5}\n".to_owned(), "redis.names"),
            ("redis: {password hush, names: 5}\n".to_owned(), "redis.names"),
            ("tls: {cert: 5, key:hush}\n".to_owned(), "tls.cert"),
            ("filter: {exempt: {headers: {x-internal:hush}, methods: 5}}\n".to_owned(), "filter.exempt.methods"),
            ("filter: {exempt: {headers: {x-internal, hush}, methods: 5}}\n".to_owned(), "filter.exempt.methods"),
            ("filter: {rejected_headers: {authorization:hush}, hash_key:hush, rule_name: \
              5}\n".to_owned(), "filter.rule_name"),
            (
                rule("limit_by_per_header: x, limit_keys: [{key: 'regexp:(hush-0123456789ab', query_per_day: 0}]"),
                "filter.rule_items[0].limit_keys[0].query_per_day",
            ),
            ("listen: password hush\n".to_owned(), "listen"),
            ("redis: {url: 'redis://h pasword:hush', names: 5}\n".to_owned(), "redis.names"),
            (
                "apiVersion: a\nkind: b\nspec: {url: oci://u:hush@h, more: {x: hush}, defaultConfig: {redis: {pasword: \
                 hush, timeout: -1}}}"
                    .to_owned(),
                "spec.defaultConfig.redis.timeout",
            ),
        ] {
            let shown = snippet(&text, path);
            assert!(!shown.contains("hush") && shown.contains('^'), "{text}{shown}");
        }
        let shown = snippet("redis: {url: 'redis://x', pasword: hush, required: -1}\n", "redis.required");
        let (line, carets) = shown.split_once('\n').unwrap();
        assert_eq!(
            (line, line.find("-1")),
            ("  1 | redis: {url: 'redis://x', pasword: ***, required: -1}", carets.find("^^"))
        );
    }

    #[test]
    fn of_what_cannot_be_read_only_names_of_fields_are_shown() {
        let text = "filter:\n  redis: {password: hush, timeout: [1}\n";
        let error = yaml::read(text, Schema::AsWritten).unwrap_err();
        let shown = Text::new(text, &[]).place(error.span).unwrap().snippet;
        assert!(shown.starts_with("  2 |   redis: {password: …, timeout: […}\n"), "{shown}");
    }

    #[test]
    fn of_a_long_line_the_part_around_is_shown() {
        let text = format!("upstreams: [{}, 77, {}]\n", vec!["1"; 500].join(", "), vec!["2"; 500].join(", "));
        let shown = snippet(&text, "upstreams[500]");
        assert!(shown.len() < 500 && shown.contains("1, 77, 2") && shown.contains("..."), "{shown}");
        let (line, carets) = shown.split_once('\n').unwrap();
        assert_eq!(line.find("77"), carets.find('^'));
    }
}
