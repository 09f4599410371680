//! Redis behind the gateway's two host calls: how a service is told to the gateway, which calls are out, and what their
//! replies are.
//!
//! The gateway keeps one client for each cluster and worker, whoever configures it; the last one wins. It has no pool,
//! matches replies to commands by their order, and closes the connection, with all that wait on it, when one of them
//! takes too long.

mod client;

use std::collections::VecDeque;

use slidegate_engine::redis::{CallError, Command, Reply, Service, resp};

use self::client::Client;
use crate::gateway::{Gateway, Level};

/// Longer replies are not looked at; those of the engine's script have some twenty bytes for each limit.
const REPLY_MAX: u32 = 1 << 20;

/// So many commands may wait for replies. More do only when the gateway does not tell what became of them.
const CALLS_MAX: usize = 16_384;

/// A command that got no reply in twice its time limit and this long is given up: the gateway connects first, in its
/// cluster's time, and the limit counts anew from each reply that others get.
const CONNECT_NS: u64 = 30_000_000_000;

/// The services of a configuration and the calls that are out.
#[derive(Debug)]
pub struct Redis {
    clients: Vec<Client>,
    /// The client of each of the engine's services.
    services: Vec<usize>,
    /// In the order sent, in which replies come too, but for those of several clients.
    calls: VecDeque<SentCommand>,
    next_id: u64,
    lines: Vec<(Level, String)>,
}

/// A command on its way.
#[derive(Debug)]
struct SentCommand {
    /// The gateway's name for it.
    token: u32,
    /// The engine's name for it, which stays when the token changes.
    id: u64,
    client: usize,
    query: Vec<u8>,
    sent_ns: u64,
    /// It was sent a second time, after Redis asked for a password.
    again: bool,
}

impl Redis {
    /// Tells the gateway of every service, each cluster and database once.
    pub fn new(gateway: &impl Gateway, services: &[Service]) -> Self {
        let mut redis =
            Redis { clients: Vec::new(), services: Vec::new(), calls: VecDeque::new(), next_id: 0, lines: Vec::new() };
        for service in services {
            let client = Client::new(service);
            redis.warn_of_conflicts(&client);
            let known = redis.clients.iter_mut().position(|each| each.is_same_database(&client));
            let at = known.unwrap_or(redis.clients.len());
            match redis.clients.get_mut(at) {
                Some(earlier) => *earlier = client,
                None => redis.clients.push(client),
            }
            redis.services.push(at);
        }
        for client in &mut redis.clients {
            redis.lines.extend(client.init(gateway).err().and_then(|status| client.note(Some(status))));
        }
        redis
    }

    /// The gateway would use the later one's options for both.
    fn warn_of_conflicts(&mut self, client: &Client) {
        if let Some(other) = self.clients.iter().find(|other| other.is_same_cluster(client) && !other.is_same(client)) {
            let message = format!(
                "{other} and {client}: the gateway keeps one client for a cluster, so what was configured last holds \
                 for both"
            );
            self.lines.push((Level::Warn, message));
        }
    }

    /// Sends a command and returns the name that its reply will have.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn send(
        &mut self,
        gateway: &impl Gateway,
        service: u32,
        command: &Command,
        now_ns: u64,
    ) -> Result<u64, CallError> {
        let service = usize::try_from(service).map_err(|_| CallError::UnknownService)?;
        let at = *self.services.get(service).ok_or(CallError::UnknownService)?;
        let client = self.clients.get_mut(at).ok_or(CallError::UnknownService)?;
        if self.calls.len() >= CALLS_MAX {
            return Err(CallError::Timeout);
        }
        let query = resp::encode(command);
        let sent = client.call(gateway, &query);
        self.lines.extend(client.note(sent.err()));
        let token = sent.map_err(|_| CallError::Connect)?;
        let id = self.next_id;
        self.next_id += 1;
        self.calls.push_back(SentCommand { token, id, client: at, query, sent_ns: now_ns, again: false });
        Ok(id)
    }

    /// A reply has arrived, or word that there is none. Returns which call that settles: none if the token is unknown,
    /// or if the command was sent again.
    pub fn on_reply(
        &mut self,
        gateway: &impl Gateway,
        token: u32,
        status: u32,
        size: u32,
        now_ns: u64,
    ) -> Option<(u64, Result<Reply, CallError>)> {
        let at = self.calls.iter().position(|call| call.token == token)?;
        let call = self.calls.remove(at)?;
        let id = call.id;
        if status != 0 {
            let error = self
                .clients
                .get_mut(call.client)
                .map_or(CallError::Disconnected, |client| client.why_lost(call.sent_ns, now_ns));
            return Some((id, Err(error)));
        }
        if size > REPLY_MAX {
            return Some((id, Err(CallError::TooLarge)));
        }
        let reply = gateway.redis_reply(size).as_deref().and_then(resp::decode);
        if reply.as_ref().is_some_and(wants_password) && self.send_again(gateway, call, now_ns) {
            return None;
        }
        Some((id, reply.ok_or(CallError::Protocol)))
    }

    /// Redis refused to run the command for want of a password, so it cannot be charged twice: another plugin may have
    /// configured this cluster without ours.
    fn send_again(&mut self, gateway: &impl Gateway, call: SentCommand, now_ns: u64) -> bool {
        let Some(client) = self.clients.get_mut(call.client) else { return false };
        if call.again || !client.renew(gateway, now_ns) {
            return false;
        }
        let Ok(token) = client.call(gateway, &call.query) else { return false };
        self.calls.push_back(SentCommand { token, again: true, sent_ns: now_ns, ..call });
        true
    }

    /// The calls that no reply is expected for any more.
    pub fn take_overdue(&mut self, now_ns: u64) -> Vec<u64> {
        let mut overdue = Vec::new();
        let clients = &self.clients;
        self.calls.retain(|call| {
            let patience_ns = clients.get(call.client).map_or(0, Client::timeout_ns) * 2 + CONNECT_NS;
            let is_overdue = now_ns.saturating_sub(call.sent_ns) > patience_ns;
            if is_overdue {
                overdue.push(call.id);
            }
            !is_overdue
        });
        overdue
    }

    /// Every call that is out.
    pub fn take_all(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.calls).into_iter().map(|call| call.id).collect()
    }

    /// What there is to be logged.
    pub fn take_lines(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.lines)
    }
}

/// Redis takes commands of up to ten parts from strangers, to say that it wants a password; longer ones it does not
/// even read.
fn wants_password(reply: &Reply) -> bool {
    let is_meant =
        |text: &str| ["NOAUTH", "ERR Protocol error: unauthenticated"].iter().any(|begin| text.starts_with(begin));
    matches!(reply, Reply::Error(text) if is_meant(text))
}
