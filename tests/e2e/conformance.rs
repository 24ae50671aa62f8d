//! The conformance suite over both databases and several rails, and rails that must not pass it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acquit::domain::Money;
use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::ledger::Ledger as Books;
use acquit::lab::rail::script::Script;
use acquit::lab::servers::{PostgresOptions, PostgresServer};
use acquit::rails::http::{InquiryUrl, Mapping, MappingParts, Template};
use acquit::store::{PostgresSettings, migrate};
use acquit::testing::{Effect, Experiment, Inquiry, Kind, Ledger, Report, Suite};
use acquit::{
    Answer, Finding, Http, HttpSettings, NotSent, Order, Postgres, Rail, RailKey, RailRef, Sqlite, SqliteSettings,
    Terms,
};
use reqwest::Url;
use reqwest::header::HeaderName;
use tempfile::TempDir;

#[path = "../../examples/custom_rail.rs"]
#[expect(dead_code, reason = "its main function is not called here")]
mod custom_rail;

use custom_rail::Memory;

use crate::process::program;
use crate::site::turn;

const TERMS: Terms = Terms {
    longest_execution: Duration::from_secs(1),
    key_retention: Duration::from_secs(3_600),
    deadline: Duration::from_millis(500),
};

fn sqlite(folder: &Path) -> Sqlite {
    Sqlite::open(SqliteSettings {
        path: folder.join("store.db"),
        busy_timeout: Duration::from_secs(1),
        wal_limit_bytes: 64 << 20,
        create: true,
        store_id_bits: 7,
        now: Arc::new(jiff::Timestamp::now),
    })
    .unwrap()
}

/// Untrue in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// None: it keeps its word.
    Nothing,
    /// It pays at each submission, whatever the key, under one reference.
    Keys,
    /// It pays at each submission and says so by another reference.
    References,
    /// It does not find what it has paid.
    NotFound,
    /// It says of the first submission that it was not sent, and has paid.
    NotSent,
    /// It settles without paying.
    Settled,
    /// It pays another amount.
    Amount,
    /// None, but the very first request of all never arrives, and it does not know of what until it has settled one.
    LosesFirst,
}

/// A rail in memory whose every effect is in its ledger.
struct Counting {
    lie: Lie,
    requests: AtomicU32,
    effects: Mutex<HashMap<String, Vec<Money>>>,
    asked: Mutex<HashMap<String, (u32, Money)>>,
}

impl Counting {
    fn new(lie: Lie) -> Arc<Self> {
        Arc::new(Self { lie, requests: AtomicU32::new(0), effects: Mutex::default(), asked: Mutex::default() })
    }

    fn settled(&self, key: &str) -> Answer {
        let count = self.effects.lock().unwrap().get(key).map_or(0, Vec::len);
        let number = if self.lie == Lie::References { count } else { 1 };
        Answer::Settled(RailRef::parse(&format!("R-{key}-{number}")).unwrap())
    }
}

impl Rail for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn terms(&self) -> Terms {
        TERMS
    }

    async fn submit(&self, order: &Order) -> Answer {
        let (key, amount) = (order.key().as_str().to_owned(), order.payment().amount);
        if self.lie == Lie::LosesFirst && self.requests.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::Unknown;
        }
        let times = {
            let mut asked = self.asked.lock().unwrap();
            let (times, first) = asked.entry(key.clone()).or_insert((0, amount));
            if *first != amount {
                return Answer::Blocked;
            }
            *times += 1;
            *times
        };
        let pays = match self.lie {
            Lie::Keys | Lie::References | Lie::NotFound | Lie::NotSent => true,
            Lie::Nothing | Lie::Amount | Lie::LosesFirst => times == 1,
            Lie::Settled => false,
        };
        if pays {
            let more = i64::from(self.lie == Lie::Amount);
            let amount = Money::new(amount.minor() + more, amount.currency()).unwrap();
            self.effects.lock().unwrap().entry(key.clone()).or_default().push(amount);
        }
        if self.lie == Lie::NotSent && times == 1 {
            return Answer::NotSent(NotSent::SaidNotProcessed { retry_after: None });
        }
        self.settled(&key)
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        if self.lie == Lie::LosesFirst && self.asked.lock().unwrap().is_empty() {
            return Finding::CannotSay;
        }
        if self.asked.lock().unwrap().contains_key(key.as_str()) && self.lie != Lie::NotFound {
            return Finding::Answered(self.settled(key.as_str()));
        }
        Finding::NotFound
    }
}

struct CountingLedger(Arc<Counting>);

impl Ledger for CountingLedger {
    async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
        let effects = self.0.effects.lock().unwrap();
        let under = effects.get(key.as_str()).into_iter().flatten();
        Ok(under.map(|amount| Effect { amount: Some(*amount) }).collect())
    }
}

async fn counting(lie: Lie) -> Report {
    let _turn = turn().await;
    let (rail, folder) = (Counting::new(lie), tempfile::tempdir().unwrap());
    Suite::new(Arc::clone(&rail), CountingLedger(rail)).run(sqlite(folder.path())).await
}

fn passes(report: &Report) {
    assert!(report.is_certified(), "{report}");
    assert_eq!(report.experiments.len(), Experiment::ALL.len());
}

/// The experiment fails, and names a payment with its keys.
fn fails(report: &Report, experiment: Experiment, kind: Kind) {
    assert!(!report.is_certified(), "{report}");
    let tried = report.experiments.iter().find(|tried| tried.experiment == experiment).unwrap();
    let breach = tried.breaches.iter().find(|breach| breach.kind == kind);
    let breach = breach.unwrap_or_else(|| panic!("{} does not say {kind:?}:\n{report}", experiment.name()));
    assert!(breach.payment_id.starts_with("conform-") && !breach.keys.is_empty(), "{breach}");
    assert!(report.to_string().contains(&breach.to_string()));
}

#[tokio::test]
async fn a_rail_that_keeps_its_word_passes_over_sqlite() {
    passes(&counting(Lie::Nothing).await);
}

#[tokio::test]
async fn a_rail_that_keeps_its_word_passes_over_postgresql() {
    let _turn = turn().await;
    let server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let settings = PostgresSettings {
        url: server.url(),
        password_file: None,
        ca_file: None,
        schema: "conformance".to_owned(),
        allow_plaintext: false,
        statement_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
    };
    migrate(&settings, 7).await.unwrap();
    let rail = Counting::new(Lie::Nothing);
    let suite = Suite::new(Arc::clone(&rail), CountingLedger(rail));
    passes(&suite.run(Postgres::open(settings).await.unwrap()).await);
}

struct MemoryLedger(Arc<Memory>);

impl Ledger for MemoryLedger {
    async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
        match self.0.0.lock().unwrap().get(key.as_str()) {
            Some((amount, Answer::Settled(_))) => Ok(vec![Effect { amount: Some(*amount) }]),
            Some(_) | None => Ok(Vec::new()),
        }
    }
}

#[tokio::test]
async fn the_example_rail_passes() {
    let _turn = turn().await;
    /// The example with terms that fit a test.
    struct Quick(Arc<Memory>);
    impl Rail for Quick {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn terms(&self) -> Terms {
            TERMS
        }
        async fn submit(&self, order: &Order) -> Answer {
            self.0.submit(order).await
        }
        async fn inquire(&self, key: &RailKey) -> Finding {
            self.0.inquire(key).await
        }
    }
    let (memory, folder) = (Arc::new(Memory::default()), tempfile::tempdir().unwrap());
    let suite = Suite::new(Arc::new(Quick(Arc::clone(&memory))), MemoryLedger(memory));
    passes(&suite.run(sqlite(folder.path())).await);
}

/// The stand-in service with its ledger, and the HTTP rail in front of it.
struct Bank {
    server: ScriptedRail,
    folder: TempDir,
}

impl Bank {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::open(&folder.path().join("ledger.db")).unwrap();
        let script = Script::parse(script).unwrap();
        let server = ScriptedRail::start("127.0.0.1:0".parse().unwrap(), script, books).unwrap();
        Self { server, folder }
    }

    async fn rail(&self) -> Http {
        let base = format!("http://{}", self.server.address());
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mapping = MappingParts {
            status: "/status".to_owned(),
            reference: Some("/reference".to_owned()),
            reason: Some("/reason/code".to_owned()),
            settled: texts(&["ACSC"]),
            in_progress: texts(&["ACSP"]),
            rejected: texts(&["RJCT"]),
            resubmit: Vec::new(),
            blocked: Vec::new(),
            not_found: texts(&["NOT_FOUND"]),
            resubmit_reasons: Vec::new(),
            codes: Vec::new(),
            default_code: "MS03".to_owned(),
            not_processed: texts(&["503"]),
        };
        Http::new(HttpSettings {
            name: "bank".to_owned(),
            url: Url::parse(&format!("{base}/payments")).unwrap(),
            inquiry: InquiryUrl::parse(&format!("{base}/payments/{{key}}")),
            body: Template::built_in().unwrap(),
            mapping: Mapping::new(mapping).unwrap(),
            key_header: HeaderName::from_static("idempotency-key"),
            token_file: None,
            headers: Vec::new(),
            ca_file: None,
            client_cert: None,
            terms: TERMS,
            connect_timeout: TERMS.deadline / 2,
            connections: 64,
            inquiries: 16,
        })
        .await
        .unwrap()
    }

    fn books(&self) -> Books {
        Books::beside(&self.folder.path().join("ledger.db")).unwrap()
    }

    async fn suite(&self, ledger: impl Ledger) -> Report {
        let _turn = turn().await;
        Suite::new(Arc::new(self.rail().await), ledger).run(sqlite(self.folder.path())).await
    }
}

#[tokio::test]
async fn the_http_rail_passes_in_front_of_a_service_with_faults() {
    let bank = Bank::new(
        r#"
latency = ["1ms", "20ms"]
[[behaviour]]
kind = "lose_reply"
share = 0.15
times = 1
[[behaviour]]
# Not of the first payment: what is not found counts once another is known to have settled.
kind = "reset"
share = 0.1
times = 1
from = "3s"
[[behaviour]]
kind = "too_many"
share = 0.1
times = 1
[[behaviour]]
kind = "in_progress"
share = 0.1
after = "300ms"
"#,
    );
    let report = bank.suite(bank.books()).await;
    passes(&report);
    assert!(report.ledger_counts);
    let effects = bank.books().effects(None).unwrap();
    assert_eq!(u64::try_from(effects.len()), Ok(report.payments), "one effect for each payment");
}

#[tokio::test]
async fn the_http_rail_passes_with_its_own_inquiry_for_a_ledger() {
    let bank = Bank::new("");
    let report = bank.suite(Inquiry(bank.rail().await)).await;
    passes(&report);
    assert!(!report.ledger_counts && report.to_string().contains("rail's own inquiry"));
}

#[tokio::test]
async fn a_service_that_pays_at_every_post_fails_over_http() {
    let bank = Bank::new("idempotent = false\n");
    fails(&bank.suite(bank.books()).await, Experiment::Redelivery, Kind::Doubled);
}

#[tokio::test]
async fn a_rail_that_ignores_its_key_fails_with_the_doubled_payment() {
    let report = counting(Lie::Keys).await;
    fails(&report, Experiment::Redelivery, Kind::Doubled);
    assert!(report.money.values().any(|sum| !sum.conserved), "{report}");
    // Nothing that the worker does by itself pays twice: only what had reached the rail before and was sent again.
    fails(&report, Experiment::ReplyLoss, Kind::Doubled);
    assert!(report.experiments.iter().find(|it| it.experiment == Experiment::Found).unwrap().held, "{report}");
}

#[tokio::test]
async fn two_references_under_one_key_show_a_doubled_payment_without_a_ledger() {
    let _turn = turn().await;
    let (rail, folder) = (Counting::new(Lie::References), tempfile::tempdir().unwrap());
    /// Asks the rail itself.
    struct Asked(Arc<Counting>);
    impl Ledger for Asked {
        async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
            let found = self.0.inquire(key).await;
            Ok(if found == Finding::NotFound { Vec::new() } else { vec![Effect { amount: None }] })
        }
        fn counts(&self) -> bool {
            false
        }
    }
    let report = Suite::new(Arc::clone(&rail), Asked(rail)).run(sqlite(folder.path())).await;
    fails(&report, Experiment::Redelivery, Kind::Doubled);
}

#[tokio::test]
async fn a_rail_that_does_not_find_what_it_paid_fails_with_the_payment() {
    let report = counting(Lie::NotFound).await;
    fails(&report, Experiment::Found, Kind::Untrue);
    fails(&report, Experiment::Found, Kind::Doubled);
}

#[tokio::test]
async fn a_rail_that_says_not_sent_after_paying_fails_with_the_payment() {
    let report = counting(Lie::NotSent).await;
    fails(&report, Experiment::Plain, Kind::Untrue);
    fails(&report, Experiment::Plain, Kind::Doubled);
}

#[tokio::test]
async fn a_rail_that_settles_without_paying_fails_with_the_lost_payment() {
    fails(&counting(Lie::Settled).await, Experiment::Plain, Kind::Lost);
}

#[tokio::test]
async fn a_rail_that_pays_another_amount_fails() {
    let report = counting(Lie::Amount).await;
    fails(&report, Experiment::Plain, Kind::Amount);
    assert!(report.money.values().all(|sum| !sum.conserved), "{report}");
}

#[tokio::test]
async fn a_rail_that_loses_the_very_first_request_passes_and_the_report_says_so() {
    let report = counting(Lie::LosesFirst).await;
    assert!(report.is_certified(), "{report}");
    let said = report.experiments[0].said.as_deref().unwrap();
    assert!(said.contains("left in doubt") && report.to_string().contains(said), "{report}");
    assert_eq!((report.experiments[0].experiment, report.payments), (Experiment::Plain, 14 + 20 + 1));
}

/// `acquit certify` with a configuration that names the bank.
async fn certify(bank: &Bank, flags: &[&str]) -> (Option<i32>, String, String) {
    let _turn = turn().await;
    let file = bank.folder.path().join("acquit.toml");
    let base = format!("http://{}", bank.server.address());
    let text = format!(
        "[[rail]]\nname = \"bank\"\nurl = \"{base}/payments\"\ninquiry_url = \"{base}/payments/{{key}}\"\n\
         deadline = \"500ms\"\nconnect_timeout = \"200ms\"\nlongest_execution = \"1s\"\n\
         reference = \"/reference\"\nreason = \"/reason/code\"\nnot_found = [\"NOT_FOUND\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = tokio::process::Command::new(program());
    let output = command.arg("certify").arg("--config").arg(&file).args(flags).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn certify_sends_nothing_until_it_is_told_that_it_is_a_sandbox() {
    let bank = Bank::new("");
    let (code, out, err) = certify(&bank, &[]).await;
    assert!(code == Some(2) && out.is_empty() && err.contains("--against-sandbox"), "{code:?} {out} {err}");
    let (code, _, err) = certify(&bank, &["--against-sandbox", "--rail", "other"]).await;
    assert!(code == Some(2) && err.contains("there are bank"), "{code:?} {err}");
    assert_eq!(bank.server.posts().len(), 0);
}

#[tokio::test]
async fn certify_says_certified_of_a_service_that_loses_replies() {
    let bank = Bank::new("[[behaviour]]\nkind = \"lose_reply\"\nshare = 0.1\ntimes = 1\n");
    let ledger = bank.folder.path().join("ledger.db").display().to_string();
    let flags = ["--against-sandbox", "--json", "--payments", "10", "--ledger", &ledger];
    let (code, out, err) = certify(&bank, &flags).await;
    assert_eq!(code, Some(0), "{out} {err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["certified"], &report["ledger_counts"]), (&true.into(), &true.into()), "{report:#}");
    assert_eq!(report["money"]["EUR"]["settled"], report["money"]["EUR"]["moved"]);
    assert_eq!(report["payments"], bank.books().effects(None).unwrap().len());
}

#[tokio::test]
async fn certify_names_the_doubled_payment() {
    let bank = Bank::new("idempotent = false\n");
    let ledger = bank.folder.path().join("ledger.db").display().to_string();
    let (code, out, err) = certify(&bank, &["--against-sandbox", "--payments", "1", "--ledger", &ledger]).await;
    assert_eq!(code, Some(1), "{out} {err}");
    let named = out.lines().find(|line| line.contains("money moved 2 times")).unwrap_or_else(|| panic!("{out}"));
    let twice = bank.books().effects(None).unwrap();
    assert!(twice.iter().any(|paid| named.contains(&paid.key) && named.contains(&paid.payment_id)), "{named}");
    assert!(out.contains("NOT certified"));
}
