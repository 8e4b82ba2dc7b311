//! Where a page-wise listing goes on.

/// A place in a listing: give back what the page before returned.
///
/// Survives growth of the table: a record that is there all the while is listed at least once, and only around a growth perhaps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(crate) u64);

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
}
