//! `slidegate init`: a file to begin with, with comments. What is asked for on the command line stands in it.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use slidegate::RedisDirectory;

use crate::output;
use crate::settings::secret::url_shown;
use crate::settings::{Mistake, address_argument};

/// What to write, and where to.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// What the limits go by, or what else it is for.
    #[arg(long = "for", value_name = "KIND", value_enum, default_value = "api-keys")]
    kind: Template,
    /// The file to write. One that is there stays as it is. `-` is standard output.
    #[arg(default_value = "gateway.yaml")]
    file: PathBuf,
    /// Where the gateway listens.
    #[arg(long, value_name = "ADDRESS", value_parser = address_argument)]
    listen: Option<SocketAddr>,
    /// Where its admin port is.
    #[arg(long, value_name = "ADDRESS", value_parser = address_argument)]
    admin: Option<SocketAddr>,
    /// The Redis that it counts in, or keeps pages in.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How many threads serve requests [default: one a core].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Template {
    /// A limit for each API key, and a small one for requests without.
    ApiKeys,
    /// A limit for each address.
    Addresses,
    /// Limits on the tokens of language models, for each API key of their providers.
    Llm,
    /// A limit for each user of an application, by the sessions that it keeps in Redis.
    Session,
    /// Pages that are kept in Redis for all gateways, and outlive their backend.
    Cache,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::ApiKeys => include_str!("init/api-keys.yaml"),
            Self::Addresses => include_str!("init/addresses.yaml"),
            Self::Llm => include_str!("init/llm.yaml"),
            Self::Session => include_str!("init/session.yaml"),
            Self::Cache => include_str!("init/cache.yaml"),
        }
    }

    /// What it says of what stands behind the gateway.
    fn behind(self) -> &'static str {
        match self {
            Self::ApiKeys | Self::Addresses | Self::Session | Self::Cache => {
                "its `upstream` is what stands behind the gateway"
            }
            Self::Llm => "its `routes` lead to OpenAI, Anthropic and Google themselves, with the keys of your clients",
        }
    }
}

impl Init {
    /// The file as messages call it.
    pub(crate) fn file_name(&self) -> String {
        self.file.display().to_string()
    }

    /// The template with its own name in its head, and with what was asked for in place of its own values.
    fn text(&self) -> String {
        let name = if self.file.as_os_str() == "-" { "FILE".to_owned() } else { shell_word(&self.file) };
        let asked = [
            ("listen", self.listen.map(|address| address.to_string())),
            ("admin", self.admin.map(|address| address.to_string())),
            ("redis", self.redis.as_deref().map(quoted)),
        ];
        let mut text = String::new();
        for line in self.kind.text().lines() {
            let field = line.trim_start_matches('#').split_once(": ").map_or("", |(field, _)| field);
            match asked.iter().find_map(|(name, value)| value.as_ref().filter(|_| *name == field)) {
                Some(value) => text.push_str(&format!("{field}: {value}\n")),
                None if line.starts_with("# ") => text.push_str(&format!("{}\n", line.replace("FILE", &name))),
                None => text.push_str(&format!("{line}\n")),
            }
            if let Some(workers) = self.workers.filter(|_| field == "admin") {
                text.push_str(&format!("workers: {workers}\n"));
            }
        }
        text
    }
}

/// Writes the file, and tells what to do with it.
///
/// # Errors
/// It is there already, or cannot be written; or what should stand in it is no URL of a Redis.
pub(crate) fn run(init: &Init) -> Result<(), Mistake> {
    if init.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        let message = "expected a name that ends in `.yaml`: what is written has comments, which JSON has no place for";
        return Err(Mistake::new("", message));
    }
    if let Some(url) = &init.redis {
        let usable = RedisDirectory::new().insert_any(url);
        usable.map_err(|error| Mistake::new("--redis", error.message()))?;
    }
    let text = init.text();
    if init.file.as_os_str() == "-" {
        return output::print(&text);
    }
    let is_secret = init.redis.as_ref().is_some_and(|url| url_shown(url) != *url);
    create(&init.file, &text, is_secret).map_err(|reason| Mistake::new("", reason))?;
    let file = shell_word(&init.file);
    output::print(&format!(
        "{} is written; {}. Next:\n\n  slidegate check {file}\n  slidegate serve {file}\n",
        init.file_name(),
        init.kind.behind()
    ))
}

/// Writes a file that is not there yet, which nobody else on this machine may read if it is secret.
fn create(file: &Path, text: &str, is_secret: bool) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if is_secret {
        for_the_owner(&mut options);
    }
    let mut created = options.open(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            "is there already, and stays as it is; name another file, or `-` to see what would be in it".to_owned()
        }
        _ => format!("cannot be made: {error}"),
    })?;
    created.write_all(text.as_bytes()).map_err(|error| format!("cannot be written: {error}"))
}

#[cfg(unix)]
fn for_the_owner(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn for_the_owner(_: &mut OpenOptions) {}

/// A text as YAML writes it between quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A path as a shell takes it.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "/._-+".contains(each);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_stands_in_the_file() {
        for kind in Template::value_variants() {
            let nothing =
                Init { kind: *kind, file: "a b.yaml".into(), listen: None, admin: None, redis: None, workers: None };
            let plain = nothing.text();
            // Sessions are read from Redis, whether limits are counted there or not, and pages are kept nowhere else.
            let redis = if matches!(kind, Template::Session | Template::Cache) {
                "\nredis: redis://"
            } else {
                "\n#redis: redis://"
            };
            assert!(plain.contains("serve 'a b.yaml' ") && plain.contains(redis), "{plain}");
            let text = Init {
                file: "-".into(),
                listen: Some(([0, 0, 0, 0], 80).into()),
                redis: Some("redis://h/?x=\"#".to_owned()),
                workers: Some(3),
                ..nothing
            }
            .text();
            for line in ["listen: 0.0.0.0:80", "admin: 127.0.0.1:9090 ", "workers: 3", r##"redis: "redis://h/?x=\"#""##]
            {
                assert_eq!(text.lines().filter(|each| each.starts_with(line)).count(), 1, "{line} in {text}");
            }
        }
    }

    #[test]
    fn names_of_files_are_words_for_a_shell() {
        let words = [("gate.yaml", "gate.yaml"), ("it's", r"'it'\''s'"), ("a;b", "'a;b'"), ("", "''")];
        words.iter().for_each(|(path, word)| assert_eq!(shell_word(Path::new(path)), *word));
    }
}
