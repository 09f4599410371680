//! `rejected_*`: what a refusal looks like.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::{Content, Fields, Node, Path, Reader};

use super::limit_by::is_token;

const REJECTED_CODE: u16 = 429;
const REJECTED_MSG: &str = "Too many requests";

/// What the host writes, and what another field of the configuration decides.
const RESERVED: [(&str, &str); 13] = [
    ("content-type", "`rejected_content_type` says this"),
    ("content-length", "the host writes this one"),
    ("transfer-encoding", "the host writes this one"),
    ("connection", "the host writes this one"),
    ("upgrade", "the host writes this one"),
    ("trailer", "the host writes this one"),
    ("grpc-status", "the host writes this one"),
    ("grpc-message", "the host writes this one"),
    ("retry-after", "`headers` says whether it is sent"),
    ("ratelimit", "`headers` says whether it is sent"),
    ("ratelimit-policy", "`headers` says whether it is sent"),
    ("x-slidegate-degraded", "`headers` says whether it is sent"),
    ("x-ratelimit-reset", "`headers` says whether it is sent"),
];

pub(super) fn code(reader: &mut Reader, fields: &Fields<'_>) -> Option<u16> {
    let Some((path, node)) = fields.get("rejected_code") else { return Some(REJECTED_CODE) };
    // Statuses below 200 are interim ones: after them a client still waits for the answer.
    let code = reader.whole(path, node, 200..=599)?;
    u16::try_from(code).ok()
}

pub(super) fn message(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let Some((path, node)) = fields.get("rejected_msg") else { return Some(REJECTED_MSG.to_string()) };
    if node.is_null() {
        // As stock has it, and as YAML reads `rejected_msg:` with nothing behind it.
        return Some(String::new());
    }
    if matches!(node.content, Content::List(_) | Content::Object(_)) {
        reader.warn(path, format_args!("is {} and will be sent as its JSON text", node.kind()));
        return Some(node.to_string());
    }
    reader.text(path, node)
}

/// The fields of `rejected_headers`, names in lower case, and that of `rejected_content_type`.
pub(super) fn headers(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<(String, String)>> {
    let content_type = match fields.get("rejected_content_type") {
        Some((path, node)) => Some(("content-type".to_string(), value(reader, path, node)?)),
        None => None,
    };
    let mut headers = Vec::from_iter(content_type);
    let Some((path, node)) = fields.get("rejected_headers") else { return Some(headers) };
    let given = reader.collected(path, node, "an object of header names and their values", Node::members)?;
    let mut understood = true;
    for member in given {
        let shown = member.shown_name();
        let field = Path::Field(&path, &shown);
        let read = name(reader, field, &member.name).zip(value(reader, field, &member.value));
        let again = read.as_ref().is_some_and(|(name, _)| headers.iter().any(|(other, _)| other == name));
        if again {
            reader.error(field, "stands twice: the names of headers are the same in upper and lower case");
        }
        understood &= read.is_some() && !again;
        headers.extend(read);
    }
    understood.then_some(headers)
}

fn name(reader: &mut Reader, path: Path<'_>, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if !is_token(&lower) {
        reader.error(path, "expected the name of a header: letters, digits and !#$%&'*+-.^_`|~");
        return None;
    }
    if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == lower) {
        reader.error(path, format_args!("cannot be set here: {why}"));
        return None;
    }
    Some(lower)
}

fn value(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<String> {
    let text = reader.text(path, node)?;
    // RFC 9110, 5.5: new fields keep to visible US-ASCII, since recipients read anything else each in their own way.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') || text.trim() != text || text.is_empty() {
        reader.error(
            path,
            "expected the value of a header: one line of visible ASCII characters, without white space around it",
        );
        return None;
    }
    Some(text)
}
