//! A relay on loopback: real UDP, real mutual TLS.

mod control;
mod engines;
mod ice;
mod keys;
mod limits;
mod playing;
mod recording;
mod relaying;
mod start;
mod streams;
mod support;
mod transcoding;
