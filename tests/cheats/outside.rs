//! Cheats tried in another crate, which has a rail, a decoder or a backend of its own. None compiles.

#[cfg(acquit_cheats = "resolve")]
mod resolve {
    //~ cheat: name a delivery from another crate E0603 `Delivery`
    type Held = acquit::broker::Delivery<acquit::broker::Nats>;

    //~ cheat: name the proof of an announcement from another crate E0603 `Announced`
    type Announced = acquit::broker::Announced;

    //~ cheat: name the proof of a dead letter from another crate E0603 `Buried`
    type Buried = acquit::broker::Buried<acquit::broker::Nats>;

    //~ cheat: reach the mint from another crate E0603 `writer`
    type Mint = acquit::store::writer::Store;

    //~ cheat: reach the worker's events from another crate E0603 `event`
    type Event = acquit::worker::event::Received;
}

#[cfg(acquit_cheats = "types")]
mod types {
    use acquit::domain::{Answer, DeadReason, Outcome};
    use acquit::intake::Judged;
    use acquit::rails::Rail;
    use acquit::store::{Condemned, Doubt, Intent, Order, Origin, Recorded, Route, Store};

    fn is_clone<T: Clone>() {}
    fn is_default<T: Default>() {}
    fn is_read<T: serde::de::DeserializeOwned>() {}

    //~ cheat: mint a record in another crate E0624 `mint`
    fn mint_recorded(origin: &Origin, outcome: Box<Outcome>) -> Recorded {
        Recorded::mint(origin, outcome, false)
    }

    //~ cheat: dispatch an intent in another crate E0624 `dispatch`
    fn dispatch(intent: Intent) -> (Order, Doubt) {
        intent.dispatch()
    }

    //~ cheat: open an event in another crate E0624 `open`
    async fn open(store: &Store, origin: Origin, judged: Judged) {
        drop(store.open(origin, judged, Route::Book).await);
    }

    //~ cheat: look at what stands in another crate E0624 `peek`
    async fn peek(store: &Store, origin: Origin, judged: Judged) {
        drop(store.peek(origin, judged, Route::Book).await);
    }

    //~ cheat: refuse a judged event in another crate E0624 `refuse`
    fn refuse(judged: Judged, reason: acquit::domain::Reason) -> Judged {
        judged.refuse(reason)
    }

    //~ cheat: have a check of one's own answer with a judgement E0271 Judged`
    impl acquit::Check for Own {
        async fn check(&self, _payment: &acquit::domain::Payment) -> Judged {
            std::future::pending().await
        }
    }

    //~ cheat: conclude an attempt in another crate E0624 `conclude`
    async fn conclude(store: &Store, doubt: Doubt, answer: Answer) {
        drop(store.conclude(doubt, answer).await);
    }

    //~ cheat: condemn an event in another crate E0624 `condemn`
    async fn condemn(store: &Store, origin: Origin, why: DeadReason) {
        drop(store.condemn(origin, why, None).await);
    }

    struct Own;

    //~ cheat: have a rail of one's own answer with a record E0271 Recorded`
    impl Rail for Own {
        fn name(&self) -> &'static str {
            "own"
        }
        fn terms(&self) -> acquit::rails::Terms {
            acquit::rails::Terms {
                longest_execution: std::time::Duration::ZERO,
                key_retention: std::time::Duration::ZERO,
                deadline: std::time::Duration::ZERO,
            }
        }
        async fn submit(&self, _order: &Order) -> Recorded {
            std::future::pending().await
        }
    }

    //~ cheat: clone a proof in another crate E0277 Clone` x5
    fn clones() {
        is_clone::<Recorded>();
        is_clone::<Condemned>();
        is_clone::<Intent>();
        is_clone::<Doubt>();
        is_clone::<Order>();
    }

    //~ cheat: make a proof out of nothing in another crate E0277 Default` x5
    fn defaults() {
        is_default::<Recorded>();
        is_default::<Condemned>();
        is_default::<Intent>();
        is_default::<Doubt>();
        is_default::<Order>();
    }

    //~ cheat: read a proof from bytes in another crate E0277 DeserializeOwned` x5
    fn reads() {
        is_read::<Recorded>();
        is_read::<Condemned>();
        is_read::<Intent>();
        is_read::<Doubt>();
        is_read::<Order>();
    }
}

#[cfg(acquit_cheats = "moves")]
mod moves {
    use acquit::store::Order;

    //~ cheat: keep an order in a rail of one's own E0507 Order`
    fn keep(order: &Order) -> Order {
        *order
    }
}

#[cfg(acquit_cheats = "fields")]
mod fields {
    use acquit::domain::{Fingerprint, Payment};
    use acquit::intake::{Judged, Valid};
    use acquit::store::{Condemned, EventRow};

    //~ cheat: build a condemnation in another crate E0451 Condemned`
    fn condemned(row: Box<EventRow>) -> Condemned {
        Condemned { row }
    }

    //~ cheat: judge a payment valid in another crate E0451 Valid`
    fn valid(payment: Box<Payment>, fingerprint: Fingerprint) -> Judged {
        Judged::Valid(Valid { payment, fingerprint, allowance: None })
    }
}
