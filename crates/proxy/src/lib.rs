//! Signalling sockets, TLS, WebSocket and DNS around the SIP and call machines
