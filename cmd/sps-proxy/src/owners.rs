//! Which worker has which server transaction: a table of fingerprints that all workers share without a lock.
//!
//! Retransmissions, CANCEL and ACK mostly come by the socket their request came by, and the kernel gives one peer's packets
//! to one worker; this table is for when it does not.

use std::sync::atomic::{AtomicU64, Ordering};

use sps_sip::proxy::Owners;

/// Buckets of eight words, one cache line each. A word holds 56 bits of the fingerprint and the worker's number plus one.
pub struct OwnerTable {
    words: Box<[AtomicU64]>,
    buckets: u64,
}

const PER_BUCKET: usize = 8;

/// More get no larger table: it is resident from the start, 2 MiB then, and what finds no place in it is no harm.
const MAX_TRANSACTIONS: usize = 1 << 17;

impl OwnerTable {
    /// Room for `transactions` at once, with the usual slack.
    pub fn new(transactions: usize) -> OwnerTable {
        let buckets = (transactions.min(MAX_TRANSACTIONS) * 2 / PER_BUCKET)
            .max(64)
            .next_power_of_two();
        let words = (0..buckets * PER_BUCKET).map(|_| AtomicU64::new(0)).collect();
        OwnerTable {
            words,
            buckets: buckets as u64,
        }
    }

    fn bucket(&self, fingerprint: u128) -> &[AtomicU64] {
        let at = ((fingerprint >> 64) as u64 & (self.buckets - 1)) as usize * PER_BUCKET;
        &self.words[at..at + PER_BUCKET]
    }

    fn mark(fingerprint: u128) -> u64 {
        (fingerprint as u64) << 8
    }
}

impl Owners for OwnerTable {
    fn owner(&self, fingerprint: u128) -> Option<u8> {
        let mark = Self::mark(fingerprint);
        self.bucket(fingerprint).iter().find_map(|word| {
            let word = word.load(Ordering::SeqCst);
            (word != 0 && word & !0xff == mark).then(|| (word & 0xff) as u8 - 1)
        })
    }

    fn claim(&self, fingerprint: u128, worker: u8) -> Result<(), u8> {
        if let Some(owner) = self.owner(fingerprint) {
            return if owner == worker { Ok(()) } else { Err(owner) };
        }
        let word = Self::mark(fingerprint) | (u64::from(worker) + 1);
        let taken = self.bucket(fingerprint).iter().any(|place| {
            place.load(Ordering::Relaxed) == 0
                && place
                    .compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
        });
        // Another worker may have claimed it at the same moment in another place; the place in front wins, for both see the same
        // order. (Sequentially consistent, so that at least one of two sees the other.)
        match self.owner(fingerprint) {
            Some(first) if taken && first != worker => {
                self.release(fingerprint, worker);
                Err(first)
            }
            // A full bucket is no harm: the transaction works, only a stray retransmission to another worker would begin a
            // second one.
            _ => Ok(()),
        }
    }

    fn release(&self, fingerprint: u128, worker: u8) {
        let word = Self::mark(fingerprint) | (u64::from(worker) + 1);
        for place in self.bucket(fingerprint) {
            if place
                .compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_until_it_is_released() {
        let table = OwnerTable::new(1000);
        assert_eq!(table.owner(77), None);
        assert_eq!(table.claim(77, 3), Ok(()));
        assert_eq!(table.owner(77), Some(3));
        assert_eq!(table.claim(77, 1), Err(3));
        table.release(77, 1);
        assert_eq!(table.owner(77), Some(3));
        table.release(77, 3);
        assert_eq!(table.owner(77), None);
    }

    /// Two workers that are given the same request at the same moment must not both begin it.
    #[test]
    fn of_many_that_claim_at_once_one_succeeds() {
        const WORKERS: u8 = 4;
        let table = OwnerTable::new(1);
        let start = std::sync::Barrier::new(usize::from(WORKERS));
        let granted = AtomicU64::new(0);
        for round in 0..2000u128 {
            granted.store(0, Ordering::SeqCst);
            std::thread::scope(|scope| {
                for worker in 0..WORKERS {
                    let (table, start, granted) = (&table, &start, &granted);
                    scope.spawn(move || {
                        start.wait();
                        if table.claim(round + 1, worker).is_ok() {
                            granted.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(granted.load(Ordering::SeqCst), 1, "round {round}");
            let owner = table.owner(round + 1).expect("one has it");
            table.release(round + 1, owner);
            assert_eq!(table.owner(round + 1), None);
        }
    }

    #[test]
    fn a_full_bucket_refuses_nobody() {
        let table = OwnerTable::new(1);
        for low in 0..100u128 {
            assert_eq!(table.claim(low, 0), Ok(()));
        }
        assert_eq!(
            (0..100u128).filter(|low| table.owner(*low).is_some()).count(),
            PER_BUCKET
        );
    }
}
