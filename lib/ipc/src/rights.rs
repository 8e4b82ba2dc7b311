//! Open descriptors passed over a connected Unix socket (`SCM_RIGHTS`).
//!
//! Sent in order, [`MAX_PER_MESSAGE`] with each message of one byte; the receiver knows the number beforehand.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::seqpacket::wait;

/// Descriptors with one message; Linux takes 253.
pub const MAX_PER_MESSAGE: usize = 64;

/// Descriptors altogether: 16 listeners with 64 workers.
pub const MAX_TOTAL: usize = 1024;

/// Sends `descriptors`, waiting until `deadline` for room.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] above [`MAX_TOTAL`], [`ErrorKind::TimedOut`], [`ErrorKind::BrokenPipe`].
pub fn send_descriptors(socket: impl AsFd, descriptors: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
    if descriptors.len() > MAX_TOTAL {
        return Err(ErrorKind::InvalidInput.into());
    }
    for chunk in descriptors.chunks(MAX_PER_MESSAGE) {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(chunk)) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket.as_fd(), &[IoSlice::new(&[0])], &mut control, flags) {
                Ok(_) => break,
                // ETOOMANYREFS: the kernel counts what its user has in flight; the receiver takes them out.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::TOOMANYREFS) => {
                    wait(socket.as_fd(), PollFlags::OUT, Some(deadline))?;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Receives exactly `count` descriptors, closed on exec.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] above [`MAX_TOTAL`], [`ErrorKind::TimedOut`], [`ErrorKind::UnexpectedEof`], and
/// [`ErrorKind::InvalidData`] when a message carries none or too many, or some were lost because this process has too many open.
pub fn receive_descriptors(socket: impl AsFd, count: usize, deadline: Instant) -> io::Result<Vec<OwnedFd>> {
    if count > MAX_TOTAL {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = match recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Ok(message) => message,
            Err(rustix::io::Errno::AGAIN) => {
                wait(socket.as_fd(), PollFlags::IN, Some(deadline))?;
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if message.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if message.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "descriptors lost: too many files open",
            ));
        }
        let before = received.len();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received.extend(descriptors);
            }
        }
        if received.len() == before || received.len() > count {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn many_descriptors_arrive_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..150).map(|_| UnixStream::pair().unwrap()).collect();
        let sent: Vec<_> = pairs.iter().map(|(one, _)| one.as_fd()).collect();
        send_descriptors(&ours, &sent, soon()).unwrap();
        let received = receive_descriptors(&theirs, 150, soon()).unwrap();
        for (i, (mut far, descriptor)) in (0_u8..).zip(pairs.iter().map(|(_, far)| far).zip(received)) {
            UnixStream::from(descriptor).write_all(&[i]).unwrap();
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [i]);
        }
    }

    #[test]
    fn a_sender_that_sends_none_or_goes_away_is_no_sender() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[0]).unwrap();
        assert_eq!(
            receive_descriptors(&theirs, 1, soon()).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        let past = Instant::now() + Duration::from_millis(1);
        assert_eq!(
            receive_descriptors(&theirs, 1, past).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        drop(ours);
        assert_eq!(
            receive_descriptors(&theirs, 1, soon()).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        assert!(receive_descriptors(&theirs, 0, soon()).unwrap().is_empty());
        assert_eq!(
            receive_descriptors(&theirs, MAX_TOTAL + 1, soon()).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}
