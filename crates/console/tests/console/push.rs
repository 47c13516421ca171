//! A sleeping device's push service is asked by a gateway: signed, by the egress
//! gate, and nobody is named.

use std::sync::Arc;
use std::time::Duration;

use landline_call::{PushTarget, Wake};
use landline_console::{PushGateway, PushSender, WebhookConfig};
use landline_region::egress::{Declared, Flow, Gate, Registry, Subprocessor};
use landline_region::{AccountSid, CallSid, Personal, Secret};
use serde_json::json;
use tokio::sync::mpsc;

use crate::receiver::{Heard, Receiver};
use crate::support::{Engine, Settings, World};

fn wake() -> Wake {
    let target = PushTarget {
        provider: "apns".to_owned(),
        prid: Personal::new("00fc13adff78512".to_owned()),
        param: Some(Personal::new("acme.phone".to_owned())),
    };
    Wake {
        region: "ie1".parse().unwrap(),
        account: AccountSid::from_u128(1),
        call: CallSid::from_u128(2),
        target,
    }
}

/// What the gateway hears, and what is counted, of a region that lists these
/// hosts for push messages.
async fn heard(hosts: &[&str], statuses: &[u16]) -> (Vec<Heard>, String) {
    let settings = Settings { trusts_own: true, ..Settings::default() };
    let world = World::with(Engine::Sqlite, settings).await.unwrap();
    let receiver = Receiver::start(&world.certificate("receiver"), statuses).await;
    let gateway = Subprocessor {
        name: "Gateway".to_owned(),
        hosts: hosts.iter().map(|it| (*it).to_owned()).collect(),
        flows: vec![Flow::Push],
        regions: vec!["ie1".parse().unwrap()],
        purpose: "push".to_owned(),
        jurisdiction: "IE".parse().unwrap(),
        since: "2026-11-23".to_owned(),
    };
    let subprocessors = match hosts {
        [] => Registry::default(),
        _ => Registry { version: 1, subprocessors: vec![gateway] },
    };
    let declared = Declared { subprocessors, ..Declared::default() };
    let gate = Arc::new(Gate::new("ie1".parse().unwrap(), declared));
    let config = PushGateway {
        url: receiver.url(),
        secret: Secret::new("wake-secret".to_owned()),
        reach: WebhookConfig {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            authorities: Some(world.ie1.ca.clone()),
            ..WebhookConfig::default()
        },
    };
    let metrics = prometheus::Registry::new();
    let sender = PushSender::new(&config, gate, &metrics).unwrap();
    let (orders, taken) = mpsc::channel(4);
    orders.send(wake()).await.unwrap();
    drop(orders);
    tokio::time::timeout(Duration::from_secs(30), sender.run(taken)).await.unwrap();
    let counted = metrics.gather().iter().find(|it| it.name() == "landline_push_total").map(|it| {
        let outcome = it.get_metric()[0].get_label().iter().find(|it| it.name() == "outcome");
        outcome.unwrap().value().to_owned()
    });
    (receiver.heard(), counted.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hears_of_the_device_and_of_nobody() {
    let (heard, counted) = heard(&["127.0.0.1"], &[]).await;
    let [one] = heard.as_slice() else { panic!("{heard:?}") };
    let mut said = one.json();
    let id = said.as_object_mut().unwrap().remove("id").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 32);
    assert_eq!(
        said,
        json!({
            "event": "call.incoming",
            "region": "ie1",
            "account_sid": AccountSid::from_u128(1).to_string(),
            "call_sid": CallSid::from_u128(2).to_string(),
            "pn_provider": "apns",
            "pn_prid": "00fc13adff78512",
            "pn_param": "acme.phone",
        })
    );
    assert!(one.header("landline-signature").starts_with("t="));
    assert_eq!(counted, "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stumbles_is_asked_again() {
    let (heard, counted) = heard(&["127.0.0.1"], &[503, 500]).await;
    assert_eq!((heard.len(), counted.as_str()), (3, "delivered"));
    assert!(heard.iter().all(|it| it.body == heard[0].body), "by the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_nobody_listed_is_told_nothing() {
    let (heard, counted) = heard(&[], &[]).await;
    assert_eq!((heard.len(), counted.as_str()), (0, "refused_unlisted"));
}
