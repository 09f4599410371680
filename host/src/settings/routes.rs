//! Routes in the file: which requests they take, and where those go.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use slidegate_document::{Fields, Node, Path as FieldPath, Reader};

use super::host_pattern::HostPattern;
use super::path::{AmbiguousPath, PathRules};
use super::tls::UpstreamTls;
use super::upstream::{Protocol, Upstream};
use super::words;

/// A route of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RouteSettings {
    /// What `_match_route_` sees. Empty for the one nameless upstream.
    pub(crate) name: String,
    pub(crate) host: HostPattern,
    pub(crate) path_prefix: String,
    /// One at least. They take turns.
    pub(crate) upstreams: Vec<Upstream>,
}

impl RouteSettings {
    /// The name that `_match_service_` is compared with: that of its first upstream.
    pub(crate) fn service_name(&self) -> &str {
        self.upstreams.first().map_or("", |upstream| &upstream.service_name)
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let mut shown = json!({
            "name": self.name,
            "host": self.host.to_string(),
            "path_prefix": self.path_prefix,
            "service": self.service_name(),
        });
        match self.upstreams.as_slice() {
            [upstream] => shown["upstream"] = json!(upstream.to_string()),
            upstreams => shown["upstreams"] = upstreams.iter().map(Upstream::to_string).collect(),
        }
        if let Some(tls) = self.upstreams.iter().find_map(|upstream| upstream.tls.as_deref()) {
            shown["upstream_tls"] = tls.shown();
        }
        shown
    }
}

/// How `https` upstreams are secured where nothing nearer says so.
struct TlsDefaults<'f> {
    folder: &'f Path,
    /// What stands beside `routes`.
    of_all: Option<Arc<UpstreamTls>>,
    /// Made when it is first needed.
    of_system: Option<Result<Arc<UpstreamTls>, String>>,
    is_needed: bool,
}

const NO_HTTPS: &str = "expected only with an upstream that says TLS, such as `https://host:port`";

/// Whether a file leads nowhere, and may: it has `decide`.
pub(super) fn are_left_out(top: &Fields<'_>) -> bool {
    let has = |field: &str| top.get_unless_null(field).is_some();
    has("decide") && !["upstream", "upstreams", "routes"].into_iter().any(has)
}

/// Either `routes`, or `upstream` or `upstreams` alone for one route to everything; or nothing beside `decide`.
pub(super) fn read(reader: &mut Reader, top: &Fields<'_>, rules: PathRules, folder: &Path) -> Vec<RouteSettings> {
    if are_left_out(top) {
        return Vec::new();
    }
    let mistakes_before = reader.errors_count();
    let of_all = UpstreamTls::read(reader, top, folder).map(Arc::new);
    let mut defaults = TlsDefaults { folder, of_all, of_system: None, is_needed: false };
    let has_upstreams = ["upstream", "upstreams"].iter().any(|field| top.get_unless_null(field).is_some());
    let routes = match (has_upstreams, top.get_unless_null("routes")) {
        (true, Some((path, list))) => {
            reader.error(path, "expected only one of `routes` and `upstream`, got both");
            read_upstreams(reader, top, None, &mut defaults);
            read_list(reader, path, list, rules, &mut defaults)
        }
        (false, None) => {
            reader.error(top.at("routes"), "is missing: expected an array of routes, or `upstream` with one URL");
            return Vec::new();
        }
        (true, None) => {
            let route = |upstreams| RouteSettings {
                name: String::new(),
                host: HostPattern::Any,
                path_prefix: "/".to_owned(),
                upstreams,
            };
            read_upstreams(reader, top, None, &mut defaults).map(route).into_iter().collect()
        }
        (false, Some((path, list))) => read_list(reader, path, list, rules, &mut defaults),
    };
    if let Some((path, _)) = top.get_unless_null("upstream_tls")
        && !defaults.is_needed
        && reader.errors_count() == mistakes_before
    {
        reader.error(path, NO_HTTPS);
    }
    routes
}

fn read_list(
    reader: &mut Reader,
    path: FieldPath<'_>,
    node: &Node,
    rules: PathRules,
    defaults: &mut TlsDefaults<'_>,
) -> Vec<RouteSettings> {
    let list = reader.collected(path, node, "an array with at least one route", |node| {
        node.elements().filter(|list| !list.is_empty())
    });
    let mut routes: Vec<RouteSettings> = Vec::new();
    for (index, node) in list.into_iter().flatten().enumerate() {
        let path = FieldPath::Element(&path, index);
        let mistakes_before = reader.errors_count();
        let Some(route) =
            reader.object(path, node, &words::ROUTE).and_then(|route| read_route(reader, &route, rules, defaults))
        else {
            continue;
        };
        // What could not be read stands as its default, and is not to be compared.
        if reader.errors_count() > mistakes_before {
            continue;
        }
        if let Some(twin) =
            routes.iter().find(|other| other.host == route.host && other.path_prefix == route.path_prefix)
        {
            let twin = words::quoted(&twin.name);
            reader.error(
                path,
                format_args!("has the same `host` and `path_prefix` as route {twin}, which would always win"),
            );
        }
        routes.push(route);
    }
    routes
}

fn read_route(
    reader: &mut Reader,
    route: &Fields<'_>,
    rules: PathRules,
    defaults: &mut TlsDefaults<'_>,
) -> Option<RouteSettings> {
    let name = reader.field(route, "name", Reader::text).unwrap_or_default();
    let host = reader.field(route, "host", |reader, path, node| {
        let expected = "`*`, a host name without port, or `*.` and a domain";
        reader.parsed(path, node, expected, |node| HostPattern::parse(node.as_str()?))
    });
    let path_prefix = reader.field(route, "path_prefix", |reader, path, node| {
        let prefix = reader.parsed(path, node, "a path that starts with `/`, without query", read_path_prefix)?;
        normal_prefix(reader, path, prefix, rules)
    });
    let mistakes_before = reader.errors_count();
    let own = UpstreamTls::read(reader, route, defaults.folder).map(Arc::new);
    let upstreams = read_upstreams(reader, route, own, defaults);
    let is_https = upstreams.iter().flatten().any(|upstream| upstream.protocol == Protocol::Https);
    if let Some((path, _)) = route.get_unless_null("upstream_tls")
        && !is_https
        && reader.errors_count() == mistakes_before
    {
        reader.error(path, NO_HTTPS);
    }
    let (host, path_prefix) = (host.unwrap_or(HostPattern::Any), path_prefix.unwrap_or_else(|| "/".to_owned()));
    Some(RouteSettings { name, host, path_prefix, upstreams: upstreams? })
}

fn read_path_prefix(node: &Node) -> Option<&str> {
    let text = node.as_str()?;
    let is_path =
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    is_path.then_some(text)
}

/// In the spelling that requests will have when they are compared with it.
fn normal_prefix(reader: &mut Reader, path: FieldPath<'_>, prefix: &str, rules: PathRules) -> Option<String> {
    match rules.read(prefix) {
        Ok(read) => Some(read.forwarded.into_owned()),
        Err(AmbiguousPath(reason)) => {
            reader.error(
                path,
                format_args!("got `{prefix}`, which no request can have with `normalize_path: {rules}`: {reason}"),
            );
            None
        }
    }
}

const URL: &str = "a URL such as `http://127.0.0.1:9001`";

/// `upstream`, or the list `upstreams`; with the TLS that is said nearest to it.
fn read_upstreams(
    reader: &mut Reader,
    fields: &Fields<'_>,
    own: Option<Arc<UpstreamTls>>,
    defaults: &mut TlsDefaults<'_>,
) -> Option<Vec<Upstream>> {
    match (fields.get_unless_null("upstream"), fields.get_unless_null("upstreams")) {
        (Some((one_path, url)), Some((path, list))) => {
            reader.error(path, "expected only one of `upstreams` and `upstream`, got both");
            read_upstream(reader, one_path, url, own.as_ref(), defaults);
            read_upstream_list(reader, path, list, own.as_ref(), defaults);
            None
        }
        (None, None) => {
            reader.error(fields.at("upstream"), format_args!("is missing: expected {URL}"));
            None
        }
        (Some((path, url)), None) => Some(vec![read_upstream(reader, path, url, own.as_ref(), defaults)?]),
        (None, Some((path, list))) => read_upstream_list(reader, path, list, own.as_ref(), defaults),
    }
}

fn read_upstream_list(
    reader: &mut Reader,
    path: FieldPath<'_>,
    node: &Node,
    own: Option<&Arc<UpstreamTls>>,
    defaults: &mut TlsDefaults<'_>,
) -> Option<Vec<Upstream>> {
    let list = reader.collected(path, node, "an array of URLs such as `http://127.0.0.1:9001`", |node| {
        node.elements().filter(|list| !list.is_empty())
    })?;
    let mistakes_before = reader.errors_count();
    let mut upstreams: Vec<Upstream> = Vec::new();
    for (index, url) in list.iter().enumerate() {
        let path = FieldPath::Element(&path, index);
        let Some(upstream) = read_upstream(reader, path, url, own, defaults) else { continue };
        match upstreams.contains(&upstream) {
            true => reader.error(path, format_args!("expected each upstream once, got `{upstream}` again")),
            false => upstreams.push(upstream),
        }
    }
    (reader.errors_count() == mistakes_before).then_some(upstreams)
}

fn read_upstream(
    reader: &mut Reader,
    path: FieldPath<'_>,
    node: &Node,
    own: Option<&Arc<UpstreamTls>>,
    defaults: &mut TlsDefaults<'_>,
) -> Option<Upstream> {
    let read = node.as_str().ok_or(URL).and_then(Upstream::parse);
    let mut upstream = read.map_err(|expected| reader.expected(path, node, expected)).ok()?;
    if upstream.protocol == Protocol::Https {
        match defaults.nearest(own) {
            Ok(tls) => upstream.tls = Some(tls),
            Err(reason) => reader.error(path, format_args!("cannot be trusted: {reason}")),
        }
    }
    Some(upstream)
}

impl TlsDefaults<'_> {
    fn nearest(&mut self, own: Option<&Arc<UpstreamTls>>) -> Result<Arc<UpstreamTls>, String> {
        if let Some(own) = own {
            return Ok(Arc::clone(own));
        }
        self.is_needed = true;
        match &self.of_all {
            Some(of_all) => Ok(Arc::clone(of_all)),
            None => self.of_system.get_or_insert_with(|| UpstreamTls::of_system().map(Arc::new)).clone(),
        }
    }
}
