//! A running gateway, asked through its admin port.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use slidegate::tls::{ALPN_HTTP1, ClientOptions, ClientTls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::purge_order::{PURGE_PATH, PURGE_REFUSAL, PurgeOrder};
use crate::settings::file::{self, Occasion};
use crate::settings::{Mistake, is_token, one_line};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer is no longer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where the token may stand.
const TOKEN_VARIABLE: &str = "SLIDEGATE_ADMIN_TOKEN";

/// Which gateway is asked, and as whom.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Ask a running gateway at its admin port, such as `http://127.0.0.1:9090`. Its token stands in the variable
    /// `SLIDEGATE_ADMIN_TOKEN` or in a file.
    #[arg(long, value_name = "ADMIN", value_parser = gateway_argument)]
    pub(super) gateway: Option<Uri>,
    /// The file with the gateway's token in it.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    token_file: Option<PathBuf>,
    /// With TLS: the authorities to believe, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    ca: Option<PathBuf>,
    /// With TLS: the certificate to show, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// With TLS: its key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

fn gateway_argument(text: &str) -> Result<Uri, &'static str> {
    let url: Option<Uri> = text.parse().ok();
    let is_one = |url: &Uri| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && matches!(url.path_and_query().map(|path| path.as_str()), None | Some("/"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    };
    url.filter(is_one).ok_or("expected a URL such as `http://127.0.0.1:9090`, without a path and without a password")
}

impl Remote {
    /// What is said wrongly, in a sentence.
    pub(super) fn misread(&self) -> Option<String> {
        let is_plain = self.gateway.as_ref().is_some_and(|gateway| gateway.scheme_str() == Some("http"));
        let has_tls = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        let reason = "expected `--ca`, `--cert` and `--key` only with a `--gateway` that begins with `https://`";
        (is_plain && has_tls).then(|| reason.to_owned())
    }
}

/// A gateway, and how it is reached.
pub(super) struct RemoteGateway {
    url: Uri,
    authorization: HeaderValue,
    tls: Option<ClientTls>,
}

impl RemoteGateway {
    /// # Errors
    /// There is no token, or a file cannot be used.
    pub(super) fn new(url: &Uri, remote: &Remote) -> Result<Self, Mistake> {
        let token = match &remote.token_file {
            Some(path) => {
                let text = String::from_utf8(read(path)?).map(|text| text.trim_end().to_owned()).unwrap_or_default();
                token(text)
                    .ok_or_else(|| Mistake::new(path.display().to_string(), "expected a file with a token in it"))?
            }
            None => std::env::var(TOKEN_VARIABLE).ok().and_then(token).ok_or_else(|| {
                let reason = "expected the gateway's token, `admin.token` of its settings, in the variable";
                Mistake::new("", format!("{reason} `{TOKEN_VARIABLE}` or in `--token-file`"))
            })?,
        };
        let tls = match url.scheme_str() {
            Some("https") => {
                let options = ClientOptions {
                    ca: remote.ca.as_deref().map(read).transpose()?,
                    certificate: remote.cert.as_deref().map(read).transpose()?,
                    key: remote.key.as_deref().map(read).transpose()?,
                    server_name: None,
                };
                let made = ClientTls::new(&options);
                Some(made.map_err(|error| Mistake::new(format!("--{}", error.field()), error.message()))?)
            }
            _ => None,
        };
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Mistake::new("", "the token is none"))?;
        authorization.set_sensitive(true);
        Ok(Self { url: url.clone(), authorization, tls })
    }

    /// Has it purge what is ordered. Returns by how many milliseconds its clock and its Redis' are apart, if that is
    /// much.
    ///
    /// # Errors
    /// It cannot be reached, is no gateway's admin port, or what it answers.
    pub(super) async fn purge(&self, order: &PurgeOrder) -> Result<Option<u64>, String> {
        // Whoever is there by a slip gets no token.
        let asked = self.request(Method::GET).body(Full::default()).map_err(|error| error.to_string())?;
        match self.sent(asked).await? {
            (StatusCode::METHOD_NOT_ALLOWED, text) if text.trim_end() == PURGE_REFUSAL => {}
            _ => return Err("what answers there is no gateway's admin port, or none that purges".to_owned()),
        }
        let request = self
            .request(Method::POST)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(order.to_json().to_string())));
        let request = request.map_err(|error| error.to_string())?;
        let (status, text) = self.sent(request).await?;
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_done = |field: &str, count: usize| told["purged"][field].as_u64() == u64::try_from(count).ok();
        match status == StatusCode::OK && is_done("urls", order.urls.len()) && is_done("tags", order.tags.len()) {
            true => Ok(told["clock_ms_apart"].as_u64()),
            false => Err(format!("it answered {}: {}", status.as_u16(), one_line(text.trim_end()))),
        }
    }

    fn request(&self, method: Method) -> Builder {
        let host = self.url.authority().map_or("", |authority| authority.as_str());
        Request::builder().method(method).uri(PURGE_PATH).header(HOST, host)
    }

    async fn sent(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), String> {
        let sent = timeout(PATIENCE, self.send(request)).await;
        sent.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), String> {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(&error))?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let secured = tls.with_alpn(&[ALPN_HTTP1]).connect(host, stream).await;
                exchange(secured.map_err(|error| unreachable(&error))?, request).await
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), String> {
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| unreachable(&error))?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = read.map_err(|error| unreachable(&error))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn unreachable(error: &dyn Display) -> String {
    format!("it cannot be asked: {}", one_line(&error.to_string()))
}

fn token(text: String) -> Option<String> {
    Some(text).filter(|text| is_token(text))
}

fn read(path: &Path) -> Result<Vec<u8>, Mistake> {
    file::read(path, Occasion::Start).map_err(|reason| Mistake::new(path.display().to_string(), reason))
}
