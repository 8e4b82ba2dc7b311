//! The program as an operator meets it: what it prints where, and how it exits.

use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// An instance below a folder of its own, with no daemon running.
struct Site {
    root: TempDir,
}

struct Ran {
    code: i32,
    out: String,
    words: String,
}

impl Site {
    fn new() -> Site {
        let site = Site {
            root: TempDir::new().unwrap(),
        };
        for folder in ["etc", "data", "run", "log"] {
            std::fs::create_dir(site.root.path().join(folder)).unwrap();
        }
        site.configure("");
        site
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[server]\ndomain = \"example.com\"\n{more}\n[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\nport = 5060\n"
        );
        std::fs::write(self.path("etc/sps.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.feed(args, "")
    }

    fn feed(&self, args: &[&str], input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spsroute"))
            .env("SPS_ROOT", self.root.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses early does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Ran {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            words: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Must succeed; its result.
    fn get(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.words);
        ran.out
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.get(&args)).unwrap()
    }

    fn fails(&self, args: &[&str], code: i32, word: &str) {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.words);
        assert!(ran.words.contains(word), "{args:?}: {}", ran.words);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn a_route_is_added_listed_and_removed() {
    let site = Site::new();
    let added = site.run(&[
        "add",
        "50..",
        "gw.example.org:5070",
        "--transport",
        "TCP",
        "--priority",
        "2",
    ]);
    assert_eq!((added.code, added.out.as_str()), (0, "1\n"));
    assert!(
        added.words.contains("route 1 added: 50.. to gw.example.org:5070"),
        "{}",
        added.words
    );
    site.get(&["add", "--domain", "*.example.org", "[2001:db8::1]"]);
    let listed = site.get(&["list"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        listed.contains("@*.example.org") && listed.contains("[2001:db8::1]"),
        "{listed}"
    );
    assert_eq!(
        site.json(&["list", "50*"]),
        json!([{
            "id": 1, "pattern": "50..", "domain": null, "next_hop": "gw.example.org:5070", "transport": "tcp",
            "priority": 2, "weight": 1, "attributes": {}
        }])
    );
    let removed = site.run(&["remove", "1"]);
    assert_eq!((removed.code, removed.out.as_str()), (0, ""));
    assert!(
        removed.words.contains("route 1 removed: 50.. to gw.example.org:5070"),
        "{}",
        removed.words
    );
    assert_eq!(site.json(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn commands_may_be_repeated() {
    let site = Site::new();
    site.get(&["add", "50..", "10.0.0.1"]);
    let again = site.run(&["add", "50..", "10.0.0.1"]);
    assert_eq!((again.code, again.out.as_str()), (0, "1\n"));
    assert!(again.words.contains("route 1 exists already"), "{}", again.words);
    assert_eq!(site.json(&["add", "50..", "10.0.0.1"])["outcome"], "exists");
    let changed = site.run(&["add", "50..", "10.0.0.1", "--weight", "5"]);
    assert!(changed.words.contains("weight 5 (was 1)"), "{}", changed.words);
    assert_eq!(site.json(&["list"])[0]["weight"], 5);
    site.get(&["remove", "1"]);
    let again = site.run(&["remove", "1"]);
    assert_eq!(again.code, 0);
    assert!(again.words.contains("route 1 was removed before"), "{}", again.words);
    site.fails(&["remove", "7"], 66, "there is no route 7");
}

#[test]
fn an_empty_table_lists_nothing() {
    let site = Site::new();
    let ran = site.run(&["list"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.words.contains("no routes yet"));
    assert_eq!(site.json(&["list"]), json!([]));
}

#[test]
fn wrong_words_exit_with_64_and_wrong_data_with_65() {
    let site = Site::new();
    site.fails(&["add", "50.."], 64, "next hop is missing");
    site.fails(&["add", "--domain", "example.org", "50..", "gw"], 64, "not for both");
    site.fails(&["add", "50..", "gw", "--priority", "70000"], 64, "--priority");
    site.fails(&["frobnicate"], 64, "frobnicate");
    site.fails(&["remove", "one"], 64, "one");
    site.fails(&["add", "5a", "gw"], 65, "`a` at position 2");
    site.fails(&["add", "5*0", "gw"], 65, "`*` at position 2");
    site.fails(&["add", "50..", "gw:70000"], 65, "`70000` is not a port");
    site.fails(
        &["add", "50..", "192.168.1.300"],
        65,
        "neither a host name nor an address",
    );
    site.fails(&["add", "50..", "gw", "--transport", "pigeon"], 65, "`pigeon`");
    site.fails(&["add", "--domain", "exa mple", "gw"], 65, "neither a domain");
    site.fails(&["list", "5*0"], 65, "position 2");
    assert_eq!(site.json(&["list"]), json!([]), "nothing of that was stored");
}

#[test]
fn a_folder_without_sps_says_how_to_make_one() {
    let empty = TempDir::new().unwrap();
    let root = empty.path().join("nothing");
    let ran = Command::new(env!("CARGO_BIN_EXE_spsroute"))
        .arg("--root")
        .arg(&root)
        .arg("list")
        .output()
        .unwrap();
    let words = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(66), "{words}");
    assert!(words.contains("spsctl --root"), "{words}");
    assert!(!root.exists());
}

#[test]
fn what_is_exported_can_be_imported_and_exported_again() {
    let site = Site::new();
    for args in [
        ["50..", "gw.example.org:5070", "--priority", "3"],
        ["+1408*", "[2001:db8::1]:5062", "--weight", "7"],
        ["50..", "10.0.0.2", "--transport", "tcp"],
        ["*", "10.0.0.3", "--weight", "0"],
    ] {
        site.get(&[&["add"], &args[..]].concat());
    }
    site.get(&["add", "--domain", "*.example.org", "gw"]);
    let exported = site.get(&["export"]);
    assert_eq!(
        exported.lines().next(),
        Some("pattern,domain,next_hop,transport,priority,weight")
    );
    assert!(exported.contains("\n+1408*,,[2001:db8::1]:5062,,1,7\n"), "{exported}");
    std::fs::write(site.path("routes.csv"), &exported).unwrap();
    let file = site.path("routes.csv");
    let same = site.json(&["import", file.to_str().unwrap()]);
    assert_eq!(same, json!({"added": 0, "changed": 0, "unchanged": 5, "removed": 0}));
    let other = Site::new();
    let imported = other.run(&["import", file.to_str().unwrap()]);
    assert_eq!((imported.code, imported.out.as_str()), (0, ""));
    assert!(
        imported.words.contains("5 added, 0 changed, 0 unchanged, 0 removed"),
        "{}",
        imported.words
    );
    assert_eq!(other.get(&["export"]), exported);
    let replaced = other.feed(
        &["import", "--replace", "-", "--json"],
        "pattern,next_hop\n*,10.0.0.3\n7*,gw\n",
    );
    let counts: Value = serde_json::from_str(&replaced.out).unwrap();
    assert_eq!(counts, json!({"added": 1, "changed": 1, "unchanged": 0, "removed": 4}));
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let site = Site::new();
    site.get(&["add", "1", "gw"]);
    let before = site.get(&["export"]);
    for (csv, line, word) in [
        ("pattern,next_hop\n50..,gw\n\n5x,gw\n", 4, "position 2"),
        ("pattern,next_hop\r\n50..,gw\r\n60..,gw:x\r\n", 3, "not a port"),
        (
            "pattern,domain,next_hop\n50..,example.org,gw\n",
            2,
            "both a pattern and a domain",
        ),
        ("pattern,domain,next_hop\n,,gw\n", 2, "neither a pattern nor a domain"),
        ("pattern,next_hop\n50..\n", 2, "next hop is empty"),
        ("pattern,next_hop\n50..,gw,udp\n", 2, "beyond the last column"),
        ("pattern,next_hop,priority\n50..,gw,high\n", 2, "`high`"),
        (
            "pattern,next_hop,weight\n50..,gw,1\n60..,gw,1\n50..,gw,2\n",
            4,
            "as in line 2",
        ),
        ("pattern,next_hop,transport\n50..,gw,ipx\n", 2, "`ipx`"),
        ("pattern,next_hop,colour\n50..,gw,red\n", 1, "unknown column `colour`"),
        ("pattern,pattern,next_hop\n", 1, "twice"),
        ("pattern\n50..\n", 1, "no column `next_hop`"),
        ("", 1, "neither a column"),
        ("50..,gw\n", 1, "unknown column `50..`"),
    ] {
        let ran = site.feed(&["import", "-"], csv);
        assert_eq!(ran.code, 65, "{csv:?}: {}", ran.words);
        assert!(
            ran.words.contains(&format!("standard input:{line}: ")),
            "{csv:?}: {}",
            ran.words
        );
        assert!(ran.words.contains(word), "{csv:?}: {}", ran.words);
        assert!(ran.words.contains("nothing was imported"), "{csv:?}: {}", ran.words);
        assert_eq!(site.get(&["export"]), before, "{csv:?}");
    }
}

#[test]
fn many_bad_lines_are_counted() {
    let site = Site::new();
    let csv: String = std::iter::once("pattern,next_hop\n".to_string())
        .chain((0..500).map(|_| "x,y\n".into()))
        .collect();
    let ran = site.feed(&["import", "-"], &csv);
    assert_eq!(ran.code, 65);
    assert!(ran.words.contains("and 490 more"), "{}", ran.words);
    assert!(ran.words.lines().count() < 20, "{}", ran.words);
}

#[test]
fn bytes_that_are_no_text_are_a_bad_line() {
    let site = Site::new();
    std::fs::write(site.path("routes.csv"), b"pattern,next_hop\n50..,gw\n60..,\xff\xfe\n").unwrap();
    let file = site.path("routes.csv");
    site.fails(&["import", file.to_str().unwrap()], 65, "routes.csv:3: not UTF-8");
    site.fails(&["import", "/nonexistent.csv"], 66, "/nonexistent.csv");
}

#[test]
fn columns_may_come_in_any_order_and_with_a_byte_order_mark() {
    let site = Site::new();
    let ran = site.feed(&["import", "-"], "\u{feff}Next_Hop, Pattern\n gw , 50.. \n");
    assert_eq!(ran.code, 0, "{}", ran.words);
    assert_eq!(site.json(&["list"])[0]["next_hop"], "gw");
}

#[test]
fn explain_tells_stage_by_stage() {
    let site = Site::new();
    site.get(&["add", "50..", "203.0.113.9:5070"]);
    site.get(&["add", "50..", "203.0.113.10", "--priority", "2"]);
    let ran = site.run(&["explain", "5012"]);
    assert_eq!(ran.code, 0, "{}", ran.words);
    assert!(ran.words.contains("no proxy runs"), "{}", ran.words);
    assert!(
        ran.out
            .ends_with("-> sip:5012@example.com q=1.000 next=203.0.113.9:5070/udp next=203.0.113.10:5060/udp\n"),
        "{}",
        ran.out
    );
    let told = site.json(&[
        "explain",
        "sip:5012@example.com",
        "--method",
        "INVITE",
        "--from",
        "sip:a@example.com",
    ]);
    let stages: Vec<&str> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        [
            "request-uri",
            "access",
            "registry",
            "number-route",
            "number-route",
            "number-route"
        ]
    );
    assert_eq!((&told["by"], &told["answer"]), (&json!("files"), &json!(null)));
    let told = site.json(&["explain", "alice"]);
    assert_eq!(told["answer"], json!({"status": 404, "reason": "Not Found"}));
    assert_eq!(told["targets"], json!([]));
    let told = site.json(&["explain", "http://example.org"]);
    assert_eq!(told["answer"]["status"], 416);
}

#[test]
fn explain_obeys_the_access_rules() {
    let site = Site::new();
    site.configure("[[access]]\nsource = \"192.0.2.0/24\"\naction = \"allow\"\n");
    let status =
        |source: &str| site.json(&["explain", "sip:x@203.0.113.1", "--source", source])["answer"]["status"].clone();
    assert_eq!(status("198.51.100.1"), 403);
    assert_eq!(status("192.0.2.7:5062"), Value::Null);
    site.fails(&["explain", "5012", "--source", "nowhere"], 64, "--source");
}

#[test]
fn explain_says_what_is_answered_here_and_never_routed() {
    let site = Site::new();
    site.configure("[[access]]\nsource = \"192.0.2.66\"\naction = \"deny\"\n");
    let stages = |args: &[&str]| {
        let told = site.json(&[&["explain", "--method"], args].concat());
        let stage = told["steps"].as_array().and_then(|steps| steps.last().cloned());
        (stage.unwrap()["stage"].clone(), told["answer"]["status"].clone())
    };
    assert_eq!(
        stages(&["REGISTER", "sip:example.com"]),
        (json!("registrar"), json!(null))
    );
    assert_eq!(stages(&["OPTIONS", "sip:example.com"]), (json!("self"), json!(200)));
    assert_eq!(stages(&["OPTIONS", "sip:nobody@example.com"]).1, 404);
    assert_eq!(stages(&["REGISTER", "sip:192.0.2.9"]).0, "access", "not for us");
    let denied = ["REGISTER", "sip:example.com", "--source", "192.0.2.66"];
    assert_eq!(stages(&denied), (json!("access"), json!(403)));
    site.fails(&["explain", "5012", "--method", "two words"], 64, "--method");
}

#[test]
fn explain_needs_a_configuration_and_shows_what_is_wrong_with_it() {
    let site = Site::new();
    site.configure("nonsense = 1");
    site.fails(&["explain", "5012"], 78, "nonsense");
    std::fs::remove_file(site.path("etc/sps.toml")).unwrap();
    site.fails(&["explain", "5012"], 66, "sps.toml");
}

#[test]
fn what_strangers_put_into_a_uri_does_not_reach_the_terminal() {
    let site = Site::new();
    let ran = site.run(&["explain", "sip:\u{1b}[31mred@example.com"]);
    assert!(!ran.out.contains('\u{1b}'), "{:?}", ran.out);
}

#[test]
fn a_hundred_thousand_lines_are_imported_at_once() {
    let site = Site::new();
    let mut csv = String::from("pattern,next_hop\n");
    (0..100_000).for_each(|n| csv.push_str(&format!("+44{n:06}*,10.0.{}.{}\n", n / 256 % 256, n % 256)));
    let ran = site.feed(&["import", "-", "--json"], &csv);
    assert_eq!(ran.code, 0, "{}", ran.words);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["added"], 100_000);
    assert!(
        site.get(&["explain", "+440999991234"])
            .contains("next=10.0.134.159:5060/udp")
    );
    assert_eq!(site.get(&["export"]).lines().count(), 100_001);
}

#[test]
fn completions_know_the_commands() {
    assert!(Site::new().get(&["completions", "bash"]).contains("explain"));
}
