//! Our messages as the stack's, and back.

use std::net::SocketAddr;

use rsipstack::{
    sip::{self, SipMessage},
    transport::SipAddr,
};

use crate::{
    Transport,
    message::{Message, Request, Response},
};

/// A request for the stack; none when it cannot read what we wrote.
pub(super) fn request(request: &Request) -> Option<sip::Request> {
    sip::Request::try_from(request.encode())
        .inspect_err(|error| tracing::warn!(method = %request.method, %error, "the stack cannot take a request"))
        .ok()
}

/// A response for the stack.
pub(super) fn response(response: &Response) -> Option<sip::Response> {
    sip::Response::try_from(response.encode())
        .inspect_err(|error| tracing::warn!(status = response.status, %error, "the stack cannot take a response"))
        .ok()
}

/// A response from the stack.
pub(super) fn received(message: &SipMessage) -> Option<Response> {
    let SipMessage::Response(response) = message else { return None };
    match Message::parse(&response.to_bytes()) {
        Ok(Message::Response(lifted)) => Some(lifted),
        _ => None,
    }
}

pub(super) fn is_cancel(message: &SipMessage) -> bool {
    matches!(message, SipMessage::Request(request) if request.method == sip::Method::Cancel)
}

pub(super) fn address(transport: Transport, address: SocketAddr) -> SipAddr {
    let transport = match transport {
        Transport::Udp => sip::Transport::Udp,
        Transport::Tcp => sip::Transport::Tcp,
    };
    SipAddr { r#type: Some(transport), addr: address.into() }
}
