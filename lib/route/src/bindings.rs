//! What the registry says about one AOR, copied out of the mapped file once.

use crate::target::UriBytes;
use smallvec::SmallVec;
use sps_wire::Handling;
use sps_wire::flow::Flow;

/// One live binding, as far as routing cares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contact {
    /// The contact URI as registered.
    pub uri: UriBytes,
    /// Preference in thousandths, 0 to 1000.
    pub q: u16,
    /// Path as registered, top one first (RFC 3327 §5.3).
    pub path: Vec<Box<[u8]>>,
    /// The flow the REGISTER came by, for contacts that can only be reached by it.
    pub flow: Option<Flow>,
    /// What its owner wants done with requests for it, if he said so.
    pub handling: Option<Handling>,
}

/// Filled by [`crate::Tables::registered`]; reusable.
#[derive(Debug, Default)]
pub struct Bindings {
    known: bool,
    contacts: SmallVec<[Contact; 2]>,
}

impl Bindings {
    /// Says that the AOR has a record, with or without live bindings: the difference between 480 and 404.
    pub fn set_known(&mut self) {
        self.known = true;
    }

    /// Adds one live binding. `path` is empty or top Path first. Beyond [`MAX_CONTACTS`] the rest is ignored.
    /// Gives it back, to add what few bindings have.
    pub fn push<'p>(
        &mut self,
        uri: &[u8],
        q: u16,
        path: impl IntoIterator<Item = &'p [u8]>,
        flow: Option<Flow>,
    ) -> Option<&mut Contact> {
        self.known = true;
        if self.contacts.len() >= MAX_CONTACTS {
            return None;
        }
        let path = path.into_iter().map(Box::from).collect();
        self.contacts.push(Contact {
            uri: UriBytes::from_slice(uri),
            q: q.min(1000),
            path,
            flow,
            handling: None,
        });
        self.contacts.last_mut()
    }

    /// Whether the AOR has a record at all.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// The live bindings, in the order they were pushed.
    pub fn contacts(&self) -> &[Contact] {
        &self.contacts
    }

    /// Empties it for the next lookup.
    pub fn clear(&mut self) {
        self.known = false;
        self.contacts.clear();
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Contact> + '_ {
        self.contacts.drain(..)
    }
}

/// The most bindings one AOR may contribute to one request.
pub const MAX_CONTACTS: usize = 64;
