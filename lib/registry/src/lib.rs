//! The binding file: which contacts an address of record is reachable at (RFC 3261 §10), written by one process and looked up by others
//! without a lock.
//!
//! The unit is the AOR record with all its bindings, since §10.3 wants an update seen whole or not at all. [`RegistryWriter`] stores,
//! expires and lists records and tells every change through one feed; [`RegistryReader`] looks them up without allocating, as
//! [`RecordView`]s. How the file stays whole is the business of `sps-mapped`; what §10.3 does to a record, of `sps-sip`.
#![forbid(unsafe_code)]

mod changes;
mod codec;
mod expiry;
mod reader;
mod record;
mod view;
mod writer;

pub use changes::{Change, Changes};
pub use reader::RegistryReader;
pub use record::{AorRecord, Binding, Expiry, Kind, Version};
pub use sps_mapped::{Buffer, Cursor, OpenError, OpenReport, PutError, TableStats, Verify};
pub use view::{BindingView, RecordView};
pub use writer::{Expired, RegistryConf, RegistryWriter};
