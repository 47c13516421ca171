//! A tenancy with its indexes: built once by whoever loads it, off the path of
//! calls, and handed to the core whole.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use landline_region::{AccountSid, TrunkSid, UserSid};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::tenancy::{Account, Number, NumberTarget, Tenancy, Trunk, TrunkTransport, User};

#[derive(Debug, Default)]
pub struct Tenants {
    revision: i64,
    domains: FxHashMap<String, Arc<Account>>,
    accounts: FxHashMap<AccountSid, Tenant>,
    users: FxHashMap<UserSid, Arc<User>>,
    trunks: FxHashMap<TrunkSid, Arc<Trunk>>,
    /// By accepted network; one look-up for each prefix length in use.
    sources: FxHashMap<IpNet, Vec<Arc<Trunk>>>,
    prefixes: Vec<(bool, u8)>,
    /// By the host that their calls go to over TLS.
    hosts: FxHashMap<String, Vec<Arc<Trunk>>>,
}

/// One account with what belongs to it.
#[derive(Debug)]
struct Tenant {
    account: Arc<Account>,
    users: FxHashMap<String, Arc<User>>,
    numbers: FxHashMap<String, Arc<Number>>,
    /// In their order in the tenancy.
    trunks: Vec<Arc<Trunk>>,
}

impl Tenants {
    pub fn new(tenancy: &Tenancy) -> Self {
        let mut tenants = Self { revision: tenancy.revision, ..Self::default() };
        for account in &tenancy.accounts {
            tenants.domains.insert(account.domain.to_ascii_lowercase(), account.clone());
            tenants.accounts.insert(account.sid, Tenant::new(account.clone()));
        }
        tenants.users = FxHashMap::with_capacity_and_hasher(tenancy.users.len(), FxBuildHasher);
        for user in &tenancy.users {
            if let Some(tenant) = tenants.accounts.get_mut(&user.account) {
                tenant.users.insert(user.name.expose().clone(), user.clone());
                tenants.users.insert(user.sid, user.clone());
            }
        }
        for number in &tenancy.numbers {
            if let Some(tenant) = tenants.accounts.get_mut(&number.account) {
                tenant.numbers.insert(number.e164.expose().clone(), number.clone());
            }
        }
        for trunk in &tenancy.trunks {
            tenants.add_trunk(trunk);
        }
        tenants
    }

    fn add_trunk(&mut self, trunk: &Arc<Trunk>) {
        let Some(tenant) = self.accounts.get_mut(&trunk.account) else { return };
        tenant.trunks.push(trunk.clone());
        self.trunks.insert(trunk.sid, trunk.clone());
        if trunk.send_to.transport == TrunkTransport::Tls {
            let host = trunk.send_to.host.to_ascii_lowercase();
            self.hosts.entry(host).or_default().push(trunk.clone());
        }
        for network in &trunk.accept_from {
            let network = network.trunc();
            let prefix = (network.addr().is_ipv6(), network.prefix_len());
            if !self.prefixes.contains(&prefix) {
                self.prefixes.push(prefix);
            }
            self.sources.entry(network).or_default().push(trunk.clone());
        }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// `domain` in lower case.
    pub fn by_domain(&self, domain: &str) -> Option<&Arc<Account>> {
        self.domains.get(domain)
    }

    pub fn account(&self, sid: AccountSid) -> Option<&Arc<Account>> {
        self.accounts.get(&sid).map(|tenant| &tenant.account)
    }

    /// By account and the user part of the address of record.
    pub fn user(&self, account: AccountSid, name: &str) -> Option<&Arc<User>> {
        self.accounts.get(&account)?.users.get(name)
    }

    pub fn user_by_sid(&self, sid: UserSid) -> Option<&Arc<User>> {
        self.users.get(&sid)
    }

    /// The user that somebody of the account dials, by name or by a number that
    /// leads to one.
    pub(crate) fn user_dialled(&self, account: AccountSid, dialled: &str) -> Option<&Arc<User>> {
        self.user(account, dialled).or_else(|| match self.number(account, dialled)?.target {
            NumberTarget::User(sid) => self.user_by_sid(sid),
            NumberTarget::Trunk(_) => None,
        })
    }

    /// `e164` with `+`.
    pub fn number(&self, account: AccountSid, e164: &str) -> Option<&Arc<Number>> {
        self.accounts.get(&account)?.numbers.get(e164)
    }

    pub fn trunk(&self, sid: TrunkSid) -> Option<&Arc<Trunk>> {
        self.trunks.get(&sid)
    }

    /// The one a dialled number that nobody owns goes out by: whose prefix is the
    /// longest, and of these the first.
    pub fn trunk_for(&self, account: AccountSid, number: &str) -> Option<&Arc<Trunk>> {
        let trunks = self.accounts.get(&account)?.trunks.iter().rev();
        trunks
            .filter_map(|trunk| Some((trunk.carries(number)?, trunk)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, trunk)| trunk)
    }

    /// Every trunk whose carrier proves to be this domain (RFC 5922): its calls
    /// come in from wherever they do.
    pub fn trunks_of(&self, domain: &str) -> impl Iterator<Item = &Arc<Trunk>> {
        self.hosts.get(domain).into_iter().flatten()
    }

    /// Every trunk that takes calls from this source.
    pub fn trunks_from(&self, source: IpAddr) -> impl Iterator<Item = &Arc<Trunk>> {
        let source = source.to_canonical();
        self.prefixes
            .iter()
            .filter(move |(v6, _)| *v6 == source.is_ipv6())
            .filter_map(move |(_, length)| IpNet::new(source, *length).ok())
            .filter_map(|network| self.sources.get(&network.trunc()))
            .flatten()
    }
}

impl Tenant {
    fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            users: FxHashMap::default(),
            numbers: FxHashMap::default(),
            trunks: Vec::new(),
        }
    }
}
