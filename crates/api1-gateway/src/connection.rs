//! A client's connection, with the deadlines that the HTTP server does not have.
//!
//! The server gives a connection's first head a deadline and a silent connection an end, and nothing else: a later head could drip
//! in for ever, as could the body of a request that was refused by its head; an answer that nobody reads would wait for ever; and
//! a client that sends far ahead of its answers makes the server ask again and again whether it may go on, with all the
//! processor there is, or pile up answers. So each connection is wrapped: while no handler works for it, what has begun to come in must be whole
//! within [`Deadlines::head`]; what is written must be taken within [`Deadlines::unread`]; and one that spins is cut.
//!
//! The server also reads and keeps whatever requests a client sends ahead of its answers, and a request of twenty bytes becomes some
//! kilobytes in its queue. So a connection hands on only [`READ_AHEAD`] beyond what is being worked on. And the system takes
//! megabytes of answers for a client that reads none, each of which costs the gateway its making: it is told to take less.
//!
//! Whether a handler works for a connection is noted by [`working`], around every handler. A body being read by one has
//! a deadline of its own, in [`crate::body`].

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::dev::{Extensions, Service, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The server looks whether it may go on, this often in a row and without reading, only if it is stuck with a full buffer.
const SPINS: u32 = 1_000;

/// Bytes of further requests that are read while one is worked on, and that the server is given before it looks at them: a hundred of the
/// shortest, and more than most heads have.
const READ_AHEAD: usize = 2 * 1024;

/// Bytes of answers that the system keeps for a client before it begins to send them, at most: as much as a fast network takes while the
/// gateway makes more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 64 * 1024;

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
#[derive(Default)]
struct Work {
    /// A handler is at work.
    busy: Cell<bool>,
    /// How many have been.
    begun: Cell<u64>,
    /// Bytes of the body of the request at work, at most.
    body: Cell<usize>,
    /// Whoever waits for the end of that work to read on.
    reader: Cell<Option<Waker>>,
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
    /// Bytes read of what is yet to be worked on, or was when last looked at.
    ahead: usize,
    /// The body of the request that was at work at the last look.
    at_work: Option<usize>,
    reading: Timer,
    writing: Timer,
    /// The server wanted to read while an answer waited to be written, and nothing else will wake it to do so.
    reader_waits: bool,
    spins: u32,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, deadlines: Deadlines) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // A system that cannot do that goes by its own bounds, which is no reason to turn a client away.
        drop(socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT));
        let (work, reading, writing) = (Rc::default(), Timer::default(), Timer::default());
        Ok(Connection {
            stream,
            deadlines,
            work,
            seen: 0,
            heard: false,
            ahead: 0,
            at_work: None,
            reading,
            writing,
            reader_waits: false,
            spins: 0,
        })
    }

    /// Lets the handlers of its requests know it.
    pub(crate) fn introduce(&self, data: &mut Extensions) {
        data.insert(Rc::clone(&self.work));
    }

    /// Takes note of what handlers have done meanwhile.
    fn look_at_work(&mut self) {
        let begun = self.work.begun.get();
        let is_other = std::mem::replace(&mut self.seen, begun) != begun;
        if is_other {
            self.heard = false;
            self.reading.stop();
        }
        let now = self.work.busy.get().then(|| self.work.body.get());
        match (std::mem::replace(&mut self.at_work, now), now) {
            (before, Some(_)) if is_other => self.ahead = self.ahead.saturating_sub(before.unwrap_or(0)),
            // Nothing is left: the server looks at all it has before it reads on.
            (before, None) if is_other || before.is_some() => self.ahead = 0,
            _ => {}
        }
    }

    /// Whether no more is read for now. Once the handler at work has ended, or the server has looked at what it has, it is woken to
    /// read on.
    fn is_far_ahead(&mut self, context: &Context<'_>) -> bool {
        let is_far = self.ahead >= self.at_work.unwrap_or(0).saturating_add(READ_AHEAD);
        if is_far && self.at_work.is_some() {
            self.work.reader.set(Some(context.waker().clone()));
        } else if is_far {
            self.ahead = 0;
            context.waker().wake_by_ref();
        }
        is_far
    }

    /// Reads, but no more than a little where no body is expected.
    fn poll_some(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = if self.at_work.is_some_and(|body| body > 0) {
            Pin::new(&mut self.stream).poll_read(context, into)
        } else {
            let mut few = [MaybeUninit::uninit(); READ_AHEAD];
            let mut few = ReadBuf::uninit(&mut few[..into.remaining().min(READ_AHEAD)]);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut few);
            into.put_slice(few.filled());
            read
        };
        self.ahead += into.filled().len() - before;
        read
    }

    /// Ready when the client has kept us waiting for too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
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
            // No more questions of one who takes no answers: they would pile up.
            this.reader_waits = true;
            return Poll::Pending;
        }
        this.look_at_work();
        if this.is_far_ahead(context) {
            return Poll::Pending;
        }
        match this.poll_some(context, into) {
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
                if std::mem::take(&mut this.reader_waits) {
                    context.waker().wake_by_ref();
                }
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
    let busy = Busy::begin(request.request().conn_data::<Rc<Work>>(), body_length(&request));
    let answer = handler.call(request);
    async move {
        let _busy = busy;
        answer.await
    }
}

/// The most bytes that its body may have on the wire.
fn body_length(request: &ServiceRequest) -> usize {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        return usize::MAX;
    }
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// For as long as it lives a handler works, also if its client hangs up meanwhile.
struct Busy(Option<Rc<Work>>);

impl Busy {
    fn begin(work: Option<&Rc<Work>>, body: usize) -> Self {
        if let Some(work) = work {
            work.busy.set(true);
            work.body.set(body);
            work.begun.set(work.begun.get() + 1);
        }
        Busy(work.cloned())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.busy.set(false);
            if let Some(reader) = work.reader.take() {
                reader.wake();
            }
        }
    }
}
