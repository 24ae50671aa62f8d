//! What the trackers hold.

use std::collections::BTreeMap;

use super::super::tracked::Part;
use super::super::{ReadError, TrackedSums};
use super::{Fault, Reader, unsigned};
use crate::domain::LaneName;

const SUMS: &str = "SELECT lane, currency, count(*), sum(minor)::text, min(since), min(due) FROM tracker \
                    GROUP BY lane, currency";

impl Reader {
    pub(in super::super) fn tracked_sums(&self) -> Result<BTreeMap<LaneName, TrackedSums>, ReadError> {
        self.ask(async move |client| {
            let mut sums = BTreeMap::new();
            for row in client.query(SUMS, &[]).await? {
                let minor = row.try_get::<_, &str>(3)?.parse().map_err(|_| Fault::Row("a sum"))?;
                let (lane, currency, count) = (row.try_get(0)?, row.try_get(1)?, unsigned(row.try_get(2)?)?);
                let (oldest, due) = (row.try_get(4)?, row.try_get(5)?);
                Part { lane, currency, count, minor, oldest, due }.add_to(&mut sums)?;
            }
            Ok(sums)
        })
    }
}
