//! Lines of JSON, of which a few values are wanted: they are found without building the rest.

use std::borrow::Cow;

use super::text_line::quoted;

/// Deeper than this no value is looked at, nor passed over.
const DEPTH_MAX: usize = 64;

/// Where a value stands: names of objects from the outside in, as in `request.headers.X-Api-Key`. Of an array the first
/// element counts.
pub(super) type JsonPath = Vec<String>;

/// A path as `--map` has it: `.request.headers.X-Api-Key`. In quotes a name may have dots.
pub(super) fn path(text: &str) -> Option<JsonPath> {
    let mut names = Vec::new();
    let mut rest = text.strip_prefix('.')?;
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(inner) => {
                let (name, behind) = inner.split_once('"')?;
                (name, behind.strip_prefix('.').or_else(|| behind.is_empty().then_some(""))?)
            }
            None => rest.split_once('.').unwrap_or((rest, "")),
        };
        if name.is_empty() {
            return None;
        }
        names.push(name.to_owned());
        if behind.is_empty() {
            return Some(names);
        }
        rest = behind;
    }
}

/// Finds the values at these paths, of which there are 64 at most, and hands each over with its place in the list.
///
/// # Errors
/// The line is no object, or broken before all of it was seen.
pub(super) fn find<'l>(
    line: &'l [u8],
    paths: &[JsonPath],
    found: &mut dyn FnMut(usize, Cow<'l, [u8]>),
) -> Result<(), &'static str> {
    let mut search = JsonSearch { rest: line, paths, found, nested: 0 };
    search.space();
    let all = u64::MAX.checked_shr(u32::try_from(64_usize.saturating_sub(paths.len())).unwrap_or(64)).unwrap_or(0);
    match search.rest.first() {
        Some(b'{') => search.object(all, 0).ok_or("it is no whole JSON"),
        _ => Err("it is no JSON object"),
    }
}

struct JsonSearch<'l, 's> {
    rest: &'l [u8],
    paths: &'s [JsonPath],
    found: &'s mut dyn FnMut(usize, Cow<'l, [u8]>),
    /// How many values are open, one in the other.
    nested: usize,
}

impl<'l> JsonSearch<'l, '_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes a byte that must come next.
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.space();
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }

    /// An object of which the paths of this set go on in it.
    fn object(&mut self, wanted: u64, depth: usize) -> Option<()> {
        self.byte(b'{')?;
        self.space();
        if self.rest.first() == Some(&b'}') {
            return self.byte(b'}');
        }
        loop {
            self.byte(b'"')?;
            let (name, rest) = quoted(self.rest);
            self.rest = rest;
            self.byte(b':')?;
            self.space();
            let mut inner = 0;
            for (index, path) in self.paths.iter().enumerate() {
                let is_next = wanted & (1 << index) != 0
                    && path.get(depth).is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(&name));
                inner |= u64::from(is_next) << index;
            }
            self.value(inner, depth + 1)?;
            self.space();
            match self.rest.split_first()? {
                (b',', rest) => {
                    self.rest = rest;
                    self.space();
                }
                (b'}', rest) => {
                    self.rest = rest;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// A value at which, or in which, the paths of this set end.
    fn value(&mut self, wanted: u64, depth: usize) -> Option<()> {
        self.nested += 1;
        if self.nested > DEPTH_MAX {
            return None;
        }
        self.any(wanted, depth)?;
        self.nested -= 1;
        Some(())
    }

    fn any(&mut self, wanted: u64, depth: usize) -> Option<()> {
        match self.rest.split_first()? {
            (b'"', rest) => {
                let (text, behind) = quoted(rest);
                // A text without its end.
                if rest.len() == text.len() && behind.is_empty() {
                    return None;
                }
                self.rest = behind;
                self.hand_over(wanted, depth, text);
                Some(())
            }
            (b'{', _) => self.object(wanted, depth),
            (b'[', rest) => {
                self.rest = rest;
                self.space();
                if let Some((b']', rest)) = self.rest.split_first() {
                    self.rest = rest;
                    return Some(());
                }
                let mut wanted = wanted;
                loop {
                    self.space();
                    self.value(wanted, depth)?;
                    wanted = 0;
                    self.space();
                    match self.rest.split_first()? {
                        (b',', rest) => self.rest = rest,
                        (b']', rest) => {
                            self.rest = rest;
                            return Some(());
                        }
                        _ => return None,
                    }
                }
            }
            _ => {
                let end = self.rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t'))?;
                let (word, rest) = self.rest.split_at_checked(end)?;
                self.rest = rest;
                if word.is_empty() {
                    return None;
                }
                if word != b"null" {
                    self.hand_over(wanted, depth, Cow::Borrowed(word));
                }
                Some(())
            }
        }
    }

    fn hand_over(&mut self, wanted: u64, depth: usize, value: Cow<'l, [u8]>) {
        let mut left = wanted;
        while left != 0 {
            let index = usize::try_from(left.trailing_zeros()).unwrap_or_default();
            left &= left - 1;
            if self.paths.get(index).is_some_and(|path| path.len() == depth) {
                (self.found)(index, value.clone());
            }
        }
    }
}

/// Of an object whose values may have quotes in them that are not escaped: the values of names that are known to come
/// in this order. What is left out of the order does not matter.
pub(super) fn find_in_order<'l>(
    line: &'l [u8],
    order: &[&str],
    found: &mut dyn FnMut(&str, &'l [u8]),
) -> Result<(), &'static str> {
    let mut rest = line;
    let mut known: Option<&str> = None;
    let mut is_any = false;
    for name in order {
        let (begin, mark) = match known {
            None => (0, format!("{{\"{name}\":\"")),
            Some(_) => (0, format!("\",\"{name}\":\"")),
        };
        let at = rest.get(begin..).and_then(|text| position(text, mark.as_bytes()));
        let Some(at) = at else { continue };
        if let Some(known) = known.replace(name) {
            found(known, rest.get(..at).unwrap_or_default());
        }
        is_any = true;
        rest = rest.get(at + mark.len()..).unwrap_or_default();
    }
    if let Some(known) = known {
        let end = rest.iter().rposition(|byte| *byte == b'"').unwrap_or(rest.len());
        found(known, rest.get(..end).unwrap_or_default());
    }
    if is_any { Ok(()) } else { Err("none of the known names is in it") }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    let first = part.first()?;
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|byte| byte == first) {
        if text.get(from + at..)?.starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &str, paths: &[&str]) -> Result<Vec<String>, &'static str> {
        let paths: Vec<JsonPath> = paths.iter().map(|text| path(text).expect("a path")).collect();
        let mut values = vec![String::new(); paths.len()];
        find(line.as_bytes(), &paths, &mut |index, value| {
            values[index] = String::from_utf8_lossy(&value).into_owned();
        })?;
        Ok(values)
    }

    #[test]
    fn values_are_found_wherever_they_stand() {
        let line = r#" {"ts":1.5,"request":{"method":"GET","uri":"/a\"b","headers":{"X-Api-Key":["k1","k2"],"Host":[]}},
            "no":null,"list":[{"request":1},[],{}],"status":429,"a.b":true} "#;
        let paths = [
            ".ts",
            ".request.method",
            ".request.uri",
            ".request.headers.x-api-key",
            ".status",
            ".\"a.b\"",
            ".no",
            ".x",
        ];
        assert_eq!(values(line, &paths).expect("JSON"), ["1.5", "GET", "/a\"b", "k1", "429", "true", "", ""]);
    }

    #[test]
    fn what_is_broken_is_told_and_nothing_panics() {
        let line = r#"{"a":{"b":["c\u00e4",1.5,null,true]},"d":"e"}"#;
        assert!(values(line, &[".a.b"]).is_ok());
        for end in 0..line.len() {
            if let Some(part) = line.get(..end) {
                assert!(values(part, &[".a.b", ".d"]).is_err(), "{part}");
            }
        }
        for deep in ["[", "{\"a\":["] {
            assert!(values(&format!("{{\"a\":{}", deep.repeat(100_000)), &[".a"]).is_err(), "{deep}");
        }
        assert!(values("[]", &[".a"]).is_err());
        assert_eq!((path("a"), path("."), path(".a..b"), path(".\"a")), (None, None, None, None));
    }

    #[test]
    fn values_with_quotes_are_found_by_the_names_around_them() {
        let line = br#"{"ai_log":"{"a":"b"}","authority":"h","method":"GET","path":"/a?q="x"","user_agent":"a "b""}"#;
        let mut found = Vec::new();
        find_in_order(
            line,
            &["ai_log", "authority", "method", "path", "route_name", "user_agent"],
            &mut |name, value| {
                found.push(format!("{name}={}", String::from_utf8_lossy(value)));
            },
        )
        .expect("names");
        assert_eq!(
            found,
            ["ai_log={\"a\":\"b\"}", "authority=h", "method=GET", "path=/a?q=\"x\"", "user_agent=a \"b\""]
        );
        assert!(find_in_order(b"{}", &["a"], &mut |_, _| {}).is_err());
    }
}
