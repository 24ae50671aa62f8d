//! `[[rail]]`: payment services over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderName;

use crate::domain::LaneName;
use crate::rails::Terms;
use crate::rails::http::{HttpSettings, InquiryUrl, Mapping, MappingParts, Template};
use crate::worker::Lane;

use super::lanes::report;
use super::problem::Problem;
use super::raw::variable;
use super::read::Table;

/// The route that is no rail.
pub(super) const BOOK: &str = "book";

/// A rail by its name, also where the rest of it has problems: lanes that name it have none for that.
pub(super) struct Rail {
    pub(super) name: String,
    pub(super) deadline: Duration,
    pub(super) settings: Option<HttpSettings>,
}

/// The rails, with their problems.
pub(super) fn rails(tables: &[Table], problems: &mut Vec<Problem>) -> Vec<Rail> {
    let mut taken = BTreeMap::new();
    let mut rails = Vec::with_capacity(tables.len());
    for table in tables {
        let name = name(table, &mut taken, problems);
        let settings = settings(table, &name, problems);
        rails.push(Rail { name, deadline: table.span("deadline"), settings });
    }
    rails
}

/// A lane that has more slots than its rail has connections would take the rail for one that is down.
pub(super) fn connections(
    tables: &[Table],
    lanes: &[Lane],
    routes: &[&BTreeMap<LaneName, String>],
    problems: &mut Vec<Problem>,
) {
    for table in tables {
        let names = |lane: &Lane| routes.iter().any(|of| of.get(&lane.name).map(String::as_str) == table.text("name"));
        let over = lanes.iter().filter(|lane| names(lane));
        let slots: u32 = over.map(|lane| u32::from(lane.limits.slots)).sum();
        if table.whole::<u32>("connections") < slots && !table.is_incomplete("") {
            let rule = format!("must be at least the slots of its lanes together ({slots})");
            problems.push(table.problem("connections", rule, "change this value or the lanes' slots"));
        }
    }
}

fn name(table: &Table, taken: &mut BTreeMap<String, String>, problems: &mut Vec<Problem>) -> String {
    let name = table.text("name").unwrap_or_default().to_owned();
    if LaneName::parse(&name).is_err() || name == BOOK {
        let rule = "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-', and not \"book\"";
        problems.push(table.problem("name", rule, "give the rail a name"));
    } else if let Some(other) = taken.insert(variable(&name), name.clone()) {
        let rule = format!("must differ from rail {other} by more than case, '-' and '_'");
        problems.push(table.problem("name", rule, "rename one of the two rails"));
    }
    name
}

fn settings(table: &Table, name: &str, problems: &mut Vec<Problem>) -> Option<HttpSettings> {
    let url = url(table, problems);
    let inquiry = inquiry(table, problems);
    let body = body(table, problems);
    let mapping = Mapping::new(parts(table)).map_err(|bad| report(table, "", bad, problems)).ok();
    let key_header = table.text("key_header").and_then(|text| HeaderName::from_bytes(text.as_bytes()).ok());
    if key_header.is_none() {
        problems.push(table.problem("key_header", "must be a header's name", "write \"Idempotency-Key\" for instance"));
    }
    let headers = headers(table, problems);
    let client_cert = client_cert(table, problems);
    let settings = HttpSettings {
        name: name.to_owned(),
        url: url?,
        inquiry: inquiry?,
        body: body?,
        mapping: mapping?,
        key_header: key_header?,
        token_file: table.path("token_file"),
        headers: headers?,
        ca_file: table.path("ca_file"),
        client_cert,
        terms: Terms {
            longest_execution: table.span("longest_execution"),
            key_retention: table.span("key_retention"),
            deadline: table.span("deadline"),
        },
        connect_timeout: table.span("connect_timeout"),
        connections: table.whole("connections"),
        inquiries: table.whole("inquiries"),
    };
    report(table, "", settings.check(), problems);
    Some(settings)
}

fn parts(table: &Table) -> MappingParts {
    let texts = |key| table.texts(key).to_vec();
    let text = |key| table.text(key).map(str::to_owned);
    MappingParts {
        status: text("status").unwrap_or_default(),
        reference: text("reference"),
        reason: text("reason"),
        settled: texts("settled"),
        in_progress: texts("in_progress"),
        rejected: texts("rejected"),
        resubmit: texts("resubmit"),
        blocked: texts("blocked"),
        not_found: texts("not_found"),
        resubmit_reasons: texts("resubmit_reasons"),
        codes: texts("codes"),
        default_code: text("default_code").unwrap_or_default(),
        not_processed: texts("not_processed"),
    }
}

/// Whether payments may go there: over TLS, or not beyond this machine.
fn is_safe(url: &Url, plaintext: bool) -> bool {
    let own = url.host_str().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && (own || plaintext)))
}

const SAFE: &str = "without user, password or fragment; http only to this machine, or where plaintext is true";

fn url(table: &Table, problems: &mut Vec<Problem>) -> Option<Url> {
    let url = table.text("url").and_then(|text| Url::parse(text).ok());
    let url = url.filter(|url| url.query().is_none() && is_safe(url, table.flag("plaintext")));
    if url.is_none() {
        let rule = format!("must be an https address without query, {SAFE}");
        problems.push(table.problem("url", rule, "write \"https://bank.example/payments\" for instance"));
    }
    url
}

fn inquiry(table: &Table, problems: &mut Vec<Problem>) -> Option<Option<InquiryUrl>> {
    let Some(text) = table.text("inquiry_url") else { return Some(None) };
    let safe = |url: &InquiryUrl| url.sample().is_some_and(|url| is_safe(&url, table.flag("plaintext")));
    let url = InquiryUrl::parse(text).filter(safe);
    if url.is_none() {
        let rule =
            format!("must be an https address with {{key}} in its path or query and no other placeholder, {SAFE}");
        problems.push(table.problem("inquiry_url", rule, "write \"https://bank.example/payments/{key}\" for instance"));
    }
    url.map(Some)
}

fn body(table: &Table, problems: &mut Vec<Problem>) -> Option<Template> {
    let Some(path) = table.path("body_file") else { return Template::built_in().ok() };
    let told = match std::fs::read_to_string(&path) {
        Ok(text) if text.len() <= Template::LARGEST => match Template::parse(&text) {
            Ok(template) => return Some(template),
            Err(error) => error.to_string(),
        },
        Ok(_) => "must not be larger than 64KiB".to_owned(),
        Err(error) => format!("cannot be read: {}", error.kind()),
    };
    let remedy = format!("correct the template; the fields are {}", Template::fields().join(" "));
    problems.push(table.problem("body_file", told, remedy));
    None
}

fn headers(table: &Table, problems: &mut Vec<Problem>) -> Option<Vec<(HeaderName, PathBuf)>> {
    let header = |pair: &String| {
        let (name, path) = pair.split_once('=')?;
        let path = PathBuf::from(path);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, path.is_file().then_some(path)?))
    };
    let headers: Option<Vec<_>> = table.texts("headers").iter().map(header).collect();
    if headers.is_none() {
        let rule = "must be pairs of a header's name and the path of a file that is there";
        problems.push(table.problem("headers", rule, "write [\"X-Tenant=/run/secrets/tenant\"] for instance"));
    }
    headers
}

fn client_cert(table: &Table, problems: &mut Vec<Problem>) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (table.path("client_cert_file"), table.path("client_key_file"));
    if cert.is_some() != key.is_some() && !table.is_incomplete("") {
        let name = if cert.is_some() { "client_cert_file" } else { "client_key_file" };
        let remedy = "set client_cert_file and client_key_file";
        problems.push(table.problem(name, "must come together with its other half", remedy));
    }
    cert.zip(key)
}
