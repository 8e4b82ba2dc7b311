//! Size classes: every chunk of the heap is cut into places of one of these lengths.

use crate::layout::{CHUNK_HEAD_LEN, CHUNK_LEN, UNIT};

/// Four steps to each doubling: on average a ninth of a place is left over.
pub(crate) const SIZES: [usize; 39] = [
    64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584,
    4096, 5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480, 24576, 28672, 32768, 40960, 49152, 57344, 65536,
];

/// A size class, by its place in [`SIZES`] and one more; 0 in the file is a chunk that belongs to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    pub const COUNT: usize = SIZES.len();

    /// The smallest class whose places hold `len` bytes.
    #[inline]
    pub fn holding(len: usize) -> Option<Class> {
        let index = SIZES.partition_point(|size| *size < len);
        (index < SIZES.len()).then_some(Class(index as u8))
    }

    /// From the number in the file; `None` for 0 and for what is no class.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Class> {
        (1..=SIZES.len()).contains(&usize::from(byte)).then(|| Class(byte - 1))
    }

    #[inline]
    pub fn to_byte(self) -> u8 {
        self.0 + 1
    }

    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub fn all() -> impl Iterator<Item = Class> {
        (0..SIZES.len() as u8).map(Class)
    }

    /// Bytes of a place.
    #[inline]
    pub fn size(self) -> usize {
        SIZES[self.index()]
    }

    /// Places in a chunk.
    #[inline]
    pub fn places(self) -> usize {
        (CHUNK_LEN - CHUNK_HEAD_LEN) / self.size()
    }
}

const _: () = {
    let mut i = 0;
    while i < SIZES.len() {
        assert!(SIZES[i].is_multiple_of(UNIT) && (i == 0 || SIZES[i] > SIZES[i - 1]));
        i += 1;
    }
    // A chunk's map of places fits in front of them.
    assert!((CHUNK_LEN - CHUNK_HEAD_LEN) / SIZES[0] <= CHUNK_HEAD_LEN * 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_class_that_holds_it() {
        for len in 1..=65_536 {
            let class = Class::holding(len).unwrap();
            assert!(class.size() >= len);
            assert!(class.index() == 0 || SIZES[class.index() - 1] < len);
            assert_eq!(Class::from_byte(class.to_byte()), Some(class));
        }
        assert_eq!(Class::holding(65_537), None);
        assert_eq!(Class::from_byte(0), None);
        assert_eq!(Class::from_byte(40), None);
    }

    #[test]
    fn every_chunk_has_places_to_spare() {
        assert!(Class::all().all(|class| class.places() >= 3));
    }
}
