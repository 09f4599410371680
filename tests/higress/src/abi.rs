//! The numbers of the Higress proxy-wasm ABI: statuses, enumerations, and what hooks return.

/// What a host call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// It is done.
    Ok = 0,
    /// No such thing.
    NotFound = 1,
    /// An argument that makes no sense, or a map that this phase does not have.
    BadArgument = 2,
    /// A message that is none.
    ParseFailure = 4,
    /// A range outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// An empty queue.
    Empty = 7,
    /// Somebody else wrote in between.
    CasMismatch = 8,
    /// It cannot be done now: no host to send to.
    InternalFailure = 10,
    /// A callout broke, as `proxy_get_status` tells it.
    BrokenConnection = 11,
}

/// Why a host call does not answer `Ok`.
#[derive(Debug)]
pub enum Fault {
    /// The guest is told.
    Status(Status),
    /// The guest's own allocator trapped, or the guest did what ends it.
    Trap(wasmtime::Error),
}

/// What host functions return before it becomes a number.
pub type Hostcall<T = ()> = Result<T, Fault>;

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Fault::Status(status)
    }
}

/// The version that a module exports, which decides what it may import and what its hooks' numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `proxy_abi_version_0_2_0`: older TinyGo.
    V0_2_0,
    /// `proxy_abi_version_0_2_1`: the upstream Rust SDK.
    V0_2_1,
    /// `proxy_abi_version_0_2_100`: Higress' own.
    V0_2_100,
}

impl Version {
    /// The version that an export stands for, if it is one of those.
    pub fn of_export(name: &str) -> Option<Option<Version>> {
        match name {
            // Higress would run it; none of its plugins has it, and its hooks have other signatures.
            "proxy_abi_version_0_1_0" => Some(None),
            "proxy_abi_version_0_2_0" => Some(Some(Version::V0_2_0)),
            "proxy_abi_version_0_2_1" => Some(Some(Version::V0_2_1)),
            "proxy_abi_version_0_2_100" => Some(Some(Version::V0_2_100)),
            _ => None,
        }
    }
}

/// Which header map a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    /// 0
    RequestHeaders,
    /// 1
    RequestTrailers,
    /// 2
    ResponseHeaders,
    /// 3
    ResponseTrailers,
    /// 4 and 5: of gRPC calls, which no cluster of this host answers.
    Grpc,
    /// 6
    HttpCallHeaders,
    /// 7
    HttpCallTrailers,
}

impl MapType {
    /// The map of this number.
    ///
    /// # Errors
    ///
    /// `BadArgument` above 7.
    pub fn read(number: u32) -> Hostcall<Self> {
        Ok(match number {
            0 => MapType::RequestHeaders,
            1 => MapType::RequestTrailers,
            2 => MapType::ResponseHeaders,
            3 => MapType::ResponseTrailers,
            4 | 5 => MapType::Grpc,
            6 => MapType::HttpCallHeaders,
            7 => MapType::HttpCallTrailers,
            _ => return Err(Status::BadArgument.into()),
        })
    }
}

/// Which buffer a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferType {
    /// 0
    RequestBody,
    /// 1
    ResponseBody,
    /// 2 and 3: of TCP filters, which an HTTP stream never has.
    Tcp,
    /// 4
    HttpCallBody,
    /// 5 and 8: of gRPC and of foreign calls, empty here.
    Nothing,
    /// 6
    VmConfiguration,
    /// 7
    PluginConfiguration,
    /// 9
    RedisReply,
}

impl BufferType {
    /// The buffer of this number.
    ///
    /// # Errors
    ///
    /// `BadArgument` above 9.
    pub fn read(number: u32) -> Hostcall<Self> {
        Ok(match number {
            0 => BufferType::RequestBody,
            1 => BufferType::ResponseBody,
            2 | 3 => BufferType::Tcp,
            4 => BufferType::HttpCallBody,
            5 | 8 => BufferType::Nothing,
            6 => BufferType::VmConfiguration,
            7 => BufferType::PluginConfiguration,
            9 => BufferType::RedisReply,
            _ => return Err(Status::BadArgument.into()),
        })
    }
}

/// The way a message goes through the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream, or from a filter that answers, to the client.
    Response,
}

/// What a header hook asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadersAction {
    /// On to the next filter.
    Continue,
    /// Held here; the body still comes to this filter.
    Stop,
    /// Held here with all that follows, which piles up.
    StopAllBuffer,
    /// Held here with all that follows, while the peer is slowed down.
    StopAllWatermark,
}

impl HeadersAction {
    /// What a hook of a module of this version means by a number.
    pub fn read(number: i32, version: Version) -> Self {
        match number {
            0 | 2 => HeadersAction::Continue,
            1 if version == Version::V0_2_100 => HeadersAction::Stop,
            3 => HeadersAction::StopAllBuffer,
            _ => HeadersAction::StopAllWatermark,
        }
    }
}

/// What a body hook asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyAction {
    /// On to the next filter.
    Continue,
    /// Held; the next call shows all that came so far.
    StopBuffer,
    /// Held; the next call shows the next piece.
    StopWatermark,
    /// Dropped: the filter has taken what it wanted.
    StopNoBuffer,
}

impl BodyAction {
    /// What a hook means by a number.
    pub fn read(number: i32) -> Self {
        match number {
            0 => BodyAction::Continue,
            1 => BodyAction::StopBuffer,
            2 => BodyAction::StopWatermark,
            _ => BodyAction::StopNoBuffer,
        }
    }
}

/// How bad a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5
    Critical,
}

impl LogLevel {
    /// The level of this number.
    ///
    /// # Errors
    ///
    /// `BadArgument` above 5.
    pub fn read(number: u32) -> Hostcall<Self> {
        Ok(match number {
            0 => LogLevel::Trace,
            1 => LogLevel::Debug,
            2 => LogLevel::Info,
            3 => LogLevel::Warn,
            4 => LogLevel::Error,
            5 => LogLevel::Critical,
            _ => return Err(Status::BadArgument.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_from_a_header_hook_stops_all_but_in_modules_of_higress_own_version() {
        assert_eq!(HeadersAction::read(1, Version::V0_2_1), HeadersAction::StopAllWatermark);
        assert_eq!(HeadersAction::read(1, Version::V0_2_0), HeadersAction::StopAllWatermark);
        assert_eq!(HeadersAction::read(1, Version::V0_2_100), HeadersAction::Stop);
        assert_eq!(HeadersAction::read(77, Version::V0_2_100), HeadersAction::StopAllWatermark);
        assert_eq!(BodyAction::read(77), BodyAction::StopNoBuffer);
    }
}
