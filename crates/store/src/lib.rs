//! One region's database, keys, sealed recordings and the ledger
