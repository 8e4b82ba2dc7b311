//! The canonical form of an address of record (RFC 3261 §10.3 step 5).

use crate::Uri;

/// Appends the key that all spellings of an address of record share: scheme `sip`, user with needless escapes undone, host in
/// lower case, port only if given; no password, parameters or headers. A tel URI gives `tel:` and the number without visual separators.
///
/// `sips:` gives the same key as `sip:` (§10.2.1 and RFC 5630 §3.1.1.1: one AOR reachable by both).
pub fn canonical_aor(uri: &Uri<'_>, out: &mut Vec<u8>) {
    let _ = (uri, out);
    unimplemented!()
}
