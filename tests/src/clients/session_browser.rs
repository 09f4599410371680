//! A client that keeps cookies, as a browser does for one host.

use std::collections::BTreeMap;

use super::http_client::Answer;
use crate::gateway_process::Gateway;

/// Cookies by their names.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Asks for a page, with what it has kept, and keeps what it is given.
    pub fn get(&mut self, gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie = pairs.join("; ");
        let own = (!cookie.is_empty()).then_some(("cookie", cookie.as_str()));
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain(own).collect();
        let answer = gateway.client().get(path, &headers);
        for (name, value) in &answer.head.headers {
            if name == "set-cookie" {
                self.set(&String::from_utf8_lossy(value));
            }
        }
        answer
    }

    /// What it keeps under a name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Keeps this, whoever gave it.
    pub fn keep(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    fn set(&mut self, cookie: &str) {
        let mut parts = cookie.split(';');
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        if parts.any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0")) {
            self.cookies.remove(name);
        } else {
            self.keep(name, value);
        }
    }
}
