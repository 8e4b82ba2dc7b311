//! Static registrations: kept in `sps.db`, which is the truth about them, and in force through the registry.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sps_registry::{AorRecord, Binding, Cursor, Expiry, Kind};
use sps_store::{Database, Error, StaticRegistration};
use sps_wire::Uri;

use crate::registrar::{Registrar, unix_now};
use crate::rekey::is_same_contact;

/// The way to `sps.db`. SQLite may wait for another process, so that everything here but [`Statics::read`] happens off the
/// thread that answers REGISTER.
#[derive(Debug, Clone)]
pub struct Statics {
    path: PathBuf,
    /// Opened when first needed, and anew after an error: the registrar works without it.
    database: Arc<Mutex<Option<Database>>>,
}

impl Statics {
    pub fn new(path: PathBuf) -> Statics {
        Statics {
            path,
            database: Arc::default(),
        }
    }

    /// All of them. May wait for another process.
    pub fn read(&self) -> Result<Vec<StaticRegistration>, Error> {
        self.with(|database| database.static_registrations())
    }

    /// As [`Statics::read`], without holding up the caller's thread.
    pub async fn read_aside(&self) -> Result<Vec<StaticRegistration>, String> {
        self.aside(|database| database.static_registrations()).await
    }

    /// On the disk when it returns.
    pub async fn put(&self, registration: StaticRegistration) -> Result<bool, String> {
        self.aside(move |database| database.put_static_registration(&registration))
            .await
    }

    /// One contact of an AOR, in whatever spelling, or all; how many there were.
    pub async fn remove(&self, aor: String, contact: Option<String>) -> Result<usize, String> {
        self.aside(move |database| {
            let Some(contact) = contact else {
                return database.remove_static_registrations(&aor, None);
            };
            let mut removed = 0;
            for kept in database.static_registrations_of(&aor)? {
                if is_same_contact(kept.contact.as_bytes(), contact.as_bytes()) {
                    removed += database.remove_static_registrations(&aor, Some(&kept.contact))?;
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Stores registrations under another key than before. May wait for another process.
    pub fn rewrite(&self, moved: &[Moved]) -> Result<(), Error> {
        if moved.is_empty() {
            return Ok(());
        }
        self.with(|database| rewrite(database, moved))
    }

    /// As [`Statics::rewrite`], without holding up the caller's thread.
    pub async fn rewrite_aside(&self, moved: Vec<Moved>) -> Result<(), String> {
        if moved.is_empty() {
            return Ok(());
        }
        self.aside(move |database| rewrite(database, &moved)).await
    }

    fn with<T>(&self, work: impl FnOnce(&mut Database) -> Result<T, Error>) -> Result<T, Error> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let mut database = match open.take() {
            Some(database) => database,
            None => Database::open(&self.path)?,
        };
        let result = work(&mut database);
        if result.is_ok() {
            *open = Some(database);
        }
        result
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, String> {
        let statics = self.clone();
        match tokio::task::spawn_blocking(move || statics.with(work)).await {
            Ok(result) => result.map_err(|error| words(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn rewrite(database: &mut Database, moved: &[Moved]) -> Result<(), Error> {
    for Moved { old_aor, registration } in moved {
        database.put_static_registration(registration)?;
        database.remove_static_registrations(old_aor, Some(&registration.contact))?;
    }
    Ok(())
}

/// A registration whose key the rules now make differently.
#[derive(Debug)]
pub struct Moved {
    old_aor: String,
    registration: StaticRegistration,
}

/// Records looked at in one go.
const PAGE: usize = 1_024;

impl Registrar {
    /// Puts the static registrations of the database back into the registry at start. Without a readable database those that the
    /// registry has stay as they are.
    pub fn restore(&mut self, statics: &Statics) {
        match statics.read() {
            Ok(kept) => {
                let moved = self.restore_these(kept);
                if let Err(error) = statics.rewrite(&moved) {
                    tracing::error!(
                        error = words(&error),
                        "static registrations keep their old keys in the database"
                    );
                }
            }
            Err(error) => {
                tracing::error!(
                    error = words(&error),
                    "static registrations stay as the registry has them"
                );
            }
        }
    }

    /// Makes the permanent bindings of the registry exactly `kept`. Gives those that the rules in force put at another key than the
    /// database does.
    pub fn restore_these(&mut self, kept: Vec<StaticRegistration>) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut wanted: HashMap<Vec<u8>, Vec<StaticRegistration>> = HashMap::new();
        for mut registration in kept {
            let mut key = Vec::new();
            let is_ours = Uri::parse(registration.to_uri.as_bytes()).is_ok_and(|uri| self.setup.aor(&uri, &mut key));
            if !is_ours {
                tracing::warn!(
                    aor = registration.to_uri,
                    "a static registration is in no domain of ours and not in force"
                );
                continue;
            }
            if key != registration.aor.as_bytes() {
                // A key made of text is text: canonical_aor only copies and changes case.
                let aor = String::from_utf8_lossy(&key).into_owned();
                let old_aor = std::mem::replace(&mut registration.aor, aor);
                moved.push(Moved {
                    old_aor,
                    registration: registration.clone(),
                });
            }
            wanted.entry(key).or_default().push(registration);
        }
        let mut keys: HashSet<Vec<u8>> = wanted.keys().cloned().collect();
        let mut cursor = Some(Cursor::START);
        while let Some(at) = cursor {
            cursor = self.registry.page(at, PAGE, |record| {
                if record.bindings().any(|binding| binding.kind == Kind::Static) {
                    keys.insert(record.aor().to_vec());
                }
            });
        }
        for key in keys {
            let registrations = wanted.remove(&key).unwrap_or_default();
            self.restore_record(&key, &registrations);
        }
        moved
    }

    /// Makes the permanent bindings of one record exactly these.
    fn restore_record(&mut self, key: &[u8], wanted: &[StaticRegistration]) {
        let before = self.registry.record(key).unwrap_or_else(|| AorRecord {
            aor: key.to_vec(),
            to_uri: wanted
                .first()
                .map(|first| first.to_uri.as_bytes().to_vec())
                .unwrap_or_default(),
            rules_hash: self.setup.rules_hash,
            ..AorRecord::default()
        });
        let mut after = before.clone();
        after.bindings.retain(|binding| {
            let place = wanted
                .iter()
                .find(|one| is_same_contact(one.contact.as_bytes(), &binding.contact));
            match binding.kind {
                Kind::Static => place.is_some_and(|one| same(one, binding)),
                Kind::Dynamic => place.is_none(),
            }
        });
        for one in wanted {
            if !after.bindings.iter().any(|binding| same(one, binding)) {
                after.bindings.push(binding_of(one));
            }
        }
        if after != before {
            self.scratch = after;
            // Full or too large: `store` has said so.
            let _ = self.store(unix_now());
        }
    }
}

fn same(one: &StaticRegistration, binding: &Binding) -> bool {
    *binding == binding_of(one)
}

/// The binding that a static registration stands for.
pub fn binding_of(one: &StaticRegistration) -> Binding {
    Binding {
        contact: one.contact.as_bytes().to_vec(),
        q: one.q,
        expires: Expiry::Permanent,
        path: one.path.iter().map(|value| value.as_bytes().to_vec()).collect(),
        kind: Kind::Static,
        ..Binding::default()
    }
}

/// An error with all its causes.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
