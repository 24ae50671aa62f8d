//! Instants as the protocol has them. The client's own way goes over spans of calendar units: many times the price, in
//! each row.

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type Broken = Box<dyn std::error::Error + Sync + Send>;

/// From 1970 to 2000, where the protocol begins to count.
const EPOCH: i64 = 946_684_800_000_000;

/// A `timestamptz`, cut to microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant(pub(super) Timestamp);

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Broken> {
        out.put_i64(self.0.as_microsecond().checked_sub(EPOCH).ok_or("an instant is out of range")?);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Broken> {
        let micros = i64::from_be_bytes(raw.try_into()?).checked_add(EPOCH).ok_or("an instant is out of range")?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_and_read_as_the_client_itself_would() {
        let instants = ["1969-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "2026-03-29T01:00:00.123Z"];
        for at in instants.map(|text| text.parse::<Timestamp>().unwrap()) {
            let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
            Instant(at).to_sql(&Type::TIMESTAMPTZ, &mut ours).unwrap();
            at.to_sql(&Type::TIMESTAMPTZ, &mut theirs).unwrap();
            assert_eq!(ours, theirs, "{at}");
            assert_eq!(Instant::from_sql(&Type::TIMESTAMPTZ, &theirs).unwrap(), Instant(at));
        }
    }
}
