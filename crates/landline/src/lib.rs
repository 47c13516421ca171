//! A SIP and RTP voice platform whose calls and records stay in their home region
