//! Addresses that lead to one device and no other (RFC 5627).
//!
//! The public one names the user and the device, and is good as long as both
//! are. A temporary one names nobody: its user part is sealed, each refresh of a
//! registration gives another, and all of them end with the registration they
//! were given to (§3.2). Nothing is kept for them.

use std::sync::Arc;

use landline_region::{DataClass, PseudonymKey, UserSid};
use landline_sip::{Destination, Uri};

use crate::binding::Binding;
use crate::call::own_uri;
use crate::context::Context;
use crate::edge::{hex, unhex};
use crate::record::{CallDirection, Cause};
use crate::route::{NOT_FOUND, Refusal, Route};
use crate::tenancy::{Account, User};

/// What user parts of temporary addresses begin with.
const PREFIX: &str = "gr-";
const NONCE: usize = 8;
/// A user's sid, and the mark of the registration.
const SEALED: usize = 16 + MARK;
const MARK: usize = 8;
const PROOF: usize = 16;

/// Seals and reads temporary addresses. The region's proxies share the key.
pub(crate) struct Gruus(PseudonymKey);

impl Gruus {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(PseudonymKey::new(key))
    }

    /// The user part of a new one. `nonce` is random and used once.
    fn temporary(&self, binding: &Binding, nonce: [u8; NONCE]) -> Option<String> {
        let mut sealed = [0; SEALED];
        let plain = binding.user.as_u128().to_be_bytes().into_iter().chain(self.mark(binding)?);
        let mask = self.mask(&nonce);
        for ((to, octet), mask) in sealed.iter_mut().zip(plain).zip(mask) {
            *to = octet ^ mask;
        }
        let body = [&nonce[..], &sealed].concat();
        Some(format!("{PREFIX}{}{}", hex(&body), hex(&self.proof(&body))))
    }

    /// Whom it is for, and the mark of the registration it was given to.
    fn read(&self, user_part: &str) -> Option<(UserSid, [u8; MARK])> {
        let text = user_part.strip_prefix(PREFIX)?;
        if text.len() != 2 * (NONCE + SEALED + PROOF) {
            return None;
        }
        let octets = unhex(text)?;
        let (body, proof) = octets.split_at_checked(NONCE + SEALED)?;
        // Every octet is compared, whatever the first ones say.
        let expected = self.proof(body);
        if expected.iter().zip(proof).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0 {
            return None;
        }
        let (nonce, sealed) = body.split_first_chunk::<NONCE>()?;
        let mask = self.mask(nonce);
        let plain: Vec<u8> = sealed.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
        let (user, mark) = plain.split_first_chunk::<16>()?;
        Some((UserSid::from_u128(u128::from_be_bytes(*user)), mark.try_into().ok()?))
    }

    /// A registration ends with its Call-ID (RFC 5627 §3.2).
    fn mark(&self, binding: &Binding) -> Option<[u8; MARK]> {
        let instance = binding.instance.as_ref()?.expose();
        let named = format!("registration {instance} {}", binding.call_id.expose());
        self.0.token(DataClass::Identity, &named).as_bytes().first_chunk().copied()
    }

    fn mask(&self, nonce: &[u8]) -> impl Iterator<Item = u8> {
        let nonce = hex(nonce);
        let part = |number: u8| {
            let named = format!("mask {number} {nonce}");
            self.0.token(DataClass::Identity, &named).as_bytes().to_vec()
        };
        part(1).into_iter().chain(part(2))
    }

    fn proof(&self, body: &[u8]) -> [u8; PROOF] {
        *self.0.token(DataClass::Identity, &format!("proof {}", hex(body))).as_bytes()
    }
}

/// The instance as a `gr` parameter says it; `None` for what would not be a
/// device's name (RFC 5626 §4.1).
fn gr_of(instance: &str) -> Option<&str> {
    let urn = instance.strip_prefix('<')?.strip_suffix('>')?;
    let is_plain = urn.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.".contains(&b));
    let is_urn = urn.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("urn:"));
    (is_urn && is_plain).then_some(urn)
}

/// A device of a user, as an address names it.
struct Device {
    user: Arc<User>,
    /// As in `+sip.instance`.
    instance: String,
}

impl Context {
    /// The parameters of a contact in the 200 to who supports this: its public
    /// address, and a new temporary one (RFC 5627 §5.3).
    pub(crate) fn gruus_of(&mut self, domain: &str, user: &User, binding: &Binding) -> String {
        let instance = binding.instance.as_ref().and_then(|it| gr_of(it.expose()));
        let nonce = self.entropy.bytes();
        let (Some(gr), Some(temporary)) = (instance, self.gruus.temporary(binding, nonce)) else {
            return String::new();
        };
        let public = own_uri(Some(user.name.expose()), domain);
        let temporary = own_uri(Some(&temporary), domain);
        format!(";pub-gruu=\"{public};gr={gr}\";temp-gruu=\"{temporary};gr\"")
    }

    /// Where an address of one device leads, and the name of its user; `None`
    /// for any other address. What the user has calls sent on to is not looked
    /// at: this device is wanted, or nobody.
    pub(crate) fn route_to_gruu(
        &self,
        account: &Account,
        uri: &Uri,
        direction: CallDirection,
    ) -> Option<(Result<Route, Refusal>, String)> {
        if !uri.is_sip() || !uri.params.contains("gr") {
            return None;
        }
        Some(match self.device_at(account, uri) {
            Some(Device { user, instance }) => {
                let route = self.to_device(account, &user, &instance, direction);
                // RFC 5627 §5.6.
                let away = Refusal::new(480, Cause::Unreachable);
                (route.ok_or(away), user.name.expose().clone())
            }
            None => (Err(NOT_FOUND), uri.user_decoded().unwrap_or_default().into_owned()),
        })
    }

    /// The instance of the device that an address names.
    pub(crate) fn instance_at(&self, account: &Account, uri: &Uri) -> Option<String> {
        let is_here = uri.is_sip() && uri.params.contains("gr");
        is_here.then(|| self.device_at(account, uri).map(|it| it.instance))?
    }

    /// How a user's device is reached whose Contact is such an address.
    pub(crate) fn way_to_gruu(&self, of: &User, uri: &Uri) -> Option<Destination> {
        if !uri.params.contains("gr") {
            return None;
        }
        let account = self.tenants.by_domain(&uri.host.to_string().to_ascii_lowercase())?;
        let device = self.device_at(account, uri).filter(|it| it.user.sid == of.sid);
        let Device { user, instance } = device?;
        let devices = self.registrar.devices(user.sid, self.now.unix);
        let flows = devices.iter().flatten().filter(|it| it.is_instance(&instance));
        flows.filter_map(|it| it.destination()).next()
    }

    fn device_at(&self, account: &Account, uri: &Uri) -> Option<Device> {
        let name = uri.user_decoded()?;
        match uri.param("gr") {
            Some("") | None => {
                let (sid, mark) = self.gruus.read(&name)?;
                let user = self.tenants.user_by_sid(sid)?;
                let mut contacts = self.registrar.contacts(sid, self.now.unix);
                let named = contacts.find(|it| self.gruus.mark(&it.binding) == Some(mark))?;
                let instance = named.binding.instance.as_ref()?.expose().clone();
                let is_here = user.account == account.sid;
                is_here.then(|| Device { user: user.clone(), instance })
            }
            Some(gr) => {
                let user = self.tenants.user(account.sid, &name)?.clone();
                Some(Device { user, instance: format!("<{gr}>") })
            }
        }
    }
}
