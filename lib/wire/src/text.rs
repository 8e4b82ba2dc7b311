//! Characters: classes, white space, comparison without case (RFC 3261 §25.1, §7.3.1).

/// Equal but for ASCII case.
pub fn eq_ignore_case(left: &[u8], right: &[u8]) -> bool {
    left.eq_ignore_ascii_case(right)
}
