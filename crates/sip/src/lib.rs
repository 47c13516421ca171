//! SIP messages, SDP, transactions, dialogs and digest as pure machines
