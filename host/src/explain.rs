//! `slidegate explain`: what a request would meet, by a file and, if one is named, by its Redis.

mod curl;
mod said;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use slidegate::Module;

use self::said::{SaidRequest, method_said, url_said};
use crate::cache::header_argument;
use crate::gateway::command_runtime;
use crate::gateway::explanation::{self, Foreseen, RequestMet};
use crate::output::{self, OutputFormat};
use crate::settings::Mistake;
use crate::settings::source::{Overrides, SettingsSource};
use crate::subject::{Subject, UnusableFile};

/// The request would be answered before it reaches its upstream.
const ANSWERED: u8 = 3;

/// What becomes of it depends on a Redis that was not asked.
const DEPENDS: u8 = 4;

/// Which request, by which file.
#[derive(Debug, Args)]
#[command(override_usage = "slidegate explain [OPTIONS] <FILE> [METHOD] <URL>\n       \
                            slidegate explain [OPTIONS] <FILE> --curl <COMMAND>")]
pub(crate) struct ExplainCommand {
    /// A gateway's settings, a filter's document, or resources of Kubernetes with plugins.
    file: PathBuf,
    /// The method, GET if none is said, and the URL as a client asks for it; a path alone is one of `localhost`.
    #[arg(value_name = "METHOD, URL", num_args = 0..=2, conflicts_with = "curl")]
    request: Vec<String>,
    /// A header of the request. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header_argument)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: IpAddr,
    /// The request as a command for curl, in quotes, as browsers copy it.
    #[arg(long, value_name = "COMMAND")]
    curl: Option<String>,
    /// Ask this Redis how the limits stand, in place of each that the file names. It is only read.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How to tell it.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

impl ExplainCommand {
    /// What is said wrongly, in a sentence.
    pub(crate) fn misread(&self) -> Option<String> {
        self.said().err()
    }

    /// Prints what the request would meet.
    pub(crate) fn run(&self, module: &Module) -> ExitCode {
        let source = SettingsSource { file: self.file.clone(), overrides: self.overrides() };
        let told = self.met(&source, module).and_then(|met| {
            let told = match self.output {
                OutputFormat::Text => met.text(),
                OutputFormat::Json => format!("{:#}\n", met.json()),
            };
            output::print(&told).map_err(|mistake| vec![mistake]).map(|()| met.foreseen())
        });
        match told {
            Ok(Foreseen::Passes) => ExitCode::SUCCESS,
            Ok(Foreseen::Answered) => ExitCode::from(ANSWERED),
            Ok(Foreseen::Depends) => ExitCode::from(DEPENDS),
            Err(mistakes) => {
                UnusableFile { file: source.name(), mistakes }.tell();
                ExitCode::FAILURE
            }
        }
    }

    fn overrides(&self) -> Overrides {
        Overrides { has_redis: self.redis.is_some(), ..Overrides::default() }
    }

    fn met(&self, source: &SettingsSource, module: &Module) -> Result<RequestMet, Vec<Mistake>> {
        let single = |reason: String| vec![Mistake::new("", reason)];
        let parts = self.said().and_then(SaidRequest::parts).map_err(single)?;
        let subject = Subject::read(source, module)?;
        let runtime = command_runtime()?;
        let serving = subject.serving(module, runtime.handle(), self.redis.clone())?;
        let client = SocketAddr::new(self.from, 0);
        let asked = explanation::explain(&serving, parts, client, self.redis.is_some());
        runtime.block_on(asked).map_err(|reason| single(serving.settings.environment.hide(&reason)))
    }

    /// # Errors
    /// What is none, in a sentence.
    fn said(&self) -> Result<SaidRequest, String> {
        let mut said = match (&self.curl, self.request.as_slice()) {
            (Some(command), _) => curl::read(command)?,
            (None, [url]) => SaidRequest { method: Method::GET, url: url_said(url)?, headers: Vec::new() },
            (None, [method, url]) => {
                SaidRequest { method: method_said(method)?, url: url_said(url)?, headers: Vec::new() }
            }
            (None, _) => return Err("expected the URL of a request, or `--curl COMMAND`, got neither".to_owned()),
        };
        said.headers.extend(self.headers.iter().cloned());
        Ok(said)
    }
}
