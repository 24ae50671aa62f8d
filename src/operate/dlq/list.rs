//! Lists dead letters, a page at a time, and counts all that match.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Filter, Letter};
use crate::broker::{Broker, Wire};
use crate::operate::Trouble;

/// What to list.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Which.
    pub filter: Filter,
    /// The sequence where the page starts; 0 for the beginning.
    pub from: u64,
    /// Letters in the page.
    pub limit: usize,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The page, in the stream's order.
    pub letters: Vec<Letter>,
    /// All that match from `from` on, by code.
    pub by_code: BTreeMap<String, u64>,
    /// The sum of `by_code`.
    pub matched: u64,
    /// Messages of the stream that were looked at.
    pub looked_at: u64,
    /// Where the next page starts.
    pub next: Option<u64>,
}

/// Lists dead letters. Reads the stream to its end once, a batch in memory at a time.
///
/// # Errors
/// [`Trouble`].
pub async fn list<W: Wire>(broker: &Broker<W>, options: &ListOptions) -> Result<Listing, Trouble> {
    let stream = broker.streams().dead_letters.as_str();
    let info = broker.stream_info(stream).await.map_err(|e| Trouble::of_api(broker, e))?;
    let from = options.from.max(info.state.first_seq);
    let mut listing = Listing::default();
    let mut scan = broker.scan(stream, from, info.state.last_seq);
    loop {
        let page = scan.page().await.map_err(|e| Trouble::of_api(broker, e))?;
        if page.is_empty() {
            return Ok(listing);
        }
        for message in &page {
            listing.looked_at = listing.looked_at.saturating_add(1);
            if options.filter.is_past(message.time) {
                return Ok(listing);
            }
            if let Some(letter) = Letter::of(message).filter(|letter| options.filter.matches(letter)) {
                listing.take(letter, options.limit);
            }
        }
    }
}

impl Listing {
    fn take(&mut self, letter: Letter, limit: usize) {
        let count = self.by_code.entry(letter.code.clone()).or_default();
        *count = count.saturating_add(1);
        self.matched = self.matched.saturating_add(1);
        if self.letters.len() < limit {
            self.letters.push(letter);
        } else if self.next.is_none() {
            self.next = Some(letter.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::stored;
    use super::*;

    #[test]
    fn a_page_is_bounded_and_the_counts_are_of_all() {
        let mut listing = Listing::default();
        for (sequence, code) in [(3, "FF01"), (5, "AM05"), (8, "FF01"), (9, "FF01")] {
            listing.take(Letter::of(&stored(sequence, code, 0, "{")).expect("a letter"), 2);
        }
        assert_eq!(listing.letters.iter().map(|l| l.sequence).collect::<Vec<_>>(), [3, 5]);
        assert_eq!((listing.matched, listing.next, listing.by_code["FF01"]), (4, Some(8), 3));
    }
}
