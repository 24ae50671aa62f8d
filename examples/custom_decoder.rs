//! A decoder of one's own: events are lines such as `id;amount;currency;debtor;from IBAN;creditor;to IBAN`.
//!
//! `cargo run --example custom_decoder` reads and judges the lines below; `-- acquit.toml`, after `acquit provision`
//! with the same file, runs a worker that settles such events in the book.

use std::path::PathBuf;
use std::time::Duration;

use acquit::cli::{Connected, Global, connect, open_store, out, store_guard};
use acquit::domain::{Code, OrderKey, PaymentId, Reason, SchemeName};
use acquit::intake::{Instants, Judged};
use acquit::{BookPolicy, Decode, Decoded, Raw, Rules, Scheme, Store, Unknown, Unreadable, Worker, WriterLimits};
use serde_json::json;

const LINES: [&str; 4] = [
    "PAY-1;12.50;EUR;Acme B.V.;NL91ABNA0417164300;Bob GmbH;DE89370400440532013000",
    "PAY-2;12.505;EUR;Acme B.V.;NL91ABNA0417164300;Bob GmbH;DE89370400440532013001",
    "PAY 3;1.00;EUR;Acme B.V.;NL91ABNA0417164300;Bob GmbH;DE89370400440532013000",
    "not a payment",
];

struct Lines;

impl Decode for Lines {
    fn decode(&self, raw: Raw<'_>) -> Result<Decoded, Unreadable> {
        let malformed = |code, path, text| Unreadable::Malformed(Reason::new(code, path, text));
        let line = std::str::from_utf8(raw.body).map_err(|_| malformed(Code::FF01, "", "not UTF-8"))?;
        let fields: Vec<&str> = line.trim_end().split(';').collect();
        let [id, amount, currency, debtor, from, creditor, to] = fields[..] else {
            return Err(malformed(Code::FF01, "", "not seven fields"));
        };
        // Without an identity there is nothing to settle once: such an event leaves as a dead letter.
        let id = PaymentId::parse(id).map_err(|_| malformed(Code::CH16, "/payment_id", "not an identity"))?;
        // What the fields hold is for the rules to judge.
        let content = json!({
            "payment_id": id.as_str(),
            "amount": { "currency": currency, "value": amount },
            "debtor": { "name": debtor }, "debtor_account": { "iban": from },
            "creditor": { "name": creditor }, "creditor_account": { "iban": to },
        });
        Ok(Decoded::new(id, raw.scheme, content.as_object().cloned().unwrap_or_default()))
    }
}

fn judge(line: &str) -> Result<String, Box<dyn std::error::Error>> {
    let (scheme, now) = (SchemeName::parse("sct")?, jiff::Timestamp::now());
    let raw = Raw { scheme: &scheme, order_key: &OrderKey::parse("acct-1")?, header: &|_| None, body: line.as_bytes() };
    let rules = Rules::new(Scheme::built_in(&scheme).into_iter().collect());
    Ok(match Lines.decode(raw).map(|read| rules.judge(read, &scheme, Instants { requested_at: now, now })) {
        Ok(Judged::Valid(valid)) => format!("valid: {}", valid.payment().payment_id),
        Ok(Judged::Refused(refused)) => format!("rejected: {:?}", refused.reasons()),
        Err(unreadable) => format!("dead letter: {unreadable:?}"),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(file) = std::env::args_os().nth(1).map(PathBuf::from) else {
        for line in LINES {
            out(&judge(line)?);
        }
        return Ok(());
    };
    let global = Global { config: Some(file), set: Vec::new(), json: false };
    let Connected { config, broker } = connect(&global, "worker").await?;
    let backend = open_store(&config).await?;
    let guard = store_guard(&config, backend.store_id());
    let book = BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: Default::default() };
    let limits = WriterLimits { group: 256, claim: Duration::from_secs(60), poison_starts: 5, keep: None };
    let owner = format!("custom-decoder-{:016x}", rand::random::<u64>());
    let store = Store::start(backend, book, limits, &owner, |_| {})?;
    let worker = Worker::new(broker, store.clone(), config.lanes).guard(guard).name(owner).decode(Lines);
    let drained = worker.run(async { drop(tokio::signal::ctrl_c().await) }).await;
    store.stop().await;
    out(&format!("{} events came to an end, {} were handed back", drained.finished, drained.handed_back));
    Ok(())
}
