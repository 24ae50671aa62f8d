//! The example file, made from the list of keys.

use std::fmt::Write as _;

use super::forms::{Form, Given, Value};
use super::keys::{Key, SECTIONS, Section};

/// Every key with its default and what it is for. Repeated tables but the lane, and keys without a default, are
/// commented out.
pub(super) fn example() -> String {
    let mut text = String::from(
        "# Every key of acquit with its default. Flags go over ACQUIT_... variables, variables over this file.\n",
    );
    for section in &SECTIONS {
        let named = section.repeated && section.name != "lane";
        let hash = if named { "# " } else { "" };
        let header = if section.repeated { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
        line(&mut text, &format!("\n# {}\n{hash}{header}", section.doc));
        keys(&mut text, section, hash);
    }
    text
}

fn keys(text: &mut String, section: &Section, hash: &str) {
    let mut nested = "";
    for key in section.keys {
        let (table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if table != nested {
            line(text, &format!("\n{hash}[{}.{table}]", section.name));
            nested = table;
        }
        let (mark, value) = match (section.name, key.name) {
            ("lane", "name") => (hash, "\"payments\"".to_owned()),
            _ if key.default.is_empty() => ("# ", written(key)),
            _ => (hash, written(key)),
        };
        line(text, &format!("{mark}{name} = {value}  # {}", key.doc));
    }
}

fn written(key: &Key) -> String {
    let list = |texts: Vec<String>| texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ");
    match (key.form, key.form.read(&Given::Word(key.default.to_owned()))) {
        (_, Some(Value::Texts(texts))) => format!("[{}]", list(texts)),
        (Form::Flag | Form::Whole(..) | Form::Factor(_), _) => key.default.to_owned(),
        _ => format!("\"{}\"", key.default),
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _written = writeln!(text, "{line}");
}
