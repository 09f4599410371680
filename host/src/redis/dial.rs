//! A TCP connection to whichever address of a name answers (Happy Eyeballs, RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// How long one address may stay without an answer before the next one is tried beside it (RFC 8305). Short, as an
/// attempt to connect has a second for all of them.
const STAGGER: Duration = Duration::from_millis(50);

/// Connects to the first address of this name that answers; the name is resolved anew each time.
///
/// # Errors
///
/// The name has no address, or none of them takes a connection; then what the last one said.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect();
    match addresses.as_slice() {
        [address] => TcpStream::connect(address).await,
        _ => race(by_turns(addresses), TcpStream::connect).await,
    }
}

/// Families in turns, so that a family that leads nowhere costs one step.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_of_first =
        |address: &SocketAddr| addresses.first().is_some_and(|first| first.is_ipv6() == address.is_ipv6());
    let (firsts, others): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_of_first);
    let longest = firsts.len().max(others.len());
    (0..longest).flat_map(|index| [firsts.get(index), others.get(index)]).flatten().copied().collect()
}

/// Begins with the first, and with the next whenever one has failed or taken long; the first that succeeds wins.
async fn race<S: Send + 'static, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut addresses = addresses.into_iter();
    let (mut attempts, mut problem) = (JoinSet::new(), None);
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(connect(address));
        }
        let ended = match addresses.len() {
            0 => attempts.join_next().await,
            _ => match tokio::time::timeout(STAGGER, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => problem = Some(error),
            Some(Err(_)) => {}
            None => {
                return Err(
                    problem.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Port 1 never answers, 2 refuses, 3 is slow, all others connect.
    async fn answer(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            1 => std::future::pending().await,
            2 => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            3 => tokio::time::sleep(STAGGER * 3).await,
            _ => {}
        }
        Ok(address.port())
    }

    async fn winner(ports: &[u16]) -> Result<u16, io::ErrorKind> {
        let race = race(ports.iter().map(|port| address(*port)).collect(), answer);
        tokio::time::timeout(Duration::from_secs(20), race).await.expect("it ends").map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn an_address_that_is_dead_or_refuses_hides_no_other() {
        assert_eq!(winner(&[1, 4]).await, Ok(4));
        assert_eq!(winner(&[2, 4]).await, Ok(4));
        assert_eq!(winner(&[1, 2, 1, 1, 4]).await, Ok(4));
        assert_eq!(winner(&[3, 1, 2]).await, Ok(3), "one that is slow is waited for");
        assert_eq!(winner(&[2, 2]).await, Err(io::ErrorKind::ConnectionRefused));
        assert_eq!(winner(&[]).await, Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn families_take_turns() {
        let v6 = |port| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
        assert_eq!(by_turns(vec![v6(1), v6(2), v6(3), address(4)]), [v6(1), address(4), v6(2), v6(3)]);
        assert_eq!(by_turns(vec![address(1), v6(2), v6(3)]), [address(1), v6(2), v6(3)]);
        assert_eq!(by_turns(Vec::new()), []);
    }

    #[tokio::test]
    async fn a_name_is_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // On most machines this name has ::1 too, where nobody listens.
        assert_eq!(connect("localhost", port).await.unwrap().peer_addr().unwrap().port(), port);
    }
}
