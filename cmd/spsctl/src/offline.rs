//! Registrations while nothing runs: permanent ones are read and written in `sps.db`, which is the truth about them; the others are
//! read from the registry file, whose only writer is `sps-registrar`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use sps_cli::{Exit, Failure, OrFail};
use sps_conf::{Config, Paths};
use sps_ipc::registrar_ctl::{Binding, Lifetime, Record, Reply, Request};
use sps_registry::{BindingView, Cursor, Kind, OpenError, RegistryReader};
use sps_store::{Database, StaticRegistration};
use sps_wire::Uri;
use sps_wire::uri::with_scheme;

use crate::fail;

/// The files of an instance that does not run.
pub struct Files {
    database: PathBuf,
    registry: Option<RegistryReader>,
    rules: sps_route::Conf,
    max_contacts: usize,
}

/// Records read from the registry in one go.
const PAGE: usize = 1_000;

impl Files {
    pub fn open(paths: &Paths) -> Result<Self, Failure> {
        let config = Config::load(&paths.config)?;
        let registry = match RegistryReader::open(&paths.registry_map()) {
            Ok(reader) => Some(reader),
            Err(OpenError::Missing(_)) => None,
            Err(error) => return Err(error).or_fail(Exit::Io, "read the registry"),
        };
        Ok(Self {
            database: paths.database(),
            registry,
            rules: config.routing_as_written(&[]),
            max_contacts: config.registrar.max_contacts,
        })
    }

    /// Answers as the registrar would. A list comes as one page.
    pub fn answer(&mut self, request: &Request) -> Result<Reply, Failure> {
        match request {
            Request::List { .. } => Ok(Reply::Page {
                records: self.all()?,
                next: None,
            }),
            Request::Show { aor } => {
                let key = self.key(aor)?;
                let records = self.all()?.into_iter().filter(|record| record.aor == key).collect();
                Ok(Reply::Page { records, next: None })
            }
            Request::Add {
                aor,
                contact,
                lifetime,
                q,
            } => self.add(aor, contact, *lifetime, *q),
            Request::Remove { aor, contact } => self.remove(aor, contact.as_deref()),
        }
    }

    fn add(&self, aor: &str, contact: &str, lifetime: Lifetime, q: u16) -> Result<Reply, Failure> {
        let (key, contact) = (self.key(aor)?, contact_uri(contact)?);
        if lifetime != Lifetime::Permanent {
            return fail(
                Exit::Unavailable,
                "sps does not run: only permanent registrations can be made now",
            )
            .map_err(|failure: Failure| failure.cure("add --permanent, or start sps first"));
        }
        if self.dynamic_contacts(&key).iter().any(|known| is_same(known, &contact)) {
            return fail(
                Exit::CantCreate,
                "the contact is registered by REGISTER or for a time; remove it first",
            );
        }
        let mut database = self.open_database()?;
        let known = database
            .static_registrations_of(&key)
            .or_fail(Exit::Io, "read sps.db")?;
        // Another spelling of the same contact is the same contact.
        let spelt = known.iter().find(|known| is_same(&known.contact, &contact));
        if spelt.is_none() && known.len() + self.dynamic_contacts(&key).len() >= self.max_contacts {
            let text = format!("the AOR has {} contacts, as many as are allowed", self.max_contacts);
            return fail(Exit::CantCreate, text);
        }
        let registration = StaticRegistration {
            aor: key,
            to_uri: with_scheme(aor),
            contact: spelt.map_or(contact, |known| known.contact.clone()),
            q,
            path: Vec::new(),
            created_at: now(),
        };
        let changed = database
            .put_static_registration(&registration)
            .or_fail(Exit::Io, "write sps.db")?;
        Ok(Reply::Done {
            changed: u32::from(changed),
        })
    }

    fn remove(&self, aor: &str, contact: Option<&str>) -> Result<Reply, Failure> {
        let key = self.key(aor)?;
        let contact = contact.map(contact_uri).transpose()?;
        let meant = |known: &str| contact.as_deref().is_none_or(|contact| is_same(known, contact));
        if self.dynamic_contacts(&key).iter().any(|known| meant(known)) {
            return fail(
                Exit::Unavailable,
                "sps does not run: contacts that are not permanent cannot be removed now",
            )
            .map_err(|failure: Failure| failure.cure("start sps first, or let them expire"));
        }
        let mut database = self.open_database()?;
        let mut changed = 0;
        for known in database
            .static_registrations_of(&key)
            .or_fail(Exit::Io, "read sps.db")?
        {
            if meant(&known.contact) {
                let removed = database.remove_static_registrations(&key, Some(&known.contact));
                changed += removed.or_fail(Exit::Io, "write sps.db")?;
            }
        }
        Ok(Reply::Done {
            changed: u32::try_from(changed).unwrap_or(u32::MAX),
        })
    }

    /// Everything: what is not permanent from the registry, what is from the database.
    fn all(&self) -> Result<Vec<Record>, Failure> {
        let mut records: Vec<Record> = Vec::new();
        let (registry, now) = (self.registry.as_ref(), now());
        let mut cursor = Cursor::from_u64(0);
        while let Some(registry) = registry {
            let next = registry.page(cursor, PAGE, |view| {
                let dynamic = view.current(now).filter(|binding| binding.kind == Kind::Dynamic);
                let bindings: Vec<_> = dynamic.map(|binding| shown(&binding, now)).collect();
                if !bindings.is_empty() {
                    records.push(Record {
                        aor: text(view.aor()),
                        bindings,
                    });
                }
            });
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        if self.database.exists() {
            let known = self
                .open_database()?
                .static_registrations()
                .or_fail(Exit::Io, "read sps.db")?;
            for registration in known {
                let binding = permanent(&registration);
                match records.iter_mut().find(|record| record.aor == registration.aor) {
                    Some(record) => record.bindings.push(binding),
                    None => records.push(Record {
                        aor: registration.aor,
                        bindings: vec![binding],
                    }),
                }
            }
        }
        for record in &mut records {
            record.bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
        }
        Ok(records)
    }

    fn dynamic_contacts(&self, key: &str) -> Vec<String> {
        let record = self
            .registry
            .as_ref()
            .and_then(|registry| registry.record(key.as_bytes()));
        let bindings = record.into_iter().flat_map(|record| record.bindings);
        bindings
            .filter(|binding| binding.kind == Kind::Dynamic && !binding.expires.is_past(now()))
            .map(|binding| text(&binding.contact))
            .collect()
    }

    fn open_database(&self) -> Result<Database, Failure> {
        Database::open(&self.database).or_fail(Exit::Io, "open sps.db")
    }

    /// The registry's key for an AOR as the operator writes it.
    fn key(&self, aor: &str) -> Result<String, Failure> {
        let written = uri(aor, "address", "sip:alice@example.com")?;
        let mut key = Vec::new();
        let ours = Uri::parse(written.as_bytes()).is_ok_and(|uri| self.rules.canonical_aor(&uri, &mut key));
        match String::from_utf8(key) {
            Ok(key) if ours => Ok(key),
            Ok(_) | Err(_) => fail(Exit::Data, format!("`{written}` names no user in a domain of ours")),
        }
    }
}

fn shown(binding: &BindingView<'_>, now: u64) -> Binding {
    Binding {
        contact: text(binding.contact),
        q: binding.q,
        expires_in_s: binding
            .expires
            .left(now)
            .map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
        call_id: text(binding.call_id),
        cseq: binding.cseq,
        path: binding.path().map(text).collect(),
        // A flow of a process that is gone leads nowhere.
        flow: String::new(),
        instance_id: text(binding.instance_id.unwrap_or_default()),
        user_agent: text(binding.user_agent.unwrap_or_default()),
    }
}

fn permanent(registration: &StaticRegistration) -> Binding {
    Binding {
        contact: registration.contact.clone(),
        q: registration.q,
        expires_in_s: None,
        call_id: String::new(),
        cseq: 0,
        path: registration.path.clone(),
        flow: String::new(),
        instance_id: String::new(),
        user_agent: String::new(),
    }
}

/// A URI as the operator writes it; `alice@host` is meant as `sip:alice@host`.
fn uri(text: &str, what: &str, example: &str) -> Result<String, Failure> {
    let text = with_scheme(text);
    match Uri::parse(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(error) => fail(
            Exit::Data,
            format!("`{text}` is no {what} ({error}), expected one such as {example}"),
        ),
    }
}

fn contact_uri(text: &str) -> Result<String, Failure> {
    uri(text, "contact", "sip:alice@192.0.2.7:5060")
}

fn is_same(left: &str, right: &str) -> bool {
    left == right
        || match (Uri::parse(left.as_bytes()), Uri::parse(right.as_bytes())) {
            (Ok(left), Ok(right)) => sps_wire::uri::equal(&left, &right),
            (Err(_), _) | (_, Err(_)) => false,
        }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path()));
        crate::init::run(
            &paths,
            sps_cli::Output::new(false),
            Some("example.com".into()),
            Vec::new(),
        )
        .unwrap();
        let files = Files::open(&paths).unwrap();
        (root, files)
    }

    fn add(aor: &str, contact: &str, lifetime: Lifetime) -> Request {
        Request::Add {
            aor: aor.into(),
            contact: contact.into(),
            lifetime,
            q: 700,
        }
    }

    #[test]
    fn a_permanent_registration_is_made_once_and_found_and_removed() {
        let (_root, mut files) = files();
        let wanted = add("Fax@EXAMPLE.com", "fax@192.0.2.121", Lifetime::Permanent);
        assert_eq!(files.answer(&wanted).unwrap(), Reply::Done { changed: 1 });
        assert_eq!(files.answer(&wanted).unwrap(), Reply::Done { changed: 0 });
        let Reply::Page { records, next: None } = files.answer(&Request::List { cursor: 0, limit: 1 }).unwrap() else {
            panic!("no page")
        };
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].aor.as_str(), records[0].bindings[0].q),
            ("sip:Fax@example.com", 700)
        );
        assert_eq!(records[0].bindings[0].expires_in_s, None);

        // §19.1.4: the host's case does not matter.
        let remove = |contact: &str| Request::Remove {
            aor: "sip:Fax@example.com".into(),
            contact: Some(contact.into()),
        };
        assert_eq!(
            files.answer(&remove("sip:other@192.0.2.121")).unwrap(),
            Reply::Done { changed: 0 }
        );
        assert_eq!(
            files.answer(&remove("SIP:fax@192.0.2.121")).unwrap(),
            Reply::Done { changed: 1 }
        );
        assert_eq!(
            files.answer(&remove("SIP:fax@192.0.2.121")).unwrap(),
            Reply::Done { changed: 0 }
        );
    }

    #[test]
    fn what_the_registrar_alone_can_do_is_refused() {
        let (_root, mut files) = files();
        let failure = files
            .answer(&add("a@example.com", "a@192.0.2.1", Lifetime::Seconds(60)))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        let failure = files
            .answer(&add("a@elsewhere.net", "a@192.0.2.1", Lifetime::Permanent))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        let failure = files
            .answer(&add("a@example.com", "sip:", Lifetime::Permanent))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
    }
}
