//! Media ports, shards, the recording tap and the control server
