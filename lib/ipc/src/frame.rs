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
