//! `acquit explain`.

use clap::Args;

use super::{Connected, Exit, Failure, Global, connect, out, print_json, setup};
use crate::domain::PaymentId;
use crate::operate::explain::{Standing, explain};

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
    let life = explain(&broker, &store, &setup::consumers(&config), &args.payment_id).await?;
    if global.json {
        print_json(&life);
    } else {
        out(life.to_string().trim_end());
    }
    Ok(if life.standing == Standing::Unseen { Exit::Found } else { Exit::Done })
}
