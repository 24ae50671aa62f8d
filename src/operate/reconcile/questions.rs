//! The question for each kind of difference: payment id (or null), stream and sequence of every case. An event that was
//! never read here is taken as acknowledged where it lies before the first reading of its stream, as not where it lies
//! behind its cut.

pub(super) const LOST: &str = "
SELECT payment_id, stream, seq FROM events WHERE class = 'lost'";

pub(super) const DOUBLED: &str = "
SELECT payment_id, NULL, NULL FROM outcomes WHERE kind = 'settled'
GROUP BY payment_id HAVING count(DISTINCT effect) > 1
UNION SELECT o.payment_id, NULL, NULL FROM outcomes o
WHERE o.kind = 'rejected' AND o.origin IS NULL AND EXISTS (SELECT 1 FROM outcomes s
WHERE s.payment_id = o.payment_id AND s.kind = 'settled')";

pub(super) const RAIL_DOUBLED: &str = "
SELECT payment_id, NULL, NULL FROM effects WHERE payment_id IS NOT NULL
GROUP BY payment_id HAVING count(*) > 1";

pub(super) const RAIL_WITHOUT_RECORD: &str = "
SELECT DISTINCT coalesce(f.payment_id, 'key ' || f.key), NULL, NULL FROM effects f
WHERE NOT EXISTS (SELECT 1 FROM payments p
WHERE p.payment_id = f.payment_id AND p.state IN ('settled', 'open', 'held'))";

pub(super) const SETTLED_WITHOUT_RAIL: &str = "
SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN ledgers l ON l.rail = p.rail
WHERE p.state = 'settled' AND p.finished_ms <= l.until_ms AND NOT EXISTS (SELECT 1 FROM effects f
WHERE f.payment_id = p.payment_id)";

pub(super) const RAIL_DIFFERS: &str = "
SELECT DISTINCT p.payment_id, p.stream, p.seq FROM effects f
JOIN payments p ON p.payment_id = f.payment_id
WHERE p.state = 'settled' AND (f.minor IS NOT p.minor OR f.currency IS NOT p.currency OR
f.rail IS NOT p.rail OR EXISTS (SELECT 1 FROM outcomes o
WHERE o.payment_id = p.payment_id AND o.kind = 'settled' AND o.rail_ref IS NOT f.reference
AND f.reference IS NOT NULL))";

pub(super) const SETTLED_AND_CONDEMNED: &str = "
SELECT p.payment_id, p.stream, p.seq FROM payments p
JOIN ends n ON n.stream = p.stream AND n.seq = p.seq
WHERE p.state = 'settled' AND n.kind = 'condemned'";

pub(super) const OUTCOME_DIFFERS: &str = "
SELECT DISTINCT o.payment_id, p.stream, p.seq FROM outcomes o
JOIN payments p ON p.payment_id = o.payment_id
WHERE o.kind = 'settled' AND p.state = 'settled' AND (o.minor IS NOT p.minor OR o.currency IS NOT
p.currency OR (p.rail = 'book' AND o.rail_ref IS NOT printf('tr_%012d', p.row)))";

pub(super) const OUTCOME_WITHOUT_RECORD: &str = "
SELECT DISTINCT o.payment_id, NULL, NULL FROM outcomes o WHERE o.kind <> 'held' AND NOT CASE
WHEN o.origin IS NULL THEN EXISTS (SELECT 1 FROM payments p
WHERE p.payment_id = o.payment_id AND p.state = o.kind) ELSE EXISTS (SELECT 1 FROM ends n
JOIN streams s ON s.id = n.stream WHERE n.payment_id = o.payment_id AND n.kind = CASE o.kind
WHEN 'dead-lettered' THEN 'condemned'
ELSE o.kind END AND o.origin = s.created_ms || '.' || n.seq) END";

pub(super) const RECORD_DIFFERS: &str = "
SELECT p.payment_id, p.stream, p.seq FROM payments p
JOIN events e ON e.stream = p.stream AND e.seq = p.seq
WHERE p.state <> 'freed' AND (e.payment_id IS NOT p.payment_id OR e.fp IS NOT p.fp OR e.minor IS NOT
p.minor OR e.currency IS NOT p.currency)";

pub(super) const BODY_DIFFERS: &str = "
SELECT e.payment_id, e.stream, e.seq FROM letters l
JOIN events e ON e.stream = l.e_stream AND e.seq = l.e_seq WHERE e.sha <> l.sha";

pub(super) const ACKNOWLEDGED_EARLY: &str = "
SELECT payment_id, stream, seq FROM events
WHERE acked AND class IN ('in_flight', 'for_person')";

pub(super) const SETTLED_WITHOUT_OUTCOME: &str = "
SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN streams s ON s.id = p.stream
LEFT JOIN events e ON e.stream = p.stream AND e.seq = p.seq
WHERE p.state = 'settled' AND NOT p.tracked AND p.finished_ms >= :outcomes AND coalesce(e.acked, NOT s.live OR p.seq <
s.first_seq) AND NOT EXISTS (SELECT 1 FROM outcomes o
WHERE o.payment_id = p.payment_id AND o.kind = 'settled')";

pub(super) const REJECTED_WITHOUT_OUTCOME: &str = "
SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN streams s ON s.id = p.stream
LEFT JOIN events e ON e.stream = p.stream AND e.seq = p.seq
WHERE p.state = 'rejected' AND NOT p.tracked AND p.finished_ms >= :outcomes AND coalesce(e.acked, NOT s.live OR p.seq
< s.first_seq) AND NOT EXISTS (SELECT 1 FROM outcomes o
WHERE o.payment_id = p.payment_id AND o.kind = 'rejected' AND o.origin IS NULL)
UNION ALL SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream
LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq
WHERE n.kind = 'rejected' AND n.at_ms >= :outcomes AND coalesce(e.acked, NOT s.live OR n.seq <
s.first_seq) AND NOT EXISTS (SELECT 1 FROM payments p
WHERE p.stream = n.stream AND p.seq = n.seq AND p.tracked) AND NOT EXISTS (SELECT 1 FROM outcomes o
WHERE o.payment_id = n.payment_id AND o.kind = 'rejected' AND o.origin = s.created_ms || '.' ||
n.seq)";

pub(super) const DEAD_LETTER_WITHOUT_RECORD: &str = "
SELECT e.payment_id, l.e_stream, l.e_seq FROM letters l
LEFT JOIN events e ON e.stream = l.e_stream AND e.seq = l.e_seq
WHERE NOT EXISTS (SELECT 1 FROM ends n
WHERE n.stream = l.e_stream AND n.seq = l.e_seq AND n.kind = 'condemned')";

pub(super) const CONDEMNED_WITHOUT_DEAD_LETTER: &str = "
SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream
LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq
WHERE n.kind = 'condemned' AND n.at_ms >= :dead_letters AND coalesce(e.acked, NOT s.live OR n.seq <
s.first_seq) AND NOT EXISTS (SELECT 1 FROM letters l
WHERE l.e_stream = n.stream AND l.e_seq = n.seq) AND NOT EXISTS (SELECT 1 FROM discards d
WHERE d.stream = n.stream AND d.seq = n.seq)";

pub(super) const CONDEMNED_WITHOUT_OUTCOME: &str = "
SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream
LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq
WHERE n.kind = 'condemned' AND n.payment_id IS NOT NULL AND n.at_ms >= :outcomes AND
coalesce(e.acked, NOT s.live OR n.seq < s.first_seq)
AND NOT EXISTS (SELECT 1 FROM outcomes o
WHERE o.payment_id = n.payment_id AND o.kind = 'dead-lettered' AND o.origin = s.created_ms || '.' ||
n.seq)";

pub(super) const NOT_SERVED: &str = "
SELECT e.payment_id, e.stream, e.seq FROM events e
JOIN cover c ON c.stream = e.stream AND c.scheme = e.scheme
WHERE c.served = 0 AND e.class = 'in_stream'";
