//! `session`: a filter that reads the sessions of an application, or keeps them for it.

mod own;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::{Fields, Node, Path, Reader, elements, whole_number};

use super::{
    filter_rules::ToldFields,
    known_fields,
    limit_by::{cookie_name, token_header},
    service::{self, ServiceTable},
};
use crate::session::{
    FIELDS_MAX, FieldPath, OnMissingSession, PublicPath, SEPARATORS_MAX, SESSION_SET, STRIPPED_MAX, SecretUse,
    SessionFormat, SessionRules, SessionSettings, SessionSource, is_alike, is_plain_path, spellings_of,
};

/// How many secrets there may be. Each is tried.
const SECRETS_MAX: usize = 16;

/// How long a session is remembered, in microseconds, unless said otherwise, and at most.
pub(super) const REMEMBER_US: u64 = 1_000_000;
const REMEMBER_US_MAX: u64 = 300_000_000;

/// A session of ours is asked for so often, at least, in the time after which it ends without a request.
const IDLE_PARTS: u64 = 16;

/// The greatest age of a signed session, in microseconds.
const MAX_AGE_US_MAX: u64 = 365 * 24 * 3_600_000_000;

/// Headers that frame a request or say for whom it is: none of them tells a field.
const OTHERS_HEADERS: [&str; 13] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    SESSION_SET,
];

/// Reads what stands in `session`. `told`: what filters before tell.
pub(super) fn read(
    reader: &mut Reader,
    services: &mut ServiceTable,
    told: &ToldFields,
    path: Path<'_>,
    node: &Node,
) -> Option<SessionRules> {
    let given = reader.object(path, node, &known_fields::SESSION)?;
    let format = format(reader, &given);
    let is_flat = matches!(format, Some(SessionFormat::Hash | SessionFormat::Own));
    let fields = fields(reader, told, &given, is_flat);
    let on_missing = on_missing(reader, &given);
    let fails_open = fails_open(reader, &given);
    let public = public(reader, &given, on_missing.as_ref());
    let remember_us = match given.get_unless_null("remember") {
        Some((path, node)) => reader.duration_us(path, node, REMEMBER_US_MAX),
        None => Some(REMEMBER_US),
    };
    // What is left depends on the format.
    let format = format?;
    let source = source(reader, &given, format);
    let secrets = secrets(reader, &given, format);
    let max_age_s = max_age_s(reader, &given, format);
    let is_signed = secrets.as_ref().is_none_or(|secrets| !secrets.is_empty());
    let key_prefix = key_prefix(reader, &given, format, is_signed);
    let redis = redis(reader, services, &given, format);
    if let (Some(path), Some(None)) = (given.get("failure_mode").map(|(path, _)| path), redis) {
        reader.warn(path, "has no effect without `redis`: nothing is asked");
    }
    let own = own::read(reader, &given, format);
    let (fields, headers) = fields?;
    let user = user(reader, &given, &fields);
    let own = own?;
    // Whoever asks is what keeps a session of ours alive, so nobody goes by what was read for long.
    let remember_us_max = own.as_ref().map_or(u64::MAX, |own| own.idle_ms.saturating_mul(1_000) / IDLE_PARTS);
    Some(SessionRules {
        settings: SessionSettings {
            format,
            source: source?,
            key_prefix: key_prefix?,
            secrets: secrets?,
            max_age_s: max_age_s?,
            fields,
        },
        user: user?,
        headers,
        // Where nobody passes without a session, an outage lets nobody pass.
        fails_open: fails_open?.unwrap_or(on_missing == Some(OnMissingSession::Anonymous)),
        on_missing: on_missing?,
        public: public?,
        remember_us: remember_us?.min(remember_us_max),
        redis: redis?,
        own,
    })
}

fn format(reader: &mut Reader, given: &Fields<'_>) -> Option<SessionFormat> {
    let Some((path, node)) = given.get_unless_null("format") else {
        reader.error(
            given.at("format"),
            "is missing: expected how the application keeps its sessions, such as `express`",
        );
        return None;
    };
    reader.choice(path, node, &SessionFormat::ALL.map(|format| (format.as_str(), format)))
}

fn source(reader: &mut Reader, given: &Fields<'_>, format: SessionFormat) -> Option<SessionSource> {
    let cookie = given.get_unless_null("cookie");
    let Some((path, node)) = given.get_unless_null("header") else {
        let default = format.default_cookie();
        return match cookie {
            Some((path, node)) => {
                let name = reader.text(path, node)?;
                cookie_name(reader, path, node, &name).map(SessionSource::Cookie)
            }
            None if default.is_empty() => {
                let message = "is missing: expected the name of the cookie, or `header`, as applications choose it";
                reader.error(given.at("cookie"), message);
                None
            }
            None => Some(SessionSource::Cookie(default.to_string())),
        };
    };
    if cookie.is_some() {
        reader.error(path, "stands beside `cookie`: expected one of them only");
        return None;
    }
    if format == SessionFormat::Own {
        reader.error(path, "has no use with `format: own`, whose ids are set as cookies");
        return None;
    }
    short_header(reader, path, node).map(SessionSource::Header)
}

/// The name of a header of which all spellings are looked at.
fn short_header(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<String> {
    header(reader, path, node).filter(|header| {
        let is_short = header.matches(['-', '_']).count() <= SEPARATORS_MAX;
        if !is_short {
            reader.error(
                path,
                format_args!("expected a header with at most {SEPARATORS_MAX} of `-` and `_` in its name"),
            );
        }
        is_short
    })
}

/// The name of a header, in lower case.
fn header(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<String> {
    let name = token_header(reader, path, node)?;
    if OTHERS_HEADERS.contains(&name.as_str()) {
        reader.error(path, format_args!("`{name}` is a header with another meaning: expected one of its own"));
        return None;
    }
    Some(name)
}

/// Secrets in their order. No message shows one.
fn secrets(reader: &mut Reader, given: &Fields<'_>, format: SessionFormat) -> Option<Vec<String>> {
    let Some((path, node)) = given.get_unless_null("secrets") else {
        if format.secrets() == SecretUse::Required {
            let message = "is missing: expected what cookies are signed with, or a list with older secrets";
            reader.error(given.at("secrets"), message);
            return None;
        }
        return Some(Vec::new());
    };
    if format.secrets() == SecretUse::None {
        reader.error(path, format_args!("has no use with `format: {}`, whose cookies are not signed", format.as_str()));
        return None;
    }
    secret_list(reader, path, node)
}

/// One secret, or several.
pub(super) fn secret_list(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Vec<String>> {
    let (mut secrets, mut is_understood) = (Vec::new(), true);
    for (path, node) in elements(&path, node) {
        match reader.text(path, node) {
            Some(secret) if !secret.is_empty() => secrets.push(secret),
            Some(_) => {
                reader.error(path, "expected a secret, got an empty text");
                is_understood = false;
            }
            None => is_understood = false,
        }
    }
    if is_understood && !(1..=SECRETS_MAX).contains(&secrets.len()) {
        reader.error(path, format_args!("expected 1 to {SECRETS_MAX} secrets, got {}", secrets.len()));
        return None;
    }
    is_understood.then_some(secrets)
}

fn max_age_s(reader: &mut Reader, given: &Fields<'_>, format: SessionFormat) -> Option<u64> {
    let default = format.default_max_age_s();
    let Some((path, node)) = given.get_unless_null("max_age") else { return Some(default.unwrap_or_default()) };
    if default.is_none() {
        let message = format!("has no use with `format: {}`: what is stored says how long it is good", format.as_str());
        reader.error(path, message);
        return None;
    }
    Some(reader.lasting_us(path, node, MAX_AGE_US_MAX)? / 1_000_000)
}

fn key_prefix(reader: &mut Reader, given: &Fields<'_>, format: SessionFormat, is_signed: bool) -> Option<String> {
    let stated = given.get_unless_null("key_prefix");
    if format.record().is_none() {
        if let Some((path, _)) = stated {
            reader.error(path, format_args!("has no use with `format: {}`, which stores nothing", format.as_str()));
            return None;
        }
        return Some(String::new());
    }
    let prefix = match stated {
        Some((path, node)) => {
            let prefix = reader.text(path, node)?;
            if !is_signed && !prefix.is_empty() && !prefix.ends_with(':') && prefix != format.default_key_prefix() {
                reader.warn(path, "does not end with `:`: a cookie may name other keys that begin like sessions");
            }
            prefix
        }
        None => format.default_key_prefix().to_string(),
    };
    if format == SessionFormat::Own && prefix.contains(['{', '}']) {
        reader.error(given.at("key_prefix"), "has braces: expected none, as keys have a hash tag of their own");
        return None;
    }
    if prefix.is_empty() && !is_signed {
        let message =
            "expected what the keys of sessions begin with: without it a cookie could name any key in this Redis";
        reader.error(given.at("key_prefix"), message);
        return None;
    }
    Some(prefix)
}

/// The paths of fields, and the header of each.
fn fields(
    reader: &mut Reader,
    told: &ToldFields,
    given: &Fields<'_>,
    is_flat: bool,
) -> Option<(Vec<FieldPath>, Vec<String>)> {
    let Some((path, node)) = given.get_unless_null("fields") else {
        let message = "is missing: expected fields and the headers that tell them, such as `user_id: x-user-id`";
        reader.error(given.at("fields"), message);
        return None;
    };
    let members = reader.collected(path, node, "an object of fields and the headers that tell them", Node::members)?;
    if !(1..=FIELDS_MAX).contains(&members.len()) {
        reader.error(path, format_args!("expected 1 to {FIELDS_MAX} fields, got {}", members.len()));
        return None;
    }
    let (mut paths, mut headers): (Vec<FieldPath>, Vec<String>) = (Vec::new(), Vec::new());
    let mut is_understood = true;
    for member in members {
        let place = Path::Field(&path, &member.name);
        let field = FieldPath::parse(&member.name);
        let header = short_header(reader, place, &member.value);
        match (&field, &header) {
            (Err(error), _) => reader.error(place, format_args!("is no field's path: {error}")),
            (Ok(field), Some(_)) if is_flat && field.len() > 1 => {
                reader.error(
                    place,
                    "has several names, but such a session has texts only: expected one, with `\\.` for a dot in it",
                );
                is_understood = false;
            }
            // What one tells the other would remove.
            (Ok(_), Some(header)) if told.headers().any(|other| is_alike(other, header)) => {
                reader.error(
                    place,
                    format_args!("a filter before tells a field in `{header}`: expected a header of its own"),
                );
                is_understood = false;
            }
            // To servers of CGI and WSGI these are one.
            (Ok(_), Some(header)) if headers.iter().any(|other| is_alike(other, header)) => {
                reader.error(place, format_args!("another field is told in `{header}`: expected a header of its own"));
                is_understood = false;
            }
            _ => {}
        }
        is_understood &= field.is_ok() && header.is_some();
        paths.extend(field.ok());
        headers.extend(header);
    }
    let all = told.headers().chain(headers.iter().map(String::as_str));
    let stripped: usize = all.map(spellings_of).sum();
    if stripped > STRIPPED_MAX {
        reader.error(
            path,
            format_args!(
                "the headers of all filters have {stripped} spellings with `-` and `_`, which are all removed: \
                 expected at most {STRIPPED_MAX}"
            ),
        );
        return None;
    }
    is_understood.then_some((paths, headers))
}

fn on_missing(reader: &mut Reader, given: &Fields<'_>) -> Option<OnMissingSession> {
    let Some((path, node)) = given.get_unless_null("on_missing") else { return Some(OnMissingSession::Anonymous) };
    if node.members().is_some() {
        return redirect(reader, path, node);
    }
    match (node.as_str(), whole_number(node)) {
        (Some("anonymous"), _) => Some(OnMissingSession::Anonymous),
        (_, Some(401)) => Some(OnMissingSession::Unauthorized),
        _ => {
            reader.expected(path, node, "`anonymous`, 401, or an object such as `{redirect: /login}`");
            None
        }
    }
}

/// `failure_mode` of filters that read what Redis keeps. None inside: nothing is said.
pub(super) fn fails_open(reader: &mut Reader, given: &Fields<'_>) -> Option<Option<bool>> {
    let Some((path, node)) = given.get_unless_null("failure_mode") else { return Some(None) };
    reader.choice(path, node, &[("open", true), ("closed", false)]).map(Some)
}

/// Which field says who it is. None inside: all of them have to be there.
fn user(reader: &mut Reader, given: &Fields<'_>, fields: &[FieldPath]) -> Option<Option<usize>> {
    let Some((path, node)) = given.get_unless_null("user") else { return Some(None) };
    let user = reader.text(path, node)?;
    let place = fields.iter().position(|field| field.to_string() == user);
    if place.is_none() {
        reader.expected(path, node, "one of `fields`");
    }
    place.map(Some)
}

/// The paths that need no session, the page to log in among them.
fn public(reader: &mut Reader, given: &Fields<'_>, on_missing: Option<&OnMissingSession>) -> Option<Vec<PublicPath>> {
    let page = match on_missing {
        Some(OnMissingSession::Redirect(page)) => page.split(['?', '#']).next().unwrap_or_default(),
        _ => "",
    };
    let page = Some(PublicPath { path: page.to_string(), is_prefix: false }).filter(|_| page.starts_with('/'));
    let mut public: Vec<PublicPath> = page.into_iter().collect();
    let Some((path, node)) = given.get_unless_null("public") else { return Some(public) };
    if on_missing == Some(&OnMissingSession::Anonymous) {
        reader.error(path, "has no use without `on_missing: 401` or a page: every request passes");
        return None;
    }
    let mut is_understood = true;
    for (path, node) in elements(&path, node) {
        let text = reader.text(path, node);
        let beginning = text.as_deref().and_then(|text| text.strip_suffix('*'));
        let is_prefix = beginning.is_some();
        match beginning.or(text.as_deref()) {
            Some(public_path)
                if is_plain_path(public_path.as_bytes()) && (!is_prefix || public_path.ends_with('/')) =>
            {
                public.push(PublicPath { path: public_path.to_string(), is_prefix });
            }
            Some(_) => {
                reader.expected(path, node, "a path such as `/login`, or how paths begin, such as `/assets/*`");
                is_understood = false;
            }
            None => is_understood = false,
        }
    }
    is_understood.then_some(public)
}

/// A page that is written out here: nothing of a request takes part in it.
fn redirect(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<OnMissingSession> {
    let given = reader.object(path, node, &known_fields::SESSION_ANSWER)?;
    let Some((path, node)) = given.get_unless_null("redirect") else {
        reader.error(given.at("redirect"), "is missing: expected a path such as `/login`, or a URL");
        return None;
    };
    let page = reader.text(path, node)?;
    let is_path = page.starts_with('/') && !page.starts_with("//") && !page.starts_with("/\\");
    let is_url = ["https://", "http://"].iter().any(|scheme| page.len() > scheme.len() && page.starts_with(scheme));
    if !(is_path || is_url) || !page.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader.expected(path, node, "a path such as `/login`, or a URL that begins with `https://`");
        return None;
    }
    Some(OnMissingSession::Redirect(page))
}

/// Where sessions are kept. None inside: in the cookie.
fn redis(
    reader: &mut Reader,
    services: &mut ServiceTable,
    given: &Fields<'_>,
    format: SessionFormat,
) -> Option<Option<u32>> {
    match (given.get_unless_null("redis"), format.record()) {
        (Some((path, node)), Some(_)) => service::read(reader, services, path, node).map(Some),
        (None, None) => Some(None),
        (Some((path, _)), None) => {
            reader.error(path, format_args!("has no use with `format: {}`, which stores nothing", format.as_str()));
            None
        }
        (None, Some(_)) => {
            reader.error(given.at("redis"), "is missing: expected where sessions are kept");
            None
        }
    }
}
