//! Where a page-wise listing goes on.

use crate::layout::{MAX_PROBE, Shape};

/// A place in a listing: give back what the page before returned.
///
/// Survives growth of the table: a record that is there all the while is listed at least once, and only around a growth perhaps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// The beginning.
    pub const START: Cursor = Cursor(0);

    /// For messages between processes.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// From [`Cursor::to_u64`]. Any number is safe; one that was never given out lists from an arbitrary place.
    pub fn from_u64(word: u64) -> Self {
        Cursor(word)
    }

    /// 34 bits of slot, 24 of generation, 6 of the number of slots.
    pub(crate) fn at(index: usize, shape: &Shape) -> Cursor {
        Cursor((index as u64) << 30 | (shape.generation & 0xff_ffff) << 6 | u64::from(shape.bits))
    }

    /// The slot to go on from. In another file than the cursor was made for, as far back as a record may have been in front of its place
    /// here: slots are in the order of the hash but for the few that had to give way.
    pub(crate) fn index(self, shape: &Shape) -> usize {
        if self == Cursor::START {
            return 0;
        }
        let (index, generation, bits) = (self.0 >> 30, (self.0 >> 6) & 0xff_ffff, (self.0 & 63) as u32);
        if generation == shape.generation & 0xff_ffff && bits == shape.bits {
            return index as usize;
        }
        let index = index.saturating_sub(MAX_PROBE as u64);
        if bits <= shape.bits {
            (index << (shape.bits - bits).min(29)) as usize
        } else {
            (index >> (bits - shape.bits)) as usize
        }
    }
}
