//! A store belongs to a consumer: its random identity stands in the consumer's metadata. A consumer of another store,
//! an emptied store and a restored one are refused, because each would settle again what was settled before.

use crate::broker::{ConsumerInfo, StreamInfo};
use crate::domain::StoreId;
use crate::store::{Facts, ReadError};
use crate::worker::Guard;

/// The consumer's metadata key that holds its store's identity.
pub const STORE_ID: &str = "acquit-store-id";

/// Checks a consumer against the store.
pub struct StoreGuard {
    facts: Box<dyn Fn() -> Result<Facts, ReadError> + Send + Sync>,
    store_id: StoreId,
    stream: String,
}

impl StoreGuard {
    /// A guard for the store that `facts` reads, which has identity `store_id`, and its consumers on `stream`.
    #[must_use]
    pub fn new(
        facts: impl Fn() -> Result<Facts, ReadError> + Send + Sync + 'static,
        store_id: StoreId,
        stream: String,
    ) -> Self {
        Self { facts: Box::new(facts), store_id, stream }
    }
}

impl Guard for StoreGuard {
    fn check(&self, stream: &StreamInfo, consumer: &ConsumerInfo) -> Result<(), String> {
        // Nothing is acknowledged yet: no need to look into the store, which would cost the first pull a while.
        if consumer.ack_floor.consumer_seq == 0 {
            return belongs(self.store_id, consumer);
        }
        let facts = (self.facts)()
            .map_err(|error| format!("the store cannot be read to compare it with the consumer: {error}"))?;
        compare(&facts, &self.stream, stream, consumer)
    }
}

/// Compares identity and progress of a store with a consumer's.
///
/// # Errors
/// What does not fit and what to do.
pub fn compare(facts: &Facts, name: &str, stream: &StreamInfo, consumer: &ConsumerInfo) -> Result<(), String> {
    belongs(facts.store_id, consumer)?;
    let floor = consumer.ack_floor.stream_seq;
    // Below the stream's first sequence the floor moves by itself when events age out.
    // A consumer that starts behind the stream's beginning has a floor before it has acknowledged anything.
    if consumer.ack_floor.consumer_seq == 0 || floor < stream.state.first_seq {
        return Ok(());
    }
    let created_ms = stream.created.as_millisecond();
    let reached = facts.high_water.iter().find(|h| h.stream.as_str() == name && h.created_ms == created_ms);
    match reached {
        Some(reached) if reached.sequence >= floor => Ok(()),
        // A filtered consumer's floor runs ahead over events that are another lane's and may not have ended.
        Some(_) if !consumer.filters().is_empty() => Ok(()),
        Some(reached) => Err(format!(
            "the store has ended events up to sequence {} only, but the consumer has acknowledged up to {floor}: this \
             looks like a restored backup. Restore the newest store, or reconcile and provision a new consumer",
            reached.sequence
        )),
        None => Err(format!(
            "the store knows no event of this stream, but the consumer has acknowledged up to {floor}: this looks like \
             an emptied store. Put the right store in place, or reconcile and provision a new consumer"
        )),
    }
}

fn belongs(store_id: StoreId, consumer: &ConsumerInfo) -> Result<(), String> {
    match consumer.metadata(STORE_ID) {
        Some(theirs) if theirs == store_id.to_string() => Ok(()),
        Some(theirs) => Err(format!(
            "the consumer belongs to store {theirs}, this is store {store_id}: correct [store], or provision a \
             consumer of its own for this store"
        )),
        None => Err("the consumer names no store: run `acquit provision`".to_owned()),
    }
}
