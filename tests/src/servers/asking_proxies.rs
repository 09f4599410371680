//! Proxies of others that ask a gateway for decisions, configured as its README shows it.

use std::{fs, net::SocketAddr};

use crate::{
    nginx::nginx,
    program::{Program, free_address, installed},
};

/// The ports that README's configurations have: of the gateway that decides, of the upstream, of the proxy.
const SHOWN: [&str; 3] = ["9191", "9001", "8000"];

/// Where proxies ask, and what they are in front of, each on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// The port of the gateway that decides.
    pub decide: u16,
    /// That of the upstream.
    pub upstream: u16,
}

/// The block of README that is marked so.
///
/// # Panics
///
/// When there is none.
pub fn shown(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/README.md");
    let readme = fs::read_to_string(path).expect("the gateway has a README");
    let block = readme.split_once(&format!("<!-- proxy: {name} -->\n```")).expect("a marked block").1;
    let block = block.split_once('\n').expect("a fence has a line").1;
    block.split_once("```").expect("a block ends").0.to_owned()
}

/// Envoy's configuration of README with another filter in the place of the one that asks in gRPC.
///
/// # Panics
///
/// When README's has not the form that this one knows.
pub fn envoy_with(filter: &str) -> String {
    let text = shown("envoy");
    let (before, rest) = text.split_once("                  - name: envoy.filters.http.ext_authz\n").expect("a filter");
    let after = &rest[rest.find("                  - name: envoy.filters.http.router").expect("a router")..];
    let lines = filter.lines().enumerate();
    let filter: String =
        lines.map(|(at, line)| format!("                  {} {line}\n", if at == 0 { "-" } else { " " })).collect();
    format!("{before}{filter}{after}")
}

/// The same with one that asks over HTTP, or none: without the settings of a route, which are of the one that asks in
/// gRPC, and without HTTP/2.
///
/// # Panics
///
/// When README's has not the form that this one knows.
pub fn envoy_over_http(filter: &str) -> String {
    let text = envoy_with(filter);
    let begin = text.find("                          typed_per_filter_config:").expect("settings of a route");
    let end = begin + text[begin..].find("                http_filters:").expect("filters");
    format!("{}{}", &text[..begin], &text[end..]).replace(
        "explicit_http_config: {http2_protocol_options: {}}",
        "explicit_http_config: {http_protocol_options: {}}",
    )
}

// === impl Surroundings ===

impl Surroundings {
    /// A configuration of README with the ports of here in it, for a proxy at this address.
    pub fn placed(&self, text: &str, proxy: SocketAddr) -> String {
        let ports = [self.decide, self.upstream, proxy.port()].map(|port| port.to_string());
        SHOWN.iter().zip(&ports).fold(text.to_owned(), |text, (shown, port)| text.replace(shown, port))
    }

    /// nginx with this within `http`.
    pub fn nginx(&self, text: &str) -> Program {
        nginx(|at| self.placed(text, at), &[])
    }

    /// Envoy, whose requests are answered by one thread.
    pub fn envoy(&self, text: &str) -> Program {
        let args = ["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
        self.start("envoy", &args, &[("envoy.yaml", text)])
    }

    /// Caddy with these sites.
    pub fn caddy(&self, text: &str) -> Program {
        let text = format!("{{\n\tadmin off\n\tpersist_config off\n}}\n{text}");
        self.start("caddy", &["run", "--config", "Caddyfile", "--adapter", "caddyfile"], &[("Caddyfile", &text)])
    }

    /// Traefik with this dynamic configuration. It listens before it has read where requests go.
    pub fn traefik(&self, text: &str) -> Program {
        let args = [
            "--entrypoints.web.address=127.0.0.1:8000",
            "--providers.file.filename=shop.yaml",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ];
        self.start("traefik", &args, &[("shop.yaml", text)])
    }

    /// HAProxy, with the Lua that README has for it beside it.
    pub fn haproxy(&self, text: &str) -> Program {
        let lua = shown("haproxy lua");
        self.start("haproxy", &["-db", "-f", "haproxy.cfg"], &[("haproxy.cfg", text), ("slidegate.lua", &lua)])
    }

    fn start(&self, program: &str, args: &[&str], files: &[(&str, &str)]) -> Program {
        let address = free_address();
        let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (*name, self.placed(text, address))).collect();
        let args: Vec<String> = args.iter().map(|arg| self.placed(arg, address)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Program::start(installed(program), &args, address, &files)
    }
}
