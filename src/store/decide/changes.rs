//! What a group did, as it is to be written.

use super::super::rows::{Changes, Mark};
use super::Group;

impl Group<'_> {
    pub(super) fn into_changes(self) -> Changes {
        let posted = self.book.into_posted();
        let spent = self.days.into_spent(self.now);
        let mut changes = Changes {
            new_accounts: posted.opened,
            changed_accounts: posted.changed,
            transfers: posted.transfers,
            notes: self.notes,
            starts: self.starts_changed.into_iter().collect(),
            high_water: self.high_water.into_iter().map(|((stream, created), top)| (stream, created, top)).collect(),
            tracker: self.tracker,
            new_days: spent.new,
            changed_days: spent.changed,
            forget_days_before: spent.forget_before,
            ..Changes::default()
        };
        let mut events = self.events;
        changes.events = self.ended.iter().filter_map(|event| events.remove(event)).collect();
        for slot in self.payments.into_values() {
            match slot.mark {
                Mark::Stands => {}
                Mark::Changed => changes.changed_payments.push(slot.row),
                Mark::New => changes.new_payments.push(slot.row),
            }
        }
        changes.new_payments.sort_unstable_by_key(|row| row.row);
        changes.changed_payments.sort_unstable_by_key(|row| row.row);
        changes
    }
}
