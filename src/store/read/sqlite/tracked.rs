//! What the trackers hold.

use std::collections::BTreeMap;

use super::super::tracked::Part;
use super::super::{ReadError, TrackedSums};
use super::{Fault, Reader, instant};
use crate::domain::LaneName;

/// Row by row: a sum in SQL ends in an error where it leaves 64 bits.
const EACH: &str = "SELECT lane, currency, minor, since, due FROM tracker";

impl Reader {
    pub(in super::super) fn tracked_sums(&self) -> Result<BTreeMap<LaneName, TrackedSums>, ReadError> {
        let mut statement = self.connection.prepare_cached(EACH)?;
        let (mut found, mut sums) = (statement.query([])?, BTreeMap::new());
        while let Some(row) = found.next()? {
            let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| Fault::Row("tracker"));
            let (lane, currency) = (text(0)?, text(1)?);
            let minor = row.get::<_, i64>(2)?.into();
            let (oldest, due) = (instant(row.get(3)?)?, instant(row.get(4)?)?);
            Part { lane, currency, count: 1, minor, oldest, due }.add_to(&mut sums)?;
        }
        Ok(sums)
    }
}
