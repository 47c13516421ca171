-- Where calls go in a user's stead, sealed: names and numbers are in it. NULL
-- where nothing is set.
ALTER TABLE account_user ADD COLUMN forwarding BYTEA;

-- In whose stead a leg was rung, and why: the user's sid and the reason of RFC
-- 5806, a space between them. NULL where the leg is that of who was called.
ALTER TABLE call_leg ADD COLUMN diverted TEXT;
