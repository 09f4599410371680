//! Connections as a filter has them, and what they are asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slidegate::{CallError, Command, RedisConnection, RedisDirectory, RedisService, RedisTransport, Reply, Value};

pub(crate) fn service(timeout_ms: u32) -> RedisService {
    RedisService {
        service_name: "redis.test".to_owned(),
        port: 6379,
        username: String::new(),
        password: String::new(),
        timeout_ms,
        database: 0,
    }
}

pub(crate) fn connection(url: &str, timeout_ms: u32) -> Arc<dyn RedisConnection> {
    let mut directory = RedisDirectory::new();
    directory.insert_any(url).unwrap();
    directory.open(&service(timeout_ms))
}

pub(crate) fn command(words: &[&str]) -> Command {
    words.iter().collect()
}

pub(crate) fn status(text: &str) -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Status(text.to_owned())))
}

pub(crate) fn integer(number: i64) -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Integer(number)))
}

/// The answer to the first PING that gets one.
pub(crate) async fn once_connected(redis: &Arc<dyn RedisConnection>) -> Result<Reply, CallError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match redis.call(command(&["PING"])).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(10)).await,
            reply => return reply,
        }
    }
}
