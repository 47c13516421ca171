//! What happens in the run, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use landline_phone::{MediaMode, OnCall, Phone, PhoneConfig, PhoneError, Transport};
use landline_residency::Report;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::api;
use crate::cast::{CALLS, Cast, Person, REFUSED};
use crate::net::OUTSIDE;
use crate::overload;
use crate::process::eventually;
use crate::region::{Region, SIPS};

const SOON: Duration = Duration::from_secs(15);

/// Where the accounts' trunks lead.
pub const CARRIER: u16 = 5999;

/// Plays everything; what was seen on the way becomes facts of the report.
pub async fn play(regions: &mut [Region<'_>], reduced: bool, report: &mut Report) -> Result<()> {
    // Accounts that were added take effect within a second.
    sleep(Duration::from_millis(1200)).await;
    let [us1, ie1, au1] = regions else { anyhow::bail!("three regions are wanted") };
    let calls_by_trunk = Arc::new(AtomicUsize::new(0));
    let socket = UdpSocket::bind((OUTSIDE, CARRIER)).await?;
    let carrier = tokio::spawn(carrier(socket, Arc::clone(&calls_by_trunk)));
    tokio::try_join!(within(us1), within(ie1), within(au1))?;
    tokio::try_join!(at_an_edge(us1, ie1), at_an_edge(ie1, au1), at_an_edge(au1, us1))?;
    hung_up_by_api(au1).await.context("a hang-up by the API")?;
    if !reduced {
        tokio::try_join!(failures(us1), failures(ie1), failures(au1))?;
        let answered = tokio::try_join!(
            overload::burst(us1, ie1),
            overload::burst(ie1, au1),
            overload::burst(au1, us1)
        )?;
        report.fact(true, format!("an overload of us1: {}", answered.0));
        us1.scrape()?;
        us1.restart_for_readers_outside().context("restart of a proxy")?;
        killed_in_a_call(ie1, "relay").await.context("a relay killed in a call")?;
        killed_in_a_call(au1, "up").await.context("a region killed in a call")?;
        let said = dead(au1, us1, ie1).await.context("a dead region")?;
        report.fact(true, format!("while au1 was dead, {said}"));
        tokio::try_join!(within(us1), within(ie1), within(au1))?;
    }
    let by_trunk = calls_by_trunk.load(Ordering::Relaxed);
    let text = format!("{by_trunk} calls by trunk, authenticated and refused");
    report.fact(reduced || by_trunk >= 3, text);
    between(regions, report).await?;
    carrier.abort();
    all_closed(regions, if reduced { 2 } else { 3 }, report)?;
    let mut asked = 0;
    for region in regions.iter_mut() {
        asked += api::visit(region).with_context(|| format!("{}'s API", region.code()))?;
    }
    let [us1, ie1, au1] = regions else { anyhow::bail!("three regions are wanted") };
    api::ask_in_the_wrong_region(us1, ie1)?;
    api::ask_in_the_wrong_region(ie1, au1)?;
    api::ask_in_the_wrong_region(au1, us1)?;
    report.fact(true, format!("{asked} requests to the APIs were answered; a key of another region was told its home by each"));
    Ok(())
}

/// Every call that was begun has ended, also on record.
fn all_closed(regions: &[Region<'_>], least: usize, report: &mut Report) -> Result<()> {
    let (mut closed, mut recorded) = (0, 0);
    for region in regions {
        let counts = eventually("every call is closed", SOON, || {
            region.counts().ok().filter(|(closed, _)| *closed >= least)
        })
        .with_context(|| format!("{}: {:?}", region.code(), region.counts()))?;
        closed += counts.0;
        recorded += counts.1;
    }
    report.fact(recorded >= 6, format!("{closed} calls were closed, {recorded} recorded"));
    Ok(())
}

/// The other end of every trunk: no number can be reached there.
async fn carrier(socket: UdpSocket, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut buffer = vec![0; 8192];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let request = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        if request.starts_with("ACK") {
            continue;
        }
        // RFC 3261 §22.3: whoever has the trunk's password is asked for it first.
        let status = if request.contains("Proxy-Authorization:") {
            asked.fetch_add(1, Ordering::Relaxed);
            "503 Service Unavailable"
        } else {
            "407 Proxy Authentication Required\r\n\
             Proxy-Authenticate: Digest realm=\"carrier.test\", nonce=\"8fa1\", qop=\"auth\""
        };
        let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let headers: Vec<&str> = request
            .split("\r\n")
            .filter(|line| copied.iter().any(|name| line.starts_with(name)))
            .collect();
        let answer =
            format!("SIP/2.0 {status}\r\n{}\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
        socket.send_to(answer.as_bytes(), from).await?;
    }
}

fn phone(person: Person, cast: Cast, server: SocketAddr, media: MediaMode) -> PhoneConfig {
    PhoneConfig {
        bind: OUTSIDE,
        display_name: Some(person.display.to_owned()),
        tone: person.tone,
        media,
        ..PhoneConfig::new(person.user, cast.domain, person.password, server)
    }
}

/// Two users of an account, one over UDP with DTLS-SRTP, one over TLS with SDES.
async fn pair(region: &Region<'_>) -> Result<[Phone; 2]> {
    let [caller, callee, _] = region.cast.people;
    let caller = Phone::start(phone(caller, region.cast, region.address, MediaMode::Dtls)).await?;
    let server = SocketAddr::new(region.address.ip(), SIPS);
    let ca = region.directory.join("../pki/ca.pem");
    let callee = Phone::start(PhoneConfig {
        transport: Transport::Tls,
        authorities: CertificateDer::pem_file_iter(ca)?.collect::<Result<_, _>>()?,
        ..phone(callee, region.cast, server, MediaMode::Sdes)
    })
    .await?;
    caller.register().await?;
    callee.register().await?;
    Ok([caller, callee])
}

/// A call within an account, recorded.
async fn within(region: &Region<'_>) -> Result<()> {
    let [caller, callee] = pair(region).await?;
    talk(&caller, &callee, region.cast.people[1].number, region.cast, [0, 1])
        .await
        .with_context(|| format!("a call within {}", region.code()))?;
    caller.unregister().await?;
    callee.unregister().await?;
    Ok(())
}

async fn talk(
    caller: &Phone,
    callee: &Phone,
    target: &str,
    cast: Cast,
    [a, b]: [usize; 2],
) -> Result<(), PhoneError> {
    let call = caller.call(target).await?;
    call.answered(SOON).await?;
    let called = callee.next_call().await.ok_or(PhoneError::Off)?;
    call.hears(cast.people[b].tone, SOON).await?;
    called.hears(cast.people[a].tone, SOON).await?;
    call.hang_up().await?;
    called.ended(SOON).await?;
    Ok(())
}

/// The traveller of `home` is registered at `edge` and is called there.
async fn at_an_edge(home: &Region<'_>, edge: &Region<'_>) -> Result<()> {
    let [caller, _, traveller] = home.cast.people;
    let away = Phone::start(phone(traveller, home.cast, edge.address, MediaMode::Dtls)).await?;
    let caller = Phone::start(phone(caller, home.cast, home.address, MediaMode::Dtls)).await?;
    caller.register().await?;
    let what = || format!("{}'s traveller at {}'s edge", home.code(), edge.code());
    away.register().await.with_context(what)?;
    talk(&caller, &away, traveller.user, home.cast, [0, 2]).await.with_context(what)?;
    away.unregister().await?;
    caller.unregister().await?;
    Ok(())
}

/// Calls that come to nothing, each for a reason of its own.
async fn failures(region: &Region<'_>) -> Result<()> {
    let [caller, callee, traveller] = region.cast.people;
    let start = |person, password: Option<&str>, on_call| {
        let mut config = phone(person, region.cast, region.address, MediaMode::Dtls);
        config.on_call = on_call;
        if let Some(password) = password {
            config.password = password.to_owned();
        }
        Phone::start(config)
    };
    let answer = OnCall::Answer { after: Duration::ZERO };
    let caller = start(caller, None, answer).await?;
    let busy = start(callee, None, OnCall::Reject(486)).await?;
    let absent = start(traveller, None, OnCall::Ring).await?;
    for phone in [&caller, &busy, &absent] {
        phone.register().await?;
    }
    let call = caller.call(callee.user).await?;
    call.ended(SOON).await.context("a busy callee")?;
    let call = caller.call(traveller.number).await?;
    call.ringing(SOON).await.context("a callee who does not answer")?;
    call.hang_up().await?;
    call.ended(SOON).await?;
    for nobody in ["nobody.of.that.name", "+4930123456789"] {
        let call = caller.call(nobody).await?;
        call.ended(SOON).await.context("a callee who does not exist")?;
    }
    let thief = start(callee, Some("not-the-password"), answer).await?;
    anyhow::ensure!(thief.register().await.is_err(), "a wrong password was taken");
    for phone in [&caller, &busy, &absent] {
        phone.unregister().await?;
    }
    Ok(())
}

/// The process dies without a word while somebody talks and is recorded.
async fn killed_in_a_call(region: &mut Region<'_>, role: &'static str) -> Result<()> {
    let [caller, _callee] = pair(region).await?;
    let call = caller.call(region.cast.people[1].number).await?;
    call.answered(SOON).await?;
    call.hears(region.cast.people[1].tone, SOON).await?;
    region.kill(role)?;
    // The call may be over already; its record is what must be right.
    let _ = call.hang_up().await;
    Ok(())
}

/// The account's own program ends a call in which two people talk.
async fn hung_up_by_api(region: &Region<'_>) -> Result<()> {
    let [caller, callee] = pair(region).await?;
    let call = caller.call(region.cast.people[1].user).await?;
    call.answered(SOON).await?;
    let called = callee.next_call().await.ok_or(PhoneError::Off)?;
    tokio::task::block_in_place(|| api::hang_up(region, region.cast.people[1].user))?;
    call.ended(SOON).await?;
    called.ended(SOON).await?;
    caller.unregister().await?;
    callee.unregister().await?;
    Ok(())
}

/// A whole region is gone. Its traveller is refused at another's edge, whose
/// own people are served, and calls to it fail; what each was told.
async fn dead(home: &mut Region<'_>, edge: &Region<'_>, other: &Region<'_>) -> Result<String> {
    home.stop_all()?;
    let traveller = phone(home.cast.people[2], home.cast, edge.address, MediaMode::Dtls);
    let refused = Phone::start(traveller).await?.register().await;
    within(edge).await.context("the other region")?;
    let called = address(home, 2);
    let caller = ready(other, 2).await?;
    let call = caller.call(&called).await?.answered(SOON).await;
    caller.unregister().await?;
    home.start_all()?;
    let told = |result: Result<(), PhoneError>| match result {
        Err(PhoneError::Refused { status, reason }) => Ok(format!("{status} {reason}")),
        Err(error) => Err(error).context("no clear answer"),
        Ok(()) => anyhow::bail!("who answered?"),
    };
    let (refused, call) = (told(refused)?, told(call)?);
    Ok(format!("its account at another's edge was told {refused}, a caller {call}"))
}

/// Calls between accounts of different regions, and one that is refused.
async fn between(regions: &[Region<'_>], report: &mut Report) -> Result<()> {
    let find = |code: &str| regions.iter().find(|it| it.code() == code).context("no such region");
    for (from, to) in CALLS {
        let (from, to) = (find(from)?, find(to)?);
        let by_name = across(from, to, 2, &address(to, 2)).await?;
        let by_number = across(from, to, 1, to.cast.people[1].number).await?;
        report.fact(
            by_name == HEARD && by_number == HEARD,
            format!(
                "{} called {} by name: {by_name}; by number: {by_number}",
                from.code(),
                to.code()
            ),
        );
    }
    let (from, to) = (find(REFUSED.0)?, find(REFUSED.1)?);
    let said = across(from, to, 2, &address(to, 2)).await?;
    report.fact(
        said == "refused with 403",
        format!("{} called {}, which takes no such calls: {said}", from.code(), to.code()),
    );
    Ok(())
}

const HEARD: &str = "both heard each other";

/// An account of one region calls one of another; what came of it.
async fn across(from: &Region<'_>, to: &Region<'_>, person: usize, target: &str) -> Result<String> {
    let (caller, callee) = (ready(from, person).await?, ready(to, person).await?);
    let call = caller.call(target).await?;
    let said = match call.answered(SOON).await {
        Ok(()) => {
            let called = callee.next_call().await.ok_or(PhoneError::Off)?;
            let tone = |cast: Cast| cast.people[person].tone;
            call.hears(tone(to.cast), SOON).await.context("the caller hears")?;
            called.hears(tone(from.cast), SOON).await.context("the callee hears")?;
            call.hang_up().await?;
            called.ended(SOON).await?;
            HEARD.to_owned()
        }
        Err(PhoneError::Refused { status, .. }) => format!("refused with {status}"),
        Err(error) => return Err(error).context("a call across regions"),
    };
    caller.unregister().await?;
    callee.unregister().await?;
    Ok(said)
}

/// A person's phone, registered at home.
async fn ready(region: &Region<'_>, person: usize) -> Result<Phone> {
    let media = if person == 1 { MediaMode::Sdes } else { MediaMode::Dtls };
    let config = phone(region.cast.people[person], region.cast, region.address, media);
    let phone = Phone::start(config).await?;
    phone.register().await?;
    Ok(phone)
}

fn address(region: &Region<'_>, person: usize) -> String {
    format!("sip:{}@{}", region.cast.people[person].user, region.cast.domain)
}
