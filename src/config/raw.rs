//! What was written: the TOML file as keys with their lines, variables and flags as keys with their texts.
//!
//! Not read through serde: it stops at the first error, and an operator wants all of them, each with its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::forms::Given;
use super::keys::{SECTIONS, Section, is_known, suggestion};
use super::problem::{Origin, Problem};

/// One value with its origin.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) given: Given,
    pub(super) origin: Origin,
}

/// One table of a section: its values by key, where a nested table's keys are joined with a point.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) origin: Origin,
    pub(super) values: BTreeMap<String, Written>,
}

/// The file: the tables of each section by its name.
pub(super) type File = BTreeMap<&'static str, Vec<Instance>>;

/// Reads one file, with every problem of its form and its names.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

/// Reads `text`, the content of `path`.
pub(super) fn read(path: &Path, text: &str, problems: &mut Vec<Problem>) -> File {
    let mut reader = Reader { path, text, problems };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = reader.origin(error.span().unwrap_or_default());
        let rule = error.message().lines().collect::<Vec<_>>().join(" ");
        reader.problem("file", origin, &format!("is not TOML: {rule}"), "correct the line");
    }
    let mut file = File::new();
    for (name, value) in document.get_ref() {
        let origin = reader.origin(name.span());
        let Some(section) = SECTIONS.iter().find(|section| section.name == name.get_ref().as_ref()) else {
            reader.unknown(name.get_ref(), origin);
            continue;
        };
        file.insert(section.name, reader.section(section, value.get_ref(), &origin));
    }
    file
}

impl Reader<'_> {
    fn section(&mut self, section: &Section, value: &DeValue<'_>, origin: &Origin) -> Vec<Instance> {
        let tables: Vec<(&DeTable<'_>, Origin)> = match (section.repeated, value) {
            (false, DeValue::Table(table)) => vec![(table, origin.clone())],
            (true, DeValue::Array(array)) if array.iter().all(|item| item.get_ref().is_table()) => {
                array.iter().filter_map(|item| Some((item.get_ref().as_table()?, self.origin(item.span())))).collect()
            }
            _ => {
                let (rule, remedy) = if section.repeated {
                    ("must be repeated tables", format!("write it as [[{}]]", section.name))
                } else {
                    ("must be a table", format!("write it as [{}]", section.name))
                };
                self.problem(section.name, origin.clone(), rule, &remedy);
                return Vec::new();
            }
        };
        tables
            .into_iter()
            .map(|(table, origin)| {
                let mut values = BTreeMap::new();
                self.flatten(section, "", table, &mut values);
                Instance { origin, values }
            })
            .collect()
    }

    fn flatten(&mut self, section: &Section, prefix: &str, table: &DeTable<'_>, to: &mut BTreeMap<String, Written>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let nested = format!("{key}.");
            let origin = self.origin(name.span());
            let table = value.get_ref().as_table().filter(|_| section.keys.iter().any(|k| k.name.starts_with(&nested)));
            if let Some(table) = table {
                self.flatten(section, &nested, table, to);
            } else if section.keys.iter().any(|known| known.name == key) {
                to.insert(key, Written { given: given(value.get_ref()), origin });
            } else {
                self.unknown(&format!("{}.{key}", section.name), origin);
            }
        }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
        Origin::File { path: self.path.to_owned(), line }
    }

    fn unknown(&mut self, key: &str, origin: Origin) {
        self.problems.push(unknown(key, origin));
    }

    fn problem(&mut self, key: &str, origin: Origin, rule: &str, remedy: &str) {
        self.problems.push(Problem { key: key.to_owned(), origin, rule: rule.to_owned(), remedy: remedy.to_owned() });
    }
}

/// The problem of a key that does not exist.
pub(super) fn unknown(key: &str, origin: Origin) -> Problem {
    let remedy = match suggestion(key) {
        Some(name) => format!("did you mean {name}?"),
        None => "take it out; `acquit check --example-config` lists every key".to_owned(),
    };
    Problem { key: key.to_owned(), origin, rule: "is no key of this version".to_owned(), remedy }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            u64::from_str_radix(&digits, number.radix()).map_or(Given::Other, Given::Whole)
        }
        DeValue::Float(number) => number.as_str().replace('_', "").parse().map_or(Given::Other, Given::Number),
        DeValue::Boolean(flag) => Given::Flag(*flag),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or(Given::Other, Given::List)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => Given::Other,
    }
}

/// Values from outside the file by full key (`store.path`, `lane.<name>.slots`), flags over variables.
pub(super) struct Outside {
    values: BTreeMap<String, Written>,
    /// Variables `ACQUIT_...` not yet taken by a key.
    variables: BTreeMap<String, String>,
}

/// Variables of ours that are no keys.
const NOT_KEYS: [&str; 6] = [
    super::FILE_VARIABLE,
    "ACQUIT_NATS_SERVER",
    "ACQUIT_TEST_POSTGRES",
    "ACQUIT_LAB_KILL",
    "ACQUIT_LAB_STOP",
    "ACQUIT_TEST_BIN",
];

impl Outside {
    /// Flags that name no key are problems at once; variables only in [`Outside::rest`], when the lanes are known.
    pub(super) fn new(
        env: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let ours = |(name, value): &(String, String)| {
            name.starts_with("ACQUIT_") && !value.is_empty() && !NOT_KEYS.contains(&name.as_str()) && !injected(name)
        };
        let mut values = BTreeMap::new();
        for (key, text) in flags {
            if is_known(&key) {
                values.insert(key, Written { given: Given::Word(text), origin: Origin::Flag });
            } else {
                problems.push(unknown(&key, Origin::Flag));
            }
        }
        Self { values, variables: env.into_iter().filter(ours).collect() }
    }

    /// The value of a full key, and the variable is then taken.
    pub(super) fn take(&mut self, key: &str) -> Option<Written> {
        let name = variable(key);
        let text = self.variables.remove(&name);
        self.values.remove(key).or_else(|| Some(Written { given: Given::Word(text?), origin: Origin::Env(name) }))
    }

    /// Whatever named no key or no lane.
    pub(super) fn rest(self, problems: &mut Vec<Problem>) {
        for (key, written) in self.values {
            problems.push(Problem {
                key,
                origin: written.origin,
                rule: "names a lane, rail, scheme or account that does not exist".to_owned(),
                remedy: "declare it in the file first".to_owned(),
            });
        }
        for name in self.variables.into_keys() {
            let key = name.trim_start_matches("ACQUIT_").to_lowercase().replacen('_', ".", 1);
            problems.push(unknown(&key, Origin::Env(name)));
        }
    }
}

/// `broker.ping_interval` is `ACQUIT_BROKER_PING_INTERVAL`.
pub(super) fn variable(key: &str) -> String {
    let upper = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "ACQUIT_".chars().chain(upper).collect()
}

/// Whether Kubernetes put it there for a service whose name begins with `acquit`.
fn injected(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT")
}
