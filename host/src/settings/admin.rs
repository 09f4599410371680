//! `admin`: where machines ask a gateway about itself; and the token of those who may change something there.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use slidegate_document::{Content, Fields, Reader};
use subtle::ConstantTimeEq;

use super::listen::{ADDRESS, Listen, parse_address};
use super::named_file::{NamedFile, secret_in};
use super::secret::HIDDEN;
use super::words::{self, quoted};

const EXPECTED: &str = "16 to 1024 visible characters without spaces";

/// Reads `admin`: an address, or an object of `listen` and what belongs to it. Paths of files are relative to this
/// folder.
pub(super) fn read(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> (Option<Listen>, Option<AdminToken>) {
    let Some((path, node)) = top.get_unless_null("admin") else { return (None, None) };
    if let Content::Object(_) = &node.content {
        let Some(given) = reader.object(path, node, &words::ADMIN) else { return (None, None) };
        if given.get_unless_null("listen").is_none() {
            reader.error(given.at("listen"), format_args!("is missing: expected {ADDRESS}"));
        }
        return (Some(Listen::read(reader, &given, folder)), AdminToken::read(reader, &given, folder));
    }
    let expected = format!("{ADDRESS}, or an object with `listen` in it");
    let address = reader.parsed(path, node, expected, |node| parse_address(node.as_str()?));
    (address.map(|address| Listen { address, tls: None }), None)
}

/// What those show who may change something.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AdminToken {
    text: String,
    /// Where it was read from, if not from the settings.
    file: Option<NamedFile>,
}

impl AdminToken {
    /// The fields `token` and `token_file` of `admin`.
    fn read(reader: &mut Reader, fields: &Fields<'_>, folder: &Path) -> Option<Self> {
        let given = fields.get("token").map(|(path, node)| {
            // What is empty would be anybody's.
            let text = reader.text(path, node).filter(|text| is_token(text));
            if text.is_none() {
                reader.error(fields.at("token"), format_args!("expected {EXPECTED}"));
            }
            text
        });
        let file = NamedFile::read(reader, fields, "token_file", "the path of a file with the token in it", folder);
        match (given, file) {
            (Some(_), Some(_)) => {
                reader.error(fields.at("token_file"), "expected only one of `token_file` and `token`, got both");
                None
            }
            (Some(text), None) => Some(Self { text: text?, file: None }),
            (None, None) => None,
            (None, Some(file)) => {
                let text = secret_in(file.bytes.clone()?).filter(|text| is_token(text));
                if text.is_none() {
                    let expected = format!("expected a file with a token in it, {EXPECTED}");
                    reader.error(fields.at("token_file"), format_args!("{expected}, got {}", quoted(&file.written)));
                }
                Some(Self { text: text?, file: Some(file) })
            }
        }
    }

    /// Whether somebody shows it. How long that takes tells nothing of it but its length.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        self.text.as_bytes().ct_eq(shown).into()
    }

    /// What is odd about its file.
    pub(super) fn warning(&self) -> Option<String> {
        self.file.as_ref()?.warning("admin.token_file", "holds a token")
    }

    pub(super) fn named_file(&self) -> Option<&NamedFile> {
        self.file.as_ref()
    }
}

/// Whether a text may be one: HTTP has to carry it.
pub(crate) fn is_token(text: &str) -> bool {
    (16..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Debug for AdminToken {
    /// Does not show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// `admin` as it may be shown.
pub(super) fn shown(listen: &Listen, token: Option<&AdminToken>) -> Value {
    let Some(token) = token else { return listen.shown() };
    let mut shown = match listen.shown() {
        Value::Object(fields) => Value::Object(fields),
        address => json!({"listen": address}),
    };
    match &token.file {
        Some(file) => shown["token_file"] = json!(file.written),
        None => shown["token"] = json!(HIDDEN),
    }
    shown
}
