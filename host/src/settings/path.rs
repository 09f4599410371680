//! How a request's path is read: a path has many spellings, and what a route or a rule is compared with must be what
//! the upstream will serve.

use std::borrow::Cow;
use std::fmt;

use slidegate_document::{Node, truth};

/// What is done about a path's other spellings (`normalize_path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PathRules {
    /// One spelling is compared and forwarded; what servers read in different ways is refused.
    #[default]
    Normalize,
    /// A path that is not in that spelling is refused.
    Refuse,
    /// Compared and forwarded as it came.
    Off,
}

/// A path that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadPath<'p> {
    /// What the filter sees and the upstream gets.
    pub(crate) forwarded: Cow<'p, str>,
    /// What routes are compared with: as most servers read it, escapes decoded and parameters of segments left out.
    pub(crate) compared: Cow<'p, [u8]>,
}

/// Why a path is refused: for the client, one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AmbiguousPath(pub(crate) &'static str);

impl PathRules {
    /// Reads the setting. YAML's `on` and `off` may arrive as words or as truth values.
    pub(crate) fn from_node(node: &Node) -> Option<Self> {
        match (node.as_str(), truth(node)) {
            (Some("on"), _) | (_, Some(true)) => Some(Self::Normalize),
            (Some("refuse"), _) => Some(Self::Refuse),
            (Some("off"), _) | (_, Some(false)) => Some(Self::Off),
            _ => None,
        }
    }

    /// Reads a path (without query). `*` and what else is no path comes back as it is.
    ///
    /// # Errors
    /// Servers read this path in different ways, so that it could be compared with one route and served as another.
    pub(crate) fn read(self, path: &str) -> Result<ReadPath<'_>, AmbiguousPath> {
        if self == Self::Off || is_plain(path) {
            return Ok(ReadPath { forwarded: Cow::Borrowed(path), compared: Cow::Borrowed(path.as_bytes()) });
        }
        if !path.starts_with('/') {
            return Err(AmbiguousPath("the path does not begin with a slash"));
        }
        let forwarded = without_dots_and_empty(&normal_escapes(path)?)?;
        if self == Self::Refuse {
            refuse_other_spellings(path, &forwarded)?;
        }
        let compared = decoded_without_parameters(&forwarded);
        Ok(ReadPath { forwarded: Cow::Owned(forwarded), compared: Cow::Owned(compared) })
    }
}

impl fmt::Display for PathRules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Normalize => "on",
            Self::Refuse => "refuse",
            Self::Off => "off",
        })
    }
}

/// Whether there is nothing to normalize: the common case, in one pass and without a copy.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    // A dot matters at the start of a segment only, so `/a.js` is plain.
    let plain = |pair: &[u8]| pair[0] != b'/' || !matches!(pair[1], b'/' | b'.');
    path == "*"
        || (bytes.first() == Some(&b'/')
            && bytes.iter().all(|byte| is_segment_byte(*byte))
            && bytes.windows(2).all(plain))
}

/// What stands in a segment unescaped and means nothing but itself, and the slash.
fn is_segment_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Decodes escapes of unreserved characters, writes the others in upper case, and escapes what should have been.
fn normal_escapes(path: &str) -> Result<String, AmbiguousPath> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match *first {
            b'%' => {
                let escaped =
                    escaped_byte(after).ok_or(AmbiguousPath("the path has a `%` without two hexadecimal digits"))?;
                rest = after.get(2..).unwrap_or_default();
                escaped
            }
            byte => byte,
        };
        match byte {
            0 => return Err(AmbiguousPath("the path has an escaped NUL")),
            b'\\' => return Err(AmbiguousPath("the path has a backslash, which some servers read as a slash")),
            b'/' if *first == b'%' => {
                return Err(AmbiguousPath("the path has an escaped slash, which some servers read as a slash"));
            }
            byte if is_unreserved(byte) => normal.push(char::from(byte)),
            byte if *first != b'%' && (is_segment_byte(byte) || byte == b';') => normal.push(char::from(byte)),
            byte => push_escaped(&mut normal, byte),
        }
    }
    Ok(normal)
}

/// The byte that the two digits at the beginning stand for.
fn escaped_byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn push_escaped(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 0x0f)]);
}

/// Merges slashes, then removes dot segments (RFC 3986, section 5.2.4).
fn without_dots_and_empty(path: &str) -> Result<String, AmbiguousPath> {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/') {
        ends_in_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ if is_dots_with_parameters(segment) => {
                return Err(AmbiguousPath("the path has a dot segment with parameters"));
            }
            _ => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_in_folder || normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

fn is_dots_with_parameters(segment: &str) -> bool {
    let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
    matches!(end.map(|end| &segment[..end]), Some("." | ".."))
}

/// For those who want no other spelling at all: neither one that was changed, nor one that some servers still read in
/// another way.
fn refuse_other_spellings(path: &str, normal: &str) -> Result<(), AmbiguousPath> {
    // The case of an escape's digits is no other spelling.
    if !path.eq_ignore_ascii_case(normal) {
        return Err(AmbiguousPath("the path is not in its normal form"));
    }
    if normal.contains(';') || normal.contains("%3B") {
        return Err(AmbiguousPath("the path has parameters of a segment"));
    }
    if normal.match_indices("%25").any(|(at, escape)| escaped_byte(&normal.as_bytes()[at + escape.len()..]).is_some()) {
        return Err(AmbiguousPath("the path is escaped twice"));
    }
    match std::str::from_utf8(&decoded_without_parameters(normal)) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(()),
        _ => Err(AmbiguousPath("the path has escapes that are no text")),
    }
}

/// As servers read it that know parameters of segments, also those that decode first. For servers that do not, this
/// compares a path that they do not have with one that they have, which frees nobody.
fn decoded_without_parameters(path: &str) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    let mut is_parameter = false;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match (*first, escaped_byte(after)) {
            (b'%', Some(byte)) => {
                rest = after.get(2..).unwrap_or_default();
                byte
            }
            (byte, _) => byte,
        };
        is_parameter = byte == b';' || (is_parameter && byte != b'/');
        // Of a segment that was nothing but parameters no empty one stays: `/;a/login` is `/login`.
        if !(is_parameter || byte == b'/' && read.ends_with(b"/")) {
            read.push(byte);
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(path: &str) -> Result<String, AmbiguousPath> {
        PathRules::Normalize.read(path).map(|read| read.forwarded.into_owned())
    }

    fn compared(path: &str) -> String {
        let read = PathRules::Normalize.read(path).unwrap_or_else(|error| panic!("{path}: {error:?}"));
        String::from_utf8_lossy(&read.compared).into_owned()
    }

    #[test]
    fn one_spelling_is_forwarded() {
        for (path, normal) in [
            ("/", "/"),
            ("*", "*"),
            ("/login", "/login"),
            ("/a.js", "/a.js"),
            ("/a/.well-known", "/a/.well-known"),
            ("//login", "/login"),
            ("/%6Cogin", "/login"),
            ("/%6c%6F%67%69%6e", "/login"),
            ("/./login", "/login"),
            ("/x/../login", "/login"),
            ("/x/%2e%2E/login", "/login"),
            ("/x/.%2e/login", "/login"),
            ("/../../login", "/login"),
            ("/x//../login", "/login"),
            ("/login/.", "/login/"),
            ("/login/x/..", "/login/"),
            ("/login//", "/login/"),
            ("/..", "/"),
            ("/a...b/...", "/a...b/..."),
            ("/%7Euser", "/~user"),
            ("/a%20b/%c3%a4", "/a%20b/%C3%A4"),
            ("/ä{x}", "/%C3%A4%7Bx%7D"),
            ("/a%3Bb;c", "/a%3Bb;c"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("/%40scope/a%2Bb", "/%40scope/a%2Bb"),
        ] {
            assert_eq!(forwarded(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn reading_twice_changes_nothing() {
        for path in ["/x/.%2e//%6C;a=1/%c3%a4", "/%252e", "/a%20b/./c", "/%25%36%31"] {
            let once = forwarded(path).expect("a path");
            assert_eq!(forwarded(&once).as_ref(), Ok(&once), "{path}");
        }
    }

    #[test]
    fn routes_are_compared_with_what_servers_read() {
        for (path, read) in [
            ("/login;jsessionid=1", "/login"),
            ("/api;v=1/login", "/api/login"),
            ("/login%3Bx", "/login"),
            ("/;a/login", "/login"),
            ("/;/;b=1/login", "/login"),
            ("/%3Ba/login", "/login"),
            ("/;jsessionid=1", "/"),
            ("/%40scope", "/@scope"),
            ("/a%20b", "/a b"),
            ("/v1%3Asearch", "/v1:search"),
            ("/%252e%252e", "/%2e%2e"),
        ] {
            assert_eq!(compared(path), read);
        }
    }

    #[test]
    fn what_servers_read_in_different_ways_is_refused() {
        for path in [
            "/a%2Flogin",
            "/a%2flogin",
            "/..%2flogin",
            "/a\\login",
            "/a%5Clogin",
            "/login%00",
            "/%",
            "/%6",
            "/%zz",
            "/%u006cogin",
            "/x/..;/login",
            "/x/%2e%2e;a=b/login",
            "/.;/login",
            "/x/..%3Ba/login",
            "/.%3B/login",
            "login",
        ] {
            assert!(forwarded(path).is_err(), "{path}");
        }
    }

    #[test]
    fn those_who_refuse_take_the_normal_spelling_only() {
        let rules = PathRules::Refuse;
        for path in ["/", "*", "/login", "/a%20b", "/%c3%a4", "/a.b/", "/100%25"] {
            assert!(rules.read(path).is_ok(), "{path}");
        }
        for path in
            ["//login", "/%6Cogin", "/x/../login", "/login;x", "/a%3Bb", "/%252e", "/%c0%ae", "/%0d", "/ä", "/a%2fb"]
        {
            assert!(rules.read(path).is_err(), "{path}");
        }
    }

    #[test]
    fn off_is_as_it_came() {
        let path = "/x/..//%2f\\%zz;a";
        let read = PathRules::Off.read(path).expect("a path");
        assert_eq!((&*read.forwarded, &*read.compared), (path, path.as_bytes()));
    }

    #[test]
    fn the_setting_is_a_word_or_a_truth_value() {
        for (json, rules) in [
            ("true", Some(PathRules::Normalize)),
            ("\"on\"", Some(PathRules::Normalize)),
            ("\"refuse\"", Some(PathRules::Refuse)),
            ("\"off\"", Some(PathRules::Off)),
            ("false", Some(PathRules::Off)),
            ("\"no\"", None),
        ] {
            assert_eq!(PathRules::from_node(&Node::parse(json.as_bytes()).expect("JSON")), rules, "{json}");
        }
    }
}
