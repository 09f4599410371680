//! Requests and responses as the filters before have changed them.

use alloc::{string::String, vec::Vec};

use crate::{
    request::RequestView,
    verdict::HeaderEdit,
    wants::{ResponseHead, ResponseView},
};

/// A request with changes to its headers that it has not yet.
#[derive(Debug)]
pub(crate) struct Edited<'a, View> {
    pub(crate) request: &'a View,
    pub(crate) edits: &'a [HeaderEdit],
}

impl<View: RequestView> Edited<'_, View> {
    /// Every value of a header that is changed. None: it is as received.
    #[inline]
    fn changed(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        changed(self.edits, name, || match name.strip_prefix(':') {
            Some(_) => self.request.header(name).into_iter().collect(),
            None => self.request.header_values(name),
        })
    }
}

/// A response with changes to its headers that it has not yet.
#[derive(Debug)]
pub(crate) struct EditedResponse<'a, View> {
    pub(crate) response: &'a View,
    pub(crate) edits: &'a [HeaderEdit],
}

/// Every value of a header that is changed, with what it was. None: it is as received.
#[inline]
fn changed(edits: &[HeaderEdit], name: &str, received: impl FnOnce() -> Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let concerns = |edit: &&HeaderEdit| edit.name().eq_ignore_ascii_case(name);
    let mut edits = edits.iter().filter(concerns).peekable();
    edits.peek()?;
    let mut values = received();
    for edit in edits {
        match edit {
            HeaderEdit::Set(_, value) => values = [value.clone()].into(),
            HeaderEdit::Append(_, value) => values.push(value.clone()),
            HeaderEdit::Remove(_) => values.clear(),
        }
    }
    Some(values)
}

/// All header fields with these changes, in lower case.
fn all_changed(mut headers: Vec<(String, Vec<u8>)>, edits: &[HeaderEdit]) -> Vec<(String, Vec<u8>)> {
    for edit in edits.iter().filter(|edit| !edit.name().starts_with(':')) {
        edit.clone().apply(&mut headers);
    }
    headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    headers
}

impl<View: ResponseView> ResponseView for EditedResponse<'_, View> {
    fn head(&self) -> ResponseHead {
        self.response.head()
    }

    #[inline]
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match changed(self.edits, name, || self.response.header_values(name)) {
            Some(values) => values.into_iter().next(),
            None => self.response.header(name),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        changed(self.edits, name, || self.response.header_values(name))
            .unwrap_or_else(|| self.response.header_values(name))
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(all_changed(self.response.headers()?, self.edits))
    }
}

impl<View: RequestView> RequestView for Edited<'_, View> {
    #[inline]
    fn path(&self) -> Vec<u8> {
        match self.changed(":path") {
            Some(values) => values.into_iter().next().unwrap_or_default(),
            None => self.request.path(),
        }
    }

    #[inline]
    fn authority(&self) -> Option<Vec<u8>> {
        match self.changed(":authority") {
            Some(values) => values.into_iter().next(),
            None => self.request.authority(),
        }
    }

    #[inline]
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return self.request.header(name);
        }
        match self.changed(name) {
            Some(values) if name == "cookie" => (!values.is_empty()).then(|| values.join(b"; ".as_slice())),
            Some(values) => values.into_iter().next(),
            None => self.request.header(name),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.changed(name).unwrap_or_else(|| self.request.header_values(name))
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(all_changed(self.request.headers()?, self.edits))
    }

    fn source_address(&self) -> Option<String> {
        self.request.source_address()
    }

    fn route_name(&self) -> String {
        self.request.route_name()
    }

    fn service_name(&self) -> String {
        self.request.service_name()
    }

    fn has_body(&self) -> bool {
        self.request.has_body()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;
    use crate::rule::samples::Sample;

    fn request() -> Sample {
        let headers =
            vec![("x", b"1".to_vec()), ("x", b"2".to_vec()), ("cookie", b"a=1".to_vec()), ("y", b"y".to_vec())];
        Sample { path: b"/a".to_vec(), authority: Some(b"h".to_vec()), headers, route: "r".into(), ..Sample::default() }
    }

    fn set(name: &str, value: &str) -> HeaderEdit {
        HeaderEdit::Set(name.into(), value.into())
    }

    fn append(name: &str, value: &str) -> HeaderEdit {
        HeaderEdit::Append(name.into(), value.into())
    }

    fn remove(name: &str) -> HeaderEdit {
        HeaderEdit::Remove(name.into())
    }

    #[test]
    fn changes_count_in_their_order_and_in_any_case_of_letters() {
        for (edits, values) in [
            (&[][..], &["1", "2"][..]),
            (&[set("X", "3")], &["3"]),
            (&[append("x", "3")], &["1", "2", "3"]),
            (&[remove("X"), append("x", "3")], &["3"]),
            (&[append("x", "3"), remove("x")], &[]),
            (&[set("x", "3"), append("X", "4"), remove("y"), set("z", "")], &["3", "4"]),
        ] {
            let request = request();
            let edited = Edited { request: &request, edits };
            assert_eq!(
                edited.header_values("x"),
                values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(),
                "{edits:?}"
            );
            assert_eq!(edited.header("x").as_deref(), values.first().map(|value| value.as_bytes()), "{edits:?}");
        }
    }

    #[test]
    fn all_headers_are_changed_alike() {
        let request = request();
        let edits = [set("X", "3"), remove("y"), append("z", "4"), set(":path", "/b")];
        let headers = Edited { request: &request, edits: &edits }.headers().unwrap();
        let expected = [("cookie", "a=1"), ("x", "3"), ("z", "4")];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())));
    }

    #[test]
    fn cookies_are_one_value() {
        let request = request();
        let cookie = |edits: &[HeaderEdit]| {
            Edited { request: &request, edits }.header("cookie").map(|value| String::from_utf8(value).unwrap())
        };
        assert_eq!(cookie(&[append("cookie", "b=2")]).as_deref(), Some("a=1; b=2"));
        assert_eq!(cookie(&[set("cookie", "b=2")]).as_deref(), Some("b=2"));
        assert_eq!(cookie(&[remove("cookie")]), None);
    }

    #[test]
    fn path_and_host_can_be_changed_and_what_cannot_is_as_received() {
        let request = request();
        let edited = Edited { request: &request, edits: &[set(":path", "/b?c"), remove(":authority")] };
        assert_eq!(
            (edited.path(), edited.authority(), edited.header(":path")),
            (b"/b?c".to_vec(), None, Some(b"/b?c".to_vec()))
        );
        assert_eq!((edited.route_name().as_str(), edited.header("y")), ("r", Some(b"y".to_vec())));
        let untouched = Edited { request: &request, edits: &[set("x", "3")] };
        assert_eq!((untouched.path(), untouched.authority()), (b"/a".to_vec(), Some(b"h".to_vec())));
    }
}
