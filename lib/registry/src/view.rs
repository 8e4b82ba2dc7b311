//! An address of record and its bindings, read in place.

use crate::{AorRecord, Binding, Expiry, Kind, Version};
use sps_wire::Flow;
use std::net::SocketAddr;

/// An AOR record as it lies in the file; nothing is copied before it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    _bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The key.
    pub fn aor(&self) -> &'a [u8] {
        unimplemented!()
    }

    /// The URI of To as it was received.
    pub fn to_uri(&self) -> &'a [u8] {
        unimplemented!()
    }

    /// Hash of the rules that made the key.
    pub fn rules_hash(&self) -> u64 {
        unimplemented!()
    }

    /// Which change this is.
    pub fn version(&self) -> Version {
        unimplemented!()
    }

    /// Number of bindings, expired ones included.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// No binding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The earliest end of a binding, seconds since 1970.
    pub fn next_expiry(&self) -> Option<u64> {
        unimplemented!()
    }

    /// All bindings, expired ones included: whoever uses them asks [`BindingView::is_past`].
    pub fn bindings(&self) -> impl Iterator<Item = BindingView<'a>> + use<'a> {
        std::iter::empty()
    }

    /// The bindings in force at `now` (seconds since 1970).
    pub fn current(&self, now: u64) -> impl Iterator<Item = BindingView<'a>> + use<'a> {
        self.bindings()
            .filter(move |binding| !binding.expires.is_past(now))
    }

    /// As an owned value.
    pub fn to_record(&self) -> AorRecord {
        unimplemented!()
    }
}

/// A binding as it lies in the file. The fields are those of [`Binding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BindingView<'a> {
    pub contact: &'a [u8],
    pub q: u16,
    pub expires: Expiry,
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub instance_id: Option<&'a [u8]>,
    pub reg_id: Option<u32>,
    pub flow: Option<Flow>,
    pub received: Option<SocketAddr>,
    pub user_agent: Option<&'a [u8]>,
    pub kind: Kind,
    path: &'a [u8],
}

impl<'a> BindingView<'a> {
    /// Whether it is over at `now` (seconds since 1970).
    pub fn is_past(&self, now: u64) -> bool {
        self.expires.is_past(now)
    }

    /// Path values as received, top first.
    pub fn path(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let _ = self.path;
        std::iter::empty()
    }

    /// As an owned value.
    pub fn to_binding(&self) -> Binding {
        unimplemented!()
    }
}
