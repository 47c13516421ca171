//! The control connection to relays.

use landline_control::{Framer, RelayId, ToRelay, VERSION};
use landline_proxy::{HostPort, Proxy, ProxyHandle, RelayAddress};

use crate::fake_relay::{FakeRelay, read};
use crate::support::{Region, World, until};

async fn start(region: &Region, relay: &FakeRelay) -> ProxyHandle {
    let mut config = region.config();
    config.relays = vec![RelayAddress {
        id: RelayId("relay-1".to_owned()),
        control: HostPort { host: "localhost".to_owned(), port: relay.address().port() },
    }];
    Proxy::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_link_greets_pings_and_comes_back() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let proxy = start(&region, &relay).await;
    let (mut stream, mut framer, first) = relay.greet().await;
    assert_eq!((first.version, first.name.as_str()), (VERSION, "proxy-1"));
    until("the link is up", || proxy.status().relays_connected == 1).await;
    assert!(matches!(read(&mut stream, &mut framer).await, Some(ToRelay::Ping(_))));

    drop(stream);
    let (_stream, _framer, second) = relay.greet().await;
    assert_eq!(first.incarnation, second.incarnation, "the proxy did not restart");
    until("the link is up again", || proxy.status().relays_connected == 1).await;
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_another_name_or_region_is_not_used() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let files = world.issue("r", &["relay.ie1.landline.internal"]);
    let mut relay = FakeRelay::new(&world, &files).await;
    relay.hello.name = "relay-2".to_owned();
    let proxy = start(&region, &relay).await;
    let (mut stream, mut framer, _) = relay.greet().await;
    assert_eq!(read(&mut stream, &mut framer).await, None, "the proxy hung up");
    assert_eq!(proxy.status().relays_connected, 0);
    proxy.shutdown().await;

    let files = world.issue("other", &["relay.us1.landline.internal"]);
    let relay = FakeRelay::new(&world, &files).await;
    let proxy = start(&region, &relay).await;
    let (stream, _) = relay.listener.accept().await.unwrap();
    let greeted = relay.acceptor.accept(stream).await;
    let heard = match greeted {
        Err(_) => None,
        Ok(mut stream) => read(&mut stream, &mut Framer::default()).await,
    };
    assert_eq!(heard, None, "a relay of another region hears nothing");
    assert_eq!(proxy.status().relays_connected, 0);
    proxy.shutdown().await;
}

/// A stopped process keeps its sockets: only its silence tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_falls_silent_is_noticed_though_its_connection_stands() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let proxy = start(&region, &relay).await;
    let _silent = relay.greet().await;
    until("the link is up", || proxy.status().relays_connected == 1).await;
    until("the silence is noticed", || proxy.status().relays_connected == 0).await;
    proxy.shutdown().await;
}
