//! Breaks a connection without an answer, for the weathers `reset` and `hang`.
//!
//! actix-web has no call for that, but it drops a connection at once, nothing sent, when the body of an answer fails before its
//! first byte. A plain drop makes the kernel say goodbye (FIN); with SO_LINGER 0 set before, it sends a reset (RST). The option
//! must not be set earlier, or answers already on their way could be lost too; so each connection carries a second handle to its
//! socket, given up when it is broken, because the kernel acts only once the last handle is closed.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use socket2::{SockRef, Socket};

/// A connection's second handle to its socket.
#[derive(Debug)]
struct Handle(Mutex<Option<Socket>>);

/// Gives each new connection its second handle. For `HttpServer::on_connect`.
pub fn remember(stream: &dyn Any, connection: &mut Extensions) {
    let socket = stream.downcast_ref::<TcpStream>().map(|stream| SockRef::from(stream).try_clone());
    match socket {
        Some(Ok(socket)) => {
            connection.insert(Handle(Mutex::new(Some(socket))));
        }
        Some(Err(error)) => log::warn!(error:% = error; "cannot reset this connection, only close it"),
        None => {}
    }
}

/// How a connection is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// With a TCP reset: the client's read fails.
    Reset,
    /// With an orderly close: the client reads the end of the stream.
    Close,
}

/// The answer that breaks the connection of `request` instead of answering.
pub fn broken(request: &HttpRequest, how: Break) -> HttpResponse {
    let handle = request.conn_data::<Handle>();
    let socket = handle.and_then(|handle| handle.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    if let (Break::Reset, Some(socket)) = (how, &socket)
        && let Err(error) = socket.set_linger(Some(Duration::ZERO))
    {
        log::warn!(error:% = error; "cannot reset this connection, closing it");
    }
    HttpResponse::Ok().body(BoxBody::new(FailingBody))
}

/// A body that fails before its first byte.
struct FailingBody;

impl MessageBody for FailingBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
