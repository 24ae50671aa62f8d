//! `acquit explain`.

use clap::Args;

use super::{Connected, Exit, Failure, Global, connect, out, print_json, setup, stranded};
use crate::domain::{LaneName, PaymentId};
use crate::operate::explain::{Explanation, Standing, explain};

pub(super) const EXAMPLES: &str = "Examples:
  acquit explain 78e51061-7311-48a3-82ce-6f447ed4d57b
  acquit explain PAY-1 --json | jq .standing

Events, deliveries, attempts, delays and why, outcome events, the ledger's entry, and what happens next. Exit 1 where
the store never saw the payment.";

/// Flags of `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The payment
    #[arg(value_name = "PAYMENT_ID", value_parser = PaymentId::parse)]
    payment_id: PaymentId,
}

pub(super) async fn run(global: &Global, args: ExplainArgs) -> Result<Exit, Failure> {
    let Connected { config, broker } = connect(global, "explain").await?;
    let store = setup::reader(&config)?;
    let mut life = explain(&broker, &store, &setup::consumers(&config), &args.payment_id).await?;
    if let Some(rail) = in_doubt_at(&life)
        && let Some(Ok(lane)) = life.payment.as_ref().map(|payment| LaneName::parse(&payment.lane))
        && !stranded::has(&config, &lane, rail)
    {
        life.next = format!("It waits for {}.", stranded::WAITS_FOR);
    }
    if global.json {
        print_json(&life);
    } else {
        out(life.to_string().trim_end());
    }
    Ok(if life.standing == Standing::Unseen { Exit::Found } else { Exit::Done })
}

/// The rail of the attempt that is in doubt.
fn in_doubt_at(life: &Explanation) -> Option<&str> {
    let waits = matches!(life.standing, Standing::InDoubt | Standing::Held);
    let attempt = life.attempts.iter().rev().find(|attempt| attempt.is_open()).filter(|_| waits)?;
    Some(&attempt.rail)
}
