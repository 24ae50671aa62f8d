//! A reconciliation in words.

use std::fmt;

use super::Reconciliation;

impl fmt::Display for Reconciliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = &self.events;
        writeln!(f, "events")?;
        let held = events.held;
        for (name, count) in [
            ("published", events.published),
            ("settled", events.settled),
            ("rejected", events.rejected),
            ("dead-lettered", events.dead_lettered),
            ("duplicates", events.duplicates),
            ("held", held.total()),
            ("unaccounted", events.unaccounted),
        ] {
            writeln!(f, "  {name:<14} {count:>12}")?;
        }
        for (what, codes) in [("rejected", &events.rejected_by_code), ("dead-lettered", &events.dead_lettered_by_code)]
        {
            if !codes.is_empty() {
                let counts: Vec<_> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
                writeln!(f, "  {what}: {}", counts.join(", "))?;
            }
        }
        if held.total() > 0 {
            writeln!(
                f,
                "  held: {} in the stream, {} in flight, {} for a person, {} tracked",
                held.in_stream, held.in_flight, held.for_person, held.tracked
            )?;
        }
        if events.records_without_event > 0 {
            writeln!(f, "  {} records of the store are older than the stream", events.records_without_event)?;
        }
        if !self.money.is_empty() {
            let head = ["published", "settled", "rejected", "dead-lettered", "held"];
            writeln!(f, "money {:>19} {:>19} {:>19} {:>19} {:>19}", head[0], head[1], head[2], head[3], head[4])?;
        }
        for (currency, sums) in &self.money {
            let [a, b, c, d, e] = [&sums.published, &sums.settled, &sums.rejected, &sums.dead_lettered, &sums.held];
            writeln!(f, "  {currency} {a:>19} {b:>19} {c:>19} {d:>19} {e:>19}")?;
            if sums.unaccounted.bytes().any(|digit| matches!(digit, b'1'..=b'9')) {
                writeln!(f, "      unaccounted: {}", sums.unaccounted)?;
            }
        }
        writeln!(f, "conserved: {}; book balanced: {}", yes(self.conserved), yes(self.book_balanced))?;
        if self.differences_total == 0 {
            return writeln!(f, "no differences");
        }
        writeln!(f, "{} differences", self.differences_total)?;
        for (kind, count) in &self.differences_by_kind {
            writeln!(f, "  {count} x {kind}")?;
        }
        for difference in &self.differences {
            let event = difference.event.as_deref().unwrap_or("-");
            let payment = difference.payment_id.as_deref().unwrap_or("-");
            writeln!(f, "  payment {payment}, event {event}: {}", difference.detail)?;
        }
        let named = u64::try_from(self.differences.len()).unwrap_or(u64::MAX);
        if self.differences_total > named {
            writeln!(f, "  and {} more", self.differences_total.saturating_sub(named))?;
        }
        Ok(())
    }
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}
