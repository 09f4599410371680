//! The systems that are compared, and how each is told to do the same.

use std::net::SocketAddr;

use slidegate_tests::{
    gateway_process::Gateway,
    program::{Program, free_address, installed},
    redis_server::RedisServer,
};

use crate::{
    gateway::{NARROW, WIDE, filter, serve},
    load::Target,
    upstream::Upstream,
};

/// How each counts, and what it does not do that ours does.
pub(super) const DIFFERENCES: [(&str, &str, &str); 5] = [
    ("slidegate", "exact or slotted sliding windows, in Redis or in memory", "HTTP/3"),
    (
        "nginx limit_req",
        "leaky bucket, in memory shared by the workers of one node",
        "a cluster; retry-after; limits in more than one window",
    ),
    (
        "Envoy local_ratelimit",
        "token bucket, one of each process for all users here",
        "a cluster; a limit for each user unless listed",
    ),
    (
        "limitador",
        "fixed windows (up to twice the limit around an edge), in memory here",
        "the proxy around it is the bench's; Redis is not measured",
    ),
    (
        "throttlecrab-server",
        "GCRA, in memory of one server",
        "a proxy: somebody has to ask it, one more hop; it is a single point",
    ),
];

/// What the limit does to the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdicts {
    Pass,
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    SlidegateOff,
    SlidegateLocal,
    SlidegateRedis,
    NginxOff,
    Nginx,
    EnvoyOff,
    Envoy,
    Limitador,
    Throttlecrab,
}

/// A system that serves.
pub(crate) struct Running {
    target: Target,
    _process: Process,
}

/// What an nginx is told beside what all of them are.
#[derive(Debug, Default)]
pub(crate) struct Nginx {
    /// Directives at the top of the file, within `http` and within the one location.
    pub(crate) main: String,
    pub(crate) http: String,
    pub(crate) location: String,
    /// One for each core if there is no number.
    pub(crate) workers: Option<usize>,
}

enum Process {
    Gateway { _gateway: Gateway },
    Program { _program: Program },
}

// === impl Verdicts ===

impl Verdicts {
    /// Requests of a user in an hour.
    pub(super) fn limit(self) -> u64 {
        match self {
            Self::Pass => WIDE,
            Self::Refuse => NARROW,
        }
    }
}

// === impl System ===

impl System {
    /// Those that can do this.
    pub(super) fn all(verdicts: Verdicts) -> impl Iterator<Item = System> {
        let all = [
            Self::SlidegateOff,
            Self::NginxOff,
            Self::EnvoyOff,
            Self::SlidegateLocal,
            Self::SlidegateRedis,
            Self::Nginx,
            Self::Envoy,
            Self::Limitador,
            Self::Throttlecrab,
        ];
        let is_off = |system: &System| matches!(system, Self::SlidegateOff | Self::NginxOff | Self::EnvoyOff);
        all.into_iter().filter(move |system| verdicts == Verdicts::Pass || !is_off(system))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SlidegateOff => "slidegate, no limit",
            Self::SlidegateLocal => "slidegate, in memory",
            Self::SlidegateRedis => "slidegate, in Redis",
            Self::NginxOff => "nginx, no limit",
            Self::Nginx => "nginx limit_req",
            Self::EnvoyOff => "Envoy, no limit",
            Self::Envoy => "Envoy local_ratelimit",
            Self::Limitador => "limitador in a proxy",
            Self::Throttlecrab => "throttlecrab-server, the decision alone",
        }
    }

    /// Whether there is no upstream behind it.
    pub(super) fn answers_alone(self) -> bool {
        self == Self::Throttlecrab
    }

    pub(super) fn start(self, verdicts: Verdicts, redis: &RedisServer, upstream: &Upstream) -> Running {
        let limit = verdicts.limit();
        let rules = filter::each(limit);
        match self {
            Self::SlidegateOff => Running::gateway(serve(redis, upstream, None, &[])),
            Self::SlidegateLocal => Running::gateway(serve(redis, upstream, Some(&filter::local(&rules)), &[])),
            Self::SlidegateRedis => {
                let filter = filter::in_redis(&rules, &format!("peers-{limit}"));
                Running::gateway(serve(redis, upstream, Some(&filter), &[]))
            }
            Self::NginxOff => Running::nginx(&Nginx::default(), upstream.address()),
            Self::Nginx => {
                let (rate, burst) = if verdicts == Verdicts::Pass { ("1000000r/s", 1_000_000) } else { ("1r/m", 1) };
                let nginx = Nginx {
                    http: format!("limit_req_zone $http_x_api_key zone=users:16m rate={rate}; limit_req_status 429;"),
                    location: format!("limit_req zone=users burst={burst} nodelay;"),
                    ..Nginx::default()
                };
                Running::nginx(&nginx, upstream.address())
            }
            Self::EnvoyOff => Running::envoy("", upstream),
            Self::Envoy => Running::envoy(&local_ratelimit(limit), upstream),
            Self::Limitador => {
                let address = free_address();
                let args = [address.to_string(), upstream.address().to_string(), limit.to_string(), "3600".to_owned()];
                let program =
                    Program::start(installed("limitador-proxy"), &args.each_ref().map(String::as_str), address, &[]);
                Running::proxy(program)
            }
            Self::Throttlecrab => Running::throttlecrab(limit),
        }
    }
}

// === impl Running ===

impl Running {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn gateway(gateway: Gateway) -> Self {
        Running { target: Target::gateway(&gateway), _process: Process::Gateway { _gateway: gateway } }
    }

    fn proxy(program: Program) -> Self {
        Running {
            target: Target::proxy(program.address(), program.id()),
            _process: Process::Program { _program: program },
        }
    }

    pub(crate) fn nginx(nginx: &Nginx, upstream: SocketAddr) -> Self {
        let address = free_address();
        let Nginx { main, workers, http, location } = nginx;
        let workers = workers.map_or_else(|| "auto".to_owned(), |workers| workers.to_string());
        let configuration = format!(
            "{main} daemon off; worker_processes {workers}; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path \
  scgi;
  {http}
  upstream behind {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{ {location} proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header connection ''; }}
  }}
}}
"
        );
        let args = ["-p", ".", "-e", "stderr", "-c", "nginx.conf"];
        Self::proxy(Program::start(installed("nginx"), &args, address, &[("nginx.conf", configuration)]))
    }

    /// A Varnish with so much memory, whose language says beside where its backend is what becomes of requests.
    pub(crate) fn varnish(memory: &str, more: &str, upstream: SocketAddr) -> Self {
        let address = free_address();
        let (host, port) = (upstream.ip(), upstream.port());
        let configuration =
            format!("vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{port}\"; }}\n{more}\n");
        // Its folder has to be named from the root.
        let start = "exec \"$0\" -F -j none -n \"$PWD/work\" -a \"$1\" -f \"$PWD/cache.vcl\" -s \"malloc,$2\"";
        let program = installed("varnishd");
        let program = program.to_str().expect("a path in UTF-8");
        let args = ["-c", start, program, &address.to_string(), memory];
        Self::proxy(Program::start("sh", &args, address, &[("cache.vcl", configuration)]))
    }

    fn envoy(filter: &str, upstream: &Upstream) -> Self {
        let address = free_address();
        let args = ["--concurrency", "2", "--log-level", "error", "--use-dynamic-base-id", "-c", "envoy.yaml"];
        let configuration = envoy_configuration(address, upstream.address(), filter);
        Self::proxy(Program::start(installed("envoy"), &args, address, &[("envoy.yaml", configuration)]))
    }

    fn throttlecrab(limit: u64) -> Self {
        let address = free_address();
        let port = address.port().to_string();
        let args = ["--http", "--http-host", "127.0.0.1", "--http-port", &port, "--log-level", "error"];
        let program = Program::start(installed("throttlecrab-server"), &args, address, &[]);
        let message = format!(
            "return wrk.format('POST', '/throttle', {{ ['content-type'] = 'application/json' }}, string.format('{}', \
             user))",
            throttle("user-%06d", limit)
        );
        Running {
            target: Target { address, process: program.id(), message, is_each_new: false },
            _process: Process::Program { _program: program },
        }
    }
}

/// What throttlecrab is asked, as JSON: the limit comes with every question.
pub(super) fn throttle(user: &str, limit: u64) -> String {
    format!(r#"{{"key":"{user}","max_burst":{limit},"count_per_period":{limit},"period":3600}}"#)
}

/// One bucket for all, since a bucket for each value of a header has to be listed.
fn local_ratelimit(limit: u64) -> String {
    // A bucket holds 32 bits.
    let tokens = limit.min(u64::from(u32::MAX));
    format!(
        "
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: bench
              token_bucket: {{max_tokens: {tokens}, tokens_per_fill: {tokens}, fill_interval: 3600s}}
              filter_enabled: {{default_value: {{numerator: 100}}}}
              filter_enforced: {{default_value: {{numerator: 100}}}}"
    )
}

fn envoy_configuration(address: SocketAddr, upstream: SocketAddr, filter: &str) -> String {
    let socket = |address: SocketAddr| {
        format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
    };
    format!(
        "static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: \
            behind}}}}]}}]
          http_filters:{filter}
          - name: envoy.filters.http.router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: behind
    load_assignment: {{cluster_name: behind, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]}}
",
        socket(address),
        socket(upstream)
    )
}
