//! `spsroute import` and `spsroute export`: routes as CSV (RFC 4180) with a heading.

use crate::change::{parse_transport, tell_proxy};
use crate::failure::{self, stored};
use crate::list::Shown;
use csv::{ReaderBuilder, StringRecord, Terminator, WriterBuilder};
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output, Progress, printable};
use sps_conf::Paths;
use sps_route::{Attributes, Route, Selector};
use sps_store::{DEFAULT_PRIORITY, DEFAULT_WEIGHT, ImportMode, NewRoute};
use sps_wire::flow::Transport;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// The heading, and the order in which export writes.
const COLUMNS: [&str; 6] = ["pattern", "domain", "next_hop", "transport", "priority", "weight"];

/// So many wrong lines are shown before the rest is only counted.
const MOST_SHOWN: usize = 10;

/// Room for some ten million routes, and an end to what comes out of a pipe.
const MAX_FILE_LEN: u64 = 1 << 29;

/// What `import --json` prints.
#[derive(Serialize)]
struct Counts {
    added: u64,
    changed: u64,
    unchanged: u64,
    removed: u64,
}

pub fn import(paths: &Paths, out: Output, file: &Path, replace: bool) -> Result<(), Failure> {
    // Everything is read before anything is locked: who types the lines by hand must not stop other commands.
    let routes = if file == Path::new("-") {
        read("standard input", std::io::stdin().lock())?
    } else {
        let opened = std::fs::File::open(file).or_fail(Exit::NoInput, file.display())?;
        read(&file.display().to_string(), opened)?
    };
    let mut store = failure::open(paths)?;
    let mode = if replace {
        ImportMode::Replace
    } else {
        ImportMode::Merge
    };
    let mut progress = Progress::new("importing routes", Some(2 * routes.len() as u64));
    let imported = store.import(&routes, mode, &mut |done| progress.set(done));
    progress.finish();
    let done = imported.map_err(|error| stored(error, "import"))?;
    out.note(&format!(
        "{} added, {} changed, {} unchanged, {} removed",
        done.added, done.changed, done.unchanged, done.removed
    ));
    if done.added + done.changed + done.removed != 0 {
        tell_proxy(paths, out, &store)?;
    }
    if !out.is_json() {
        return Ok(());
    }
    out.json(&Counts {
        added: done.added,
        changed: done.changed,
        unchanged: done.unchanged,
        removed: done.removed,
    })
}

pub fn export(paths: &Paths, out: Output) -> Result<(), Failure> {
    let store = failure::open(paths)?;
    let failed = |error| stored(error, "export");
    if out.is_json() {
        let mut shown: Vec<Shown> = Vec::new();
        store
            .for_each(|route| {
                shown.push(route.into());
                Ok(())
            })
            .map_err(failed)?;
        return out.json(&shown);
    }
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(COLUMNS);
    store
        .for_each(|route| {
            let _ = writer.write_record(cells(&route));
            Ok(())
        })
        .map_err(failed)?;
    let text = writer.into_inner().unwrap_or_default();
    out.text(&String::from_utf8_lossy(&text))
}

fn cells(route: &Route) -> [String; 6] {
    let (pattern, domain) = match &route.selector {
        Selector::Number(pattern) => (pattern.to_string(), String::new()),
        Selector::Domain(domain) => (String::new(), domain.to_string()),
    };
    let transport = route.transport.map_or("", Transport::as_str).to_string();
    [
        pattern,
        domain,
        route.hop.to_string(),
        transport,
        route.priority.to_string(),
        route.weight.to_string(),
    ]
}

/// Reads a whole file, or tells what is wrong with which lines.
fn read(name: &str, input: impl Read) -> Result<Vec<NewRoute>, Failure> {
    let mut bytes = Vec::new();
    input
        .take(MAX_FILE_LEN + 1)
        .read_to_end(&mut bytes)
        .or_fail(Exit::Io, name)?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(Failure::new(
            Exit::Data,
            format!("{name}: longer than {MAX_FILE_LEN} bytes"),
        ));
    }
    let mut lines = Lines::of(&bytes);
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(&*bytes);
    let heading = match reader.headers() {
        Ok(heading) => heading.clone(),
        Err(error) => return Err(wrong(name, &[(1, text_of(&error))], 1)),
    };
    let columns = Columns::find(&heading).map_err(|text| wrong(name, &[(1, text)], 1))?;
    let mut routes = Vec::new();
    let mut seen = HashMap::new();
    let (mut problems, mut bad) = (Vec::new(), 0);
    let mut record = StringRecord::new();
    loop {
        let start = reader.position().byte();
        let read = match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => columns.route(&record),
            Err(error) => Err(text_of(&error)),
        };
        let line = lines.at(start);
        let checked = read.and_then(|route| {
            let key = (route.selector.clone(), route.hop.clone(), route.transport);
            match seen.insert(key, (line, route.priority, route.weight)) {
                Some((first, priority, weight)) if (priority, weight) != (route.priority, route.weight) => Err(
                    format!("the same route as in line {first}, with another priority or weight"),
                ),
                _ => Ok(route),
            }
        });
        match checked {
            Ok(route) => routes.push(route),
            Err(text) => {
                bad += 1;
                if problems.len() < MOST_SHOWN {
                    problems.push((line, text));
                }
            }
        }
    }
    if bad == 0 {
        Ok(routes)
    } else {
        Err(wrong(name, &problems, bad))
    }
}

fn wrong(name: &str, problems: &[(usize, String)], bad: usize) -> Failure {
    let mut lines: Vec<String> = problems
        .iter()
        .map(|(line, text)| format!("{name}:{line}: {}", printable(text)))
        .collect();
    if bad > problems.len() {
        lines.push(format!("{name}: and {} more", bad - problems.len()));
    }
    Failure::new(Exit::Data, lines.join("\n")).cure("nothing was imported")
}

fn text_of(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".into(),
        _ => error.to_string(),
    }
}

/// Which line a record stands in. The csv crate counts neither blank lines before a record nor the second half of a
/// CRLF.
struct Lines<'b> {
    bytes: &'b [u8],
    /// So far has been counted.
    at: usize,
    line: usize,
}

impl<'b> Lines<'b> {
    fn of(bytes: &'b [u8]) -> Lines<'b> {
        Lines { bytes, at: 0, line: 1 }
    }

    /// The line of the first byte from `start` on that is no line end. `start` must not go back.
    fn at(&mut self, start: u64) -> usize {
        while let Some(byte) = self.bytes.get(self.at) {
            if self.at as u64 >= start && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += usize::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// Where each column stands.
struct Columns([Option<usize>; 6]);

impl Columns {
    fn find(heading: &StringRecord) -> Result<Columns, String> {
        let mut found = [None; 6];
        for (at, name) in heading.iter().enumerate() {
            // Spreadsheets like to begin a file with a byte order mark.
            let name = name.trim_start_matches('\u{feff}');
            let Some(column) = COLUMNS.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
                return Err(format!("unknown column `{name}`; the heading is {}", COLUMNS.join(",")));
            };
            if found[column].replace(at).is_some() {
                return Err(format!("column `{name}` is there twice"));
            }
        }
        match found {
            [None, None, ..] => Err("neither a column `pattern` nor `domain`".into()),
            [_, _, None, ..] => Err("no column `next_hop`".into()),
            _ => Ok(Columns(found)),
        }
    }

    fn route(&self, record: &StringRecord) -> Result<NewRoute, String> {
        if let Some(extra) = record
            .iter()
            .skip(self.0.iter().flatten().count())
            .find(|cell| !cell.is_empty())
        {
            return Err(format!("`{extra}` stands beyond the last column"));
        }
        let [pattern, domain, next_hop, transport, priority, weight] =
            self.0.map(|at| at.and_then(|at| record.get(at)).unwrap_or_default());
        let selector = match (pattern, domain) {
            ("", "") => return Err("neither a pattern nor a domain".into()),
            (pattern, "") => pattern
                .parse()
                .map(Selector::Number)
                .map_err(|error| error.to_string())?,
            ("", domain) => domain
                .parse()
                .map(Selector::Domain)
                .map_err(|error| error.to_string())?,
            _ => return Err("both a pattern and a domain".into()),
        };
        Ok(NewRoute {
            selector,
            hop: next_hop.parse().map_err(|error: sps_route::BadHop| error.to_string())?,
            transport: if transport.is_empty() {
                None
            } else {
                Some(parse_transport(transport)?)
            },
            priority: figure("priority", priority, DEFAULT_PRIORITY)?,
            weight: figure("weight", weight, DEFAULT_WEIGHT)?,
            attributes: Attributes::new(),
        })
    }
}

fn figure(name: &str, text: &str, default: u16) -> Result<u16, String> {
    match text {
        "" => Ok(default),
        _ => text
            .parse()
            .map_err(|_| format!("{name}: `{text}` is not a number from 0 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "pattern,domain,next_hop,transport,priority,weight\n1555*,,192.0.2.1:5060,udp,1,2\r\n\"+49*\",,[2001:db8::1],,,\n\
                        ,*.example.com,gw.example.com,tcp,3,4\n15550100,,gw,tls,65535,0\n";

    /// A line as `export` writes it.
    fn line(route: &NewRoute) -> String {
        let (pattern, domain) = match &route.selector {
            Selector::Number(pattern) => (pattern.to_string(), String::new()),
            Selector::Domain(domain) => (String::new(), domain.to_string()),
        };
        let transport = route.transport.map_or("", Transport::as_str);
        format!(
            "{pattern},{domain},{},{transport},{},{}\n",
            route.hop, route.priority, route.weight
        )
    }

    /// Whatever stands in a file, reading it ends, and what is accepted is the same when it is written and read again.
    #[test]
    fn files_of_any_bytes_are_refused_or_read_as_they_would_be_written() {
        let mut seed = 4180u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..4_000 {
            let mut bytes = SEED.as_bytes().to_vec();
            for _ in 0..1 + random() % 3 {
                let at = random() % bytes.len();
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\r\n,\"*.+:[]0"[random() % 11]),
                    _ => {
                        let end = (at + random() % 40).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        drop(bytes.splice(at..at, piece));
                    }
                }
            }
            let Ok(routes) = read("file", &*bytes) else {
                refused += 1;
                continue;
            };
            accepted += 1;
            let lines = |routes: &[NewRoute]| routes.iter().map(line).collect::<String>();
            let written = format!("{}\n{}", COLUMNS.join(","), lines(&routes));
            let again =
                read("file", written.as_bytes()).unwrap_or_else(|_| panic!("its own print is refused:\n{written}"));
            assert_eq!(lines(&again), lines(&routes));
        }
        assert!(
            accepted > 200 && refused > 200,
            "{accepted} accepted, {refused} refused"
        );
    }
}
