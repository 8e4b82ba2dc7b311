//! Bytes between a TLS connection and the plain stream to the proxy, both ways, until both have ended.
//!
//! A side that takes nothing stops the other one from being read: nothing gathers here but what one read brought. An idle
//! connection has no buffer at all.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// Both sides said that they were done.
    Both,
    /// One did, and the other took longer than it may.
    Half,
    /// One side took no bytes for too long.
    Stuck,
    /// The TLS side broke.
    Tls(io::Error),
    /// The proxy's side broke: it is gone, or has closed.
    Plain,
}

/// Runs a connection to its end.
pub async fn run<T, P>(mut tls: T, mut plain: P, times: Times) -> End
where
    T: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let (mut inward, mut outward) = (Way::default(), Way::default());
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        let came_in = inward.poll(cx, &mut tls, &mut plain);
        // Reading may make TLS itself say something: an alert, a new key.
        let said = Pin::new(&mut tls).poll_flush(cx);
        let went_out = outward.poll(cx, &mut plain, &mut tls);
        if let Poll::Ready(Err(error)) = said
            && !outward.shut
        {
            return Poll::Ready(End::Tls(error));
        }
        match (came_in, went_out) {
            (Poll::Ready(Err(Fault::Reading(error))), _) | (_, Poll::Ready(Err(Fault::Writing(error)))) => {
                return Poll::Ready(End::Tls(error));
            }
            (Poll::Ready(Err(Fault::Writing(_))), _) | (_, Poll::Ready(Err(Fault::Reading(_)))) => {
                return Poll::Ready(End::Plain);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Both),
            _ => {}
        }
        // Only a connection that waits for somebody has a clock.
        let stuck = [inward.stuck_at, outward.stuck_at].into_iter().flatten().min();
        let half = [inward.ended_at, outward.ended_at].into_iter().flatten().min();
        let deadlines = [
            stuck.map(|at| (at + times.stuck, End::Stuck)),
            half.map(|at| (at + times.half, End::Half)),
        ];
        let Some((at, end)) = deadlines.into_iter().flatten().min_by_key(|(at, _)| *at) else {
            alarm = None;
            return Poll::Pending;
        };
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx).map(|()| end)
    })
    .await
}

/// How long a side may keep the other waiting.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Taking no bytes.
    pub stuck: Duration,
    /// Going on after the other side has ended.
    pub half: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            // As the proxy has it for TCP.
            stuck: Duration::from_secs(32),
            half: Duration::from_secs(10),
        }
    }
}

enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and not taken yet, from `at` on.
    pending: Vec<u8>,
    at: usize,
    /// Written, and perhaps still with the writer.
    unflushed: bool,
    /// Since when the writer takes nothing.
    stuck_at: Option<Instant>,
    /// When the reader came to its end.
    ended_at: Option<Instant>,
    shut: bool,
}

/// Reads in one turn, so that one connection does not hold up the others.
const READS_PER_TURN: usize = 8;

/// Bytes of one read: one TLS record.
const READ_LEN: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into_boxed_slice());
}

impl Way {
    /// Does what can be done now; ready when the end has been passed on.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..READS_PER_TURN {
            ready!(self.poll_drain(cx, writer))?;
            if self.ended_at.is_some() {
                ready!(self.poll_flush(cx, writer))?;
                // A peer that is gone need not be told.
                let _ = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                match Pin::new(&mut *reader).poll_read(cx, &mut read) {
                    Poll::Pending => return Poll::Pending,
                    // Many stacks hang up without close_notify; SIP tells itself where a message ends.
                    Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Reading(error))),
                    Poll::Ready(Ok(())) => {}
                }
                let bytes = read.filled();
                if !bytes.is_empty() {
                    self.take(cx, writer, bytes)?;
                }
                Poll::Ready(Ok(bytes.len()))
            });
            match read {
                Poll::Pending => {
                    // What waits in the writer goes out before we sleep.
                    ready!(self.poll_flush(cx, writer))?;
                    return Poll::Pending;
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Ready(Ok(0)) => self.ended_at = Some(Instant::now()),
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what can be written at once and keeps the rest.
    fn take<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *writer).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(Fault::Writing(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => rest = &rest[written..],
                Poll::Ready(Err(error)) => return Err(Fault::Writing(error)),
                Poll::Pending => {
                    self.pending = rest.to_vec();
                    self.at = 0;
                    break;
                }
            }
        }
        self.unflushed = true;
        Ok(())
    }

    fn poll_drain<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<Result<(), Fault>> {
        while self.at < self.pending.len() {
            match Pin::new(&mut *writer).poll_write(cx, &self.pending[self.at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Writing(ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => {
                    self.at += written;
                    self.stuck_at = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Writing(error))),
                Poll::Pending => {
                    self.stuck_at.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        if !self.pending.is_empty() {
            (self.pending, self.at) = (Vec::new(), 0);
        }
        self.stuck_at = None;
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<Result<(), Fault>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(writer).poll_flush(cx) {
            Poll::Pending => {
                self.stuck_at.get_or_insert_with(Instant::now);
                Poll::Pending
            }
            Poll::Ready(result) => {
                self.unflushed = false;
                self.stuck_at = None;
                Poll::Ready(result.map_err(Fault::Writing))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const QUICK: Times = Times {
        stuck: Duration::from_millis(100),
        half: Duration::from_millis(100),
    };

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime
            .unwrap()
            .block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await.unwrap() })
    }

    #[test]
    fn bytes_pass_both_ways_and_each_end_is_passed_on() {
        block_on(async {
            let ((tls, mut peer), (plain, mut proxy)) = (duplex(1_000), duplex(1_000));
            let pumping = tokio::spawn(run(tls, plain, Times::default()));
            let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
            let (to_send, expected) = (sent.clone(), sent);
            let sending = tokio::spawn(async move {
                peer.write_all(&to_send).await.unwrap();
                peer.shutdown().await.unwrap();
                let mut answer = Vec::new();
                peer.read_to_end(&mut answer).await.unwrap();
                answer
            });
            let mut got = Vec::new();
            proxy.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, expected);
            // The other half is still open.
            proxy.write_all(b"answer").await.unwrap();
            proxy.shutdown().await.unwrap();
            assert_eq!(sending.await.unwrap(), b"answer");
            assert!(matches!(pumping.await.unwrap(), End::Both));
        });
    }

    #[test]
    fn who_takes_nothing_stops_the_other_and_is_cut_in_the_end() {
        block_on(async {
            let ((tls, peer), (plain, mut proxy)) = (duplex(1_000), duplex(1_000));
            let pumping = tokio::spawn(run(tls, plain, QUICK));
            let mut written = 0;
            while let Ok(more) = tokio::time::timeout(Duration::from_millis(20), proxy.write(&[0; 500])).await {
                written += more.unwrap();
                assert!(written <= 4_000, "something gathers bytes");
            }
            assert!(matches!(pumping.await.unwrap(), End::Stuck));
            drop(peer);
        });
    }

    #[test]
    fn a_side_that_goes_on_for_ever_after_the_other_is_cut() {
        block_on(async {
            let ((tls, mut peer), (plain, proxy)) = (duplex(1_000), duplex(1_000));
            let pumping = tokio::spawn(run(tls, plain, QUICK));
            peer.shutdown().await.unwrap();
            assert!(matches!(pumping.await.unwrap(), End::Half));
            drop((peer, proxy));
        });
    }

    #[test]
    fn a_proxy_that_is_gone_ends_it() {
        block_on(async {
            let ((tls, mut peer), (plain, proxy)) = (duplex(1_000), duplex(1_000));
            let pumping = tokio::spawn(run(tls, plain, Times::default()));
            drop(proxy);
            assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
            peer.write_all(b"nobody reads this").await.unwrap();
            assert!(matches!(pumping.await.unwrap(), End::Plain));
        });
    }
}
