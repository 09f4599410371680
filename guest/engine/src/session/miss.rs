//! Why a request has no session.

/// Why a request belongs to nobody. The cause is for logs and metrics; the client is anonymous whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionMiss {
    /// It has no such cookie, or header.
    Absent,
    /// It has two of that name with different values: servers disagree on which one counts.
    Ambiguous,
    /// The cookie is longer than any of a session, or the record is.
    TooLong,
    /// The cookie is none of this format.
    Malformed,
    /// No secret of the configuration has signed the cookie.
    WrongSignature,
    /// Nothing is stored for this session: it has ended, or never was.
    Unknown,
    /// The cookie or the record says that its time is over.
    Expired,
    /// The record is of a type, or in a language's own form, that is not read: pickle, Marshal, igbinary.
    ForeignType,
    /// The record is not what the format says, or nested too deeply.
    Undecodable,
    /// It is a session of a visitor: it has none of the fields.
    Anonymous,
}

impl SessionMiss {
    /// All of them.
    pub const ALL: [SessionMiss; 10] = [
        SessionMiss::Absent,
        SessionMiss::Ambiguous,
        SessionMiss::TooLong,
        SessionMiss::Malformed,
        SessionMiss::WrongSignature,
        SessionMiss::Unknown,
        SessionMiss::Expired,
        SessionMiss::ForeignType,
        SessionMiss::Undecodable,
        SessionMiss::Anonymous,
    ];

    /// Whether a session is there and was not taken, though the application may take it.
    pub(crate) fn is_not_taken(self) -> bool {
        match self {
            SessionMiss::Absent | SessionMiss::Unknown | SessionMiss::Expired | SessionMiss::Anonymous => false,
            SessionMiss::Ambiguous
            | SessionMiss::TooLong
            | SessionMiss::Malformed
            | SessionMiss::WrongSignature
            | SessionMiss::ForeignType
            | SessionMiss::Undecodable => true,
        }
    }

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionMiss::Absent => "absent",
            SessionMiss::Ambiguous => "ambiguous",
            SessionMiss::TooLong => "too_long",
            SessionMiss::Malformed => "malformed",
            SessionMiss::WrongSignature => "wrong_signature",
            SessionMiss::Unknown => "unknown",
            SessionMiss::Expired => "expired",
            SessionMiss::ForeignType => "foreign_type",
            SessionMiss::Undecodable => "undecodable",
            SessionMiss::Anonymous => "anonymous",
        }
    }
}
