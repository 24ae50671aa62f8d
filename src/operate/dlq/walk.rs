//! Goes through selected dead letters one by one.

use std::collections::VecDeque;

use super::letter::Letter;
use super::show::{Which, fetch, letter};
use super::{Filter, Selection};
use crate::broker::{Broker, Scan, StoredMessage, Wire};
use crate::operate::Trouble;

/// What stands at the next place.
pub(super) enum Found {
    /// A dead letter that is meant.
    Letter(Box<(StoredMessage, Letter)>),
    /// A sequence that was named and holds none.
    Nothing { sequence: u64, why: String },
}

/// A way through the stream as it was at the start: what is buried meanwhile is left for the next time.
pub(super) enum Walk<'a, W: Wire> {
    Named { broker: &'a Broker<W>, left: VecDeque<u64> },
    Matching { scan: Scan<'a, W>, broker: &'a Broker<W>, filter: Filter, page: VecDeque<StoredMessage>, over: bool },
}

impl<'a, W: Wire> Walk<'a, W> {
    pub(super) async fn of(broker: &'a Broker<W>, selection: &Selection) -> Result<Self, Trouble> {
        match selection {
            Selection::Sequences(sequences) => Ok(Self::Named { broker, left: sequences.iter().copied().collect() }),
            Selection::Matching(filter) => {
                let stream = broker.streams().dead_letters.as_str();
                let info = broker.stream_info(stream).await.map_err(|e| Trouble::of_api(broker, e))?;
                let scan = broker.scan(stream, info.state.first_seq, info.state.last_seq);
                Ok(Self::Matching { scan, broker, filter: filter.clone(), page: VecDeque::new(), over: false })
            }
        }
    }

    /// The next one; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, Trouble> {
        match self {
            Self::Named { broker, left } => {
                let Some(sequence) = left.pop_front() else { return Ok(None) };
                let found = match fetch(broker, &Which::Sequence(sequence)).await {
                    Ok(message) => letter(&message).map(|letter| (message, letter)),
                    Err(error) => Err(error),
                };
                match found {
                    Ok(pair) => Ok(Some(Found::Letter(Box::new(pair)))),
                    Err(why @ (Trouble::NotThere { .. } | Trouble::Refused { .. })) => {
                        Ok(Some(Found::Nothing { sequence, why: why.to_string() }))
                    }
                    Err(
                        other @ (Trouble::Denied { .. }
                        | Trouble::BrokerLost { .. }
                        | Trouble::Store(_)
                        | Trouble::BadInput { .. }
                        | Trouble::Local { .. }),
                    ) => Err(other),
                }
            }
            Self::Matching { scan, broker, filter, page, over } => loop {
                while let Some(message) = page.pop_front() {
                    if filter.is_past(message.time) {
                        *over = true;
                    }
                    if *over {
                        return Ok(None);
                    }
                    if let Some(letter) = Letter::of(&message).filter(|letter| filter.matches(letter)) {
                        return Ok(Some(Found::Letter(Box::new((message, letter)))));
                    }
                }
                *page = scan.page().await.map_err(|e| Trouble::of_api(broker, e))?.into();
                if page.is_empty() {
                    return Ok(None);
                }
            },
        }
    }
}
