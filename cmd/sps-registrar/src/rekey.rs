//! Keeping keys in line with the rules that make them: when our domains change, records move to the key that the proxy will look for.

use sps_registry::{AorRecord, Cursor};
use sps_wire::{Uri, uri};

use crate::registrar::{Registrar, unix_now};

/// Records looked at in one go.
const PAGE: usize = 1_024;

impl Registrar {
    /// Moves every record whose key the rules in force make differently. What is of no domain of ours any more stays where it is,
    /// unseen, until it expires or the domain comes back.
    pub fn rekey(&mut self) {
        let moved = self.misplaced();
        if moved.is_empty() {
            return;
        }
        tracing::info!(
            records = moved.len(),
            "moving records to the keys of the rules in force"
        );
        for (old, new) in moved {
            self.relocate(&old, &new);
        }
    }

    /// Old and new keys.
    fn misplaced(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut key = Vec::new();
        let mut cursor = Some(Cursor::START);
        while let Some(at) = cursor {
            cursor = self.registry.page(at, PAGE, |record| {
                key.clear();
                if record.rules_hash() != self.setup.rules_hash
                    && let Ok(uri) = Uri::parse(record.to_uri())
                    && self.setup.aor(&uri, &mut key)
                    && key != record.aor()
                {
                    found.push((record.aor().to_vec(), key.clone()));
                }
            });
        }
        found
    }

    /// Adds the bindings of one record to another and removes it. Where both have a contact, the one at the new key stays.
    fn relocate(&mut self, old: &[u8], new: &[u8]) {
        let now = unix_now();
        let Some(record) = self.registry.record(old) else {
            return;
        };
        let mut target = self.registry.record(new).unwrap_or_else(|| AorRecord {
            aor: new.to_vec(),
            to_uri: record.to_uri.clone(),
            ..AorRecord::default()
        });
        target.rules_hash = self.setup.rules_hash;
        for binding in record.bindings {
            let is_there = target
                .bindings
                .iter()
                .any(|other| is_same_contact(&other.contact, &binding.contact));
            if !is_there && !binding.expires.is_past(now) {
                target.bindings.push(binding);
            }
        }
        self.scratch = target;
        // Without room the old record stays: unseen, but not lost.
        if self.store(now).is_ok() {
            self.registry.remove(old, now);
        }
    }
}

/// RFC 3261 §19.1.4; what is no URI is compared byte by byte.
pub fn is_same_contact(left: &[u8], right: &[u8]) -> bool {
    left == right
        || match (Uri::parse(left), Uri::parse(right)) {
            (Ok(left), Ok(right)) => uri::equal(&left, &right),
            _ => false,
        }
}
