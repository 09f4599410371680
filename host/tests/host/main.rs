//! The host library against a component of a few hundred bytes that does everything a component may
//! do, and much that it may not; and against a real Redis.

mod fixture;
mod instance;
mod redis_changes;
mod redis_client;
mod redis_connection;
mod redis_server;
mod redis_status;
mod reexports;
mod worker;
