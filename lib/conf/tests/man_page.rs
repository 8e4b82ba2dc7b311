//! sps.toml(5) against what the reader takes, both ways: keys, sections and defaults.

use std::collections::BTreeMap;
use std::path::Path;

use sps_conf::{Config, InitOptions, keys};

/// `section.key` to the default that is given with it, if one is.
type Documented = BTreeMap<String, Option<String>>;

/// What the page says: an `.SS` is a section, a `.TP` in it a key.
fn page() -> Documented {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/sps.toml.5");
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Documented::new();
    let mut section = None;
    let mut tag = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(".SS ") {
            section = Some(title.trim_matches(['[', ']']).to_owned());
        } else if line.starts_with(".SH ") {
            section = None;
        } else if tag && let Some(section) = &section {
            let plain = line
                .strip_prefix(".B ")
                .unwrap_or_else(|| panic!("a key's tag is bold: {line}"));
            let plain = plain.replace("\\(dq", "\"");
            let (key, default) = match plain.split_once(" = ") {
                Some((key, default)) => (key, Some(default.to_owned())),
                None => (plain.as_str(), None),
            };
            let twice = found.insert(format!("{section}.{key}"), default);
            assert!(twice.is_none(), "{section}.{key} is explained twice");
        }
        tag = line == ".TP";
    }
    found
}

#[test]
fn every_key_is_on_the_page() {
    let page = page();
    for key in keys() {
        assert!(page.contains_key(&key), "{key} is missing in sps.toml(5)");
    }
}

#[test]
fn every_key_on_the_page_exists() {
    let keys = keys();
    for key in page().into_keys() {
        assert!(keys.contains(&key), "sps.toml(5) explains {key}, which nothing reads");
    }
}

/// Where the page gives a default it is the one of the sample; where it gives none, the key is required or unset there.
#[test]
fn defaults_on_the_page_are_the_real_ones() {
    let sample: toml::Table = Config::sample(&InitOptions::default()).unwrap().parse().unwrap();
    for (key, documented) in page() {
        let (section, name) = key.split_once('.').unwrap();
        let table = match sample.get(section) {
            Some(toml::Value::Array(tables)) => tables[0].as_table(),
            other => other.and_then(toml::Value::as_table),
        };
        let default = table.and_then(|table| table.get(name)).map(ToString::to_string);
        match key.as_str() {
            // Required, or given by init: no default.
            "server.domain" | "listen.transport" | "listen.address" => assert_eq!(documented, None, "{key}"),
            _ => assert_eq!(documented, default, "{key}"),
        }
    }
}

/// What sps.toml(5) says needs a restart is what a reload refuses, by name.
#[test]
fn the_list_of_what_needs_a_restart_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/sps.toml.5");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, after) = text
        .split_once(".SH RELOAD AND RESTART")
        .expect("the page has the heading");
    let part = after.split(".SH ").next().unwrap();
    let old = Config::parse(Path::new("f"), &Config::sample(&InitOptions::default()).unwrap())
        .unwrap()
        .0;
    for key in keys() {
        let (section, name) = key.split_once('.').unwrap();
        let Some(new) = changed(&old, section, name) else {
            continue;
        };
        let refused = !Config::reload_obstacles(&old, &new).is_empty();
        let listed = section == "listen"
            || part
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == name);
        assert_eq!(
            refused, listed,
            "{key}: refused by reload {refused}, listed on the page {listed}"
        );
    }
}

/// The configuration with another value for one key; unset where the key belongs to a section the sample does not have.
fn changed(old: &Config, section: &str, name: &str) -> Option<Config> {
    let mut table: toml::Table = old.render().parse().unwrap();
    let value = match table.get_mut(section)? {
        toml::Value::Array(tables) => tables[0].as_table_mut()?,
        toml::Value::Table(table) => table,
        other => panic!("{section} is {other}"),
    };
    let other = match (name, value.get(name)) {
        ("transport" | "address", _) => return None,
        ("client_certificate", _) if section == "listen" => return None,
        // In a list of its own, of which the sample has none.
        (name, _) if name.contains('.') => return None,
        ("client_certificate", _) => "request".into(),
        ("min_version", _) => "1.3".into(),
        ("fork", _) => "sequential".into(),
        ("mode", _) => "redirect".into(),
        ("level", _) => "debug".into(),
        ("domains", _) => vec!["further.example"].into(),
        ("friends", _) => vec!["192.0.2.0/24"].into(),
        ("servers", _) => vec!["192.0.2.53"].into(),
        (_, Some(toml::Value::Boolean(truth))) => toml::Value::from(!truth),
        (_, Some(toml::Value::Integer(number))) => (number + if name == "max_message_bytes" { -1 } else { 1 }).into(),
        (_, Some(toml::Value::String(_)) | None) => "other".into(),
        (_, Some(value)) => panic!("{name} = {value}"),
    };
    value.insert(name.into(), other);
    let parsed = Config::parse(Path::new("f"), &toml::to_string(&table).unwrap());
    Some(parsed.unwrap_or_else(|problems| panic!("{problems}")).0)
}
