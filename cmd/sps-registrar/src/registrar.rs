//! The registrar itself: the core of `sps-sip` over the registry file. Does one thing at a time and never waits.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sps_daemon::{Exit, Fatal, OrFatal, RateLimit};
use sps_registry::{AorRecord, Expired, OpenReport, PutError, RegistryConf, RegistryWriter};
use sps_sip::registrar::{Answers, Asked, Decision, Refusal, Setting, decide};
use sps_wire::write::write_hex64;
use sps_wire::{Flow, Index, Message, Response, Uri, ViaStamp, parse, write_response};

use crate::record;
use crate::setup::Setup;

/// The only writer of the registry.
pub struct Registrar {
    pub(crate) setup: Setup,
    pub(crate) registry: RegistryWriter,
    pub(crate) counts: Counts,
    index: Index,
    answers: Answers,
    /// Key of the AOR at hand.
    key: Vec<u8>,
    /// The record at hand; keeps its memory from one to the next.
    pub(crate) scratch: AorRecord,
    tags: Tags,
}

/// What happened since the start; told in the error log at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub stored: u64,
    pub refused: u64,
    /// Not even an error could be answered.
    pub unanswerable: u64,
    pub full: u64,
    pub expired: u64,
}

/// A request that no response can be written for; the proxy answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request without what a response needs")]
pub struct Unanswerable;

/// Records that one call of [`Registrar::expire`] looks at.
const EXPIRED_AT_ONCE: usize = 256;

static FULL: RateLimit = RateLimit::per_second(1);
static TOO_LARGE: RateLimit = RateLimit::per_second(1);

impl Registrar {
    /// Opens the registry, or makes it, and brings its keys in line with the configuration.
    ///
    /// # Errors
    /// Another process writes it, or the file cannot be used.
    pub fn open(path: &Path, setup: Setup) -> Result<Registrar, Fatal> {
        let conf = RegistryConf {
            member: setup.member,
            sync_interval: Some(setup.sync_interval),
            ..RegistryConf::default()
        };
        Registrar::open_as(path, setup, &conf)
    }

    /// As [`Registrar::open`], with the registry as `conf` says.
    pub fn open_as(path: &Path, setup: Setup, conf: &RegistryConf) -> Result<Registrar, Fatal> {
        let (registry, report) = RegistryWriter::open(path, conf).or_fatal(Exit::Storage, "open the registry")?;
        tell(&report);
        let tags = Tags::new().or_fatal(Exit::System, "get random bytes")?;
        let mut registrar = Registrar {
            setup,
            registry,
            counts: Counts::default(),
            index: Index::default(),
            answers: Answers::default(),
            key: Vec::new(),
            scratch: AorRecord::default(),
            tags,
        };
        registrar.rekey();
        Ok(registrar)
    }

    /// Carries out a request that came by `flow` and appends its response to `out`. What the response says is in the registry
    /// before this returns.
    ///
    /// # Errors
    /// [`Unanswerable`]; nothing is appended then.
    pub fn answer(&mut self, flow: &Flow, request: &[u8], out: &mut Vec<u8>) -> Result<(), Unanswerable> {
        self.counts.requests += 1;
        self.setup.learn(flow.local, flow.transport);
        let tag = self.tags.next();
        let mut index = std::mem::take(&mut self.index);
        let done = match parse(request, &mut index, &self.setup.limits) {
            Ok(message) => {
                self.carry_out(flow, message, &tag, out);
                Ok(())
            }
            // The proxy has read it before us and passes nothing that it cannot read; its limits may just have changed.
            Err(error) => {
                self.counts.refused += 1;
                match (index.salvage(request), error.status()) {
                    (Some(message), Some(status)) => {
                        let response = Response {
                            reason: Some(error.reason()),
                            to_tag: Some(&tag),
                            stamp: stamp(message, flow.remote),
                            ..Response::new(status)
                        };
                        write_response(message, &response, out);
                        Ok(())
                    }
                    _ => {
                        self.counts.unanswerable += 1;
                        Err(Unanswerable)
                    }
                }
            }
        };
        self.index = index;
        done
    }

    fn carry_out(&mut self, flow: &Flow, message: Message<'_>, to_tag: &[u8], out: &mut Vec<u8>) {
        let setting = Setting {
            now: unix_now(),
            stamp: stamp(message, flow.remote),
            to_tag,
        };
        if let Err(refusal) = self.bind(flow, message, &setting, out) {
            self.counts.refused += 1;
            tracing::debug!(%refusal, aor = %String::from_utf8_lossy(&self.key), "register refused");
            self.answers.refuse(message, &refusal, &setting, &self.setup.core, out);
        }
    }

    /// Appends the 200, or nothing if the request is refused.
    fn bind(
        &mut self,
        flow: &Flow,
        message: Message<'_>,
        setting: &Setting<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let begin = out.len();
        if self.prepare(flow, message, setting, out)? {
            self.store(setting.now).inspect_err(|_| out.truncate(begin))?;
        }
        Ok(())
    }

    /// Appends the 200 and fills the record at hand, while the bindings still lie where they lay. True if the record is to be
    /// stored; if that goes wrong, the 200 must be taken back.
    fn prepare(
        &mut self,
        flow: &Flow,
        message: Message<'_>,
        setting: &Setting<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        let Registrar {
            setup,
            registry,
            answers,
            key,
            scratch,
            ..
        } = self;
        key.clear();
        let asked = Asked::read(
            message,
            flow,
            &setup.core,
            |uri: &Uri<'_>, key: &mut Vec<u8>| setup.aor(uri, key),
            key,
        )?;
        let stored = registry.get(key);
        let current = stored.iter().flat_map(|record| record.bindings()).map(record::bound);
        let decision = decide(&asked, current, setting.now, &setup.core)?;
        answers.ok(&asked, decision.bindings(), setting, &setup.core, out);
        if let Decision::Store(bindings) = &decision {
            record::fill(scratch, key, asked.to_uri, setup.rules_hash, bindings);
        }
        Ok(matches!(decision, Decision::Store(_)))
    }

    /// Puts the record at hand into the registry.
    pub(crate) fn store(&mut self, now: u64) -> Result<(), Refusal> {
        match self.registry.put(&mut self.scratch, now) {
            Ok(_) => {
                self.counts.stored += 1;
                Ok(())
            }
            Err(PutError::Size { .. }) => {
                if let Some(held_back) = TOO_LARGE.pass() {
                    let aor = String::from_utf8_lossy(&self.scratch.aor);
                    tracing::warn!(%aor, held_back, "registration too large to be stored");
                }
                Err(Refusal::too_large())
            }
            Err(error) => {
                self.counts.full += 1;
                if let Some(held_back) = FULL.pass() {
                    tracing::error!(%error, held_back, "the registry takes no new bindings; refreshes go on");
                }
                Err(Refusal::store_full())
            }
        }
    }

    /// Takes out bindings that are over, a bounded number of records at a time. True if more is left to do.
    pub fn expire(&mut self, expired: &mut Vec<Expired>) -> bool {
        expired.clear();
        let now = unix_now();
        if self.registry.next_expiry().is_none_or(|at| at > now) {
            return false;
        }
        let more = self.registry.expire_due(now, EXPIRED_AT_ONCE, expired);
        self.counts.expired += expired.len() as u64;
        for gone in expired.iter() {
            tracing::debug!(
                aor = %String::from_utf8_lossy(&gone.aor),
                contact = %String::from_utf8_lossy(&gone.contact),
                "expired"
            );
        }
        more
    }

    /// Works by another configuration from now on.
    pub fn change_setup(&mut self, setup: Setup) {
        let rules_changed = setup.rules_hash != self.setup.rules_hash;
        self.setup = setup;
        if rules_changed {
            self.rekey();
        }
    }

    /// Closes the registry in order.
    pub fn close(self) {
        let Counts {
            requests,
            stored,
            refused,
            unanswerable,
            full,
            expired,
        } = self.counts;
        tracing::info!(
            requests,
            stored,
            refused,
            unanswerable,
            full,
            expired,
            "registry closed"
        );
        if let Err(error) = self.registry.close() {
            tracing::warn!(%error, "close the registry");
        }
    }
}

/// In what state the registry file was found.
fn tell(report: &OpenReport) {
    let (records, took_ms) = (report.records, report.took.as_millis() as u64);
    if let Some(what) = &report.recreated {
        tracing::error!(what, "the registry was damaged; it is moved aside and begun anew");
    }
    let OpenReport {
        dropped,
        missing,
        cut_len,
        ..
    } = *report;
    if dropped + missing + cut_len > 0 {
        tracing::warn!(dropped, missing, cut_len, "the registry has lost registrations");
    }
    tracing::info!(
        records,
        created = report.created,
        clean = report.clean,
        took_ms,
        "registry open"
    );
}

/// Seconds since 1970; a clock before that counts as 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn stamp(message: Message<'_>, source: SocketAddr) -> ViaStamp {
    message
        .top_via()
        .map(|via| ViaStamp::of(&via, source))
        .unwrap_or_default()
}

/// To tags: unique, not to be guessed from one another by accident, 16 characters (§19.3 asks for 32 random bits).
struct Tags {
    seed: u64,
    count: u64,
    text: Vec<u8>,
}

impl Tags {
    fn new() -> Result<Tags, getrandom::Error> {
        Ok(Tags {
            seed: getrandom::u64()?,
            count: 0,
            text: Vec::new(),
        })
    }

    fn next(&mut self) -> [u8; 16] {
        self.count += 1;
        let mut word = [0; 16];
        word[..8].copy_from_slice(&self.seed.to_le_bytes());
        word[8..].copy_from_slice(&self.count.to_le_bytes());
        self.text.clear();
        write_hex64(rapidhash::v3::rapidhash_v3(&word), &mut self.text);
        self.text.as_slice().try_into().expect("64 bits are sixteen digits")
    }
}
