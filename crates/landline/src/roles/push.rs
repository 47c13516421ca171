//! The way from a call that waits for a sleeping device to the gateway that has
//! it woken.

use std::sync::Arc;

use anyhow::{Context, Result};
use landline_call::PushPolicy;
use landline_console::{PushGateway, PushSender, WebhookConfig};
use landline_region::Secret;
use landline_store::Store;
use prometheus::Registry;
use tokio::sync::mpsc;

use crate::config::Proxy;

/// Devices to be woken that wait for their turn.
const QUEUE: usize = 1024;

/// Runs until the proxy that orders is gone.
pub(super) fn start(
    proxy: &Proxy,
    store: &Store,
    registry: &Registry,
) -> Result<Option<landline_proxy::Push>> {
    let Some(push) = &proxy.push else { return Ok(None) };
    let secret = std::env::var(&push.secret_env).with_context(|| {
        format!("proxy.push.secret_env: the environment variable {} is not set", push.secret_env)
    })?;
    let gateway = PushGateway {
        url: push.url.clone(),
        secret: Secret::new(secret),
        reach: WebhookConfig {
            allow: push.allow.clone(),
            authorities: push.ca.clone(),
            ..WebhookConfig::default()
        },
    };
    let sender = PushSender::new(&gateway, Arc::clone(store.gate()), registry)
        .context("devices cannot be woken")?;
    let (orders, taken) = mpsc::channel(QUEUE);
    tokio::spawn(sender.run(taken));
    let policy = PushPolicy { providers: push.providers.clone() };
    Ok(Some(landline_proxy::Push { policy, orders }))
}
