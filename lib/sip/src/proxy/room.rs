//! Who goes first when there is little room: the order in which a full table of transactions refuses.
//!
//! From first to last:
//! 1. banned sources, and what is over a source's budget ([`crate::guard`]): nothing is kept, nothing answered;
//! 2. what cannot be read, responses and ACKs that nobody waits for: dropped, full or not;
//! 3. new requests of unknown sources, when seven eighths are taken: 503;
//! 4. new requests of proven sources and friends, when fifteen sixteenths are taken: 503;
//! 5. requests of a dialog that we let through, which show our MAC, when all is taken: 503.
//!
//! Nothing is ever taken back: what has begun goes on to its end. Room is counted in transactions and in bytes they keep;
//! whichever is scarcer decides. 503 has no Retry-After (RFC 7339 §5.10.2): it would silence a whole server upstream.

use super::conf::Conf;

/// What a request is worth when not all can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// New, of a source that nothing is known of.
    Stranger,
    /// New, of a source that is proven or a friend.
    Known,
    /// Part of a dialog that we let through.
    Dialog,
}

impl Rank {
    /// How much of `all` such requests may take.
    fn share(self, all: usize) -> usize {
        match self {
            Rank::Stranger => all - all / 8,
            Rank::Known => all - all / 16,
            Rank::Dialog => all,
        }
    }
}

/// What is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub transactions: usize,
    pub stored_len: usize,
}

impl Taken {
    /// Whether there is no room for one more request of that rank.
    pub fn is_full_for(self, rank: Rank, conf: &Conf) -> bool {
        self.transactions >= rank.share(conf.max_transactions) || self.stored_len >= rank.share(conf.max_stored_len)
    }
}

/// What an undecided request takes besides its own bytes, about: context, index, machines, timers.
pub(super) const ACTIVE_LEN: usize = 1536;

/// What is left of it after its final response, about.
pub(super) const CONTEXT_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_go_first_and_dialogs_last() {
        let conf = Conf {
            max_transactions: 160,
            max_stored_len: 1600,
            ..crate::proxy::tests::conf()
        };
        let ranks = [Rank::Stranger, Rank::Known, Rank::Dialog];
        for (transactions, stored_len, full) in [
            (139, 0, [false, false, false]),
            (140, 0, [true, false, false]),
            (150, 0, [true, true, false]),
            (160, 0, [true, true, true]),
            (0, 1399, [false, false, false]),
            (0, 1400, [true, false, false]),
            (0, 1500, [true, true, false]),
            (0, 1600, [true, true, true]),
        ] {
            let taken = Taken {
                transactions,
                stored_len,
            };
            assert_eq!(ranks.map(|rank| taken.is_full_for(rank, &conf)), full, "{taken:?}");
        }
    }

    #[test]
    fn a_small_table_has_no_reserve_and_is_not_shut() {
        for most in 1..8 {
            assert_eq!(Rank::Stranger.share(most), most);
        }
    }
}
