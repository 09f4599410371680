//! Who connects to a demo's upstream.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// So long nobody is accepted after that failed.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Hands over every connection, for ever.
pub(super) async fn each(listener: TcpListener, serve: impl Fn(TcpStream)) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => serve(socket),
            // Without descriptors it would fail again at once, and those who could give some back have to run.
            Err(_) => sleep(ACCEPT_REST).await,
        }
    }
}
