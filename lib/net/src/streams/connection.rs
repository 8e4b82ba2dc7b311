//! One connection's task: reads and cuts into messages, writes what is queued, and watches the clock.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use sps_mmsg::options;
use sps_wire::flow::Transport;
use sps_wire::frame::{Frame, Framer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::listen::set_options;
use super::opener::Want;
use super::queue::Place;
use super::table::Connection;
use super::write_queue::PIECES;
use super::{CloseReason, Shared, StreamEvent};

/// Opens a connection and goes on as [`run`].
pub(super) async fn connect(shared: Rc<Shared>, connection: Rc<Connection>, source: Option<IpAddr>) {
    match connection.transport {
        Transport::Tls => {
            let opening = connect_tls(&shared, &connection, source);
            connect_by(
                opening,
                shared.conf.connect_timeout + OPENER_GRACE,
                &shared,
                &connection,
            )
            .await;
        }
        Transport::Udp | Transport::Tcp => {
            let opening = connect_tcp(&shared, &connection, source);
            connect_by(opening, shared.conf.connect_timeout, &shared, &connection).await;
        }
    }
}

/// What an opener gets beyond its time before it counts as dead: it may be being started again.
const OPENER_GRACE: Duration = Duration::from_secs(1);

async fn connect_by<S>(
    opening: impl Future<Output = Result<(S, SocketAddr), CloseReason>>,
    within: Duration,
    shared: &Rc<Shared>,
    connection: &Rc<Connection>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let result = timeout(within, opening).await;
    shared.count(|counters| counters.connecting -= 1);
    match result.unwrap_or(Err(CloseReason::ConnectTimeout)) {
        Ok((stream, local)) => {
            shared.count(|counters| counters.connected += 1);
            shared.opened(connection, local);
            run(Rc::clone(shared), Rc::clone(connection), stream).await;
        }
        Err(reason) => {
            shared.count(|counters| counters.connect_failed += 1);
            finish(shared, connection, reason);
        }
    }
}

async fn connect_tcp(
    shared: &Shared,
    connection: &Connection,
    source: Option<IpAddr>,
) -> Result<(TcpStream, SocketAddr), CloseReason> {
    let opening = async {
        let stream = open(connection.remote, source)?.connect(connection.remote).await?;
        set_options(&stream, shared.conf.write_timeout)?;
        let local = stream.local_addr()?;
        Ok((stream, local))
    };
    opening
        .await
        .map_err(|error: io::Error| CloseReason::ConnectFailed(error.kind()))
}

async fn connect_tls(
    shared: &Shared,
    connection: &Connection,
    source: Option<IpAddr>,
) -> Result<(UnixStream, SocketAddr), CloseReason> {
    let opener = shared.opener.borrow().clone();
    let name = connection.names.as_deref().and_then(|names| names.first());
    let (Some(opener), Some(name)) = (opener, name) else {
        return Err(CloseReason::ConnectFailed(io::ErrorKind::Unsupported));
    };
    let want = Want {
        remote: connection.remote,
        source,
        name: name.clone(),
        within: shared.conf.connect_timeout,
    };
    let opened = opener.open(want).await?;
    Ok((opened.stream, opened.local))
}

fn open(remote: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(source) = source.filter(|source| !source.is_unspecified() && source.is_ipv4() == remote.is_ipv4()) {
        // The port is chosen on connecting: one local port serves connections to different peers.
        options::choose_port_on_connect(socket.as_fd())?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// Serves an open connection to its end.
pub(super) async fn run<S>(shared: Rc<Shared>, connection: Rc<Connection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let mut drive = Drive {
        shared: &shared,
        connection: &connection,
        stream,
        buffer: BytesMut::new(),
        framer: Framer::default(),
        input: Input::Open,
        place: Place::default(),
        moved_at: now,
        read_at: connection.opened_at,
        begun_at: None,
        stuck_at: None,
        heard: false,
        held: 0,
        alarm: Box::pin(sleep_until(now + shared.conf.idle_timeout)),
    };
    let reason = poll_fn(|cx| drive.poll(cx)).await;
    drop(drive);
    finish(&shared, &connection, reason);
}

/// Tells what did not leave and that the connection is gone.
fn finish(shared: &Shared, connection: &Connection, reason: CloseReason) {
    shared.table.borrow_mut().remove(connection);
    shared.let_go(connection.write.borrow().len());
    let tokens = connection.write.borrow_mut().take_tokens();
    shared.count(|counters| {
        counters.messages_lost += tokens.len() as u64;
        match reason {
            CloseReason::Idle => counters.idle_closed += 1,
            CloseReason::HeaderTimeout => counters.header_timeouts += 1,
            CloseReason::WriteTimeout => counters.write_timeouts += 1,
            _ => {}
        }
    });
    if !tokens.is_empty() {
        shared.queue.push(StreamEvent::SendFailed {
            connection: connection.id,
            transport: connection.transport,
            remote: connection.remote,
            tokens,
            reason,
        });
    }
    if let Some(flow) = connection.flow.take() {
        shared.count(|counters| counters.open -= 1);
        shared.queue.push(StreamEvent::Closed { flow, reason });
    }
}

/// What becomes of the peer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Read and cut into messages.
    Open,
    /// Read and thrown away, because closing with bytes unread would cut off what we still write.
    Ignored,
    /// The peer sends no more.
    Ended,
}

struct Drive<'a, S> {
    shared: &'a Shared,
    connection: &'a Connection,
    stream: S,
    /// The beginning of a message; empty between messages.
    buffer: BytesMut,
    framer: Framer,
    input: Input,
    place: Place,
    /// When a byte last went either way.
    moved_at: Instant,
    /// Since when we have been reading what it sends.
    read_at: Instant,
    /// When the message in `buffer` began.
    begun_at: Option<Instant>,
    /// Since when the write queue has been waiting without getting shorter.
    stuck_at: Option<Instant>,
    /// A whole message has come.
    heard: bool,
    /// Bytes of `buffer` that are counted among those of all connections.
    held: usize,
    /// Set to the next deadline or earlier: it is moved only when it must ring sooner.
    alarm: Pin<Box<Sleep>>,
}

/// Reads in one turn, so that one connection does not hold up the others.
const READS_PER_TURN: usize = 4;

impl<S> Drop for Drive<'_, S> {
    fn drop(&mut self) {
        self.shared.let_go(self.held);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<'_, S> {
    /// Does what can be done now; ready with the reason when the connection has come to its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.remember_waker(cx);
        let now = Instant::now();
        for turn in 0.. {
            let read = match self.poll_read(now, cx) {
                Ok(read) => read,
                Err(error) => return Poll::Ready(CloseReason::Failed(error.kind())),
            };
            if let Err(error) = self.poll_write(now, cx) {
                return Poll::Ready(CloseReason::Failed(error.kind()));
            }
            if !read {
                break;
            }
            if turn == READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if let Some(ending) = self.connection.ending.get() {
            if self.input == Input::Open {
                self.input = Input::Ignored;
                self.begun_at = None;
                self.buffer = BytesMut::new();
                self.shared.let_go(std::mem::take(&mut self.held));
                cx.waker().wake_by_ref();
            }
            let written = self.connection.write.borrow().is_empty();
            if (written && !ending.takes_sends) || now >= ending.until {
                return self.poll_close(ending.reason, cx);
            }
        }
        self.poll_clock(now, cx)
    }

    fn remember_waker(&self, cx: &Context<'_>) {
        let mut waker = self.connection.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Says goodbye in the transport's way; a connection that cannot do so at once is just dropped.
    fn poll_close(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        Poll::Ready(reason)
    }

    /// One read; true if there may be more.
    fn poll_read(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.input == Input::Ended {
            return Ok(false);
        }
        if self.input == Input::Open {
            let waited = self.place.is_waiting();
            if self.shared.queue.poll_room(&mut self.place, cx).is_pending() {
                return Ok(false);
            }
            if waited {
                // It was us who did not read: the peer's time starts anew.
                self.moved_at = now;
                self.read_at = now;
                self.begun_at = self.begun_at.map(|_| now);
            }
        }
        let mut scratch = self.shared.scratch.borrow_mut();
        let mut read = ReadBuf::new(&mut scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(false),
            Poll::Ready(result) => result?,
        }
        let bytes = read.filled();
        if bytes.is_empty() {
            self.input = Input::Ended;
            self.begun_at = None;
            self.connection.end(CloseReason::Peer, false);
            return Ok(false);
        }
        self.moved_at = now;
        if self.input == Input::Open {
            self.buffer.reserve(bytes.len());
            self.buffer.extend_from_slice(bytes);
            drop(scratch);
            self.cut(now);
            self.count_buffer();
        }
        Ok(true)
    }

    /// Takes whole messages off the buffer.
    fn cut(&mut self, now: Instant) {
        let Some(flow) = self.connection.flow.get() else { return };
        let mut consumed = false;
        while !self.buffer.is_empty() {
            match self.framer.next(&self.buffer, &self.shared.conf.limits) {
                Frame::NeedMore => break,
                Frame::Skip(len) => self.buffer.advance(len.min(self.buffer.len())),
                Frame::KeepAlive(len) => {
                    self.buffer.advance(len.min(self.buffer.len()));
                    // RFC 5626 §4.4.1: a ping is answered by one CRLF. A peer that does not read gets none.
                    let pong = Bytes::from_static(b"\r\n");
                    let queued = self
                        .connection
                        .write
                        .borrow_mut()
                        .push(pong, None, self.shared.conf.write_queue_len);
                    self.shared.hold(if queued { 2 } else { 0 });
                    self.shared.count(|counters| counters.keepalives += u64::from(queued));
                }
                Frame::Message { len } => {
                    let bytes = self.take(len);
                    self.heard = true;
                    self.shared.count(|counters| counters.messages_in += 1);
                    self.shared.queue.push(StreamEvent::Message { flow, bytes });
                }
                Frame::Broken(error) => {
                    self.shared.count(|counters| counters.broken += 1);
                    let bytes = std::mem::take(&mut self.buffer).freeze();
                    self.connection.end(CloseReason::Broken(error), true);
                    self.shared.queue.push(StreamEvent::Broken { flow, error, bytes });
                }
            }
            consumed = true;
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        } else if consumed {
            // What is left of a big read is little: it shall not hold all of the read's memory.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        if !self.framer.is_inside() {
            // Nothing, or a line end of which the next byte tells whether it is half a ping: no message has begun.
            self.begun_at = None;
        } else if consumed || self.begun_at.is_none() {
            self.begun_at = Some(now);
        }
    }

    /// What is kept until its message is whole counts among what all connections hold; who wants more than there is must go.
    fn count_buffer(&mut self) {
        let len = self.buffer.len();
        if len > self.held && self.shared.is_crowded(len - self.held) {
            self.shared.count(|counters| counters.buffers_full += 1);
            self.connection.end(CloseReason::Crowded, false);
            return;
        }
        self.shared.let_go(self.held);
        self.shared.hold(len);
        self.held = len;
    }

    /// Takes the first `len` bytes off the buffer, without a copy if that is all there is: a message that lives on as part of a
    /// transaction must not keep a whole read alive.
    fn take(&mut self, len: usize) -> Bytes {
        if len >= self.buffer.len() {
            return std::mem::take(&mut self.buffer).freeze();
        }
        let bytes = Bytes::copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        bytes
    }

    /// Writes until the queue is empty or the peer takes no more.
    fn poll_write(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let mut queue = self.connection.write.borrow_mut();
            if queue.is_empty() {
                self.stuck_at = None;
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = queue.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let written = if stream.is_write_vectored() {
                stream.poll_write_vectored(cx, &slices[..count])
            } else {
                // An empty message would look like a peer that takes nothing.
                let first = slices[..count].iter().find(|slice| !slice.is_empty());
                first.map_or(Poll::Ready(Ok(0)), |first| stream.poll_write(cx, first))
            };
            let empty = slices[..count].iter().all(|slice| slice.is_empty());
            match written {
                Poll::Ready(Ok(0)) if !empty => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    let finished = queue.advance(written);
                    self.shared.let_go(written);
                    self.shared.count(|counters| counters.messages_out += finished);
                    self.moved_at = now;
                    self.stuck_at = None;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.stuck_at.get_or_insert(now);
                    return Ok(());
                }
            }
        }
    }

    /// Ends the connection if its time is up, else makes sure to be woken in time.
    fn poll_clock(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let (at, reason) = self.deadline(now);
        if at <= now {
            return self.poll_close(reason, cx);
        }
        if at < self.alarm.deadline() {
            self.alarm.as_mut().reset(at);
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            self.alarm.as_mut().reset(at);
            if self.alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// The earliest of the deadlines that run now.
    fn deadline(&self, now: Instant) -> (Instant, CloseReason) {
        let conf = &self.shared.conf;
        if let Some(ending) = self.connection.ending.get() {
            return (ending.until, ending.reason);
        }
        // While we do not read, the peer is not to blame for what does not come; the worker is looked after by others.
        let stopped = self.place.is_waiting();
        let silent = self.connection.accepted && !self.heard;
        let first_at = self.connection.opened_at.max(self.read_at) + conf.first_message_timeout;
        let first_at = Some(first_at).filter(|_| silent && !stopped);
        let idle_at = if stopped { now } else { self.moved_at } + conf.idle_timeout;
        let header_at = self.begun_at.filter(|_| !stopped).map(|at| at + conf.header_timeout);
        let write_at = self.stuck_at.map(|at| at + conf.write_timeout);
        let mut earliest = (idle_at, CloseReason::Idle);
        for (at, reason) in [
            (first_at, CloseReason::Idle),
            (header_at, CloseReason::HeaderTimeout),
            (write_at, CloseReason::WriteTimeout),
        ] {
            if let Some(at) = at.filter(|at| *at < earliest.0) {
                earliest = (at, reason);
            }
        }
        earliest
    }
}
