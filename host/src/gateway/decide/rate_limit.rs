//! Envoy's rate limit service: `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`. Of its messages there is
//! what a decision needs.

use std::net::SocketAddr;

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use slidegate::{Header, HeaderEdit};

use super::asked::AskedRequest;
use super::decision::{PassedRequest, RefusedRequest};
use super::envoy_messages::ProtoHeader;
use super::forwarded::address;
use super::grpc::GrpcError;
use super::quota::ToldQuota;
use crate::gateway::admission::{Caller, RouteNames};

/// The key of an entry with the client's address, and that of one with the route's name. All others are headers.
const REMOTE_ADDRESS: &str = "remote_address";
const GENERIC_KEY: &str = "generic_key";

/// The most descriptors of a call: each may be a decision.
const DESCRIPTORS_MAX: usize = 64;

/// The most that one call counts: each time is a decision.
const HITS_MAX: u64 = 100;

/// `RateLimitRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitCall {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) descriptors: Vec<RateLimitDescriptor>,
    /// 0 stands for 1.
    #[prost(uint32, tag = "3")]
    pub(super) hits_addend: u32,
}

/// `RateLimitDescriptor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitDescriptor {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<DescriptorEntry>,
    /// Another limit than the configured one.
    #[prost(message, optional, tag = "2")]
    pub(super) limit: Option<()>,
    /// In place of that of the whole call.
    #[prost(message, optional, tag = "3")]
    pub(super) hits_addend: Option<u64>,
}

/// `RateLimitDescriptor.Entry`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DescriptorEntry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `RateLimitResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitAnswer {
    #[prost(int32, tag = "1")]
    pub(super) overall_code: i32,
    /// One for each descriptor.
    #[prost(message, repeated, tag = "2")]
    pub(super) statuses: Vec<DescriptorStatus>,
    #[prost(message, repeated, tag = "3")]
    pub(super) response_headers_to_add: Vec<ProtoHeader>,
    #[prost(message, repeated, tag = "4")]
    pub(super) request_headers_to_add: Vec<ProtoHeader>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) raw_body: Vec<u8>,
}

/// `RateLimitResponse.DescriptorStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DescriptorStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) current_limit: Option<CurrentLimit>,
    #[prost(uint32, tag = "3")]
    pub(super) limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    pub(super) duration_until_reset: Option<ProtoDuration>,
}

/// `RateLimitResponse.RateLimit`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CurrentLimit {
    #[prost(uint32, tag = "1")]
    pub(super) requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    pub(super) unit: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoDuration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

const UNKNOWN: i32 = 0;
const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// What a call asks.
#[derive(Debug)]
pub(super) struct AskedLimits {
    /// How many descriptors it has.
    pub(super) descriptors: usize,
    pub(super) questions: Vec<LimitQuestion>,
}

/// One request that stands for some of the descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LimitQuestion {
    domain: String,
    /// How often it is asked.
    hits: u64,
    entries: Vec<DescriptorEntry>,
    /// Their places.
    descriptors: Vec<usize>,
}

/// What to ask the filter. Descriptors that say nothing different under one key are one request, so that all its limits
/// are charged together or none.
///
/// # Errors
/// It asks for what is not counted here.
pub(super) fn asked(call: RateLimitCall) -> Result<AskedLimits, GrpcError> {
    if call.descriptors.is_empty() {
        return Err(GrpcError::invalid("a call for limits has no descriptor"));
    }
    if call.descriptors.len() > DESCRIPTORS_MAX {
        return Err(GrpcError::invalid("a call for limits has more than 64 descriptors"));
    }
    let hits_of_call = u64::from(call.hits_addend.max(1));
    if call.descriptors.iter().any(|descriptor| descriptor.limit.is_some()) {
        return Err(GrpcError::invalid("limit: a descriptor brings no limits of its own here"));
    }
    let descriptors = call.descriptors.len();
    let mut questions: Vec<LimitQuestion> = Vec::new();
    for (place, descriptor) in call.descriptors.into_iter().enumerate() {
        if descriptor.entries.is_empty() {
            return Err(GrpcError::invalid("a descriptor has no entry"));
        }
        let hits = descriptor.hits_addend.unwrap_or(hits_of_call);
        if !(1..=HITS_MAX).contains(&hits) {
            return Err(GrpcError::invalid("hits_addend: a call counts here from 1 to 100 times"));
        }
        let fitting =
            questions.iter_mut().find(|question| question.hits == hits && question.takes(&descriptor.entries));
        let question = match fitting {
            Some(question) => question,
            None => {
                let (entries, descriptors) = (Vec::new(), Vec::new());
                questions.push(LimitQuestion { domain: call.domain.clone(), hits, entries, descriptors });
                let Some(question) = questions.last_mut() else { continue };
                question
            }
        };
        for entry in descriptor.entries {
            if !question.entries.contains(&entry) {
                question.entries.push(entry);
            }
        }
        question.descriptors.push(place);
    }
    Ok(AskedLimits { descriptors, questions })
}

impl LimitQuestion {
    /// Whether nothing that it says contradicts these.
    fn takes(&self, entries: &[DescriptorEntry]) -> bool {
        let contradicts = |entry: &DescriptorEntry| {
            self.entries.iter().any(|own| own.key.eq_ignore_ascii_case(&entry.key) && own.value != entry.value)
        };
        !entries.iter().any(contradicts)
    }

    /// It, as often as it counts.
    pub(super) fn each_time(&self) -> impl Iterator<Item = &Self> {
        (0..self.hits).map(move |_| self)
    }

    /// The request that stands for it.
    ///
    /// # Errors
    /// There cannot be such a request.
    pub(super) fn request(&self, caller: Caller) -> Result<AskedRequest, GrpcError> {
        let (mut parts, ()) = Request::new(()).into_parts();
        let mut client = caller.client;
        let mut names = None;
        for DescriptorEntry { key, value } in &self.entries {
            match key.as_str() {
                REMOTE_ADDRESS => {
                    let told = std::str::from_utf8(value).ok().and_then(address);
                    let told = told.ok_or_else(|| GrpcError::invalid("remote_address is no address"))?;
                    client = SocketAddr::new(told, 0);
                }
                GENERIC_KEY => {
                    let route = String::from_utf8_lossy(value).into_owned();
                    names = Some(RouteNames { route, service: String::new() });
                }
                key => {
                    let field = HeaderName::from_bytes(key.as_bytes()).ok().zip(HeaderValue::from_bytes(value).ok());
                    let (name, value) = field.ok_or_else(|| GrpcError::invalid("an entry is no header"))?;
                    parts.headers.append(name, value);
                }
            }
        }
        let domain = HeaderValue::from_str(&self.domain).map_err(|_| GrpcError::invalid("the domain is no host"))?;
        parts.headers.insert(header::HOST, domain);
        Ok(AskedRequest { parts, client, is_secure: false, names })
    }
}

impl RateLimitAnswer {
    /// One to so many descriptors, on which nothing is decided yet.
    pub(super) fn of(descriptors: usize) -> Self {
        let statuses = vec![DescriptorStatus { code: UNKNOWN, ..DescriptorStatus::default() }; descriptors];
        Self { overall_code: OK, statuses, ..Self::default() }
    }

    /// What was decided on some of them.
    pub(super) fn add(&mut self, question: &LimitQuestion, decided: Result<PassedRequest, RefusedRequest>) {
        let code = if decided.is_ok() { OK } else { OVER_LIMIT };
        let headers = match &decided {
            Ok(passed) => &passed.response,
            Err(refused) => &refused.parts.headers,
        };
        let status = DescriptorStatus::new(code, ToldQuota::of(headers));
        for place in &question.descriptors {
            if let Some(told) = self.statuses.get_mut(*place) {
                told.clone_from(&status);
            }
        }
        match decided {
            Ok(passed) => {
                // Of two that say the same, the later one is nearer to the truth.
                self.response_headers_to_add.retain(|told| !passed.response.contains_key(told.key.as_str()));
                self.response_headers_to_add.extend(proto_headers(&passed.response));
                self.request_headers_to_add = passed.request.into_iter().filter_map(of_edit).collect();
            }
            Err(refused) => {
                self.overall_code = OVER_LIMIT;
                // What others said who would have let it pass is no more.
                self.response_headers_to_add = proto_headers(&refused.parts.headers).collect();
                self.request_headers_to_add = Vec::new();
                self.raw_body = refused.body.to_vec();
            }
        }
    }
}

impl DescriptorStatus {
    fn new(code: i32, quota: ToldQuota) -> Self {
        let most = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let unit = match quota.window {
            Some(1) => 1,
            Some(60) => 2,
            Some(3_600) => 3,
            Some(86_400) => 4,
            _ => UNKNOWN,
        };
        Self {
            code,
            current_limit: quota.limit.map(|limit| CurrentLimit { requests_per_unit: most(limit), unit }),
            limit_remaining: quota.remaining.map_or(0, most),
            duration_until_reset: quota
                .reset
                .map(|reset| ProtoDuration { seconds: i64::try_from(reset).unwrap_or(i64::MAX) }),
        }
    }
}

fn proto_headers(headers: &HeaderMap) -> impl Iterator<Item = ProtoHeader> {
    headers.iter().map(|(name, value)| ProtoHeader::new(name.as_str().to_owned(), value.as_bytes()))
}

/// Removing is nothing that can be said.
fn of_edit(edit: HeaderEdit) -> Option<ProtoHeader> {
    match edit {
        HeaderEdit::Set(Header { name, value }) | HeaderEdit::Append(Header { name, value }) => {
            Some(ProtoHeader::new(name, &value))
        }
        HeaderEdit::Remove(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(descriptors: &[&[(&str, &str)]]) -> RateLimitCall {
        let entry = |(key, value): &(&str, &str)| DescriptorEntry { key: (*key).to_owned(), value: (*value).into() };
        let descriptor = |entries: &&[(&str, &str)]| RateLimitDescriptor {
            entries: entries.iter().map(entry).collect(),
            ..RateLimitDescriptor::default()
        };
        let descriptors = descriptors.iter().map(descriptor).collect();
        RateLimitCall { domain: "shop.test".to_owned(), descriptors, hits_addend: 0 }
    }

    fn places(descriptors: &[&[(&str, &str)]]) -> Vec<Vec<usize>> {
        asked(call(descriptors)).expect("a call").questions.into_iter().map(|question| question.descriptors).collect()
    }

    #[test]
    fn descriptors_that_agree_are_one_request() {
        assert_eq!(places(&[&[("a", "1")], &[("b", "2")], &[("a", "1"), ("c", "3")]]), [vec![0, 1, 2]]);
        assert_eq!(places(&[&[("a", "1")], &[("A", "2")], &[("a", "1")]]), [vec![0, 2], vec![1]]);
        assert_eq!(places(&[&[("generic_key", "x")], &[("generic_key", "y")]]), [vec![0], vec![1]]);
    }

    #[test]
    fn entries_are_headers_but_for_two() {
        let caller = Caller { client: ([127, 0, 0, 1], 1).into(), is_secure: false };
        let asked = |entries: &[(&str, &str)]| asked(call(&[entries])).expect("a call").questions[0].request(caller);
        let request = asked(&[("remote_address", "1.2.3.4"), ("generic_key", "orders"), ("X-Api-Key", "k")]);
        let request = request.expect("a request");
        assert_eq!(request.client.to_string(), "1.2.3.4:0");
        assert_eq!(request.names, Some(RouteNames { route: "orders".to_owned(), service: String::new() }));
        assert_eq!((&request.parts.headers["x-api-key"], request.parts.headers.len()), (&"k".parse().unwrap(), 2));
        assert_eq!(request.parts.headers["host"], "shop.test");
        for entries in [[("remote_address", "nobody")], [("bad name", "a")], [("a", "b\r\nc")], [(":path", "/")]] {
            assert!(asked(&entries).is_err(), "{entries:?}");
        }
    }

    #[test]
    fn what_is_not_counted_here_is_an_error() {
        let mut many = call(&[&[("a", "1")]]);
        many.hits_addend = 101;
        let mut none = call(&[&[("a", "1")]]);
        none.descriptors[0].hits_addend = Some(0);
        let mut own = call(&[&[("a", "1")]]);
        own.descriptors[0].limit = Some(());
        for bad in [many, none, own, call(&[]), call(&[&[]]), call(&[&[("a", "1")][..]; 65])] {
            assert!(asked(bad.clone()).is_err(), "{bad:?}");
        }
        let mut several = call(&[&[("a", "1")], &[("b", "1")]]);
        several.hits_addend = 3;
        several.descriptors[1].hits_addend = Some(1);
        let hits: Vec<u64> = asked(several).expect("a call").questions.iter().map(|question| question.hits).collect();
        assert_eq!(hits, [3, 1]);
    }
}
