//! The rules of the house that the compiler does not know. Each checker is fed a bad sample too: one that never
//! complains would pass for ever.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From the bottom up: a file names only rows before its own, and its own.
const ROWS: [&str; 13] = [
    "domain",
    "intake",
    "resilience",
    "telemetry",
    "store",
    "broker",
    "rails",
    "worker",
    "operate",
    "ops",
    "config",
    "cli",
    "lab",
];
const TOP: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "nats",
    "deploy",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "examples",
    "benches",
    "fuzz",
];
const LICENCES: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];
const BANNED: [&str; 6] = ["openssl", "openssl-sys", "native-tls", "aws-lc-sys", "aws-lc-rs", "async-std"];
const REPORTING: [&str; 15] = [
    "trace!",
    "debug!",
    "info!",
    "warn!",
    "error!",
    "event!",
    "span!",
    "info_span!",
    "debug_span!",
    "counter!",
    "gauge!",
    "histogram!",
    "describe_counter!",
    "describe_gauge!",
    "describe_histogram!",
];
const PRINTING: [&str; 5] = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this ending: its path from the root, and its text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn holds(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn each(check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    files("src", ".rs").iter().flat_map(|(path, text)| check(path, text)).collect()
}

/// What stands before the unit tests.
fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

/// Code without comments. A `//` inside a string (a URL) follows a colon and stays.
fn code(text: &str) -> String {
    let strip = |line: &str| {
        let end = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        line[..end.unwrap_or(line.len())].to_owned()
    };
    before_tests(text).lines().map(strip).collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands by itself.
fn mentions(text: &str, word: &str) -> bool {
    let apart = |c: Option<char>| c.is_none_or(|c| !is_word(c));
    text.match_indices(word).any(|(at, _)| {
        let open = word.ends_with('!') || apart(text[at + word.len()..].chars().next());
        open && apart(text[..at].chars().next_back())
    })
}

/// `src/store/decide.rs` and `src/store.rs` are of row `store`.
fn row(path: &str) -> Option<usize> {
    let first = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    ROWS.iter().position(|name| *name == first)
}

/// The first name of each path that starts at the crate's root, `crate::{a::X, b::Y}` and chains of `super` included.
fn root_names(path: &str, text: &str) -> BTreeSet<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let to_root = format!("{}{}", "super::".repeat(inside.split('/').count() - 1), "super::");
    let mut names = BTreeSet::new();
    for start in ["crate::", to_root.as_str()] {
        for (at, _) in text.match_indices(start) {
            let before = &text[..at];
            if before.ends_with("super::") || before.ends_with('$') || before.ends_with(is_word) {
                continue;
            }
            let rest = &text[at + start.len()..];
            let mut depth = 0_i32;
            let mut expect = true;
            for (i, c) in rest.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => expect = true,
                    c if is_word(c) && expect && depth <= 1 => {
                        names.insert(rest[i..].chars().take_while(|c| is_word(*c)).collect());
                        expect = false;
                    }
                    _ => {}
                }
                if depth <= 0 && !expect {
                    break;
                }
            }
        }
    }
    names
}

fn imports(path: &str, text: &str) -> Vec<String> {
    let Some(own) = row(path) else { return Vec::new() };
    // Tests of the store run over real servers, and those are the lab's.
    let tests = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let complain = |name: &String| match ROWS.iter().position(|r| r == name) {
        Some(other) if other <= own => None,
        Some(_) if tests && name == "lab" => None,
        Some(_) => Some(format!("{path}: a file of row `{}` names the later row `{name}`", ROWS[own])),
        None => Some(format!("{path}: `crate::{name}` is in no row")),
    };
    root_names(path, &code(text)).iter().filter_map(complain).collect()
}

#[test]
fn imports_go_down_the_rows() {
    holds(&each(imports));
    assert_eq!(imports("src/domain/a.rs", "use crate::store::X;").len(), 1);
    assert_eq!(imports("src/store/a.rs", "use crate::{domain::X, worker::{self, Y}, broker::Z};").len(), 2);
    assert_eq!(imports("src/intake/mod.rs", "use super::worker::X;").len(), 1);
    assert_eq!(imports("src/intake/a.rs", "use super::super::worker::X; use super::rules::Y;").len(), 1);
    assert_eq!(imports("src/store/a.rs", "fn f() -> crate::nowhere::X").len(), 1);
    assert!(imports("src/worker/a.rs", "use crate::{store::X, worker::Y}; // crate::lab::Z").is_empty());
    assert!(imports("src/store/tests/a.rs", "use crate::lab::Z;").is_empty());
    assert_eq!(imports("src/store/tests/a.rs", "use crate::broker::Z;").len(), 1);
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let lines = before_tests(text).lines().count();
    if lines > 400 { vec![format!("{path}: {lines} lines before its tests; 400 are the most")] } else { Vec::new() }
}

#[test]
fn files_are_short() {
    holds(&each(too_long));
    assert_eq!(too_long("src/a.rs", &"x\n".repeat(401)).len(), 1);
    assert!(too_long("src/a.rs", &format!("x\n#[cfg(test)]\nmod tests {{\n{}}}", "x\n".repeat(500))).is_empty());
}

/// `words` stand in code below `allowed` only.
fn only_in(path: &str, text: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    if allowed.iter().any(|a| path.starts_with(a)) {
        return Vec::new();
    }
    let text = code(text);
    let found = words.iter().filter(|word| mentions(&text, word));
    found.map(|word| format!("{path}: `{word}` belongs in {}", allowed.join(", "))).collect()
}

#[test]
fn the_nats_client_is_named_in_the_broker_row_only() {
    let check = |path: &str, text: &str| only_in(path, text, &["async_nats"], &["src/broker"]);
    holds(&each(check));
    assert_eq!(check("src/worker/a.rs", "use async_nats::Client;").len(), 1);
    assert!(check("src/worker/a.rs", "// async_nats drops it").is_empty());
}

#[test]
fn traces_are_made_in_the_telemetry_row_only() {
    let names = ["opentelemetry", "opentelemetry_sdk", "opentelemetry_proto", "prost"];
    let check = |path: &str, text: &str| only_in(path, text, &names, &["src/telemetry"]);
    holds(&each(check));
    assert_eq!(check("src/worker/a.rs", "use opentelemetry::trace::Span;").len(), 1);
}

#[test]
fn only_telemetry_reports() {
    let check = |path: &str, text: &str| only_in(path, text, &REPORTING, &["src/telemetry"]);
    holds(&each(check));
    assert_eq!(check("src/store/a.rs", "tracing::warn!(\"x\")").len(), 1);
    assert_eq!(check("src/store/a.rs", "metrics::counter!(\"x\")").len(), 1);
    assert!(check("src/store/a.rs", "my_info!(1)").is_empty());
}

#[test]
fn only_the_command_line_and_the_lab_print() {
    let check = |path: &str, text: &str| only_in(path, text, &PRINTING, &["src/cli", "src/lab"]);
    holds(&each(check));
    assert_eq!(check("src/store/a.rs", "println!(\"x\"); eprintln!()").len(), 2);
    assert!(check("src/store/a.rs", "writeln!(f)").is_empty());
}

/// The client is compiled without cryptography of its own: one built without settings for TLS panics.
#[test]
fn http_clients_are_built_where_they_are_given_their_cryptography() {
    let allowed = ["src/rails/http/client.rs", "src/telemetry/trace/export.rs"];
    let check = |path: &str, text: &str| only_in(path, text, &["Client::builder", "Client::new"], &allowed);
    holds(&each(check));
    holds(
        &files("tests", ".rs")
            .iter()
            .filter(|(p, _)| p != "tests/tidy.rs")
            .flat_map(|(p, t)| check(p, t))
            .collect::<Vec<_>>(),
    );
    assert_eq!(check("src/cli/a.rs", "reqwest::Client::builder().build()").len(), 1);
}

#[test]
fn environment_variables_are_read_in_one_place() {
    let check = |path: &str, text: &str| {
        let named = code(text).contains("\"ACQUIT_") && !["src/config", "src/lab"].iter().any(|a| path.starts_with(a));
        if named { vec![format!("{path}: variables are named in src/config, or src/lab")] } else { Vec::new() }
    };
    holds(&each(check));
    assert_eq!(check("src/store/a.rs", "env::var(\"ACQUIT_X\")").len(), 1);
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    // Put together here, so that this file does not name them.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["unimple", "mented!"].concat()];
    marks.iter().filter(|m| mentions(text, m)).map(|m| format!("{path}: {m}")).collect()
}

#[test]
fn nothing_is_marked_unfinished() {
    let tests = files("tests", ".rs");
    holds(&each(unfinished));
    holds(&tests.iter().flat_map(|(path, text)| unfinished(path, text)).collect::<Vec<_>>());
    assert_eq!(unfinished("src/a.rs", &["// TO", "DO: later"].concat()).len(), 1);
}

fn strangers<'a>(entries: impl Iterator<Item = &'a str>) -> Vec<String> {
    let top: BTreeSet<&str> = entries.filter_map(|e| e.split('/').next()).collect();
    let known = |e: &&str| TOP.contains(e) || e.starts_with('.');
    top.into_iter().filter(|e| !known(e)).map(|e| format!("{e} does not belong at the top")).collect()
}

#[test]
fn the_top_level_holds_what_it_should() {
    let out = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git lists the files");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    holds(&strangers(String::from_utf8(out.stdout).unwrap().lines()));
    assert_eq!(strangers(["src/lib.rs", "notes/x.md", ".ci/run"].into_iter()).len(), 1);
}

fn without_runbook(alerts: &str, runbooks: &BTreeSet<String>) -> Vec<String> {
    let named: BTreeSet<String> =
        alerts.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    assert!(!named.is_empty(), "no alert found");
    let alone = named.difference(runbooks).map(|n| format!("{n} has no runbook"));
    alone.chain(runbooks.difference(&named).map(|n| format!("runbook {n} has no alert"))).collect()
}

#[test]
fn every_alert_has_its_runbook() {
    let alerts = fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let stem = |(path, _): &(String, String)| Path::new(path).file_stem().unwrap().to_string_lossy().into_owned();
    let runbooks = files("deploy/runbooks", ".md").iter().map(stem).collect();
    holds(&without_runbook(&alerts, &runbooks));
    assert_eq!(without_runbook("- alert: A\n- alert: B\n", &["B".into(), "C".into()].into()).len(), 2);
}

/// Names of metrics in `text` that `source` does not have; recording rules (`level:metric:operation`) are not metrics.
fn unknown_metrics(path: &str, text: &str, source: &str) -> Vec<String> {
    let word = |c: char| is_word(c) || c == ':';
    let named =
        text.split(|c| !word(c)).filter(|w| w.starts_with("acquit_") && !w.contains(':')).collect::<BTreeSet<_>>();
    let stem = |name: &str| {
        let end = ["_bucket", "_sum", "_count"].into_iter().find_map(|s| name.strip_suffix(s));
        end.unwrap_or(name).to_owned()
    };
    named
        .into_iter()
        .filter(|n| !source.contains(&format!("\"{}\"", stem(n))))
        .map(|n| format!("{path}: no metric {n}"))
        .collect()
}

#[test]
fn every_metric_in_deploy_exists() {
    let source = ["src/telemetry/metrics.rs", "src/telemetry/metrics/help.rs"]
        .map(|f| fs::read_to_string(root().join(f)).unwrap())
        .concat();
    let all = [".yml", ".json", ".md"].into_iter().flat_map(|ending| files("deploy", ending));
    holds(&all.flat_map(|(path, text)| unknown_metrics(&path, &text, &source)).collect::<Vec<_>>());
    let source = "gauge!(\"acquit_a\")";
    assert_eq!(unknown_metrics("d", "rate(acquit_a_bucket[5m]) + acquit_b + l:acquit_c:rate5m", source).len(), 1);
}

/// Whether an SPDX expression leaves a choice among [`LICENCES`].
fn allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ");
    let inner = plain.trim();
    let split = |word: &str| -> Option<(String, String)> {
        let mut depth = 0_i32;
        inner.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            let here = depth == 0 && inner[at..].starts_with(word);
            here.then(|| (inner[..at].to_owned(), inner[at + word.len()..].to_owned()))
        })
    };
    if let Some((left, right)) = split(" OR ") {
        return allowed(&left) || allowed(&right);
    }
    if let Some((left, right)) = split(" AND ") {
        return allowed(&left) && allowed(&right);
    }
    match inner.strip_prefix('(').and_then(|i| i.strip_suffix(')')) {
        Some(group) => allowed(group),
        None => LICENCES.contains(&inner),
    }
}

fn bad_package(name: &str, licence: &str, source: Option<&str>) -> Option<String> {
    if BANNED.contains(&name) {
        return Some(format!("{name} is not to be in the tree"));
    }
    if source.is_some_and(|s| !s.contains("crates.io-index")) {
        return Some(format!("{name} does not come from crates.io"));
    }
    (!allowed(licence)).then(|| format!("{name}: licence `{licence}` is not on the list"))
}

/// The same as `.deny.toml`, for machines without cargo-deny, on this platform.
#[test]
fn dependencies_have_known_licences_and_sources() {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let out = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let tree: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<String> = tree["resolve"]["nodes"].as_array().unwrap().iter().map(|n| text(&n["id"])).collect();
    assert!(used.len() > 50, "the tree was not read");
    let packages = tree["packages"].as_array().unwrap().iter().filter(|p| used.contains(&text(&p["id"])));
    let complaints =
        packages.filter_map(|p| bad_package(&text(&p["name"]), &text(&p["license"]), p["source"].as_str()));
    holds(&complaints.collect::<Vec<_>>());

    assert!(bad_package("openssl-sys", "MIT", None).is_some());
    assert!(bad_package("x", "GPL-3.0-only", None).is_some());
    assert!(bad_package("x", "MIT", Some("git+https://example.org/x")).is_some());
    assert!(allowed("(MIT OR GPL-2.0) AND Unicode-3.0") && allowed("MIT/Apache-2.0"));
    assert!(!allowed("MIT AND GPL-2.0") && !allowed(""));
}
