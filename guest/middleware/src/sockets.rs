//! Redis by the sockets of the host (`wasi:sockets`), with as many connections as calls are on their way. Names are
//! looked up by the host; there is no TLS.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use slidegate_engine::redis::{CallError, Reply, Service, resp};
use wasip3::{
    clocks::monotonic_clock,
    sockets::{
        ip_name_lookup,
        types::{IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket},
    },
    wit_bindgen::{StreamReader, StreamResult, StreamWriter},
    wit_stream,
};

use crate::{redis_world::RedisWorld, reply_frame::reply_length};

/// So many connections to a service are kept while they are not used.
const IDLE_MAX: usize = 64;

/// Longer replies are not taken.
const REPLY_MAX: usize = 16 << 20;

/// How much is read at once.
const PIECE: usize = 4 << 10;

/// The services that an instance has connections to.
#[derive(Default)]
pub(crate) struct SocketRedis {
    /// Connections on which nothing is on its way.
    idle: RefCell<BTreeMap<Service, Vec<SocketConnection>>>,
}

struct SocketConnection {
    replies: StreamReader<u8>,
    commands: StreamWriter<u8>,
    /// What is connected, which must not be let go before the rest.
    _socket: TcpSocket,
}

/// Why a connection is not to be used.
enum Unusable {
    /// Redis said so to the commands that begin one.
    Refused(String),
    Failed(CallError),
}

// === impl SocketRedis ===

impl RedisWorld for SocketRedis {
    async fn run(&self, service: &Service, command: Vec<u8>) -> Result<Reply, CallError> {
        let deadline_ns = monotonic_clock::now().saturating_add(u64::from(service.timeout_ms) * 1_000_000);
        let mut connection = match self.take_idle(service) {
            Some(connection) => connection,
            None => match until(deadline_ns, SocketConnection::open(service)).await {
                Some(Ok(connection)) => connection,
                Some(Err(Unusable::Refused(error))) => return Ok(Reply::Error(error)),
                Some(Err(Unusable::Failed(error))) => return Err(error),
                None => return Err(CallError::Connect),
            },
        };
        let reply = until(deadline_ns, connection.ask(command)).await.unwrap_or(Err(CallError::Timeout));
        let mut idle = self.idle.borrow_mut();
        let idle = idle.entry(service.clone()).or_default();
        match &reply {
            Ok(_) if idle.len() < IDLE_MAX => idle.push(connection),
            // What one finds out of a server that is gone, the others need not.
            Err(CallError::Disconnected) => idle.clear(),
            _ => {}
        }
        reply
    }
}

impl SocketRedis {
    fn take_idle(&self, service: &Service) -> Option<SocketConnection> {
        self.idle.borrow_mut().get_mut(service)?.pop()
    }
}

/// What comes of this until then.
async fn until<T>(deadline_ns: u64, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut alarm) = (pin!(work), pin!(monotonic_clock::wait_until(deadline_ns)));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
    })
    .await
}

// === impl SocketConnection ===

impl SocketConnection {
    async fn open(service: &Service) -> Result<Self, Unusable> {
        let socket = connected(service).await.ok_or(Unusable::Failed(CallError::Connect))?;
        let (commands, sent) = wit_stream::new();
        // Whatever becomes of either shows in the streams too.
        drop(socket.send(sent));
        let (replies, _) = socket.receive();
        let mut connection = SocketConnection { replies, commands, _socket: socket };
        for command in greeting(service) {
            match connection.ask(resp::encode(&command.into_iter().collect())).await {
                Ok(Reply::Error(error)) => return Err(Unusable::Refused(error)),
                Ok(_) => {}
                Err(error) => return Err(Unusable::Failed(error)),
            }
        }
        Ok(connection)
    }

    /// Sends a command and reads its reply, which must be all that comes.
    async fn ask(&mut self, command: Vec<u8>) -> Result<Reply, CallError> {
        if !self.commands.write_all(command).await.is_empty() {
            return Err(CallError::Disconnected);
        }
        let mut bytes = Vec::with_capacity(PIECE);
        let length = loop {
            let (result, read) = self.replies.read(bytes).await;
            bytes = read;
            match reply_length(&bytes) {
                Err(_) => return Err(CallError::Protocol),
                Ok(Some(length)) => break length,
                Ok(None) if bytes.len() > REPLY_MAX => return Err(CallError::TooLarge),
                Ok(None) if result == StreamResult::Dropped => return Err(CallError::Disconnected),
                Ok(None) => bytes.reserve(PIECE),
            }
        };
        if length != bytes.len() { Err(CallError::Protocol) } else { resp::decode(&bytes).ok_or(CallError::Protocol) }
    }
}

/// What a connection begins with.
fn greeting(service: &Service) -> Vec<Vec<String>> {
    let Service { username, password, database, .. } = service;
    let mut commands = Vec::new();
    match (username.is_empty(), password.is_empty()) {
        (_, true) => {}
        (true, false) => commands.push(vec!["AUTH".into(), password.clone()]),
        (false, false) => commands.push(vec!["AUTH".into(), username.clone(), password.clone()]),
    }
    if *database != 0 {
        commands.push(vec!["SELECT".into(), database.to_string()]);
    }
    commands
}

/// A socket that is connected to one of a service's addresses.
async fn connected(service: &Service) -> Option<TcpSocket> {
    let addresses = ip_name_lookup::resolve_addresses(service.service_name.clone()).await.ok()?;
    for address in addresses {
        let (family, address) = match address {
            IpAddress::Ipv4(address) => {
                let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: service.port, address });
                (IpAddressFamily::Ipv4, address)
            }
            IpAddress::Ipv6(address) => {
                let (flow_info, scope_id) = (0, 0);
                let address = Ipv6SocketAddress { port: service.port, flow_info, address, scope_id };
                (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
            }
        };
        if let Ok(socket) = TcpSocket::create(family)
            && socket.connect(address).await.is_ok()
        {
            return Some(socket);
        }
    }
    None
}
