//! The messages of external processing, as far as they are understood here.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::header::HeaderMap;
use prost::{Message, Oneof};
use slidegate::{HeaderEdit, Interest};

use crate::gateway::decide::envoy_messages::{HttpStatus, ProtoHeaderOption, ProtoHeaders};

/// `ProcessingRequest`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::gateway::decide) struct ProcessCall {
    #[prost(oneof = "ProcessEvent", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) event: Option<ProcessEvent>,
    /// By the name of the filter that asks.
    #[prost(btree_map = "string, message", tag = "9")]
    pub(super) attributes: BTreeMap<String, ProtoStruct>,
    /// Nobody hears what is answered.
    #[prost(bool, tag = "10")]
    pub(super) observability_mode: bool,
    /// Only in the first message.
    #[prost(message, optional, tag = "11")]
    pub(super) protocol_config: Option<ProcessConfig>,
}

/// What has come of a request or its response.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ProcessEvent {
    #[prost(message, tag = "2")]
    RequestHeaders(ProcessHeaders),
    #[prost(message, tag = "3")]
    ResponseHeaders(ProcessHeaders),
    #[prost(message, tag = "4")]
    RequestBody(ProcessBody),
    #[prost(message, tag = "5")]
    ResponseBody(ProcessBody),
    #[prost(message, tag = "6")]
    RequestTrailers(()),
    #[prost(message, tag = "7")]
    ResponseTrailers(()),
}

/// `HttpHeaders`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessHeaders {
    #[prost(message, optional, tag = "1")]
    pub(super) headers: Option<ProtoHeaders>,
    #[prost(bool, tag = "3")]
    pub(super) end_of_stream: bool,
}

/// `HttpBody`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "2")]
    pub(super) end_of_stream: bool,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoStruct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: BTreeMap<String, ProtoText>,
}

/// `google.protobuf.Value`, if it is a text.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoText {
    #[prost(string, tag = "3")]
    pub(super) string_value: String,
}

/// `ProtocolConfiguration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessConfig {
    #[prost(int32, tag = "1")]
    pub(super) request_body_mode: i32,
    #[prost(int32, tag = "2")]
    pub(super) response_body_mode: i32,
}

/// `ProcessingResponse`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::gateway::decide) struct ProcessAnswer {
    #[prost(oneof = "ProcessReply", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) reply: Option<ProcessReply>,
    /// Heard with headers alone.
    #[prost(message, optional, tag = "9")]
    pub(super) mode_override: Option<ProcessingMode>,
}

/// What becomes of what has come.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ProcessReply {
    #[prost(message, tag = "1")]
    RequestHeaders(PhaseReply),
    #[prost(message, tag = "2")]
    ResponseHeaders(PhaseReply),
    #[prost(message, tag = "3")]
    RequestBody(PhaseReply),
    #[prost(message, tag = "4")]
    ResponseBody(PhaseReply),
    #[prost(message, tag = "5")]
    RequestTrailers(()),
    #[prost(message, tag = "6")]
    ResponseTrailers(()),
    #[prost(message, tag = "7")]
    Immediate(ImmediateReply),
}

/// `HeadersResponse` and `BodyResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PhaseReply {
    #[prost(message, optional, tag = "1")]
    pub(super) response: Option<PhaseChange>,
}

/// `CommonResponse`, which goes on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PhaseChange {
    #[prost(message, optional, tag = "2")]
    pub(super) header_mutation: Option<HeaderMutation>,
    #[prost(message, optional, tag = "3")]
    pub(super) body_mutation: Option<BodyMutation>,
}

/// `HeaderMutation`. What goes goes before anything is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMutation {
    #[prost(message, repeated, tag = "1")]
    pub(super) set_headers: Vec<ProtoHeaderOption>,
    #[prost(string, repeated, tag = "2")]
    pub(super) remove_headers: Vec<String>,
}

/// `BodyMutation`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyMutation {
    #[prost(oneof = "BodyMutationKind", tags = "1, 2")]
    pub(super) mutation: Option<BodyMutationKind>,
}

/// What comes in the place of a piece of a body.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum BodyMutationKind {
    #[prost(bytes = "bytes", tag = "1")]
    Body(Bytes),
    #[prost(bool, tag = "2")]
    ClearBody(bool),
}

/// `ImmediateResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImmediateReply {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub(super) headers: Option<HeaderMutation>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) body: Bytes,
    /// For a client that speaks gRPC.
    #[prost(message, optional, tag = "4")]
    pub(super) grpc_status: Option<GrpcStatus>,
}

/// `GrpcStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GrpcStatus {
    #[prost(uint32, tag = "1")]
    pub(super) status: u32,
}

/// `ProcessingMode`: what is to be shown of a request and its response.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ProcessingMode {
    #[prost(int32, tag = "2")]
    response_header_mode: i32,
    #[prost(int32, tag = "3")]
    request_body_mode: i32,
    #[prost(int32, tag = "4")]
    response_body_mode: i32,
    #[prost(int32, tag = "5")]
    request_trailer_mode: i32,
    #[prost(int32, tag = "6")]
    response_trailer_mode: i32,
}

const SEND: i32 = 1;
const SKIP: i32 = 2;
const NONE: i32 = 0;
const STREAMED: i32 = 1;
const BUFFERED: i32 = 2;

impl ProcessCall {
    /// An attribute of the request, if it is told.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let told = self.attributes.values().find_map(|of_filter| of_filter.fields.get(name))?;
        Some(told.string_value.as_str()).filter(|text| !text.is_empty())
    }
}

impl ProcessConfig {
    /// Whether all of a request's body is shown, and of a response's.
    pub(super) fn shows_bodies(&self) -> (bool, bool) {
        let shows = |mode| mode == STREAMED || mode == BUFFERED;
        (shows(self.request_body_mode), shows(self.response_body_mode))
    }

    /// Whether bodies are shown as it is understood here, if they are.
    pub(super) fn is_understood(&self) -> bool {
        [self.request_body_mode, self.response_body_mode].iter().all(|mode| (NONE..=BUFFERED).contains(mode))
    }
}

impl ProcessingMode {
    /// Shows what the filter wants to see. A request that is held waits with its body for the whole of that.
    pub(super) fn of(request_body: Interest, response_body: Interest) -> Self {
        let trailer_mode = |interest| if interest == Interest::None { SKIP } else { SEND };
        let body_mode = |interest, held| match interest {
            Interest::None => NONE,
            Interest::Watch | Interest::Copy => STREAMED,
            Interest::Hold => held,
        };
        Self {
            response_header_mode: SEND,
            request_body_mode: body_mode(request_body, BUFFERED),
            response_body_mode: body_mode(response_body, STREAMED),
            request_trailer_mode: trailer_mode(request_body),
            response_trailer_mode: trailer_mode(response_body),
        }
    }
}

impl PhaseReply {
    pub(super) fn new(edits: Vec<HeaderEdit>, body_mutation: Option<BodyMutation>) -> Self {
        let header_mutation = (!edits.is_empty()).then(|| HeaderMutation::of_edits(edits));
        Self { response: Some(PhaseChange { header_mutation, body_mutation }) }
    }
}

impl HeaderMutation {
    /// These edits, one after the other.
    pub(super) fn of_edits(edits: Vec<HeaderEdit>) -> Self {
        let mut mutation = Self::default();
        for edit in edits {
            if let HeaderEdit::Set(_) | HeaderEdit::Remove(_) = edit {
                let name = edit.name();
                mutation.set_headers.retain(|set| set.header.as_ref().is_none_or(|header| header.key != name));
            }
            match edit {
                HeaderEdit::Remove(name) => mutation.remove_headers.push(name),
                set => mutation.set_headers.extend(ProtoHeaderOption::of_edit(set).map(ProtoHeaderOption::raw)),
            }
        }
        mutation
    }

    /// These fields in place of those of their names.
    pub(super) fn of_fields(fields: &HeaderMap) -> Self {
        let set_headers = ProtoHeaderOption::overwriting(fields).into_iter().map(ProtoHeaderOption::raw);
        Self { set_headers: set_headers.collect(), remove_headers: Vec::new() }
    }
}

impl BodyMutation {
    /// What makes these pieces of that one; nothing if they are the same.
    pub(super) fn of(piece: &Bytes, released: &[Bytes]) -> Option<Self> {
        let bytes = match released {
            [] => Bytes::new(),
            [only] => only.clone(),
            several => several.concat().into(),
        };
        let mutation = match bytes.is_empty() {
            _ if bytes == *piece => return None,
            true => BodyMutationKind::ClearBody(true),
            false => BodyMutationKind::Body(bytes),
        };
        Some(Self { mutation: Some(mutation) })
    }
}

#[cfg(test)]
mod tests {
    use slidegate::Header;

    use super::*;

    fn field(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.into() }
    }

    #[test]
    fn edits_come_out_as_if_one_came_after_the_other() {
        let mutation = HeaderMutation::of_edits(vec![
            HeaderEdit::Set(field("x-a", "1")),
            HeaderEdit::Append(field("x-a", "2")),
            HeaderEdit::Set(field("x-b", "1")),
            HeaderEdit::Remove("x-b".to_owned()),
            HeaderEdit::Append(field("x-b", "2")),
            HeaderEdit::Set(field("x-c", "1")),
            HeaderEdit::Set(field("x-c", "2")),
        ]);
        assert_eq!(mutation.remove_headers, ["x-b"]);
        let set: Vec<(String, String, Option<bool>)> = mutation
            .set_headers
            .into_iter()
            .map(|set| (set.header.expect("a field"), set.append))
            .map(|(field, append)| (field.key, String::from_utf8(field.raw_value).expect("a text"), append))
            .collect();
        let told = |name: &str, value: &str, append| (name.to_owned(), value.to_owned(), Some(append));
        assert_eq!(
            set,
            [told("x-a", "1", false), told("x-a", "2", true), told("x-b", "2", true), told("x-c", "2", false)]
        );
    }

    #[test]
    fn a_piece_that_goes_on_as_it_is_is_not_told_anew() {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let told = |piece: &'static str, released: &[Bytes]| {
            BodyMutation::of(&bytes(piece), released).map(|mutation| mutation.mutation.expect("one of the kinds"))
        };
        assert_eq!(told("", &[]), None);
        assert_eq!(told("ab", &[bytes("ab")]), None);
        assert_eq!(told("ab", &[bytes("a"), bytes("b")]), None);
        assert_eq!(told("ab", &[]), Some(BodyMutationKind::ClearBody(true)));
        assert_eq!(told("ab", &[bytes("xy"), bytes("ab")]), Some(BodyMutationKind::Body(bytes("xyab"))));
        assert_eq!(told("", &[bytes("xy")]), Some(BodyMutationKind::Body(bytes("xy"))));
    }
}
