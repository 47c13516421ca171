//! What was started, for programs.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::cast::Account;
use super::layout::{Layout, Site};
use crate::config::Transport;

/// The document of `--info`. Keys of what does not exist are left out.
pub fn info(layout: &Layout, accounts: &[Account]) -> Value {
    let regions: Map<String, Value> =
        layout.sites.iter().map(|site| (site.code.to_string(), region(site))).collect();
    json!({
        "ca": layout.ca_file(),
        "regions": regions,
        "accounts": accounts,
    })
}

fn region(site: &Site) -> Value {
    let sip: Map<String, Value> = Transport::ALL
        .into_iter()
        .map(|transport| {
            (transport.name().to_owned(), json!(shown(transport, site.sip(transport))))
        })
        .collect();
    json!({
        "sip": sip,
        "console": format!("https://{}", site.console()),
        "phone": format!("https://{}/phone/", site.console()),
        "database": site.database(),
        "media_ip": site.bind,
        "media_tcp": site.media_tcp(),
        "metrics": format!("http://{}/metrics", site.telemetry()),
    })
}

/// WebSocket listeners are known by their URL, others by their address.
pub fn shown(transport: Transport, address: SocketAddr) -> String {
    match transport {
        Transport::Ws | Transport::Wss => format!("{transport}://{address}"),
        _ => address.to_string(),
    }
}
