-- Version 2. When the rail said last that it works on the attempt; null where it never did, or has said otherwise since.
ALTER TABLE attempts ADD COLUMN in_progress_at timestamptz;
