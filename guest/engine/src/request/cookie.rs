//! One cookie of a `cookie` header.

/// The value of the first cookie of this name: all that follows its first `=`, quotes included, not decoded. Names are
/// case-sensitive. `None` if there is none or its value is empty.
///
/// Stock cuts the value at a second `=` and crashes on the bare name; both are mended here.
pub(crate) fn cookie<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    header
        .split(|byte| *byte == b';')
        .find_map(|pair| trim(pair).strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter(|value| !value.is_empty())
}

/// Without the Unicode white space at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let space = match bytes.first() {
        Some(first) if first.is_ascii_graphic() => return bytes,
        _ => bytes.utf8_chunks().next().map_or(0, |chunk| {
            let text = chunk.valid();
            text.len().saturating_sub(text.trim_start().len())
        }),
    };
    bytes.get(space..).unwrap_or_default()
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let space = match bytes.last() {
        Some(last) if last.is_ascii_graphic() => return bytes,
        _ => bytes.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty()).map_or(0, |chunk| {
            let text = chunk.valid();
            text.len().saturating_sub(text.trim_end().len())
        }),
    };
    bytes.get(..bytes.len().saturating_sub(space)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(header: &[u8], value: Option<&[u8]>) {
        assert_eq!(cookie(header, "k"), value, "{}", header.escape_ascii());
    }

    #[test]
    fn edges() {
        check(b"k=v", Some(b"v"));
        check(b"a=1; k=v; b=2", Some(b"v"));
        check(b"a=1;k=v;b=2", Some(b"v"));
        check(b"k=1; k=2", Some(b"1"));
        check(b"k=a=b==", Some(b"a=b=="));
        check(b"k=\"q\"", Some(b"\"q\""));
        check(b"k=a%20b+c", Some(b"a%20b+c"));
        check(b"k=\xff", Some(b"\xff"));
        check(b"k", None);
        check(b"k; k=v", Some(b"v"));
        check(b"k=", None);
        check(b"k=; k=v", None);
        check(b"k= ", None);
        check(b"K=v", None);
        check(b"k =v", None);
        check(b"k= v", Some(b" v"));
        check(b"kk=v; xk=v", None);
        check(b"", None);
        check(b";;;", None);
        check(b"=v", None);
        check(b"a=k=v", None);
    }

    #[test]
    fn unicode_white_space_is_trimmed() {
        check(b"\t\x0b\x0c k=v\r\n ", Some(b"v"));
        check("a=1;\u{a0}\u{2003}k=v\u{3000};b=2".as_bytes(), Some(b"v"));
        check(b"\x1fk=v", None);
        check(b" k=v\xff ; b=2", Some(b"v\xff"));
        check(b"\xff k=v", None);
        check(b"k=v\xe2\x80", Some(b"v\xe2\x80"));
        check(b"k=v\xa0", Some(b"v\xa0"));
    }

    proptest! {
        #[test]
        fn nothing_panics(header in prop::collection::vec(any::<u8>(), 0..60), name in ".{0,4}") {
            cookie(&header, &name);
        }

        #[test]
        fn text_is_trimmed_as_text(text in "[ \t\u{a0}\u{2028}a\u{e9}]{0,8}") {
            prop_assert_eq!(trim(text.as_bytes()), text.trim().as_bytes());
        }
    }
}
