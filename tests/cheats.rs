//! Cheats that the types rule out. `tests/cheats/` holds them, one file a layer, each under a line that names the
//! cheat and the error it must meet; this test compiles them and compares.
//!
//! Most are about items no other crate sees, so the layers include their file as a module under `cfg(acquit_cheats)`,
//! which no build sets but this one. Cheats from outside are a module of this very file. The compiler stops early
//! where names or fields are wrong, so they go by groups, one compilation each.
//!
//! A marker is `//~ cheat: <what is tried> <code> <words in the message> [x<errors>]` and reaches to the next one. A type
//! is named by its end only, since the compiler writes the path before it where the name alone could be mistaken.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[cfg(acquit_cheats)]
#[path = "cheats/outside.rs"]
mod outside;

/// Compiled one by one: an error of an earlier phase keeps the compiler from a later one.
const GROUPS: [&str; 4] = ["resolve", "types", "moves", "fields"];
/// Included by the library's own layers.
const INSIDE: [&str; 4] = ["broker", "rails", "store", "worker"];

/// One cheat, and the error it must meet.
#[derive(Debug, PartialEq, Eq)]
struct Cheat {
    file: String,
    /// Its lines, the last one excluded.
    from: usize,
    to: usize,
    what: String,
    code: String,
    words: String,
    errors: usize,
}

/// One error of the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    /// Where; none for an error about the whole crate.
    at: Option<(String, usize)>,
    code: Option<String>,
    message: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// `what E0599 words x2` in its parts.
fn parse_marker(text: &str) -> Option<(String, String, String, usize)> {
    let is_code = |w: &str| w.len() == 5 && w.starts_with('E') && w[1..].bytes().all(|b| b.is_ascii_digit());
    let code = text.split(' ').rfind(|w| is_code(w))?;
    let (what, rest) = text.split_once(&format!(" {code} "))?;
    let count = rest.rsplit_once(" x").and_then(|(words, n)| Some((words, n.parse().ok()?)));
    let (words, errors) = count.unwrap_or((rest, 1));
    Some((what.to_owned(), code.to_owned(), words.to_owned(), errors))
}

/// The cheats of one group in a file: what stands in `mod <group> {`. Panics on a marker that says too little.
fn cheats(file: &str, text: &str, group: &str) -> Vec<Cheat> {
    let (mut found, mut inside) = (Vec::<Cheat>::new(), false);
    for (at, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
        let marker = line.trim().strip_prefix("//~ cheat: ");
        if line == format!("mod {group} {{") {
            inside = true;
        } else if inside && (marker.is_some() || line == "}") {
            if let Some(last) = found.last_mut().filter(|c| c.to == usize::MAX) {
                last.to = at;
            }
            inside = line != "}";
        }
        if let Some(marker) = marker.filter(|_| inside) {
            let parts = parse_marker(marker);
            assert!(parts.is_some(), "{file}:{at}: a marker is `//~ cheat: <what> <code> <words>`");
            let (what, code, words, errors) = parts.unwrap();
            found.push(Cheat { file: file.to_owned(), from: at, to: usize::MAX, what, code, words, errors });
        }
    }
    found
}

/// What is wrong: a cheat that meets too few errors or others than its own, an error that lies in no cheat.
fn judge(cheats: &[Cheat], faults: &[Fault]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut of: BTreeMap<usize, Vec<&Fault>> = BTreeMap::new();
    for fault in faults {
        let covers =
            |c: &Cheat| fault.at.as_ref().is_some_and(|(f, line)| *f == c.file && (c.from..c.to).contains(line));
        match cheats.iter().position(covers) {
            Some(cheat) => of.entry(cheat).or_default().push(fault),
            None => complaints.push(format!("an error that no cheat asked for: {fault:?}")),
        }
    }
    for (i, cheat) in cheats.iter().enumerate() {
        let met = of.remove(&i).unwrap_or_default();
        let place = format!("{}:{}: {}", cheat.file, cheat.from, cheat.what);
        if met.len() < cheat.errors {
            complaints.push(format!("{place}: COMPILES ({} errors of {})", met.len(), cheat.errors));
        }
        for other in met.iter().filter(|f| f.code.as_ref() != Some(&cheat.code) || !f.message.contains(&cheat.words)) {
            complaints.push(format!("{place}: fails for another reason: {other:?}"));
        }
        if met.len() > cheat.errors {
            complaints.push(format!("{place}: {} errors, {} expected", met.len(), cheat.errors));
        }
    }
    complaints
}

/// `src/store/../../tests/x.rs` is `tests/x.rs`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// An error in one line of cargo's output. The compiler's closing count of errors is none.
fn fault(line: &str) -> Option<Fault> {
    let line: Value = serde_json::from_str(line).ok()?;
    let diagnostic = line.get("message").filter(|_| line["reason"] == "compiler-message")?;
    let message = diagnostic["message"].as_str()?;
    if !diagnostic["level"].as_str()?.starts_with("error") || message.starts_with("aborting due to ") {
        return None;
    }
    let primary = diagnostic["spans"].as_array()?.iter().find(|span| span["is_primary"] == true);
    let label = primary.and_then(|span| span["label"].as_str()).unwrap_or_default();
    // Which types do not match is said at the place, not in the headline.
    let notes = diagnostic["children"].as_array()?.iter().filter_map(|note| note["message"].as_str());
    let message = [message, label].into_iter().chain(notes).collect::<Vec<_>>().join("; ");
    let line_of = |span: &Value| usize::try_from(span["line_start"].as_u64()?).ok();
    let at = primary.and_then(|span| Some((plain(span["file_name"].as_str()?), line_of(span)?)));
    Some(Fault { at, code: diagnostic["code"]["code"].as_str().map(str::to_owned), message })
}

/// What cargo tells a running test about its package. Build scripts that watch these variables (ring's) would run
/// again, and everything above them would be compiled anew, twice.
fn is_of_this_run(variable: &str) -> bool {
    let of_the_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"].iter().any(|p| variable.starts_with(p));
    of_the_package || ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR"].contains(&variable)
}

/// Compiles one target of this crate with a group of cheats. The profile, the features and the folder are those of
/// the running test, so that nothing but the target itself is compiled anew.
fn compile(target: &[&str], group: &str) -> Vec<Fault> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).arg("rustc").args(target).args(["--profile", "test", "--message-format", "json"]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    for (variable, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_run)) {
        cargo.env_remove(variable);
    }
    if !cfg!(feature = "lab") {
        cargo.arg("--no-default-features");
    }
    let value = format!("acquit_cheats=\"{group}\"");
    let out = cargo.args(["--", "--cfg", "acquit_cheats", "--cfg", value.as_str()]).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    let faults: Vec<Fault> = stdout.lines().filter_map(fault).collect();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!faults.is_empty(), "{target:?} {group}: cargo ({}) names no error:\n{said}", out.status);
    faults
}

fn tried(target: &[&str], files: &[&str]) -> usize {
    let texts: Vec<_> = files.iter().map(|f| format!("tests/cheats/{f}.rs")).map(|f| (read(&f), f)).collect();
    let (mut complaints, mut count) = (Vec::new(), 0);
    for group in GROUPS {
        let cheats: Vec<Cheat> = texts.iter().flat_map(|(text, file)| cheats(file, text, group)).collect();
        complaints.extend(judge(&cheats, &compile(target, group)));
        count += cheats.len();
    }
    let marked: usize = texts.iter().map(|(text, _)| text.matches("//~ cheat").count()).sum();
    assert_eq!(count, marked, "a marker stands in no group");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    count
}

#[test]
fn no_cheat_inside_the_crate_compiles() {
    assert!(tried(&["--lib"], &INSIDE) >= 18);
}

#[test]
fn no_cheat_in_another_crate_compiles() {
    assert!(tried(&["--test", "cheats"], &["outside"]) >= 5);
}

#[test]
fn every_file_of_cheats_is_compiled() {
    let mut names: Vec<String> = fs::read_dir(root().join("tests/cheats"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, [INSIDE[0], "outside", INSIDE[1], INSIDE[2], INSIDE[3]]);
}

// What follows checks the checker: one that never complains would pass for ever.

const SAMPLE: &str = "\
#[cfg(acquit_cheats = \"types\")]
mod types {
    //~ cheat: mint it E0451 `Proof`
    fn mint() {
        Proof { x }
    }

    //~ cheat: clone it E0277 `Clone` x2
    fn clones() {}
}
mod moves {
    //~ cheat: use it twice E0382 `proof`
    fn twice() {}
}
";

fn error(line: usize, code: &str, message: &str) -> Fault {
    Fault { at: Some(("s.rs".to_owned(), line)), code: Some(code.to_owned()), message: message.to_owned() }
}

fn as_wanted() -> [Fault; 3] {
    [error(5, "E0451", "of `Proof`"), error(9, "E0277", "`A: Clone`"), error(9, "E0277", "`B: Clone`")]
        .map(|f| Fault { message: f.message.replace("A: Clone", "Clone").replace("B: Clone", "Clone"), ..f })
}

#[test]
fn markers_are_read_with_their_lines() {
    let found = cheats("s.rs", SAMPLE, "types");
    let seen: Vec<_> = found.iter().map(|c| (c.what.as_str(), c.from, c.to, c.errors)).collect();
    assert_eq!(seen, [("mint it", 3, 8, 1), ("clone it", 8, 10, 2)]);
    assert_eq!(cheats("s.rs", SAMPLE, "moves").len(), 1);
    assert!(parse_marker("say no code").is_none() && parse_marker("say no words E0382").is_none());
}

#[test]
fn a_cheat_that_meets_its_errors_passes() {
    assert_eq!(judge(&cheats("s.rs", SAMPLE, "types"), &as_wanted()), Vec::<String>::new());
}

#[test]
fn a_cheat_that_compiles_is_told() {
    let found = cheats("s.rs", SAMPLE, "types");
    let told = judge(&found, &as_wanted()[1..]);
    assert!(told.len() == 1 && told[0].contains("mint it: COMPILES"), "{told:?}");
    let told = judge(&found, &as_wanted()[..2]);
    assert!(told.len() == 1 && told[0].contains("clone it: COMPILES (1 errors of 2)"), "{told:?}");
    assert_eq!(judge(&found, &[]).len(), 2);
}

#[test]
fn another_error_than_the_cheats_own_is_told() {
    let found = cheats("s.rs", SAMPLE, "types");
    let with = |bad: Fault| {
        let [_, two, three] = as_wanted();
        judge(&found, &[bad, two, three])
    };
    assert_eq!(with(error(5, "E0308", "of `Proof`")).len(), 1);
    assert_eq!(with(error(5, "E0451", "of `Other`")).len(), 1);
    // Outside every cheat, in another file, about no place: told, and the cheat compiles.
    assert_eq!(with(error(1, "E0451", "of `Proof`")).len(), 2);
    assert_eq!(with(Fault { at: Some(("src/lib.rs".to_owned(), 5)), ..error(5, "E0451", "of `Proof`") }).len(), 2);
    assert_eq!(with(Fault { at: None, ..error(5, "E0451", "of `Proof`") }).len(), 2);
    let [one, two, three] = as_wanted();
    assert_eq!(judge(&found, &[one.clone(), one, two, three]).len(), 1);
}

#[test]
fn errors_are_read_from_cargos_output() {
    let line = |level: &str, message: &str| {
        let span =
            r#"{"file_name":"src/store/../../tests/cheats/store.rs","line_start":7,"is_primary":true,"label":"no"}"#;
        let code = r#"{"code":"E0382"}"#;
        format!(
            r#"{{"reason":"compiler-message","message":{{"level":"{level}","message":"{message}","code":{code},"spans":[{span}],"children":[]}}}}"#
        )
    };
    let read = fault(&line("error", "use of moved value: `x`")).unwrap();
    assert_eq!(read.at, Some(("tests/cheats/store.rs".to_owned(), 7)));
    assert_eq!((read.code.as_deref(), read.message.as_str()), (Some("E0382"), "use of moved value: `x`; no"));
    assert!(fault(&line("warning", "unused")).is_none());
    assert!(fault(&line("error", "aborting due to 2 previous errors")).is_none());
    assert!(fault(r#"{"reason":"build-finished","success":false}"#).is_none());
}
