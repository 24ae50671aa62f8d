//! `GET /`: one page for a person. It needs no script and nothing from elsewhere; the browser is told to run and load
//! nothing, and it asks again by itself.

use std::fmt::{self, Display, Formatter, Write as _};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::{Shared, Status};
use crate::domain::millis;
use crate::worker::LaneStatus;

/// Seconds between two looks.
const EVERY_S: u8 = 5;

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#1b1b1b;background:#fff}h1{font-size:1.3rem}h2{font-size:1.1rem;margin:1.5rem 0 .3rem}\
table{border-collapse:collapse;width:100%}th{font-weight:400;text-align:left;width:14rem;color:#555}\
td,th{padding:.2rem .5rem;border-bottom:1px solid #ddd;vertical-align:top}\
.good{color:#0a6b2d}.bad{color:#b00020;font-weight:600}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}th{color:#aaa}td,th{border-color:#333}\
.good{color:#5fd38d}.bad{color:#ff7a8a}}";

/// Text of anybody's, fit for HTML: in an element or in a quoted attribute.
struct Escaped<T>(T);

/// Escapes what is written to it.
struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

pub(super) async fn page(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((CONTENT_SECURITY_POLICY, policy()))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(Page(&shared.status()).to_string())
}

/// Nothing but the one style.
fn policy() -> String {
    let style = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The whole page.
struct Page<'a>(&'a Status);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (status, about) = (self.0, &self.0.about);
        let (class, ready) = if status.ready { ("good", "ready") } else { ("bad", "NOT READY") };
        writeln!(
            f,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"{EVERY_S}\">\
             <title>{worker}: {ready}</title><style>{STYLE}</style></head><body>\n\
             <h1>{worker}: <span class=\"{class}\">{ready}</span></h1>\n\
             <p>Acquit {version}, process {pid}, store {store}. <a href=\"status\">status</a> \
             <a href=\"readyz\">readyz</a> <a href=\"metrics\">metrics</a></p>",
            worker = Escaped(&about.worker),
            version = Escaped(about.version),
            pid = about.pid,
            store = Escaped(&about.store),
        )?;
        for shortfall in &about.durability_shortfalls {
            writeln!(f, "<p class=\"bad\">{}</p>", Escaped(shortfall))?;
        }
        if status.lanes.is_empty() {
            f.write_str("<p>No lane has started.</p>\n")?;
        }
        status.lanes.iter().try_for_each(|lane| section(f, lane))?;
        f.write_str("</body></html>\n")
    }
}

fn section(f: &mut Formatter<'_>, lane: &LaneStatus) -> fmt::Result {
    writeln!(f, "<h2>{}</h2>\n<table>", Escaped(&lane.lane))?;
    let why = lane.gate_reason.map(|why| format!(": {why}")).unwrap_or_default();
    row(f, "gate", lane.gate == "shut", format_args!("{}{why}", lane.gate))?;
    if let Some(until) = lane.paused_until {
        row(f, "paused by an operator", true, format_args!("until {}", millis(until)))?;
    }
    if let Some(trouble) = &lane.trouble {
        row(f, "trouble", true, trouble)?;
    } else if !lane.ready {
        row(f, "trouble", true, "not ready")?;
    }
    let breakers = lane.breakers;
    for (name, state) in [
        ("breaker settlement", breakers.settlement),
        ("breaker outcomes", breakers.outcomes),
        ("breaker dead letters", breakers.dead_letters),
        ("breaker inquiries", breakers.inquiries),
        ("breaker checks", breakers.checks),
    ] {
        row(f, name, state != "closed", state)?;
    }
    if let Some(second) = &lane.fallback {
        let word = if second.in_use { "takes new payments" } else { "waits" };
        let (breaker, inquiries) = (second.breaker, second.inquiries);
        let what = format_args!("{} {word}; breaker {breaker}, inquiries {inquiries}", Escaped(second.rail));
        row(f, "second rail", second.in_use || breaker != "closed" || inquiries != "closed", what)?;
    }
    if let Some(hold) = &lane.breaker_forced {
        let since = millis(hold.since);
        row(f, "held by", true, format_args!("{} since {since}: {} (record {})", hold.who, hold.why, hold.record))?;
    }
    let ended = format!(
        "{} (rejected {}, duplicates {}, dead-lettered {}, handed back {}, abandoned {})",
        lane.settled, lane.rejected, lane.duplicates, lane.dead_lettered, lane.handed_back, lane.abandoned
    );
    row(f, "settled", false, ended)?;
    row(f, "backlog", false, lane.pending)?;
    row(f, "in flight", false, format_args!("{} of {}", lane.in_flight, lane.slots))?;
    if lane.in_flight_limit < lane.slots {
        row(f, "the rail bears", true, format_args!("{} at once", lane.in_flight_limit))?;
    }
    row(f, "parked", false, format_args!("{} of {}", lane.parked, lane.parked_limit))?;
    if lane.tracker > 0 || lane.tracker_limit > 0 {
        row(f, "tracked", false, format_args!("{} of {}", lane.tracker, lane.tracker_limit))?;
    }
    row(f, "pulls outstanding", false, lane.pulls_outstanding)?;
    let oldest = format!("{:.1} s", lane.oldest_unacked_s);
    row(f, "oldest not acknowledged", lane.oldest_unacked_critical, oldest)?;
    if lane.newer_contract > 0 {
        row(f, "newer contract", true, format_args!("version {}: start a newer worker", lane.newer_contract))?;
    }
    row(f, "consumer", false, format_args!("{} of {}", lane.consumer, lane.stream))?;
    f.write_str("</table>\n")
}

/// One line. Every value goes through here, and is escaped here.
fn row(f: &mut Formatter<'_>, name: &'static str, bad: bool, value: impl Display) -> fmt::Result {
    let class = if bad { " class=\"bad\"" } else { "" };
    writeln!(f, "<tr><th scope=\"row\">{name}</th><td{class}>{}</td></tr>", Escaped(value))
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        let mut hostile = status();
        let text = r#"<script src="//x">&'</td>"#;
        hostile.about.worker = text.to_owned();
        hostile.about.store = text.to_owned();
        hostile.about.durability_shortfalls = vec![text.to_owned()];
        for lane in &mut hostile.lanes {
            lane.lane = text.to_owned();
            lane.consumer = text.to_owned();
            lane.stream = text.to_owned();
            lane.trouble = Some(text.to_owned());
            for hold in lane.breaker_forced.iter_mut() {
                hold.who = text.to_owned();
                hold.why = text.to_owned();
            }
        }
        let page = Page(&hostile).to_string();
        assert!(!page.contains("<script") && !page.contains(text), "{page}");
        let shown = "&lt;script src=&quot;//x&quot;&gt;&amp;&#39;&lt;/td&gt;";
        assert_eq!(page.matches(shown).count(), 10, "{page}");
    }

    #[test]
    fn the_page_shows_each_lane_and_needs_nothing_from_elsewhere() {
        let page = Page(&status()).to_string();
        for shown in [
            "<h2>payments</h2>",
            "shut: operator",
            "until 1970-01-01T00:00:00.000Z",
            "forced_open",
            "ops-1 since 1970-01-01T00:00:00.000Z: INC-7 (record 12)",
            "<td>7 (rejected 0",
            "1 of 64",
            "http-equiv=\"refresh\"",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        for outside in ["http:", "https:", "src=", "<script", "url(", "@import", "style=", " on"] {
            let markup = page.replace(" one", "");
            let tags: Vec<&str> = markup.split('<').map(|tag| tag.split('>').next().unwrap_or_default()).collect();
            assert!(!tags.iter().any(|tag| tag.contains(outside)), "{outside}: {page}");
        }
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-") && !policy().contains("unsafe"));
    }
}
