//! Codes, findings and outcomes: what may become of a payment or an event, and what a rail may say.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EventId, LaneName, Money, OrderKey, PaymentId, RailRef, References, SchemeName};

macro_rules! codes {
    ($($code:ident $meaning:literal),* $(,)?) => {
        /// An ISO 20022 `ExternalStatusReason1Code` that Acquit gives.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(clippy::upper_case_acronyms, reason = "the code set's own spelling")]
        pub enum Code { $(#[doc = $meaning] $code),* }

        impl Code {
            /// Every code, in alphabetical order.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// The four characters.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$code => stringify!($code)),* }
            }

            /// What it means, in a few words of our own.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$code => $meaning),* }
            }

            /// The code of four characters, if it is one that Acquit gives.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $(stringify!($code) => Some(Code::$code),)* _ => None }
            }
        }
    };
}

codes! {
    AB11 "the deadline passed before the payment was submitted",
    AC01 "account number incorrect",
    AC02 "debtor account invalid",
    AC03 "creditor account invalid",
    AC04 "account closed",
    AC06 "account blocked",
    AG01 "transaction not allowed on this account",
    AM01 "amount is zero",
    AM02 "amount above what the rail allows",
    AM03 "currency not allowed here",
    AM04 "insufficient funds",
    AM05 "duplicate identity with other content",
    AM11 "currency unknown or withdrawn",
    AM12 "amount unreadable",
    AM13 "amount above the scheme's maximum",
    AM14 "amount above an agreed limit",
    BE04 "creditor address invalid",
    BE07 "debtor address invalid",
    BE08 "debtor name missing",
    BE10 "debtor country invalid",
    BE11 "creditor country invalid",
    BE16 "debtor identification invalid",
    BE17 "creditor identification invalid",
    BE19 "charge bearer not valid for the scheme",
    BE20 "name too long",
    BE22 "creditor name missing",
    CH03 "execution date too far in the future",
    CH04 "execution date in the past",
    CH16 "element content incorrect",
    CH20 "more decimals than the currency has",
    CH21 "required element missing",
    DT01 "date invalid",
    FF01 "message format invalid",
    FF05 "scheme invalid",
    FF06 "category purpose invalid",
    FF07 "purpose invalid",
    FF08 "end-to-end identification invalid",
    FF10 "technical fault while processing",
    MS02 "refused by a customer, reason not given",
    MS03 "refused by an agent, reason not given",
    RC01 "agent identification invalid",
    RR04 "regulatory reason",
    RR07 "remittance information invalid",
    RR09 "structured creditor reference invalid",
    RR10 "character outside the scheme's set",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding: which rule was broken, where. The text never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The code.
    pub code: Code,
    /// A JSON pointer (RFC 6901) to the element; empty for the whole body.
    pub path: String,
    /// The rule in words, without the offending value.
    pub text: String,
}

impl Reason {
    /// A finding at `path`.
    #[must_use]
    pub fn new(code: Code, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code, path: path.into(), text: text.into() }
    }
}

/// Why an event leaves as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadReason {
    /// It could not be read as an event at all (FF01, CH21 or CH16 on `payment_id`).
    Unreadable(Reason),
    /// Its `payment_id` belongs to a payment with other content (AM05).
    Conflict,
    /// Its handling was started this often and never came to an end (FF10).
    Poison {
        /// Starts without an end.
        starts: u32,
    },
    /// Its attempts or its age went past the lane's budget and no attempt reached a rail (FF10).
    Exhausted {
        /// Charged attempts.
        attempts: u32,
    },
}

impl DeadReason {
    /// The code it travels under.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unreadable(reason) => reason.code,
            Self::Conflict => Code::AM05,
            Self::Poison { .. } | Self::Exhausted { .. } => Code::FF10,
        }
    }

    /// The reason in words, without any value of the event.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Unreadable(reason) if reason.path.is_empty() => reason.text.clone(),
            Self::Unreadable(reason) => format!("{}: {}", reason.path, reason.text),
            Self::Conflict => "this payment_id was used before with other content".to_owned(),
            Self::Poison { starts } => format!("handling was started {starts} times and never ended"),
            Self::Exhausted { attempts } => {
                format!("retry budget used up after {attempts} attempts, none reached a rail")
            }
        }
    }
}

/// Who refused a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusedBy {
    /// Our rules: final for this event only, a corrected event with the same id is judged anew.
    Rules,
    /// The rail or the book: final for the payment.
    Rail,
}

/// A payment that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The payment.
    pub payment_id: PaymentId,
    /// Subject token of the event that led here.
    pub scheme: SchemeName,
    /// Subject token of the event that led here.
    pub order_key: OrderKey,
    /// The lane that settled it.
    pub lane: LaneName,
    /// `book`, or the rail's name.
    pub rail: String,
    /// The rail's reference.
    pub rail_ref: RailRef,
    /// What moved.
    pub amount: Money,
    /// The payment's references.
    pub references: References,
    /// The event's broker timestamp.
    pub requested_at: Timestamp,
    /// When it became durable.
    pub settled_at: Timestamp,
    /// Executed after the requested date.
    pub late: bool,
    /// Attempts that may have reached the rail.
    pub attempts: u32,
}

/// A payment or event that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The payment.
    pub payment_id: PaymentId,
    /// Subject token of the event that led here.
    pub scheme: SchemeName,
    /// Subject token of the event that led here.
    pub order_key: OrderKey,
    /// The event that was refused.
    pub event: EventId,
    /// The lane that refused it.
    pub lane: LaneName,
    /// Who refused.
    pub by: RefusedBy,
    /// At least one finding; the first leads.
    pub reasons: Vec<Reason>,
    /// The payment's references, where they could be read.
    pub references: References,
    /// The event's broker timestamp.
    pub requested_at: Timestamp,
    /// When the refusal became durable.
    pub rejected_at: Timestamp,
}

/// The durable end of a payment (or, for a refusal by our rules, of one event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Money moved, once.
    Settled(Settled),
    /// No money moved.
    Rejected(Rejected),
}

/// What a rail says to a submission: a claim, never a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done, final.
    Settled(RailRef),
    /// Taken, not final yet.
    InProgress,
    /// Refused, final; `resubmit` where the rail's own status report says that a new attempt is allowed.
    Rejected {
        /// The rail's code.
        code: Code,
        /// A new attempt under a new rail message id is allowed.
        resubmit: bool,
    },
    /// Neither credited nor returned: for a person.
    Blocked,
    /// Proof that nothing was processed.
    NotSent(NotSent),
    /// Anything else. Unknown is not failure.
    Unknown,
}

/// Proof that the rail did not process a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSent {
    /// The name did not resolve.
    Resolve,
    /// No connection.
    Connect,
    /// No TLS session.
    Tls,
    /// No free connection in our own pool.
    Pool,
    /// The rail said so (429, or 503 where its contract says "not processed").
    SaidNotProcessed {
        /// What it asked for in `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 401, 403 or 404 on the endpoint: our own configuration.
    OurFault,
}

/// What a rail says to an inquiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It knows the payment.
    Answered(Answer),
    /// Only what the rail's mapping names; never a bare 404.
    NotFound,
    /// No status call, or no usable reply.
    CannotSay,
}

/// RFC 3339 in UTC with exactly three decimals.
#[must_use]
pub fn millis(at: Timestamp) -> String {
    format!("{at:.3}")
}
