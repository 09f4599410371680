//! nginx, as Debian has it.

use std::net::SocketAddr;

use crate::program::{Program, free_address, installed};

/// Starts one that has this within `http`, for the address that it is to serve at, and these files beside it. Requests
/// are answered by one process.
///
/// # Panics
///
/// When it does not start.
pub fn nginx(http: impl Fn(SocketAddr) -> String, files: &[(&str, String)]) -> Program {
    let mut attempts = 0;
    loop {
        let address = free_address();
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 1m;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path \
  scgi;
  {}
}}
",
            http(address)
        );
        let files = [&[("nginx.conf", configuration)], files].concat();
        let args = ["-p", ".", "-e", "stderr", "-c", "nginx.conf"];
        match Program::try_start(installed("nginx"), &args, address, &files, Some("nginx.pid")) {
            Ok(nginx) => return nginx,
            // Somebody else may have taken the port meanwhile.
            Err(reason) => assert!(attempts < 3, "{reason}"),
        }
        attempts += 1;
    }
}
