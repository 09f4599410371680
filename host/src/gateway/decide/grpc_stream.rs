//! The messages of a call that has several, as they come.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Frame;
use prost::Message;

use super::grpc::{self, GrpcError};
use crate::gateway::plain_body::PeerBody;

/// The messages of a call. No more is read of it than the next one and what came with that.
pub(super) struct GrpcStream {
    body: PeerBody,
    /// What has come and was not taken.
    bytes: BytesMut,
    /// No more comes.
    is_whole: bool,
}

impl GrpcStream {
    pub(super) fn new(body: PeerBody) -> Self {
        Self { body, bytes: BytesMut::new(), is_whole: false }
    }

    /// The next message; none behind the last.
    ///
    /// # Errors
    /// It is none of this type, or too large, or not all of it comes.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, GrpcError> {
        self.arrive().await?;
        match grpc::take_message(&mut self.bytes)? {
            None if !self.bytes.is_empty() => Err(GrpcError::broken_off()),
            message => Ok(message),
        }
    }

    /// Waits until the next message has come, or it is known that there is none. May be dropped and called again.
    ///
    /// # Errors
    /// It is too large, or not all of it comes.
    pub(super) async fn arrive(&mut self) -> Result<(), GrpcError> {
        while !self.is_whole && !grpc::has_message(&self.bytes)? {
            match self.body.frame().await.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.bytes.extend_from_slice(&data),
                // Trailers say nothing here.
                Some(Ok(Err(_))) => {}
                Some(Err(_)) => return Err(GrpcError::broken_off()),
                None => self.is_whole = true,
            }
        }
        Ok(())
    }
}
