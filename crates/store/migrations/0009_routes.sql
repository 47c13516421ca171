-- Which numbers a trunk carries: the beginnings of E.164 numbers, apart by
-- spaces; all where there are none.
ALTER TABLE trunk ADD COLUMN prefixes TEXT NOT NULL DEFAULT '';
