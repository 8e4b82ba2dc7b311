//! Max-Breadth (RFC 5393 §5): how many branches of one request may live at the same time, here and behind the next hops.
//!
//! What came in is shared among the branches that live; where there is less than branches, the rest wait until one has ended.

use sps_wire::{Message, Name};

use super::Target;
use super::check::Refusal;
use super::conf::{Conf, Fork};
use super::context::Active;

/// RFC 5393 §5.3.3: what a request may spread to, the Incoming Max-Breadth. Without a header as much as we allow at the most.
pub(super) fn incoming(message: Message<'_>, conf: &Conf) -> Result<u16, Refusal> {
    let mut headers = message.all(Name::MaxBreadth);
    let Some(header) = headers.next() else {
        return Ok(conf.max_breadth);
    };
    match (parse(header.value()), headers.next()) {
        // Not one branch: there is nothing that forking one after the other could make good.
        (Some(0), None) => Err(Refusal::plain(440)),
        (Some(breadth), None) => Ok(breadth.min(conf.max_breadth)),
        (None, _) | (_, Some(_)) => Err(Refusal::new(400, "Malformed Max-Breadth")),
    }
}

/// RFC 5393 §5.8: digits, as many as they like.
fn parse(value: &[u8]) -> Option<u16> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| {
        value.iter().fold(0u16, |number, digit| {
            number.saturating_mul(10).saturating_add(u16::from(digit - b'0'))
        })
    })
}

/// What living branches have left over of the Incoming Max-Breadth. A branch that has its final response counts no more (§5.3.2).
fn left<W>(active: &Active<W>) -> u16 {
    let outgoing = active
        .branches
        .iter()
        .filter(|branch| !branch.done)
        .fold(0u16, |sum, branch| sum.saturating_add(branch.breadth));
    active.breadth.saturating_sub(outgoing)
}

/// The shares of the branches to be begun now: as many of the waiting targets of the highest q as there is breadth for, or one
/// if forking is sequential. All that is left is given out, in parts as equal as can be (§5.3.3: no less leaves than came).
pub(super) fn shares<W>(active: &Active<W>, fork: Fork) -> impl Iterator<Item = u16> + use<W> {
    let wanted = match fork {
        Fork::Parallel => equals_waiting(&active.waiting),
        Fork::Sequential => active.waiting.len().min(1),
    };
    split(left(active), wanted)
}

/// Targets that share the q of the next one; they are taken from the end.
fn equals_waiting<W>(waiting: &[Target<W>]) -> usize {
    let Some(next) = waiting.last() else { return 0 };
    waiting.iter().rev().take_while(|target| target.q == next.q).count()
}

fn split(breadth: u16, branches: usize) -> impl Iterator<Item = u16> {
    let branches = breadth.min(u16::try_from(branches).unwrap_or(u16::MAX));
    let (each, over) = (
        breadth.checked_div(branches).unwrap_or(0),
        breadth.checked_rem(branches).unwrap_or(0),
    );
    (0..branches).map(move |at| each + u16::from(at < over))
}

/// RFC 5393 §5.3.3.1: whether a branch that ended made room for a target that waited for nothing else: one of the same q as
/// those that still ring.
pub(super) fn has_room<W>(active: &Active<W>, fork: Fork) -> bool {
    let Some(next) = active.waiting.last() else {
        return false;
    };
    fork == Fork::Parallel
        && !active.cancelled
        && left(active) > 0
        && active
            .branches
            .iter()
            .any(|branch| !branch.done && branch.target.q == next.q)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5393 §5.8
    #[test]
    fn a_breadth_is_digits_and_nothing_else() {
        assert_eq!(parse(b"60"), Some(60));
        assert_eq!(parse(b"007"), Some(7));
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"99999999999999999999"), Some(u16::MAX));
        for bad in [&b""[..], b"-1", b"6 0", b"60;a=b", b"1,2", b"x"] {
            assert_eq!(parse(bad), None);
        }
    }

    /// RFC 5393 §5.3.3: the sum is what came in, no branch has none
    #[test]
    fn breadth_is_shared_out_wholly() {
        let all = |breadth, branches| split(breadth, branches).collect::<Vec<_>>();
        assert_eq!(all(60, 1), [60]);
        assert_eq!(all(60, 2), [30, 30]);
        assert_eq!(all(60, 7), [9, 9, 9, 9, 8, 8, 8]);
        assert_eq!(all(4, 8), [1, 1, 1, 1]);
        assert_eq!(all(1, 2), [1]);
        assert_eq!(all(0, 2), [0; 0]);
        assert_eq!(all(5, 0), [0; 0]);
    }
}
