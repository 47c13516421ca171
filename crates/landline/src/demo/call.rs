//! One call in each account between two phones of our own, and who heard whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use landline_phone::{MediaMode, Phone, PhoneConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::sleep;

use super::cast::{ACCOUNTS, Account, CALLEE, CALLER};
use super::layout::Layout;
use super::verify::near;
use crate::config::Transport;

/// How long each step of a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a proxy may take to see an account that was created just now.
const TAKING_EFFECT: Duration = Duration::from_secs(2);
/// How long the tones are listened to once they were heard.
const LISTENING: Duration = Duration::from_millis(1200);

/// What one phone sent and what it heard.
#[derive(Debug, Clone, Copy)]
pub struct Ear {
    pub sent_hz: f64,
    pub heard_hz: Option<f64>,
}

impl Ear {
    fn sending(hz: u32) -> Self {
        Self { sent_hz: f64::from(hz), heard_hz: None }
    }

    pub fn hears(&self, other: &Self) -> bool {
        self.heard_hz.is_some_and(|heard| near(heard, other.sent_hz))
    }
}

#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Ear,
    pub callee: Ear,
    /// What went wrong, if anything did.
    pub problem: Option<String>,
}

impl Call {
    pub fn is_well(&self) -> bool {
        self.problem.is_none() && self.caller.hears(&self.callee) && self.callee.hears(&self.caller)
    }
}

/// Places the calls of all accounts at the same time; in the accounts' order.
pub async fn place_all(layout: &Layout, accounts: &[Account]) -> Vec<Call> {
    let calls: Vec<_> = accounts
        .iter()
        .zip(&ACCOUNTS)
        .map(|(account, cast)| {
            let server = layout.site(cast.region).map(|site| site.sip(Transport::Tls));
            let (account, ca, tones) = (account.clone(), layout.ca_file(), cast.tones);
            tokio::spawn(async move {
                let (caller, callee) = (Ear::sending(tones.0), Ear::sending(tones.1));
                let mut call = Call { caller, callee, problem: None };
                let placed = async {
                    let server = server.context("its region does not run")?;
                    let authority = CertificateDer::from_pem_file(&ca)
                        .with_context(|| format!("{}", ca.display()))?;
                    place(&account, server, &authority, tones, &mut call).await
                };
                call.problem = placed.await.err().map(|error| format!("{error:#}"));
                call
            })
        })
        .collect();
    let mut placed = Vec::new();
    for (call, cast) in calls.into_iter().zip(&ACCOUNTS) {
        placed.push(call.await.unwrap_or_else(|error| Call {
            caller: Ear::sending(cast.tones.0),
            callee: Ear::sending(cast.tones.1),
            problem: Some(error.to_string()),
        }));
    }
    placed
}

/// Registers both over TLS, calls over DTLS-SRTP, listens at both ends, and
/// hangs up at the caller's.
async fn place(
    account: &Account,
    server: SocketAddr,
    authority: &CertificateDer<'static>,
    tones: (u32, u32),
    call: &mut Call,
) -> Result<()> {
    let alice = phone(account, CALLER, server, authority, tones.0).await?;
    let bob = phone(account, CALLEE, server, authority, tones.1).await?;
    let calling = alice.call(CALLEE).await.context("the call could not begin")?;
    calling.answered(PATIENCE).await.context("the call was not answered")?;
    let called = bob.next_call().await.context("the callee's phone went off")?;
    let heard = tokio::join!(calling.hears(tones.1, PATIENCE), called.hears(tones.0, PATIENCE));
    sleep(LISTENING).await;
    call.caller.heard_hz = calling.heard().tone;
    call.callee.heard_hz = called.heard().tone;
    calling.hang_up().await.context("the caller could not hang up")?;
    called.ended(PATIENCE).await.context("the callee was not told of the end")?;
    heard.0.with_context(|| format!("what {CALLER} hears"))?;
    heard.1.with_context(|| format!("what {CALLEE} hears"))?;
    // Their bindings would ring beside the softphones of people.
    alice.unregister().await.with_context(|| format!("{CALLER} could not unregister"))?;
    bob.unregister().await.with_context(|| format!("{CALLEE} could not unregister"))
}

async fn phone(
    account: &Account,
    name: &str,
    server: SocketAddr,
    authority: &CertificateDer<'static>,
    tone: u32,
) -> Result<Phone> {
    let user = account.users.iter().find(|user| user.user == name);
    let password = &user.with_context(|| format!("no user {name}"))?.password;
    let config = PhoneConfig {
        transport: landline_phone::Transport::Tls,
        server_name: account.domain.clone(),
        authorities: vec![authority.clone()],
        media: MediaMode::Dtls,
        tone,
        ..PhoneConfig::new(name, &account.domain, password, server)
    };
    let phone = Phone::start(config).await.with_context(|| format!("{name}'s phone"))?;
    let begun = Instant::now();
    loop {
        match phone.register().await {
            Ok(()) => return Ok(phone),
            Err(_) if begun.elapsed() < TAKING_EFFECT => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error).with_context(|| format!("{name} could not register")),
        }
    }
}
