//! URI equality (RFC 3261 §19.1.4, RFC 3966 §4).

use crate::Uri;

/// Whether two URIs are equal: SIP and SIPS by §19.1.4, tel by RFC 3966 §4, others byte by byte but for the scheme's case.
pub fn equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    let _ = (left, right);
    unimplemented!()
}
