//! How a record gets from the writer to a reader in another process without a lock.
//!
//! A *slot* is one word that says where the record lies. The writer lays a new record beside the old one and then turns the slot with one
//! store; only then may the old record's space be written again. A reader takes the slot, copies the record, and looks at the slot again:
//! if it is unchanged, no word of the copy is from the space's next use.
//!
//! Why that holds: the writer's stores to a reused space come after its release fence, which comes after the store that turned the slot away
//! from it. A reader that has seen one of those stores passes an acquire fence before it looks at the slot again, and so must see
//! it turned. The functions are generic over [`Words`] so that the model checker runs the same code (see the tests).

use std::sync::atomic::Ordering;

/// Shared memory as words; `at` counts bytes.
pub(crate) trait Words {
    fn load(&self, at: usize, order: Ordering) -> u64;
    fn store(&self, at: usize, word: u64, order: Ordering);
    fn fence(&self, order: Ordering);

    fn copy(&self, at: usize, out: &mut [u64]) {
        for (i, to) in out.iter_mut().enumerate() {
            *to = self.load(at + i * 8, Ordering::Relaxed);
        }
    }

    fn paste(&self, at: usize, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.store(at + i * 8, *word, Ordering::Relaxed);
        }
    }
}

/// Writer: lays a record into space that no slot points to.
#[inline]
pub(crate) fn lay<W: Words>(words: &W, at: usize, record: &[u64]) {
    // What turned slots away from this space must be seen before what is stored into it now.
    words.fence(Ordering::Release);
    words.paste(at, record);
}

/// Writer: turns a slot to a record that has been laid, or away from one. From here on readers find the new one.
#[inline]
pub(crate) fn turn<W: Words>(words: &W, slot_at: usize, slot: u64) {
    words.store(slot_at, slot, Ordering::Release);
}

/// Reader: what the slot says now.
#[inline]
pub(crate) fn look<W: Words>(words: &W, slot_at: usize) -> u64 {
    words.load(slot_at, Ordering::Acquire)
}

/// Reader: copies words of the record that `slot` pointed to. False if the copy may not be used, because the slot has been turned meanwhile.
#[inline]
pub(crate) fn take<W: Words>(words: &W, slot_at: usize, slot: u64, at: usize, out: &mut [u64]) -> bool {
    words.copy(at, out);
    is_still(words, slot_at, slot)
}

/// Reader: whether what was copied since [`look`] may be used.
#[inline]
pub(crate) fn is_still<W: Words>(words: &W, slot_at: usize, slot: u64) -> bool {
    words.fence(Ordering::Acquire);
    words.load(slot_at, Ordering::Relaxed) == slot
}
