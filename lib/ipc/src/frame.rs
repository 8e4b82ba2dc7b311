//! Values to bytes and back: postcard under a size cap.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::MAX_FRAME_LEN;

/// Bytes that are no message of this conversation: cut short, too long, or of another build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message at byte {offset}")]
pub struct Malformed {
    /// Where in the frame the entry began that could not be read.
    pub offset: usize,
}

/// A value that does not fit into [`MAX_FRAME_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message longer than {MAX_FRAME_LEN} bytes")]
pub struct TooLong;

/// One value as one frame.
///
/// # Errors
/// [`TooLong`] above [`MAX_FRAME_LEN`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::new();
    append(value, &mut out)?;
    Ok(out)
}

/// Adds one value to a frame; on error `out` is as before.
///
/// # Errors
/// [`TooLong`] when `out` would pass [`MAX_FRAME_LEN`].
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let len = out.len();
    // Besides the cap only a sequence without a known length can fail, and no type of this crate has one.
    postcard::serialize_with_flavor(value, Capped(out)).map_err(|_| {
        out.truncate(len);
        TooLong
    })
}

/// Appends to a frame and stops at the cap.
struct Capped<'a>(&'a mut Vec<u8>);

impl Flavor for Capped<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.0.len() + bytes.len() > MAX_FRAME_LEN {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The one value of a frame, borrowing from it. Trailing bytes are refused.
///
/// # Errors
/// [`Malformed`].
pub fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(frame) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Malformed {
            offset: frame.len() - rest.len(),
        }),
        Err(_) => Err(Malformed { offset: 0 }),
    }
}

/// The values of a frame one after the other, borrowing from it. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Entries<'a, T> {
    frame: &'a [u8],
    offset: usize,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T: Deserialize<'a>> Entries<'a, T> {
    /// Reads nothing yet.
    pub fn new(frame: &'a [u8]) -> Self {
        Self {
            frame,
            offset: 0,
            of: std::marker::PhantomData,
        }
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Entries<'a, T> {
    type Item = Result<T, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.frame.get(self.offset..).filter(|rest| !rest.is_empty())?;
        match postcard::take_from_bytes::<T>(rest) {
            // An entry of no bytes would never end.
            Ok((value, after)) if after.len() < rest.len() => {
                self.offset = self.frame.len() - after.len();
                Some(Ok(value))
            }
            Ok(_) | Err(_) => {
                let offset = std::mem::replace(&mut self.offset, self.frame.len());
                Some(Err(Malformed { offset }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{operator, proxy_ctl, registrar_ctl, service, starter, tls, tls_ctl};

    #[test]
    fn a_frame_that_is_full_stays_as_it_was() {
        let mut out = vec![1, 2, 3];
        assert_eq!(append(&vec![0_u8; MAX_FRAME_LEN], &mut out), Err(TooLong));
        assert_eq!(out, [1, 2, 3]);
        append(&vec![7_u8; 2], &mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 2, 7, 7]);
    }

    #[test]
    fn what_stands_behind_the_value_is_refused() {
        assert_eq!(decode::<u8>(&[1]), Ok(1));
        assert_eq!(decode::<u8>(&[1, 2]), Err(Malformed { offset: 1 }));
        assert_eq!(decode::<u8>(&[]), Err(Malformed { offset: 0 }));
    }

    #[test]
    fn entries_end_with_the_first_that_is_malformed() {
        let entries: Vec<_> = Entries::<bool>::new(&[1, 0, 7, 1]).collect();
        assert_eq!(entries, [Ok(true), Ok(false), Err(Malformed { offset: 2 })]);
        // An entry that takes no bytes would never end.
        assert_eq!(
            Entries::<()>::new(&[1]).collect::<Vec<_>>(),
            [Err(Malformed { offset: 0 })]
        );
    }

    /// Reads `bytes` as every conversation would.
    fn read_as_anything(bytes: &[u8]) {
        let entries = service::to_service(bytes).count() + service::from_service(bytes).count();
        assert!(entries <= 2 * bytes.len());
        let _ = operator::decode_request(bytes);
        let _ = operator::decode_reply(bytes);
        let _ = decode::<registrar_ctl::Request>(bytes);
        let _ = decode::<registrar_ctl::Reply>(bytes);
        let _ = decode::<proxy_ctl::Request>(bytes);
        let _ = decode::<proxy_ctl::Reply>(bytes);
        let _ = decode::<tls::ToTls>(bytes);
        let _ = decode::<tls::FromTls>(bytes);
        let _ = decode::<tls_ctl::Request>(bytes);
        let _ = decode::<tls_ctl::Reply>(bytes);
        let mut rest = bytes;
        while let Ok(Some(_)) = starter::read(&mut rest) {}
    }

    proptest! {
        #[test]
        fn hostile_frames_are_refused_and_nothing_else(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            read_as_anything(&bytes);
        }

        /// Lengths that promise more than there is, cut and changed bytes: near what is right, where decoders err.
        #[test]
        fn frames_that_are_nearly_right_are_no_worse(at in 0_usize..300, byte: u8, cut in 0_usize..300) {
            let record = registrar_ctl::Record {
                aor: "sip:alice@example.com".into(),
                bindings: vec![registrar_ctl::Binding {
                    contact: "sip:alice@192.0.2.7".into(), q: 500, expires_in_s: Some(60), call_id: "a@b".into(), cseq: 7,
                    path: vec!["<sip:p;lr>".into()], flow: String::new(), instance_id: String::new(), user_agent: String::new(),
                }],
            };
            let mut page = encode(&registrar_ctl::Reply::Page { records: vec![record], next: Some(u64::MAX) }).unwrap();
            let mut batch = service::Batch::default();
            for id in 0..3 {
                batch.push(&service::FromService::Response { id, message: b"SIP/2.0 200 OK\r\n\r\n" }).unwrap();
            }
            let mut batch = batch.bytes().to_vec();
            for frame in [&mut page, &mut batch] {
                let len = frame.len();
                frame[at % len] = byte;
                frame.truncate(cut);
                read_as_anything(frame);
            }
        }
    }
}
