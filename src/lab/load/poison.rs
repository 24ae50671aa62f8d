//! Bodies that cannot be read as an event of any payment.

use super::random::Random;
use crate::domain::Code;

/// Builds a body; the number keeps most of them apart from each other.
type Build = fn(u64) -> Vec<u8>;

const POISONS: [(Code, Build); 18] = [
    (Code::FF01, |_| Vec::new()),
    (Code::FF01, |_| b" ".to_vec()),
    (Code::FF01, |n| format!("not json at all {n}").into_bytes()),
    (Code::FF01, |n| format!(r#"{{"payment_id":"cut-{n}""#).into_bytes()),
    (Code::FF01, |n| format!("[1,2,{n}]").into_bytes()),
    (Code::FF01, |n| format!(r#""just a string {n}""#).into_bytes()),
    (Code::FF01, |n| n.to_string().into_bytes()),
    (Code::FF01, |n| format!(r#"{{"payment_id":"twice-{n}","payment_id":"twice-{n}-b"}}"#).into_bytes()),
    (Code::FF01, |n| format!(r#"{{"payment_id":"in-{n}","amount":{{"value":"1","value":"2"}}}}"#).into_bytes()),
    (Code::FF01, |n| format!(r#"{{"payment_id":"tail-{n}"}} {{}}"#).into_bytes()),
    (Code::FF01, |n| [b"{\"payment_id\":\"\xff\xfe-", n.to_string().as_bytes(), b"\"}"].concat()),
    (Code::FF01, |n| [b"\x00\x01\x02", n.to_string().as_bytes()].concat()),
    // Deep enough to overflow the stack of a reader that recurses, and within the size that is read.
    (Code::FF01, |n| format!("{}{n}{}", "[".repeat(20_000), "]".repeat(20_000)).into_bytes()),
    (Code::CH21, |n| format!(r#"{{"amount":{{"currency":"EUR","value":"{n}.00"}}}}"#).into_bytes()),
    (Code::CH21, |n| format!(r#"{{"payment_id":null,"end_to_end_id":"E-{n}"}}"#).into_bytes()),
    (Code::CH16, |n| format!(r#"{{"payment_id":"bad id {n}"}}"#).into_bytes()),
    (Code::CH16, |n| format!(r#"{{"payment_id":{n}}}"#).into_bytes()),
    (Code::CH16, |n| format!(r#"{{"payment_id":"{n:065}"}}"#).into_bytes()),
];

/// One of them, and the code it is dead-lettered under.
pub(super) fn any(number: u64, random: &mut Random) -> (Code, Vec<u8>) {
    random.pick(&POISONS).map_or((Code::FF01, Vec::new()), |(code, build)| (*code, build(number)))
}
