//! Files that fields name: certificates, keys, passwords.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use slidegate_document::table::{Shape, gateway};
use slidegate_document::{Content, Fields, Node, Reader};

use super::file::{self, Occasion};
use super::secret::{HIDDEN, is_like_a_path};
use super::words::quoted;

/// Fields at the top that may hold such fields.
const PARTS: [&str; 5] = ["tls", "admin", "upstream_tls", "routes", "redis"];

/// Files by their paths, and what they hold; none for one that cannot be read.
pub(crate) type NamedFiles = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The files that a settings document names, however wrong it is otherwise, and what they hold.
pub(super) fn all_named(document: &Node, folder: &Path) -> NamedFiles {
    let mut files = NamedFiles::new();
    let tables = [
        &gateway::LISTENER_TLS_FIELDS[..],
        &gateway::UPSTREAM_TLS_FIELDS,
        &gateway::REDIS_ACCESS,
        &gateway::ADMIN_FIELDS,
    ];
    let fields = tables.into_iter().flatten().filter(|field| matches!(field.value, Shape::File));
    let fields: BTreeSet<&str> = fields.map(|field| field.name).collect();
    let mut parts: Vec<&Node> = PARTS.iter().filter_map(|part| document.get(part)).collect();
    while let Some(part) = parts.pop() {
        match &part.content {
            Content::List(elements) => parts.extend(elements),
            Content::Object(members) => parts.extend(members.iter().map(|member| &member.value)),
            _ => {}
        }
        for path in fields.iter().filter_map(|field| Some(folder.join(part.get(field)?.as_str()?))) {
            let bytes = file::read(&path, Occasion::Reload).ok();
            files.insert(path, bytes);
        }
    }
    files
}

/// The secret in such a file: a text that is not empty, without the end of its line.
pub(super) fn secret_in(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty())
}

/// A file that a field names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// As it stands in the settings.
    pub(super) written: String,
    pub(super) path: PathBuf,
    /// What it held; none if it cannot be read, which is then a mistake.
    pub(super) bytes: Option<Vec<u8>>,
}

impl NamedFile {
    /// The file that this field names, if it names one. Its path is relative to this folder.
    pub(super) fn read(
        reader: &mut Reader,
        fields: &Fields<'_>,
        field: &str,
        expected: &str,
        folder: &Path,
    ) -> Option<Self> {
        let written =
            reader.field(fields, field, |reader, path, node| reader.parsed(path, node, expected, Node::as_str))?;
        let path = folder.join(written);
        if written.is_empty() {
            reader.error(fields.at(field), format_args!("expected {expected}, got an empty text"));
            return Some(Self { written: String::new(), path, bytes: None });
        }
        // As in a reload also at the start, so that a file that is taken then is taken later.
        let bytes = file::read(&path, Occasion::Reload)
            .map_err(|reason| {
                // A key or a password in the place of the file's name.
                let got = match is_like_a_path(written) {
                    true => quoted(written),
                    false => format!(
                        "{} (which is not shown, as it may be a secret: write `./` before a name)",
                        quoted(HIDDEN)
                    ),
                };
                reader.error(fields.at(field), format_args!("expected a file that can be read, got {got}: {reason}"))
            })
            .ok();
        Some(Self { written: written.to_owned(), path, bytes })
    }

    /// What is odd about a file with a secret in it, at this place of the settings, that more can read than should.
    pub(super) fn warning(&self, place: &str, secret: &str) -> Option<String> {
        const ADVICE: &str = "everybody on this machine may read it, expected only this user (`chmod 600`)";
        self.is_readable_by_all().then(|| format!("{place}: {} {secret}, and {ADVICE}", quoted(&self.written)))
    }

    /// Whether everybody on this machine may read it.
    #[cfg(unix)]
    fn is_readable_by_all(&self) -> bool {
        use std::os::unix::fs::PermissionsExt;
        self.path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }

    /// Whether everybody on this machine may read it.
    #[cfg(not(unix))]
    fn is_readable_by_all(&self) -> bool {
        false
    }
}
