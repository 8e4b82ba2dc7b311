//! Reason phrases (RFC 3261 §21 and the IANA registry).

/// The usual phrase for a status code; by class for unknown ones.
pub fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    unimplemented!()
}
