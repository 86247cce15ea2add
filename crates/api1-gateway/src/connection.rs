//! A client's connection, with the deadlines that the HTTP server does not have.
//!
//! The server gives a connection's first head a deadline and a silent connection an end, and nothing else: a later head could drip
//! in for ever, as could the body of a request that was refused by its head; an answer that nobody reads would wait for ever; and
//! a client that sends far ahead of its answers makes the server ask again and again whether it may go on, with all the
//! processor there is, or pile up answers. So each connection is wrapped: while no handler works for it, what has begun to come in must be whole
//! within [`Deadlines::head`]; what is written must be taken within [`Deadlines::unread`]; and one that spins is cut.
//!
//! Whether a handler works for a connection is noted by [`working`], around every handler. A body being read by one has
//! a deadline of its own, in [`crate::body`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::{Extensions, Service, ServiceRequest, ServiceResponse};
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The server looks whether it may go on, this often in a row and without reading, only if it is stuck with a full buffer.
const SPINS: u32 = 1_000;

/// How long a connection waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// Between requests, or parts of an answer.
    pub idle: Duration,
    /// For something to be taken of an answer that is written.
    pub unread: Duration,
}

/// What the connection and the handlers that work for it tell each other. Both live on one thread.
#[derive(Debug, Default)]
struct Work {
    /// A handler is at work.
    busy: Cell<bool>,
    /// How many have been.
    begun: Cell<u64>,
}

/// A connection with deadlines.
pub(crate) struct Connection {
    stream: TcpStream,
    deadlines: Deadlines,
    work: Rc<Work>,
    /// Requests that had been begun at the last look.
    seen: u64,
    /// Something has come in since, of which no handler was told yet.
    heard: bool,
    reading: Timer,
    writing: Timer,
    spins: u32,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, deadlines: Deadlines) -> Self {
        let (work, reading, writing) = (Rc::default(), Timer::default(), Timer::default());
        Connection { stream, deadlines, work, seen: 0, heard: false, reading, writing, spins: 0 }
    }

    /// Lets the handlers of its requests know it.
    pub(crate) fn introduce(&self, data: &mut Extensions) {
        data.insert(Rc::clone(&self.work));
    }

    /// Ready when the client has kept us waiting for too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let begun = self.work.begun.get();
        if std::mem::replace(&mut self.seen, begun) != begun {
            self.heard = false;
            self.reading.stop();
        }
        if self.work.busy.get() {
            self.reading.stop();
            return Poll::Pending;
        }
        let limit = if self.heard { self.deadlines.head } else { self.deadlines.idle };
        self.reading.poll(limit, context).map(|()| late("no whole request in time"))
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.spins = 0;
        if this.writing.runs() {
            // No more questions of one who takes no answers: they would pile up. The writing wakes us, or its deadline.
            return Poll::Pending;
        }
        match Pin::new(&mut this.stream).poll_read(context, into) {
            Poll::Pending => this.poll_late(context).map(Err),
            ready => {
                this.heard |= !this.work.busy.get();
                ready
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.spins = 0;
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Pending => {
                let limit = this.deadlines.unread;
                this.writing.poll(limit, context).map(|()| Err(late("nothing was taken of an answer")))
            }
            ready => {
                // A stream of events is no silent connection.
                this.reading.stop();
                this.writing.stop();
                ready
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.spins += 1;
        if this.spins > SPINS {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "too much was sent ahead of an answer",
            )));
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// One deadline at a time: it begins with the first look and is kept until it is stopped.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// How long it is running for, if it runs.
    limit: Option<Duration>,
}

impl Timer {
    fn stop(&mut self) {
        self.limit = None;
    }

    fn runs(&self) -> bool {
        self.limit.is_some()
    }

    fn poll(&mut self, limit: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if self.limit.replace(limit) != Some(limit) {
            sleep.as_mut().reset(Instant::now() + limit);
        }
        sleep.as_mut().poll(context)
    }
}

/// Around every handler: its connection is at work.
pub(crate) fn working<S, B>(
    request: ServiceRequest,
    handler: &S,
) -> impl Future<Output = Result<S::Response, S::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>>,
{
    let busy = Busy::begin(request.request().conn_data::<Rc<Work>>());
    let answer = handler.call(request);
    async move {
        let _busy = busy;
        answer.await
    }
}

/// For as long as it lives a handler works, also if its client hangs up meanwhile.
struct Busy(Option<Rc<Work>>);

impl Busy {
    fn begin(work: Option<&Rc<Work>>) -> Self {
        if let Some(work) = work {
            work.busy.set(true);
            work.begun.set(work.begun.get() + 1);
        }
        Busy(work.cloned())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.busy.set(false);
        }
    }
}
