-- What the region's gates decided: one line for each flow, destination and
-- verdict in each hour. Holds no personal data.
CREATE TABLE egress (
    flow TEXT NOT NULL,
    destination TEXT NOT NULL,
    verdict TEXT NOT NULL,
    hour BIGINT NOT NULL,
    count BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (flow, destination, verdict, hour)
);
