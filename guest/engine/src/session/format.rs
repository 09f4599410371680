//! The formats in which applications keep sessions, by the library that writes them.

use super::{
    cookie::IdForm,
    own_signer::OwnSigner,
    signature::{CookieSigner, KeyDerivation},
    signed_cookie::{SignedCookie, SignedForm},
    source::SessionSource,
};

/// `format`: how an application keeps its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFormat {
    /// express-session with connect-redis.
    Express,
    /// Flask-Session, as MessagePack or JSON.
    FlaskSession,
    /// PHP with phpredis, by the handlers `php` and `php_serialize`.
    Php,
    /// Spring Session, with values in JSON or texts and whole numbers by Java.
    Spring,
    /// Rack and Rails with redis-rack, as JSON.
    Rack,
    /// Django's cache sessions, as JSON.
    Django,
    /// A JSON object under the plain id.
    Json,
    /// A hash under the plain id.
    Hash,
    /// Flask's own signed cookie.
    SignedFlask,
    /// Starlette's signed cookie.
    SignedStarlette,
    /// Django's signed cookie.
    SignedDjango,
    /// Slidegate's own, set by the application in a header of its responses.
    Own,
}

/// What is stored for a session in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A string: `GETRANGE`.
    String,
    /// A hash: `HMGET`.
    Hash,
}

/// How a format's cookie is read.
#[derive(Debug, Clone)]
pub(super) enum CookieForm {
    /// It holds the id of a record.
    Id(IdForm),
    /// It holds the record.
    Content(SignedCookie),
}

/// How the key of a record is made of an id, behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// As it is.
    Id,
    /// `2::` and its SHA-256 in hexadecimal digits: Rack's private id.
    Sha256,
    /// That of one of Slidegate's own.
    Own,
}

const DAY_S: u64 = 24 * 60 * 60;

impl SessionFormat {
    /// All of them, in the order in which messages name them.
    pub const ALL: [SessionFormat; 12] = [
        SessionFormat::Express,
        SessionFormat::FlaskSession,
        SessionFormat::Php,
        SessionFormat::Spring,
        SessionFormat::Rack,
        SessionFormat::Django,
        SessionFormat::Json,
        SessionFormat::Hash,
        SessionFormat::SignedFlask,
        SessionFormat::SignedStarlette,
        SessionFormat::SignedDjango,
        SessionFormat::Own,
    ];

    /// As a configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionFormat::Express => "express",
            SessionFormat::FlaskSession => "flask-session",
            SessionFormat::Php => "php",
            SessionFormat::Spring => "spring",
            SessionFormat::Rack => "rack",
            SessionFormat::Django => "django",
            SessionFormat::Json => "json",
            SessionFormat::Hash => "hash",
            SessionFormat::SignedFlask => "signed-flask",
            SessionFormat::SignedStarlette => "signed-starlette",
            SessionFormat::SignedDjango => "signed-django",
            SessionFormat::Own => "own",
        }
    }

    /// The format of that spelling.
    pub fn named(name: &str) -> Option<SessionFormat> {
        SessionFormat::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The name that the library gives its cookie. Empty: each application chooses its own.
    pub fn default_cookie(self) -> &'static str {
        match self {
            SessionFormat::Express => "connect.sid",
            SessionFormat::FlaskSession | SessionFormat::SignedFlask | SessionFormat::SignedStarlette => "session",
            SessionFormat::Php => "PHPSESSID",
            SessionFormat::Spring => "SESSION",
            SessionFormat::Rack => "rack.session",
            SessionFormat::Django | SessionFormat::SignedDjango => "sessionid",
            SessionFormat::Json | SessionFormat::Hash => "",
            // Browsers take a cookie of such a name from this host alone, and over TLS.
            SessionFormat::Own => "__Host-session",
        }
    }

    /// What the library begins its keys with. Empty: each application chooses, or there is none.
    pub fn default_key_prefix(self) -> &'static str {
        match self {
            SessionFormat::Express => "sess:",
            SessionFormat::FlaskSession => "session:",
            SessionFormat::Php => "PHPREDIS_SESSION:",
            SessionFormat::Spring => "spring:session:sessions:",
            SessionFormat::Rack => "rack:session:",
            SessionFormat::Django => ":1:django.contrib.sessions.cache",
            SessionFormat::Own => "slidegate:session:",
            _ => "",
        }
    }

    /// How long the library takes its signed cookie, in seconds, unless told otherwise. None: it does not sign a time.
    pub fn default_max_age_s(self) -> Option<u64> {
        match self {
            SessionFormat::SignedFlask => Some(31 * DAY_S),
            SessionFormat::SignedStarlette | SessionFormat::SignedDjango => Some(14 * DAY_S),
            _ => None,
        }
    }

    /// Whether secrets are of use, and whether there must be some.
    pub fn secrets(self) -> SecretUse {
        match self {
            SessionFormat::FlaskSession => SecretUse::Optional,
            SessionFormat::Express
            | SessionFormat::SignedFlask
            | SessionFormat::SignedStarlette
            | SessionFormat::SignedDjango
            | SessionFormat::Own => SecretUse::Required,
            _ => SecretUse::None,
        }
    }

    /// What it stores. None: nothing, all is in the cookie.
    pub fn record(self) -> Option<RecordKind> {
        match self {
            SessionFormat::Spring | SessionFormat::Hash => Some(RecordKind::Hash),
            SessionFormat::SignedFlask | SessionFormat::SignedStarlette | SessionFormat::SignedDjango => None,
            _ => Some(RecordKind::String),
        }
    }

    pub(super) fn key_form(self) -> KeyForm {
        match self {
            SessionFormat::Rack => KeyForm::Sha256,
            SessionFormat::Own => KeyForm::Own,
            _ => KeyForm::Id,
        }
    }

    pub(super) fn cookie_form(
        self,
        source: &SessionSource,
        secrets: &[impl AsRef<[u8]>],
        max_age_s: u64,
        key_prefix: &str,
    ) -> CookieForm {
        let signer = |derivation| CookieSigner::new(derivation, secrets);
        let content =
            |form, derivation| CookieForm::Content(SignedCookie { form, signer: signer(derivation), max_age_s });
        match self {
            SessionFormat::Express => CookieForm::Id(IdForm::Express(signer(KeyDerivation::Secret))),
            SessionFormat::FlaskSession if !secrets.is_empty() => {
                CookieForm::Id(IdForm::Signed(signer(KeyDerivation::HmacOfSalt("flask-session"))))
            }
            // In a header it writes the id as it is.
            SessionFormat::Spring if matches!(source, SessionSource::Cookie(_)) => CookieForm::Id(IdForm::Base64),
            SessionFormat::SignedFlask => content(SignedForm::Flask, KeyDerivation::HmacOfSalt("cookie-session")),
            SessionFormat::SignedStarlette => {
                content(SignedForm::Starlette, KeyDerivation::Sha1OfSalt("itsdangerous.Signer"))
            }
            SessionFormat::SignedDjango => content(
                SignedForm::Django,
                KeyDerivation::Sha256OfSalt("django.contrib.sessions.backends.signed_cookies"),
            ),
            SessionFormat::Own => CookieForm::Id(IdForm::Own(OwnSigner::new(source, key_prefix, secrets))),
            _ => CookieForm::Id(IdForm::Plain),
        }
    }
}

/// Of what use secrets are to a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretUse {
    /// Of none.
    None,
    /// With some, cookies must be signed; without, they are not.
    Optional,
    /// There must be some.
    Required,
}
