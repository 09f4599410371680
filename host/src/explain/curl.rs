//! A command for curl, as people and browsers write it: which request it makes.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::Method;
use hyper::header::{self, HeaderName, HeaderValue};

use super::said::{SaidRequest, method_said, url_said};
use crate::cache::header_argument;

/// Options with a value that says nothing of what limits look at.
const VALUED: [&str; 22] = [
    "--cacert",
    "--capath",
    "--cert",
    "--connect-timeout",
    "--connect-to",
    "--key",
    "--max-redirs",
    "--max-time",
    "--output",
    "--proxy",
    "--resolve",
    "--retry",
    "--write-out",
    "-E",
    "-c",
    "-m",
    "-o",
    "-w",
    "-x",
    "--cookie-jar",
    "--interface",
    "--limit-rate",
];

/// Options whose value is the body, or a part of it.
const BODY: [&str; 9] =
    ["-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode", "--json", "-F", "--form"];

/// # Errors
/// It is no command for curl, or has something that is not known here.
pub(super) fn read(command: &str) -> Result<SaidRequest, String> {
    // Lines that go on, as browsers write them.
    let joined = command.replace("\\\r\n", " ").replace("\\\n", " ");
    let words = shlex::split(&joined).ok_or("expected a command for curl, got one whose quotes do not end")?;
    let mut words = words.into_iter().flat_map(split).peekable();
    if words.peek().is_some_and(|word| word == "curl" || word.ends_with("/curl")) {
        words.next();
    }
    let (mut method, mut url, mut headers, mut has_body, mut is_head) = (None, None, Vec::new(), false, false);
    while let Some(word) = words.next() {
        let mut value =
            || words.next().ok_or_else(|| format!("expected a value after `{word}` of the command for curl"));
        match word.as_str() {
            "-X" | "--request" => method = Some(method_said(&value()?)?),
            "-H" | "--header" => headers.extend(header_said(&value()?)?),
            "-A" | "--user-agent" => headers.push((header::USER_AGENT, field(&value()?)?)),
            "-e" | "--referer" => headers.push((header::REFERER, field(&value()?)?)),
            "-b" | "--cookie" => headers.push((header::COOKIE, field(&value()?)?)),
            "-u" | "--user" => headers.push((header::AUTHORIZATION, basic(&value()?)?)),
            "--url" => url = Some(value()?),
            "-I" | "--head" => is_head = true,
            "-G" | "--get" => method = Some(Method::GET),
            option if BODY.contains(&option) => {
                value()?;
                has_body = true;
            }
            option if VALUED.contains(&option) => {
                value()?;
            }
            option if option.starts_with('-') && option.len() > 1 => {}
            _ if url.is_none() => url = Some(word),
            _ => return Err("expected one URL in the command for curl, got several".to_owned()),
        }
    }
    let url = url.ok_or("expected a URL in the command for curl")?;
    let url = if url.contains("://") || url.starts_with('/') { url } else { format!("http://{url}") };
    let implied = if is_head {
        Method::HEAD
    } else if has_body {
        Method::POST
    } else {
        Method::GET
    };
    Ok(SaidRequest { method: method.unwrap_or(implied), url: url_said(&url)?, headers })
}

/// `--name=value` and `-Xvalue` are two words.
fn split(word: String) -> Vec<String> {
    const SHORT: [&str; 7] = ["-X", "-H", "-A", "-e", "-b", "-u", "-d"];
    if let Some((name, value)) = word.split_once('=').filter(|(name, _)| name.starts_with("--") && name.len() > 2) {
        return vec![name.to_owned(), value.to_owned()];
    }
    match SHORT.iter().find(|short| word.starts_with(**short) && word.len() > 2) {
        Some(short) => vec![(*short).to_owned(), word[2..].to_owned()],
        None => vec![word],
    }
}

/// A header, if there is one: `name:` takes one away that curl would send, and `name;` is one without a value.
fn header_said(text: &str) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    if let Some(name) = text.strip_suffix(';').filter(|name| !name.contains(':')) {
        return Ok(Some(header_argument(&format!("{name}:"))?));
    }
    let (name, value) = header_argument(text)?;
    Ok(Some((name, value)).filter(|(_, value)| !value.is_empty()))
}

fn field(text: &str) -> Result<HeaderValue, String> {
    text.parse().map_err(|_| "expected text that a header may have, after an option of curl".to_owned())
}

fn basic(user: &str) -> Result<HeaderValue, String> {
    field(&format!("Basic {}", BASE64_STANDARD.encode(user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(command: &str) -> (String, String, Vec<String>) {
        let SaidRequest { method, url, headers } = read(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        let shown = |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        (method.to_string(), url.to_string(), headers.iter().map(shown).collect())
    }

    #[test]
    fn what_curl_would_send_is_read() {
        let browser =
            "curl 'https://shop.test/a?b=c d' \\\n  -H 'x-api-key: a \"b\"' \\\n  -b 'id=7; x=y' --compressed";
        assert!(read(browser).unwrap_err().contains("expected a URL"), "a space is no part of one");
        let browser = browser.replace("c d", "c%20d");
        let headers = ["x-api-key: a \"b\"", "cookie: id=7; x=y"].map(str::to_owned).to_vec();
        assert_eq!(told(&browser), ("GET".to_owned(), "https://shop.test/a?b=c%20d".to_owned(), headers));
        let posted = "/usr/bin/curl -XPUT --url=shop.test/x -d '{\"a\": 1}' -u me:secret -A 'agent 1' -H 'accept:' -H 'x-empty;'";
        let headers =
            ["authorization: Basic bWU6c2VjcmV0", "user-agent: agent 1", "x-empty: "].map(str::to_owned).to_vec();
        assert_eq!(told(posted), ("PUT".to_owned(), "http://shop.test/x".to_owned(), headers));
        for (command, method) in [
            ("curl a.test", "GET"),
            ("curl -I a.test", "HEAD"),
            ("curl a.test --data-raw x", "POST"),
            ("curl -G a.test -d x=y", "GET"),
            ("curl --json '{}' a.test -o out -w '%{http_code}' -sSL", "POST"),
        ] {
            assert_eq!(told(command).0, method, "{command}");
        }
    }

    #[test]
    fn what_is_no_command_is_told() {
        for (command, told) in [
            ("curl 'a.test", "quotes"),
            ("curl", "a URL"),
            ("curl a.test b.test", "several"),
            ("curl -H", "a value after `-H`"),
            ("curl -H nothing a.test", "a header such as"),
            ("curl -X 'A B' a.test", "a method"),
            ("curl ftp://a.test", "expected a URL"),
        ] {
            let error = read(command).expect_err(command);
            assert!(error.contains(told), "{command}: {error}");
        }
    }
}
