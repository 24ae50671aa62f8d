//! Events that have their end, and starts of those that have none.

use super::super::Origin;
use super::super::rows::{EventKind, EventRow, StartRow, to_millis};
use super::{Group, Verdict};
use crate::domain::{EventId, Money, PaymentId, References};

impl Group<'_> {
    pub(super) fn start(&mut self, event: &EventId) -> Verdict {
        let start = self.starts.entry(event.clone()).or_insert(StartRow { count: 0, first_at: self.now });
        start.count = start.count.saturating_add(1);
        self.starts_changed.insert(event.clone(), Some(*start));
        Verdict::Starts(start.count)
    }

    pub(super) fn event_row(&self, origin: &Origin, id: Option<&PaymentId>, amount: Option<Money>) -> EventRow {
        EventRow {
            event: origin.event.clone(),
            kind: EventKind::Rejected,
            payment_id: id.cloned(),
            reasons: Vec::new(),
            scheme: origin.scheme.clone(),
            order_key: origin.order_key.clone(),
            lane: origin.lane.clone(),
            references: References::default(),
            amount,
            requested_at: to_millis(origin.requested_at),
            first_seen: self.starts.get(&origin.event).map_or(self.now, |start| start.first_at),
            attempts: 1,
            at: self.now,
        }
    }

    pub(super) fn end_event(&mut self, row: EventRow) {
        self.ends(&row.event);
        self.ended.push(row.event.clone());
        self.events.insert(row.event.clone(), row);
    }

    pub(super) fn ends(&mut self, event: &EventId) {
        let highest = self.high_water.entry((event.stream.clone(), event.created_ms)).or_insert(0);
        *highest = event.sequence.max(*highest);
        self.forget_starts(event);
    }

    pub(super) fn forget_starts(&mut self, event: &EventId) {
        if self.starts.remove(event).is_some() {
            self.starts_changed.insert(event.clone(), None);
        }
    }
}
