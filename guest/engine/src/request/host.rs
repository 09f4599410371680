//! The host that a request is for: one name, however a client spells it.

use alloc::{borrow::Cow, vec::Vec};

use super::choice::RequestValue;

/// The host as it is counted: in lower case, without port and without a dot at its end, since none of them makes it
/// another one to servers. What is written is the same with the port.
pub(crate) fn host(written: &[u8]) -> RequestValue<'_> {
    let (name, port) = written.split_at_checked(name_length(written)).unwrap_or((written, &[]));
    let mut text = name.to_ascii_lowercase();
    while text.ends_with(b".") {
        text.pop();
    }
    if port.len() <= 1 {
        return RequestValue { text: Cow::Owned(text), written: None };
    }
    let mut written: Vec<u8> = text.clone();
    written.extend_from_slice(port);
    RequestValue { text: Cow::Owned(text), written: Some(Cow::Owned(written)) }
}

/// A key as hosts are looked up: its port is a part of it.
pub(crate) fn host_key(key: &[u8]) -> Vec<u8> {
    let RequestValue { text, written } = host(key);
    written.unwrap_or(text).into_owned()
}

/// How long the host is before its port. An address of IPv6 ends with its bracket.
fn name_length(host: &[u8]) -> usize {
    let name = host.iter().rposition(|byte| *byte == b']').map_or(0, |at| at.saturating_add(1));
    let port = host.iter().skip(name).position(|byte| *byte == b':');
    port.map_or(host.len(), |at| name.saturating_add(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for written in ["api.test", "API.test", "api.test.", "api.test:80", "Api.Test.:8080", "api.test:"] {
            assert_eq!(&*host(written.as_bytes()).text, b"api.test", "{written}");
        }
        for (written, text) in [("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", ""), (".", ""), (":80", "")] {
            assert_eq!(&*host(written.as_bytes()).text, text.as_bytes(), "{written}");
        }
        assert_eq!(host(b"API.test.:81").written.as_deref(), Some(&b"api.test:81"[..]));
        assert_eq!(host(b"api.test").written, None);
        assert_eq!(host_key(b"API.test.:81"), b"api.test:81");
        assert_eq!(host_key(b"API.test"), b"api.test");
    }
}
