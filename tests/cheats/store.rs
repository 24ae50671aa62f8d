//! Cheats tried in the store's row, with the rights of a backend, of the decision and of the readers. None compiles.

#[cfg(acquit_cheats = "resolve")]
mod resolve {
    //~ cheat: reach the mint from a backend E0603 `proof`
    type Proof = super::super::writer::proof::Recorded;

    //~ cheat: answer the writer's requests from a backend E0603 `request`
    type Asked = super::super::writer::request::Request;
}

#[cfg(acquit_cheats = "types")]
mod types {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::decide::Ticket;
    use super::super::{Condemned, Doubt, EventRow, Intent, Origin, Recorded, Route, Store};
    use crate::domain::{Answer, DeadReason, Finding, Outcome};
    use crate::intake::{Decoded, Judged, Valid};

    //~ cheat: mint a record in a backend E0624 `mint`
    fn mint_recorded(origin: &Origin, outcome: Box<Outcome>) -> Recorded {
        Recorded::mint(origin, outcome, false)
    }

    //~ cheat: mint a condemnation in a backend E0624 `mint`
    fn mint_condemned(row: Box<EventRow>) -> Condemned {
        Condemned::mint(row)
    }

    //~ cheat: mint an intent in the decision E0624 `mint`
    fn mint_intent(origin: Origin, valid: Valid, ticket: Ticket) -> Intent {
        Intent::mint(origin, valid, ticket)
    }

    //~ cheat: mint a doubt in the decision E0624 `mint`
    fn mint_doubt(origin: Origin, judged: Judged, ticket: Ticket) -> Doubt {
        Doubt::mint(origin, judged, ticket)
    }

    //~ cheat: turn a doubt back into an intent E0624 `into_intent`
    fn doubt_into_intent(doubt: Doubt) -> Result<Intent, Doubt> {
        doubt.into_intent()
    }

    //~ cheat: give a doubt another claim E0624 `renewed`
    fn renew(doubt: Doubt, ticket: Ticket) -> Doubt {
        doubt.renewed(ticket)
    }

    //~ cheat: take the doubt out of an unsent intent E0616 `doubt`
    fn doubt_of(intent: Intent) -> Doubt {
        intent.doubt
    }

    //~ cheat: open what was not judged E0308 Judged`
    async fn open_unjudged(store: &Store, origin: Origin, decoded: Decoded) {
        drop(store.open(origin, decoded, Route::Book).await);
    }

    //~ cheat: conclude an intent that was never dispatched E0308 Doubt`
    async fn conclude_intent(store: &Store, intent: Intent, answer: Answer) {
        drop(store.conclude(intent, answer).await);
    }

    //~ cheat: inquire about an intent that was never dispatched E0308 Doubt`
    async fn resume_intent(store: &Store, intent: Intent, finding: Finding) {
        drop(store.resume(intent, finding, Instant::now(), Duration::ZERO).await);
    }

    //~ cheat: condemn a doubt E0308 Origin`
    async fn condemn_doubt(store: &Store, doubt: Doubt, why: DeadReason) {
        drop(store.condemn(doubt, why, None).await);
    }

    //~ cheat: make a judgement out of an outcome E0308 Recorded`
    fn outcome_as_proof(outcome: Outcome) -> Recorded {
        outcome
    }
}

#[cfg(acquit_cheats = "moves")]
mod moves {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::{Doubt, Store};
    use crate::domain::{Answer, Finding};

    //~ cheat: conclude a doubt and inquire about it too E0382 `doubt`
    async fn conclude_and_resume(store: &Store, doubt: Doubt, answer: Answer, finding: Finding) {
        drop(store.conclude(doubt, answer).await);
        drop(store.resume(doubt, finding, Instant::now(), Duration::ZERO).await);
    }
}

#[cfg(acquit_cheats = "fields")]
mod fields {
    use std::sync::Arc;

    use super::super::{Condemned, Doubt, EventRow, Intent, Order};
    use crate::domain::{Fingerprint, Payment, PaymentId, RailKey, Reason, References};
    use crate::intake::{Judged, Refused, Valid};

    //~ cheat: build a condemnation in a backend E0451 Condemned`
    fn condemned(row: Box<EventRow>) -> Condemned {
        Condemned { row }
    }

    //~ cheat: build an intent around a doubt E0451 Intent`
    fn intent(doubt: Doubt, valid: Arc<Valid>) -> Intent {
        Intent { doubt, valid }
    }

    //~ cheat: build an order in a backend E0451 Order`
    fn order(key: RailKey, valid: Arc<Valid>) -> Order {
        Order { valid, key, leg: 0, attempt: 1, deadline: jiff::Timestamp::MAX }
    }

    //~ cheat: judge a payment valid in the store E0451 Valid`
    fn valid(payment: Box<Payment>, fingerprint: Fingerprint) -> Judged {
        Judged::Valid(Valid { payment, fingerprint, allowance: None })
    }

    //~ cheat: refuse an event in the store E0451 Refused`
    fn refused(payment_id: PaymentId, fingerprint: Fingerprint, reasons: Vec<Reason>) -> Judged {
        Judged::Refused(Refused { payment_id, fingerprint, reasons, references: References::default(), amount: None })
    }
}
