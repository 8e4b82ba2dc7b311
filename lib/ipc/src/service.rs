//! `sps-proxy` to a service behind it; `sps-registrar` is the first one.
//!
//! Each proxy worker keeps one connection to `run/gen-N/registrar.sock`. The proxy speaks first: a frame with one
//! [`ToService::Hello`]; a service of another [`crate::VERSION`] hangs up. From then on both sides send frames, each a *batch* of
//! entries one after the other (32 requests cost one send). Every [`ToService::Request`] gets exactly one
//! [`FromService::Response`] with its id, in any order. A service may also send requests of its own ([`FromService::Originate`])
//! and gets one [`ToService::Answer`] for each.
//!
//! At most [`WINDOW`] requests of one connection are open; beyond it the proxy answers 503 itself. Nothing within
//! [`ANSWER_TIMEOUT`]: the proxy answers 500 with Retry-After and drops the late response. Connection lost: the proxy connects
//! anew (waiting [`RECONNECT_WAIT`] between tries) and sends what is still open again; a REGISTER repeated with the same
//! Call-ID and CSeq is harmless.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sps_wire::flow::Flow;

use crate::frame::{self, Entries, TooLong};

/// Requests of one connection that may be open at a time: a second of REGISTERs for a worker at full load, 32 MiB at worst.
pub const WINDOW: usize = 16 * 1024;

/// How long the proxy waits for a response. Less than the 4 s (T2) after which a phone repeats itself for the third time, more
/// than a service that died needs to be back (1 s).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two tries to reach a service that went away.
pub const RECONNECT_WAIT: Duration = Duration::from_millis(50);

/// What the proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToService<'a> {
    /// The first entry of a connection.
    Hello {
        /// [`crate::VERSION`].
        version: u16,
        /// Number of the configuration in force at the proxy.
        conf: u64,
    },
    /// A SIP request that the service is to answer.
    Request {
        /// Chosen by the proxy, unique among the open ones of this connection.
        id: u64,
        /// Where it came from, and where its response goes.
        flow: Flow,
        /// Milliseconds since the Unix epoch at which it was received.
        received_at_ms: u64,
        /// The request as received.
        #[serde(borrow, with = "serde_bytes")]
        message: &'a [u8],
    },
    /// The final response (or a 408 of our own) to what the service originated.
    Answer {
        /// Id of the [`FromService::Originate`].
        id: u64,
        /// The response as received.
        #[serde(borrow, with = "serde_bytes")]
        message: &'a [u8],
    },
}

/// What the service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromService<'a> {
    /// The final response to a request.
    Response {
        /// Id of the [`ToService::Request`].
        id: u64,
        /// The whole response, ready to leave.
        #[serde(borrow, with = "serde_bytes")]
        message: &'a [u8],
    },
    /// The service refuses to look at a request now (its own bounds are reached); the proxy answers 500 with Retry-After.
    Busy {
        /// Id of the [`ToService::Request`].
        id: u64,
    },
    /// A SIP request that the proxy is to send out.
    Originate {
        /// Chosen by the service, unique among its open ones on this connection.
        id: u64,
        /// The flow to send it by.
        flow: Flow,
        /// The whole request but for the topmost Via, which the proxy adds.
        #[serde(borrow, with = "serde_bytes")]
        message: &'a [u8],
    },
}

/// A frame under construction. Reuse it: cleared, it keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: usize,
}

impl Batch {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`TooLong`] when the frame is full: send it, clear it, and push again. An entry that does not fit into an empty frame
    /// (a message near 128 KiB) never will.
    pub fn push<T: Serialize>(&mut self, entry: &T) -> Result<(), TooLong> {
        frame::append(entry, &mut self.bytes)?;
        self.entries += 1;
        Ok(())
    }

    /// What to send: one frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Forgets the entries, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
    }
}

/// The entries of a frame from the proxy.
pub fn to_service(frame: &[u8]) -> Entries<'_, ToService<'_>> {
    Entries::new(frame)
}

/// The entries of a frame from the service.
pub fn from_service(frame: &[u8]) -> Entries<'_, FromService<'_>> {
    Entries::new(frame)
}

#[cfg(test)]
mod tests {
    use sps_wire::flow::Transport;

    use super::*;
    use crate::MAX_FRAME_LEN;

    fn flow(last: u8) -> Flow {
        Flow {
            member: 3,
            transport: Transport::Tcp,
            local: "[2001:db8::1]:5060".parse().unwrap(),
            remote: format!("192.0.2.{last}:40000").parse().unwrap(),
            connection: u64::MAX - u64::from(last),
        }
    }

    #[test]
    fn a_batch_comes_out_as_it_went_in_and_borrows_from_the_frame() {
        let messages: Vec<_> = (0..32_u8).map(|i| vec![i; 700]).collect();
        let mut batch = Batch::default();
        batch
            .push(&ToService::Hello {
                version: crate::VERSION,
                conf: 9,
            })
            .unwrap();
        for (i, message) in (0..).zip(&messages) {
            let request = ToService::Request {
                id: u64::from(i),
                flow: flow(i),
                received_at_ms: 1 << 40,
                message,
            };
            batch.push(&request).unwrap();
        }
        assert_eq!(batch.len(), 33);
        let frame = batch.bytes();
        let mut entries = to_service(frame);
        assert_eq!(
            entries.next(),
            Some(Ok(ToService::Hello {
                version: crate::VERSION,
                conf: 9
            }))
        );
        for (i, expected) in (0..).zip(&messages) {
            let Some(Ok(ToService::Request {
                id,
                flow: by,
                received_at_ms,
                message,
            })) = entries.next()
            else {
                panic!("no request")
            };
            assert_eq!(
                (id, by, received_at_ms, message),
                (u64::from(i), flow(i), 1 << 40, &expected[..])
            );
            assert!(frame.as_ptr_range().contains(&message.as_ptr()));
        }
        assert_eq!(entries.next(), None);
        batch.clear();
        assert!(batch.is_empty() && batch.bytes().is_empty());
    }

    #[test]
    fn a_full_frame_keeps_what_it_has_and_one_more_goes_into_the_next() {
        let message = vec![7; 65_535];
        let response = FromService::Response {
            id: 1,
            message: &message,
        };
        let mut batch = Batch::default();
        batch.push(&response).unwrap();
        let len = batch.bytes().len();
        assert_eq!(batch.push(&response), Err(TooLong));
        assert_eq!((batch.len(), batch.bytes().len()), (1, len));
        assert!(len <= MAX_FRAME_LEN);
        batch.clear();
        batch.push(&response).unwrap();
        assert_eq!(from_service(batch.bytes()).collect::<Vec<_>>(), [Ok(response)]);
    }
}
