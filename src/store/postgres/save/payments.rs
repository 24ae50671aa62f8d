//! The payments' part: new ones and ones that changed.

use jiff::Timestamp;

use super::super::super::rows::{DayKey, PaymentRow, State};
use super::super::connect::{Fault, Session};
use super::super::instant::Instant;
use super::super::load::{signed, stream};
use super::super::{Memory, sql};
use super::{all, complete, reasons_json, signed32};
use crate::domain::Fingerprint;

/// Payments with their streams' numbers.
pub(super) struct Payments<'a> {
    rows: Vec<&'a PaymentRow>,
    streams: Vec<i64>,
    sequences: Vec<i64>,
    reasons: Vec<Option<String>>,
}

impl<'a> Payments<'a> {
    pub(super) async fn of(session: &Session, memory: &mut Memory, rows: Vec<&'a PaymentRow>) -> Result<Self, Fault> {
        let (mut streams, mut sequences, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            streams.push(stream(session, memory, &row.event).await?);
            sequences.push(signed(row.event.sequence)?);
            texts.push(reasons_json(&row.reasons)?);
        }
        Ok(Self { rows, streams, sequences, reasons: texts })
    }

    /// New ones.
    pub(super) async fn insert(&self, session: &Session) -> Result<(), Fault> {
        match self.settled_alike() {
            Some(first) => self.insert_settled(session, first).await,
            None => self.write(session, sql::NEW_PAYMENTS).await,
        }
    }

    /// The first row, where all of them were settled in the book by this group and differ in no column that
    /// [`sql::NEW_SETTLED`] writes once.
    fn settled_alike(&self) -> Option<Settled<'a>> {
        let first = Settled::of(self.rows.first()?)?;
        let one_stream = self.streams.iter().all(|stream| Some(stream) == self.streams.first());
        (one_stream && self.rows.iter().all(|row| Settled::of(row) == Some(first))).then_some(first)
    }

    async fn insert_settled(&self, session: &Session, alike: Settled<'a>) -> Result<(), Fault> {
        let version = i32::from(Fingerprint::VERSION);
        let (each, stream) = (&self.rows, self.streams.first());
        let written = session
            .execute(
                sql::NEW_SETTLED,
                &[
                    &all(each, |row| row.row),
                    &all(each, |row| row.payment_id.as_str()),
                    &all(each, |row| row.fingerprint.0.as_slice()),
                    &self.sequences,
                    &all(each, |row| row.scheme.as_str()),
                    &all(each, |row| row.order_key.as_str()),
                    &all(each, |row| row.rail_ref.as_ref().map(|reference| reference.as_str())),
                    &all(each, |row| row.amount.currency().code()),
                    &all(each, |row| row.amount.minor()),
                    &all(each, |row| row.references.end_to_end_id.as_deref()),
                    &all(each, |row| row.references.instruction_id.as_deref()),
                    &all(each, |row| row.references.uetr.as_deref()),
                    &all(each, |row| Instant(row.requested_at)),
                    &signed32(each, |row| row.deliveries)?,
                    &version,
                    &stream,
                    &alike.lane,
                    &alike.finished_at,
                    &alike.late,
                ],
            )
            .await?;
        complete(written, each.len(), "payments")
    }

    /// Ones that stand.
    pub(super) async fn update(&self, session: &Session) -> Result<(), Fault> {
        if self.rows.iter().any(|row| row.renewed) {
            self.write(session, sql::CHANGED_PAYMENTS).await
        } else {
            self.advance(session).await
        }
    }

    /// Every column but those that only a renewed payment has new.
    async fn advance(&self, session: &Session) -> Result<(), Fault> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let each = &self.rows;
        let (attempts, last) = (signed32(each, |row| row.attempts)?, signed32(each, |row| row.last_attempt)?);
        let written = session
            .execute(
                sql::ADVANCED_PAYMENTS,
                &[
                    &all(each, |row| row.row),
                    &all(each, |row| row.state.word()),
                    &all(each, |row| row.lane.as_str()),
                    &all(each, |row| &*row.rail),
                    &all(each, |row| row.rail_ref.as_ref().map(|reference| reference.as_str())),
                    &all(each, |row| row.finished_at.map(Instant)),
                    &all(each, |row| row.late),
                    &attempts,
                    &last,
                    &self.reasons,
                    &all(each, |row| row.claim.as_ref().map(|claim| &*claim.owner)),
                    &all(each, |row| row.claim.as_ref().map(|claim| Instant(claim.until))),
                    &all(each, |row| row.fence),
                    &signed32(each, |row| row.deliveries)?,
                    &all(each, |row| row.reserved.as_ref().map(DayKey::to_text)),
                ],
            )
            .await?;
        complete(written, each.len(), "payments")
    }

    async fn write(&self, session: &Session, sql: &'static str) -> Result<(), Fault> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let version = i32::from(Fingerprint::VERSION);
        let each = &self.rows;
        let (attempts, last) = (signed32(each, |row| row.attempts)?, signed32(each, |row| row.last_attempt)?);
        let written = session
            .execute(
                sql,
                &[
                    &all(each, |row| row.row),
                    &all(each, |row| row.payment_id.as_str()),
                    &all(each, |row| row.fingerprint.0.as_slice()),
                    &all(each, |_| version),
                    &all(each, |row| row.state.word()),
                    &self.streams,
                    &self.sequences,
                    &all(each, |row| row.scheme.as_str()),
                    &all(each, |row| row.order_key.as_str()),
                    &all(each, |row| row.lane.as_str()),
                    &all(each, |row| &*row.rail),
                    &all(each, |row| row.rail_ref.as_ref().map(|reference| reference.as_str())),
                    &all(each, |row| row.amount.currency().code()),
                    &all(each, |row| row.amount.minor()),
                    &all(each, |row| row.references.end_to_end_id.as_deref()),
                    &all(each, |row| row.references.instruction_id.as_deref()),
                    &all(each, |row| row.references.uetr.as_deref()),
                    &all(each, |row| Instant(row.requested_at)),
                    &all(each, |row| row.finished_at.map(Instant)),
                    &all(each, |row| row.late),
                    &attempts,
                    &last,
                    &self.reasons,
                    &all(each, |row| row.claim.as_ref().map(|claim| &*claim.owner)),
                    &all(each, |row| row.claim.as_ref().map(|claim| Instant(claim.until))),
                    &all(each, |row| row.fence),
                    &signed32(each, |row| row.deliveries)?,
                    &all(each, |row| row.reserved.as_ref().map(DayKey::to_text)),
                ],
            )
            .await?;
        complete(written, each.len(), "payments")
    }
}

/// What payments settled in the book by one group mostly have in common. Every column of a payment is either in here, or
/// in every row of [`sql::NEW_SETTLED`], or checked to be what that writes.
#[derive(Clone, Copy, PartialEq)]
struct Settled<'a> {
    lane: &'a str,
    finished_at: Option<Timestamp>,
    late: bool,
}

impl<'a> Settled<'a> {
    fn of(row: &'a PaymentRow) -> Option<Self> {
        let PaymentRow {
            row: _, payment_id: _, fingerprint: _, state, event: _, scheme: _, order_key: _, lane, ..
        } = row;
        let PaymentRow { rail, rail_ref: _, amount: _, references: _, requested_at: _, finished_at, late, .. } = row;
        let PaymentRow {
            attempts,
            last_attempt,
            reasons,
            claim,
            fence,
            deliveries: _,
            reserved,
            tries,
            renewed: _,
            ..
        } = row;
        let plain = *state == State::Settled && &**rail == "book" && reasons.is_empty() && claim.is_none();
        let first = (*attempts, *last_attempt, *fence) == (1, 0, 0) && reserved.is_none() && tries.is_empty();
        (plain && first).then_some(Self { lane: lane.as_str(), finished_at: *finished_at, late: *late })
    }
}
