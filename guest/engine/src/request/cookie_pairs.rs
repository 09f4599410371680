//! The pairs of `cookie` headers, and which names servers may find in them.

use alloc::vec::Vec;

/// What stands between semicolons.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CookiePair<'a> {
    /// As it came, with the white space around it. It is not blank.
    text: &'a [u8],
    /// Its header begins with it.
    is_first: bool,
}

/// The pairs of these headers, in their order.
pub(crate) fn cookie_pairs<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = CookiePair<'a>> {
    let pairs = headers.into_iter().flat_map(|header| {
        let pairs = header.split(|byte| *byte == b';').enumerate();
        pairs.map(|(at, text)| CookiePair { text, is_first: at == 0 })
    });
    pairs.filter(|pair| !pair.text().is_empty())
}

// === impl CookiePair ===

impl<'a> CookiePair<'a> {
    /// Without the white space around it.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text.trim_ascii()
    }

    /// The names that a server may find in it: the one before the equals sign, and those that it hides.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let name = self.text().split(|byte| *byte == b'=').next();
        name.into_iter().chain(self.hidden_names())
    }

    /// The names behind commas and white space in it, where some servers end cookies (Python's `http.cookies`, and
    /// those of RFC 2965).
    pub(crate) fn hidden_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let is_separator = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
        let mut rest = self.text();
        core::iter::from_fn(move || {
            loop {
                rest = rest.iter().position(is_separator).and_then(|at| rest.get(at.saturating_add(1)..))?;
                let end = rest.iter().position(|byte| is_separator(byte) || *byte == b'=').unwrap_or(rest.len());
                let (name, behind) = rest.split_at_checked(end)?;
                // Of many spaces none is looked at for each before it.
                if !name.is_empty() && behind.trim_ascii_start().starts_with(b"=") {
                    return Some(name);
                }
            }
        })
    }

    /// Puts it behind others, byte for byte: what is made so is never longer than what came.
    pub(crate) fn push_to(&self, others: &mut Vec<u8>) {
        match (others.is_empty(), self.is_first) {
            (true, _) => others.extend(self.text.trim_ascii_start()),
            // In place of the end of a header.
            (false, true) => {
                others.extend(b"; ");
                others.extend(self.text.trim_ascii_start());
            }
            (false, false) => {
                others.push(b';');
                others.extend(self.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn hidden(pair: &str) -> Vec<String> {
        let pairs = cookie_pairs([pair.as_bytes()]);
        pairs.flat_map(|pair| pair.hidden_names()).map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn names_stand_behind_commas_and_white_space() {
        for pair in ["sid=v", " sid = v ", "sid=a,b c", "sid=a==", "a=1, b", "a=1 b ,c", "", " , "] {
            assert_eq!(hidden(pair), [""; 0], "{pair}");
        }
        for pair in ["x=1 sid=v", "x=1,sid=v", "x=1, sid =v", "x sid\t = v", "x=\"a sid=v\"", "x=1   sid=v", "x,,sid="]
        {
            assert_eq!(hidden(pair), ["sid"], "{pair}");
        }
        assert_eq!(hidden("x=1 a=2,b=3"), ["a", "b"]);
    }

    #[test]
    fn the_rest_is_as_it_came() {
        let mut others = Vec::new();
        let headers = [&b" a=1;  b=2 ;;c"[..], b"d; e;", b" ; "];
        cookie_pairs(headers).for_each(|pair| pair.push_to(&mut others));
        assert_eq!(others, b"a=1;  b=2 ;c; d; e");
    }

    #[test]
    fn a_pair_is_read_as_fast_however_it_is_cut() {
        // What reads the rest anew for each space would take minutes.
        for part in [" ", "a ", "a,", "a =", "a  "] {
            let pair = part.repeat((4 << 20) / part.len());
            assert!(
                cookie_pairs([pair.as_bytes()]).flat_map(|pair| pair.hidden_names()).all(|name| name.len() < 3),
                "{part}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_grows(headers in prop::collection::vec("[a;= ,\t]{0,12}", 0..4), left_out in any::<u8>()) {
            let came: usize = headers.iter().map(|header| header.len() + "cookie".len()).sum();
            let mut others = Vec::new();
            for (at, pair) in cookie_pairs(headers.iter().map(String::as_bytes)).enumerate() {
                if left_out & 1 << (at % 8) == 0 {
                    pair.push_to(&mut others);
                }
            }
            prop_assert!(others.len() <= came, "{:?}", others.escape_ascii());
        }
    }
}
