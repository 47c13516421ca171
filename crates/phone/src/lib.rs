//! A scriptable softphone: the demo's callers and the tests' user agent
