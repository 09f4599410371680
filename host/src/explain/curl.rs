//! A command for curl, as people and browsers write it: which request it makes.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::Method;
use hyper::header::{self, HeaderName, HeaderValue};

use super::said::{SaidRequest, method_said, url_said};
use crate::cache::header_argument;

/// Options with a value that says nothing of what limits look at.
const VALUED: [&str; 18] = [
    "--cacert",
    "--capath",
    "--cert",
    "--connect-timeout",
    "--connect-to",
    "--cookie-jar",
    "--interface",
    "--key",
    "--limit-rate",
    "--max-redirs",
    "--max-time",
    "--output",
    "--proxy",
    "--range",
    "--resolve",
    "--retry",
    "--unix-socket",
    "--write-out",
];

/// Short options with a value.
const SHORT_VALUED: &str = "ACDEFHKPQTUXYbcdehmortuwxyz";

/// Options whose value is the body, or a part of it.
const BODY: [&str; 6] = ["-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode"];

/// What a command for curl has said so far.
#[derive(Default)]
struct SaidToCurl {
    method: Option<Method>,
    url: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Parts of the body that are told in the command.
    data: Vec<String>,
    /// Its type, if there is a body.
    content_type: Option<&'static str>,
    is_head: bool,
    /// What would be the body goes to the URL.
    is_get: bool,
    is_upload: bool,
}

/// # Errors
/// It is no command for curl, or has something that is not known here.
pub(super) fn read(command: &str) -> Result<SaidRequest, String> {
    // Lines that go on, as browsers write them.
    let joined = command.replace("\\\r\n", " ").replace("\\\n", " ");
    let words = shlex::split(&plainly_quoted(&joined)?).ok_or(UNQUOTED)?;
    let mut words = words.into_iter().flat_map(split).peekable();
    if words.peek().is_some_and(|word| word == "curl" || word.ends_with("/curl")) {
        words.next();
    }
    let mut said = SaidToCurl::default();
    while let Some(word) = words.next() {
        said.take(word, &mut words)?;
    }
    said.request()
}

impl SaidToCurl {
    fn take(&mut self, word: String, words: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut value =
            || words.next().ok_or_else(|| format!("expected a value after `{word}` of the command for curl"));
        match word.as_str() {
            "-X" | "--request" => self.method = Some(method_said(&value()?)?),
            "-H" | "--header" => self.headers.extend(header_said(&value()?)?),
            "-A" | "--user-agent" => self.headers.push((header::USER_AGENT, field(&value()?)?)),
            "-e" | "--referer" => self.headers.push((header::REFERER, field(&value()?)?)),
            "-b" | "--cookie" => self.headers.push((header::COOKIE, field(&value()?)?)),
            "-u" | "--user" => self.headers.push((header::AUTHORIZATION, basic(&value()?)?)),
            "--oauth2-bearer" => {
                self.headers.push((header::AUTHORIZATION, field(&format!("Bearer {}", value()?))?));
            }
            "--url" => self.url = Some(value()?),
            "-I" | "--head" => self.is_head = true,
            "-G" | "--get" => self.is_get = true,
            "-T" | "--upload-file" => {
                value()?;
                self.is_upload = true;
            }
            "-F" | "--form" => {
                value()?;
                self.content_type = Some("multipart/form-data");
            }
            "--json" => {
                value()?;
                self.content_type = Some("application/json");
            }
            option if BODY.contains(&option) => {
                self.data.push(value()?);
                self.content_type.get_or_insert("application/x-www-form-urlencoded");
            }
            option if VALUED.contains(&option) || is_short_valued(option) => {
                value()?;
            }
            option if option.starts_with('-') && option.len() > 1 => {}
            _ if self.url.is_none() => self.url = Some(word),
            _ => return Err("expected one URL in the command for curl, got several".to_owned()),
        }
        Ok(())
    }

    fn request(mut self) -> Result<SaidRequest, String> {
        let url = self.url.ok_or("expected a URL in the command for curl")?;
        let mut url = if url.contains("://") || url.starts_with('/') { url } else { format!("http://{url}") };
        let mut implied = match self.content_type {
            _ if self.is_head => Method::HEAD,
            _ if self.is_upload => Method::PUT,
            Some(_) if !self.is_get => Method::POST,
            _ => Method::GET,
        };
        if self.is_get && !self.data.is_empty() {
            if self.data.iter().any(|part| part.starts_with('@')) {
                return Err("expected the query in the command for curl, got a file with it".to_owned());
            }
            let joint = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{joint}{}", self.data.join("&"));
            implied = if self.is_head { Method::HEAD } else { Method::GET };
        }
        if let (false, Some(content_type)) = (self.is_get, self.content_type)
            && !self.headers.iter().any(|(name, _)| name == header::CONTENT_TYPE)
        {
            self.headers.push((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        }
        Ok(SaidRequest { method: self.method.unwrap_or(implied), url: url_said(&url)?, headers: self.headers })
    }
}

const UNQUOTED: &str = "expected a command for curl, got one whose quotes do not end";

/// The same with quotes that every shell knows in place of `$'...'`, in which browsers write what is not plain.
///
/// # Errors
/// One of them does not end, or has an escape that is not known here.
fn plainly_quoted(command: &str) -> Result<String, String> {
    let (mut plain, mut rest) = (String::with_capacity(command.len()), command);
    // The quote that is open.
    let mut open = None;
    while let Some(first) = rest.chars().next() {
        if open.is_none()
            && let Some(quoted) = rest.strip_prefix("$'")
        {
            let (text, behind) = escaped(quoted)?;
            plain.push_str(&shlex::try_quote(&text).map_err(|_| "expected no zero byte in the command for curl")?);
            rest = behind;
            continue;
        }
        let length = match (first, open) {
            // What is behind it is no quote.
            ('\\', None | Some('"')) => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            _ => first.len_utf8(),
        };
        match (first, open) {
            ('\'' | '"', None) => open = Some(first),
            (quote, Some(other)) if quote == other => open = None,
            _ => {}
        }
        let (taken, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        plain.push_str(taken);
        rest = behind;
    }
    Ok(plain)
}

/// The text of `$'...'`, and what is behind it.
fn escaped(quoted: &str) -> Result<(String, &str), String> {
    let (mut text, mut characters) = (String::new(), quoted.chars());
    while let Some(character) = characters.next() {
        match character {
            '\'' => return Ok((text, characters.as_str())),
            '\\' => {
                let named = characters.next().ok_or(UNQUOTED)?;
                text.push(match named {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '\\' | '\'' | '"' | '?' => named,
                    'x' | 'u' | 'U' => {
                        let most = if named == 'x' {
                            2
                        } else if named == 'u' {
                            4
                        } else {
                            8
                        };
                        let digits: String =
                            characters.as_str().chars().take(most).take_while(char::is_ascii_hexdigit).collect();
                        characters = characters.as_str().get(digits.len()..).unwrap_or_default().chars();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        code.and_then(char::from_u32).ok_or("expected a character after an escape of `$'...'`")?
                    }
                    _ => return Err(format!("expected an escape in `$'...'` that is known here, got `\\{named}`")),
                });
            }
            _ => text.push(character),
        }
    }
    Err(UNQUOTED.to_owned())
}

fn is_short_valued(option: &str) -> bool {
    let mut characters = option.chars();
    let (dash, name, end) = (characters.next(), characters.next(), characters.next());
    dash == Some('-') && end.is_none() && name.is_some_and(|name| SHORT_VALUED.contains(name))
}

/// `--name=value` is two words, and `-sSXvalue` is `-s`, `-S`, `-X` and the value.
fn split(word: String) -> Vec<String> {
    if let Some((name, value)) = word.split_once('=').filter(|(name, _)| name.starts_with("--") && name.len() > 2) {
        return vec![name.to_owned(), value.to_owned()];
    }
    let Some(names) = word.strip_prefix('-').filter(|names| names.chars().count() > 1 && !names.starts_with('-'))
    else {
        return vec![word];
    };
    let (mut words, mut rest) = (Vec::new(), names.chars());
    while let Some(name) = rest.next() {
        words.push(format!("-{name}"));
        if SHORT_VALUED.contains(name) {
            words.extend(Some(rest.as_str().to_owned()).filter(|value| !value.is_empty()));
            break;
        }
    }
    words
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
        let headers = [
            "authorization: Basic bWU6c2VjcmV0",
            "user-agent: agent 1",
            "x-empty: ",
            "content-type: application/x-www-form-urlencoded",
        ];
        let headers = headers.map(str::to_owned).to_vec();
        assert_eq!(told(posted), ("PUT".to_owned(), "http://shop.test/x".to_owned(), headers));
        for (command, method) in [
            ("curl a.test", "GET"),
            ("curl -I a.test", "HEAD"),
            ("curl a.test --data-raw x", "POST"),
            ("curl -G a.test -d x=y", "GET"),
            ("curl --json '{}' a.test -o out -w '%{http_code}' -sSL", "POST"),
            ("curl -sSX DELETE a.test", "DELETE"),
            ("curl -sXPATCH a.test", "PATCH"),
            ("curl -T file a.test", "PUT"),
            ("curl -F a=b a.test", "POST"),
        ] {
            assert_eq!(told(command).0, method, "{command}");
        }
    }

    #[test]
    fn what_is_not_plain_is_read_as_a_shell_does() {
        let header = |command: &str| told(command).2.concat();
        assert_eq!(header(r"curl a.test -H $'x-api-key: a\u0021\x41\'b'"), "x-api-key: a!A'b");
        assert_eq!(header(r#"curl a.test -H "x: \"\$'" -b '$'"#), "x: \"$'cookie: $");
        assert_eq!(header("curl a.test --oauth2-bearer abc"), "authorization: Bearer abc");
        assert_eq!(header("curl a.test -d x"), "content-type: application/x-www-form-urlencoded");
        assert_eq!(header("curl a.test --json {} -H 'content-type: a/b'"), "content-type: a/b");
        assert_eq!(told("curl -G 'a.test/x?a=1' -d p=7 --data-urlencode q=8").1, "http://a.test/x?a=1&p=7&q=8");
        assert_eq!(told("curl -G a.test/x -d p=7").2, [""; 0]);
    }

    #[test]
    fn what_is_no_command_is_told() {
        for (command, told) in [
            ("curl 'a.test", "quotes"),
            ("curl $'a.test", "quotes"),
            (r"curl $'a\q'", "an escape"),
            (r"curl $'\uD800'", "a character"),
            ("curl -G a.test -d @file", "a file"),
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
