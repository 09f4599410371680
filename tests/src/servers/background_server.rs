//! What servers that are not processes have in common: a thread with a runtime of its own.

use std::{
    net::{SocketAddr, TcpListener as StdTcpListener},
    thread::{self, JoinHandle},
};

use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};

/// A server on a thread of its own. Dropping it stops it, and cuts what it has begun.
#[derive(Debug)]
pub struct BackgroundServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundServer {
    /// Has a free port of this machine served until the server is dropped.
    ///
    /// # Panics
    ///
    /// When there is no port or no thread to be had.
    pub fn start_anywhere<F: Future<Output = ()>>(serve: impl FnOnce(TcpListener) -> F + Send + 'static) -> Self {
        BackgroundServer::start(StdTcpListener::bind("127.0.0.1:0").expect("a free port"), serve)
    }

    /// Has this listener served until the server is dropped.
    ///
    /// # Panics
    ///
    /// When there is no thread to be had.
    pub fn start<F: Future<Output = ()>>(
        listener: StdTcpListener,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Self {
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener can be registered");
                tokio::select! {
                    () = serve(listener) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        BackgroundServer { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for BackgroundServer {
    fn drop(&mut self) {
        // Both fail only if it stopped by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
