-- Calls between accounts of different homes.

-- Random; in the other account's record too, and all that both share.
ALTER TABLE call ADD COLUMN join_token TEXT;
CREATE INDEX call_by_join_token ON call (join_token) WHERE join_token IS NOT NULL;

-- The home region of a party of another account, who stands in that region's
-- record alone.
ALTER TABLE call_leg ADD COLUMN party_region TEXT;

-- Which other accounts may call: none, region (the same home) or any.
ALTER TABLE account ADD COLUMN calls_from TEXT NOT NULL DEFAULT 'none';
