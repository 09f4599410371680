//! `slidegate cache`: what is stored of responses, and what is to be void of it; by a file's Redis, or through a
//! running gateway.

mod remote;
mod stored;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use slidegate::Module;
use tokio::runtime::Runtime;

use self::remote::{Remote, RemoteGateway};
pub(crate) use self::stored::header_argument;
use crate::gateway::{Serving, Workshop, command_runtime, kept};
use crate::output::{self, OutputFormat};
use crate::purge_order::{PurgeOrder, url_of_page};
use crate::settings::Mistake;
use crate::settings::file::Occasion;
use crate::settings::source::{Overrides, SettingsSource};

/// What is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Void what is stored of URLs or has tags, in every gateway with the same Redis: of URLs at once, by tags within a
    /// second.
    Purge(PurgeCommand),
    /// Tell what is stored for a URL, as a gateway with this file would look for it: never a body.
    Get(GetCommand),
}

/// What is looked for.
#[derive(Debug, Args)]
pub(crate) struct GetCommand {
    /// A gateway's settings.
    file: PathBuf,
    /// As clients ask for it.
    #[arg(value_parser = url_of_page)]
    url: Uri,
    /// A header of the request, where the response varies by it or the key has it. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = stored::header_argument)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Stands for the Redis of the file.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How to tell what is stored.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

/// What is to be void, and who is told.
#[derive(Debug, Args)]
#[command(override_usage = "slidegate cache purge [OPTIONS] <FILE> [URL]...\n       \
                            slidegate cache purge [OPTIONS] --gateway <ADMIN> [URL]...")]
pub(crate) struct PurgeCommand {
    /// A gateway's settings, whose Redis is told; and URLs as clients ask for them. With `--gateway` URLs alone.
    #[arg(value_name = "FILE, URL")]
    words: Vec<String>,
    /// Void whatever the backend gave this tag. May be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    remote: Remote,
    /// Stands for the Redis of the file.
    #[arg(long, value_name = "URL", conflicts_with = "gateway")]
    redis: Option<String>,
    /// How to tell what was done.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

impl CacheCommand {
    /// What is said wrongly, in a sentence.
    pub(crate) fn misread(&self) -> Option<String> {
        match self {
            Self::Purge(purge) => purge.misread(),
            Self::Get(_) => None,
        }
    }

    /// What is read, as messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Purge(purge) => match &purge.remote.gateway {
                Some(gateway) => gateway.to_string(),
                None => purge.source().name(),
            },
            Self::Get(get) => get.source().name(),
        }
    }

    /// # Errors
    /// What is wrong with the file, or could not be done.
    pub(crate) fn run(&self, module: &Module) -> Result<(), Vec<Mistake>> {
        match self {
            Self::Purge(purge) => purge.run(module),
            Self::Get(get) => get.run(module),
        }
    }
}

impl GetCommand {
    fn source(&self) -> SettingsSource {
        source(self.file.clone(), self.redis.as_deref())
    }

    fn run(&self, module: &Module) -> Result<(), Vec<Mistake>> {
        let (serving, runtime) = serving(&self.source(), module, self.redis.clone())?;
        let headers = self.headers.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name.clone(), value.clone());
            headers
        });
        let found = runtime
            .block_on(stored::find(&serving, &self.url, &headers))
            .map_err(|error| vec![Mistake::new("", serving.settings.environment.hide(&error.told()))])?;
        let told = match self.output {
            OutputFormat::Text => found.text(),
            OutputFormat::Json => format!("{:#}\n", found.json()),
        };
        output::print(&told).map_err(|mistake| vec![mistake])
    }
}

impl PurgeCommand {
    fn misread(&self) -> Option<String> {
        if self.remote.gateway.is_none() && self.words.is_empty() {
            return Some("expected a gateway's settings, a FILE, or `--gateway ADMIN`, got neither".to_owned());
        }
        self.order().err().or_else(|| self.remote.misread())
    }

    fn source(&self) -> SettingsSource {
        source(self.words.first().map(PathBuf::from).unwrap_or_default(), self.redis.as_deref())
    }

    fn order(&self) -> Result<PurgeOrder, String> {
        let urls = match self.remote.gateway {
            Some(_) => &self.words[..],
            None => self.words.get(1..).unwrap_or_default(),
        };
        PurgeOrder::new(urls, self.tags.clone())
    }

    fn run(&self, module: &Module) -> Result<(), Vec<Mistake>> {
        let single = |reason: String| vec![Mistake::new("", reason)];
        let order = self.order().map_err(single)?;
        match &self.remote.gateway {
            Some(gateway) => {
                let remote = RemoteGateway::new(gateway, &self.remote).map_err(|mistake| vec![mistake])?;
                if let Some(apart_ms) = command_runtime()?.block_on(remote.purge(&order)).map_err(single)? {
                    let what = "what it stored meanwhile may not be void; set its clock";
                    output::tell(format_args!("its clock is {apart_ms} ms apart from its Redis': {what}"));
                }
            }
            None => {
                let (serving, runtime) = serving(&self.source(), module, self.redis.clone())?;
                let purged = runtime.block_on(kept::purge(&serving, module, &order, None, |_| {}));
                purged.map_err(|error| single(serving.settings.environment.hide(&error.told())))?;
            }
        }
        let (urls, tags) = (order.urls.len(), order.tags.len());
        let done = match self.output {
            OutputFormat::Text => format!("purged: {urls} by URL, {tags} by tag\n"),
            OutputFormat::Json => format!("{:#}\n", json!({"purged": {"urls": urls, "tags": tags}})),
        };
        output::print(&done).map_err(|mistake| vec![mistake])
    }
}

fn source(file: PathBuf, redis: Option<&str>) -> SettingsSource {
    let overrides = Overrides { has_redis: redis.is_some(), ..Overrides::default() };
    SettingsSource { file, overrides }
}

/// What a file leads to, without serving it; and what it lives on.
fn serving(
    source: &SettingsSource,
    module: &Module,
    redis: Option<String>,
) -> Result<(Serving, Runtime), Vec<Mistake>> {
    let bytes = source.read(Occasion::Start).map_err(|mistake| vec![mistake])?;
    let (settings, runtime) = (source.parse(&bytes, module)?, command_runtime()?);
    let workshop = Workshop::new(module.clone(), vec![runtime.handle().clone()], None, redis);
    Ok((workshop.make(settings, None)?, runtime))
}
