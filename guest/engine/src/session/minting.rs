//! Cookies for sessions that begin.

use alloc::{format, string::String, vec::Vec};

use super::{own, own_signer::OwnSigner, source::SessionSource};

/// Makes the ids of Slidegate's own sessions, and the cookies with them.
#[derive(Debug)]
pub(crate) struct SessionMint {
    cookie: String,
    signer: OwnSigner,
}

/// What every cookie is sent with: no script reads it, and no other site's form sends it along.
const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Lax";

impl SessionMint {
    /// For the cookie of this name, and records under these keys. The first secret signs.
    pub(crate) fn new(cookie: &str, key_prefix: &str, secrets: &[String]) -> SessionMint {
        let source = SessionSource::Cookie(String::from(cookie));
        SessionMint { cookie: String::from(cookie), signer: OwnSigner::new(&source, key_prefix, secrets) }
    }

    /// The id of a session of this user, and the cookie to set.
    pub(crate) fn mint(&self, user: &str, random: [u8; 16]) -> (Vec<u8>, Vec<u8>) {
        let id = own::new_id(user, random);
        let value = self.signer.signed(&id);
        let cookie = [self.cookie.as_bytes(), b"=", &value, b"; ", ATTRIBUTES.as_bytes()].concat();
        (id, cookie)
    }

    /// What takes the cookie from a browser.
    pub(crate) fn removal(&self) -> Vec<u8> {
        format!("{}=; Max-Age=0; {ATTRIBUTES}", self.cookie).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;
    use crate::session::{
        FieldPath, SessionFormat, SessionLead, SessionMiss, SessionReader, SessionSettings, SessionSource,
    };

    fn reader(secrets: &[&str]) -> SessionReader {
        SessionReader::new(&SessionSettings {
            format: SessionFormat::Own,
            source: SessionSource::Cookie("sid".into()),
            key_prefix: "s:".into(),
            secrets: secrets.iter().map(ToString::to_string).collect(),
            max_age_s: 0,
            fields: vec![FieldPath::parse("user").unwrap()],
        })
    }

    #[test]
    fn the_cookie_leads_to_the_record_under_every_secret_that_is_kept() {
        let mint = SessionMint::new("sid", "s:", &["new".to_string(), "old".to_string()]);
        let (id, cookie) = mint.mint("alice", [7; 16]);
        let text = String::from_utf8(cookie).unwrap();
        assert!(text.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{text}");
        let pair = text.split(';').next().unwrap();
        for secrets in [&["new"][..], &["newer", "new"]] {
            let reader = reader(secrets);
            let key = reader.key(&id);
            assert!(key.starts_with(b"s:{") && !key.windows(8).any(|part| id.windows(8).any(|other| other == part)));
            assert_eq!(reader.lead([pair.as_bytes()], 0), Ok(SessionLead::Key(key)));
        }
        // Nor does another application of the same secret take it, be it that of another cookie or of other keys.
        for (name, key_prefix) in [("sid", "t:"), ("sie", "s:"), ("sid", "")] {
            let (_, cookie) = SessionMint::new(name, key_prefix, &["new".to_string()]).mint("alice", [7; 16]);
            let text = String::from_utf8(cookie).unwrap().replace("sie=", "sid=");
            let lead = reader(&["new"]).lead([text.split(';').next().unwrap().as_bytes()], 0);
            assert_eq!(lead, Err(SessionMiss::WrongSignature), "{name} {key_prefix}");
        }
        assert_eq!(reader(&["old"]).lead([pair.as_bytes()], 0), Err(SessionMiss::WrongSignature));
        assert_eq!(mint.removal(), b"sid=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax");
    }

    #[test]
    fn what_the_secret_signed_that_is_no_id_leads_nowhere() {
        let mint = SessionMint::new("sid", "s:", &["new".to_string()]);
        for id in ["", "x", "{}:of:x", "AAAAAAAAAAAAAAAAAAAAAAAAAAA*"] {
            let cookie = [b"sid=".to_vec(), mint.signer.signed(id.as_bytes())].concat();
            assert_eq!(reader(&["new"]).lead([&cookie[..]], 0), Err(SessionMiss::Malformed), "{id}");
        }
    }
}
