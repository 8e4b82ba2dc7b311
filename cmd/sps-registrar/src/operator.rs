//! What operators ask: `spsctl registration list | show | add | remove`, over `registrar.ctl`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sps_ipc::frame;
use sps_ipc::registrar_ctl::{Binding, Lifetime, MAX_PAGE, REPLY_TIMEOUT, Record, Reply, Request};
use sps_ipc::seqpacket::{AsyncConnection, buffer};
use sps_registry::{AorRecord, Cursor, Expiry, Kind, RecordView};
use sps_sip::registrar::Refusal;
use sps_store::StaticRegistration;
use sps_wire::Uri;
use sps_wire::uri::with_scheme;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::registrar::{Registrar, unix_now};
use crate::rekey::is_same_contact;
use crate::setup::Setup;
use crate::statics::Statics;

/// What the tasks of this process share; all of them run on one thread, and none keeps a borrow while it waits.
pub struct Shared {
    pub registrar: RefCell<Registrar>,
    pub statics: Statics,
    /// Held while an operator's change goes through database and registry.
    pub changing: Mutex<()>,
}

/// An operator who says nothing for so long is hung up on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Exit codes for the tool, after sysexits(3).
const DATA_ERROR: u8 = 65;
const CANNOT_CREATE: u8 = 73;
const STORAGE: u8 = 74;
const NO_PERMISSION: u8 = 77;

/// Answers one operator until he hangs up.
pub async fn converse(connection: AsyncConnection, shared: Rc<Shared>) {
    let may_order = connection.peer().is_ok_and(|peer| peer.may_order());
    let mut buffer = buffer();
    loop {
        let len = match timeout(IDLE_TIMEOUT, connection.recv(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => len,
            _ => return,
        };
        let reply = match frame::decode::<Request>(&buffer[..len]) {
            Ok(_) if !may_order => refused(NO_PERMISSION, "only root and the user that SPS runs as may ask"),
            Ok(request) => carry_out(request, &shared).await,
            Err(error) => {
                tracing::warn!(%error, "malformed request of an operator");
                return;
            }
        };
        let Ok(bytes) = frame::encode(&reply) else { return };
        if !matches!(timeout(REPLY_TIMEOUT, connection.send(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

pub(crate) async fn carry_out(request: Request, shared: &Shared) -> Reply {
    let result = match request {
        Request::List { cursor, limit } => Ok(list(&shared.registrar.borrow(), cursor, limit)),
        Request::Show { aor } => show(&shared.registrar.borrow(), &aor),
        Request::Add {
            aor,
            contact,
            lifetime,
            q,
        } => add(shared, &aor, &contact, lifetime, q).await,
        Request::Remove { aor, contact } => remove(shared, &aor, contact.as_deref()).await,
    };
    result.unwrap_or_else(|reply| reply)
}

/// A page of at most `limit` records, or as many as fit into a frame.
fn list(registrar: &Registrar, cursor: u64, limit: u16) -> Reply {
    let mut limit = limit.clamp(1, MAX_PAGE);
    loop {
        let mut records = Vec::new();
        let now = unix_now();
        let next = registrar.registry.page(Cursor::from_u64(cursor), limit.into(), |view| {
            let record = record_of(view, now);
            if !record.bindings.is_empty() {
                records.push(record);
            }
        });
        let reply = Reply::Page {
            records,
            next: next.map(Cursor::to_u64),
        };
        if limit == 1 || frame::encode(&reply).is_ok() {
            return reply;
        }
        limit = (limit / 2).max(1);
    }
}

fn show(registrar: &Registrar, aor: &str) -> Result<Reply, Reply> {
    let (key, _) = read_aor(aor, &registrar.setup)?;
    let record = registrar
        .registry
        .get(key.as_bytes())
        .map(|view| record_of(view, unix_now()));
    let records = record
        .into_iter()
        .filter(|record| !record.bindings.is_empty())
        .collect();
    Ok(Reply::Page { records, next: None })
}

async fn add(shared: &Shared, aor: &str, contact: &str, lifetime: Lifetime, q: u16) -> Result<Reply, Reply> {
    let contact = read_contact(contact)?;
    if q > 1_000 {
        return Err(refused(DATA_ERROR, "q is a number from 0 to 1"));
    }
    let _changing = shared.changing.lock().await;
    let (key, to_uri) = read_aor(aor, &shared.registrar.borrow().setup)?;
    let wanted = Wanted {
        key,
        to_uri,
        contact,
        lifetime,
        q,
    };
    check(&shared.registrar.borrow(), &wanted)?;
    if lifetime == Lifetime::Permanent {
        // The database first: what it has is put back at the next start, should we die before the registry has it.
        let kept = shared
            .statics
            .put(wanted.registration())
            .await
            .map_err(|error| refused(STORAGE, error))?;
        tracing::debug!(
            aor = wanted.key,
            contact = wanted.contact,
            kept,
            "static registration in the database"
        );
    }
    let changed = bind(&mut shared.registrar.borrow_mut(), &wanted);
    if changed.is_err() && lifetime == Lifetime::Permanent {
        // A phone came in between, or the disk is full: nothing shall have changed.
        if let Err(error) = shared
            .statics
            .remove(wanted.key.clone(), Some(wanted.contact.clone()))
            .await
        {
            tracing::error!(error, "a refused static registration stays in the database");
        }
    }
    changed.map(|changed| Reply::Done { changed })
}

async fn remove(shared: &Shared, aor: &str, contact: Option<&str>) -> Result<Reply, Reply> {
    let contact = contact.map(read_contact).transpose()?;
    let _changing = shared.changing.lock().await;
    let (key, _) = read_aor(aor, &shared.registrar.borrow().setup)?;
    let from_database = shared
        .statics
        .remove(key.clone(), contact.clone())
        .await
        .map_err(|error| refused(STORAGE, error))?;
    let registrar = &mut *shared.registrar.borrow_mut();
    let now = unix_now();
    let Some(mut record) = registrar.registry.record(key.as_bytes()) else {
        return Ok(Reply::Done {
            changed: u32::try_from(from_database).unwrap_or(u32::MAX),
        });
    };
    record.bindings.retain(|binding| !binding.expires.is_past(now));
    let before = record.bindings.len();
    record.bindings.retain(|binding| {
        contact
            .as_ref()
            .is_some_and(|contact| !is_same_contact(contact.as_bytes(), &binding.contact))
    });
    let removed = before - record.bindings.len();
    if removed > 0 {
        registrar.scratch = record;
        registrar.store(now).map_err(not_stored)?;
    }
    Ok(Reply::Done {
        changed: u32::try_from(removed.max(from_database)).unwrap_or(u32::MAX),
    })
}

/// A binding that an operator wants.
struct Wanted {
    key: String,
    to_uri: String,
    contact: String,
    lifetime: Lifetime,
    q: u16,
}

impl Wanted {
    fn registration(&self) -> StaticRegistration {
        StaticRegistration {
            aor: self.key.clone(),
            to_uri: self.to_uri.clone(),
            contact: self.contact.clone(),
            q: self.q,
            path: Vec::new(),
            created_at: unix_now(),
        }
    }

    fn kind(&self) -> Kind {
        if self.lifetime == Lifetime::Permanent {
            Kind::Static
        } else {
            Kind::Dynamic
        }
    }
}

/// Whether the binding may be made: a contact is either permanent or not, and an AOR has so many at most.
fn check(registrar: &Registrar, wanted: &Wanted) -> Result<(), Reply> {
    let now = unix_now();
    let mut others = 0;
    for binding in registrar
        .registry
        .get(wanted.key.as_bytes())
        .iter()
        .flat_map(|record| record.current(now))
    {
        if !is_same_contact(wanted.contact.as_bytes(), binding.contact) {
            others += 1;
            continue;
        }
        return match (binding.kind, wanted.kind()) {
            (Kind::Dynamic, Kind::Static) => Err(refused(
                CANNOT_CREATE,
                "the contact is registered by REGISTER or for a time; remove it first",
            )),
            (Kind::Static, Kind::Dynamic) => Err(refused(
                CANNOT_CREATE,
                "the contact is registered permanently; remove it first",
            )),
            (Kind::Static, Kind::Static) | (Kind::Dynamic, Kind::Dynamic) => Ok(()),
        };
    }
    if others >= registrar.setup.core.max_contacts {
        return Err(refused(
            CANNOT_CREATE,
            format!("the AOR has {others} contacts, as many as are allowed"),
        ));
    }
    Ok(())
}

/// Puts the binding into the registry; how many changed.
fn bind(registrar: &mut Registrar, wanted: &Wanted) -> Result<u32, Reply> {
    check(registrar, wanted)?;
    let now = unix_now();
    let expires = match wanted.lifetime {
        Lifetime::Seconds(0) => return Err(refused(DATA_ERROR, "a binding lasts a second at least; use remove")),
        Lifetime::Seconds(seconds) => Expiry::At(now + u64::from(seconds)),
        Lifetime::Default => Expiry::At(now + u64::from(registrar.setup.core.default_expires_s)),
        Lifetime::Permanent => Expiry::Permanent,
    };
    let mut record = registrar
        .registry
        .record(wanted.key.as_bytes())
        .unwrap_or_else(|| AorRecord {
            aor: wanted.key.as_bytes().to_vec(),
            to_uri: wanted.to_uri.as_bytes().to_vec(),
            ..AorRecord::default()
        });
    record.rules_hash = registrar.setup.rules_hash;
    record.bindings.retain(|binding| !binding.expires.is_past(now));
    match record
        .bindings
        .iter_mut()
        .find(|binding| is_same_contact(&binding.contact, wanted.contact.as_bytes()))
    {
        Some(binding) if binding.expires == expires && binding.q == wanted.q => return Ok(0),
        Some(binding) => (binding.expires, binding.q) = (expires, wanted.q),
        None => record.bindings.push(sps_registry::Binding {
            contact: wanted.contact.as_bytes().to_vec(),
            q: wanted.q,
            expires,
            kind: wanted.kind(),
            ..sps_registry::Binding::default()
        }),
    }
    registrar.scratch = record;
    registrar.store(now).map_err(not_stored)?;
    Ok(1)
}

/// Key and URI of an AOR as an operator writes it; `sip:` may be left out.
fn read_aor(text: &str, setup: &Setup) -> Result<(String, String), Reply> {
    let text = with_scheme(text);
    let uri = Uri::parse(text.as_bytes()).map_err(|error| {
        refused(
            DATA_ERROR,
            format!("`{text}` is no address ({error}), expected one such as sip:alice@example.com"),
        )
    })?;
    let mut key = Vec::new();
    if !setup.aor(&uri, &mut key) {
        return Err(refused(
            DATA_ERROR,
            format!("`{text}` names no user in a domain of ours"),
        ));
    }
    let key = String::from_utf8(key).map_err(|_| refused(DATA_ERROR, format!("`{text}` is not UTF-8")))?;
    Ok((key, text))
}

fn read_contact(text: &str) -> Result<String, Reply> {
    let text = with_scheme(text);
    match Uri::parse(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(error) => Err(refused(
            DATA_ERROR,
            format!("`{text}` is no contact ({error}), expected one such as sip:alice@192.0.2.7:5060"),
        )),
    }
}

/// What a phone would get as a status, in an operator's words.
fn not_stored(refusal: Refusal) -> Reply {
    match refusal.status {
        513 => refused(DATA_ERROR, "the contacts of this address are too large to be stored"),
        _ => refused(STORAGE, "the registry takes no new contacts: the disk is full"),
    }
}

fn refused(code: u8, reason: impl Into<String>) -> Reply {
    Reply::Refused {
        code,
        reason: reason.into(),
    }
}

/// A record as operators see it: bindings in force, by falling q.
fn record_of(view: RecordView<'_>, now: u64) -> Record {
    let mut bindings: Vec<Binding> = view
        .current(now)
        .map(|binding| Binding {
            contact: text(binding.contact),
            q: binding.q,
            expires_in_s: binding
                .expires
                .left(now)
                .map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
            call_id: text(binding.call_id),
            cseq: binding.cseq,
            path: binding.path().map(text).collect(),
            flow: binding.flow.map_or_else(String::new, |flow| {
                format!("{} {} -> {}", flow.transport.as_str(), flow.local, flow.remote)
            }),
            instance_id: binding.instance_id.map(text).unwrap_or_default(),
            user_agent: binding.user_agent.map(text).unwrap_or_default(),
        })
        .collect();
    bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
    Record {
        aor: text(view.aor()),
        bindings,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
