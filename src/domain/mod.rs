//! Pure values of the payment domain. Nothing here does I/O, reads a clock or draws a random number.

mod account;
mod country;
mod ids;
mod money;
mod outcome;
mod payment;

pub use account::{Account, Agent, Bic, CreditorReference, Iban, IbanFault, Lei, OtherAccount};
pub(crate) use country::is_country;
pub use ids::{
    EventId, Fingerprint, Invalid, LaneName, OrderKey, PaymentId, RailKey, RailRef, SchemeName, StoreId, StreamName,
};
pub use money::{Currency, Decimal, Money};
pub use outcome::{Answer, Code, DeadReason, Finding, NotSent, Outcome, Reason, RefusedBy, Rejected, Settled, millis};
pub use payment::{ChargeBearer, Party, Payment, PostalAddress, References, Remittance};
