//! A rail of one's own: payments are settled by [`Memory`] instead of the book. A service of yours goes in its place.
//!
//! `cargo run --example custom_rail -- acquit.toml`, after `acquit provision` with the same file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use acquit::cli::{Connected, Global, connect, open_store, out, store_guard};
use acquit::domain::{Code, Money};
use acquit::{Answer, BookPolicy, Finding, Order, Rail, RailKey, RailRef, Store, Terms, Unknown, Worker, WriterLimits};

/// Remembers amount and answer under each key and gives the same one again: one effect, however often it is asked.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) Mutex<HashMap<String, (Money, Answer)>>);

impl Rail for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn terms(&self) -> Terms {
        Terms {
            longest_execution: Duration::from_secs(10),
            key_retention: Duration::from_secs(30 * 24 * 3600),
            deadline: Duration::from_secs(5),
        }
    }

    async fn submit(&self, order: &Order) -> Answer {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len() + 1;
        let amount = order.payment().amount;
        let (first, answer) = known.entry(order.key().as_str().to_owned()).or_insert_with(|| {
            if order.payment().debtor_account == order.payment().creditor_account {
                return (amount, Answer::Rejected { code: Code::AC03, resubmit: false });
            }
            // What is neither a settlement nor a refusal is unknown; the worker then inquires.
            (amount, RailRef::parse(&format!("memory-{next}")).map_or(Answer::Unknown, Answer::Settled))
        });
        // A key that is known stands for what it was used for first.
        if *first == amount { answer.clone() } else { Answer::Blocked }
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key.as_str()).map_or(Finding::NotFound, |(_, answer)| Finding::Answered(answer.clone()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let global = Global { config: file, set: Vec::new(), json: false };
    let Connected { config, broker } = connect(&global, "worker").await?;
    for lane in &config.lanes {
        // Configuration checked the lane for the book, whose calls take no time.
        if let Some(bad) = lane.limits.check(Memory::default().terms().deadline).first() {
            return Err(format!("lane {}: {} {}", lane.name, bad.field, bad.rule).into());
        }
    }
    let backend = open_store(&config).await?;
    let guard = store_guard(&config, backend.store_id());
    let owner = format!("custom-rail-{:016x}", rand::random::<u64>());
    let book = BookPolicy { unknown: Unknown::Refuse, declared: Default::default() };
    let limits = WriterLimits {
        group: config.store.group,
        claim: Duration::from_secs(60),
        poison_starts: config.store.poison_starts,
        keep: None,
    };
    let store = Store::start(backend, book, limits, &owner, |_| {})?;
    let worker = Worker::new(broker, store.clone(), config.lanes).guard(guard).name(owner).rail(Memory::default());
    let drained = worker.run(async { drop(tokio::signal::ctrl_c().await) }).await;
    store.stop().await;
    out(&format!("{} events came to an end, {} were handed back", drained.finished, drained.handed_back));
    Ok(())
}
