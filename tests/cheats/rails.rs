//! Cheats tried in the rails' row: a rail claims, it never holds a receipt. None compiles.

#[cfg(acquit_cheats = "types")]
mod types {
    use super::super::Rail;
    use crate::domain::{Answer, Outcome, RailKey};
    use crate::store::{Doubt, Intent, Order, Origin, Recorded};

    //~ cheat: mint a record in a rail E0624 `mint`
    fn mint_recorded(origin: &Origin, outcome: Box<Outcome>) -> Recorded {
        Recorded::mint(origin, outcome, false)
    }

    //~ cheat: take a rail's answer for a record E0308 Recorded`
    async fn answer_as_proof<R: Rail>(rail: &R, order: &Order) -> Recorded {
        rail.submit(order).await
    }

    //~ cheat: submit a doubt to a rail E0308 Order`
    async fn submit_doubt<R: Rail>(rail: &R, doubt: &Doubt) -> Answer {
        rail.submit(doubt).await
    }

    //~ cheat: submit an intent that is not dispatched E0308 Order`
    async fn submit_intent<R: Rail>(rail: &R, intent: &Intent) -> Answer {
        rail.submit(intent).await
    }

    //~ cheat: send an order under another key E0616 `key`
    fn change_key(order: &mut Order, key: RailKey) {
        order.key = key;
    }
}

#[cfg(acquit_cheats = "moves")]
mod moves {
    use crate::store::Order;

    //~ cheat: keep an order for later E0507 Order`
    fn keep(order: &Order) -> Order {
        *order
    }
}
