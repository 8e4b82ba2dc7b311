//! Which final response goes upstream when every branch has one (RFC 3261 §16.7 step 6), as a pure function of codes.

use std::cmp::Ordering;

/// Orders two final responses other than 2xx: `Less` means `a` is the better one to forward.
///
/// §16.7 step 6: a 6xx before all others; then the lowest class; within 4xx those that tell the caller how to ask again
/// (401, 407, 415, 420, 484) before the rest. Equals keep the order in which they came.
pub fn better(a: u16, b: u16) -> Ordering {
    rank(a).cmp(&rank(b))
}

fn rank(status: u16) -> (u16, u16) {
    match status {
        600..=699 => (0, 0),
        401 | 407 => (status / 100, 0),
        415 | 420 | 484 => (status / 100, 1),
        // A branch that was cancelled or that timed out says less than one that answered.
        408 | 487 => (status / 100, 3),
        // §16.7 step 6: avoid 503, which would silence this server upstream.
        503 => (status / 100, 4),
        _ => (status / 100, 2),
    }
}

/// What is sent in place of `status` (§16.7 step 6): a 503 speaks of the next server, not of this one, so upstream hears 500.
pub fn upstream_status(status: u16) -> u16 {
    if status == 503 { 500 } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(codes: &[u16]) -> u16 {
        let mut sorted = codes.to_vec();
        sorted.sort_by(|a, b| better(*a, *b));
        sorted[0]
    }

    /// §16.7 step 6
    #[test]
    fn a_6xx_wins_over_everything() {
        assert_eq!(best(&[302, 404, 603, 503]), 603);
    }

    /// §16.7 step 6
    #[test]
    fn the_lowest_class_wins() {
        assert_eq!(best(&[503, 404, 302]), 302);
        assert_eq!(best(&[500, 486]), 486);
    }

    /// §16.7 step 6
    #[test]
    fn within_4xx_what_helps_the_caller_wins() {
        assert_eq!(best(&[404, 407, 486]), 407);
        assert_eq!(best(&[404, 484, 486]), 484);
        assert_eq!(best(&[484, 401]), 401);
    }

    #[test]
    fn an_answer_wins_over_silence() {
        assert_eq!(best(&[408, 486]), 486);
        assert_eq!(best(&[487, 404]), 404);
        assert_eq!(best(&[503, 500]), 500);
    }

    #[test]
    fn the_first_of_equals_wins() {
        let mut codes = [480, 486, 404];
        codes.sort_by(|a, b| better(*a, *b));
        assert_eq!(codes, [480, 486, 404]);
    }

    /// §16.7 step 6
    #[test]
    fn a_503_goes_upstream_as_500() {
        assert_eq!(upstream_status(503), 500);
        assert_eq!(upstream_status(504), 504);
    }
}
