//! Which names the header fields of clients may have.

use std::fmt;

use slidegate_document::Node;

/// What is done about fields of clients whose names servers read in different ways (`header_names`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NameRules {
    /// Names of letters, digits, `-` and `_` pass, and fields of all others are dropped.
    #[default]
    Strict,
    /// All pass.
    All,
}

impl NameRules {
    pub(super) fn from_node(node: &Node) -> Option<Self> {
        match node.as_str()? {
            "strict" => Some(Self::Strict),
            "all" => Some(Self::All),
            _ => None,
        }
    }

    /// Whether a field of this name passes. What applications behind CGI make of other signs than a hyphen differs: PHP
    /// takes `x.user` for `x-user`, lighttpd any sign.
    pub(crate) fn passes(self, name: &str) -> bool {
        self == Self::All || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    }
}

impl fmt::Display for NameRules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Strict => "strict",
            Self::All => "all",
        })
    }
}
