//! What kind of run a seed makes: not every trouble in every run, so that each
//! is met alone and in company.

use std::time::Duration;

use crate::chance::Chance;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    ProxyDeath,
    PowerCut,
    RelayDeath,
    RelayDrain,
    DatabaseDeath,
    /// The database commits and says that it failed.
    DatabaseLies,
    Partition,
    ClockJump,
    DiskSlow,
    DiskFails,
    DiskFull,
    NatRebinds,
    PhoneDies,
    Administrator,
}

impl Trouble {
    pub const DISK: [Self; 3] = [Self::DiskSlow, Self::DiskFails, Self::DiskFull];

    pub const ALL: [Self; 14] = [
        Self::ProxyDeath,
        Self::PowerCut,
        Self::RelayDeath,
        Self::RelayDrain,
        Self::DatabaseDeath,
        Self::DatabaseLies,
        Self::Partition,
        Self::ClockJump,
        Self::DiskSlow,
        Self::DiskFails,
        Self::DiskFull,
        Self::NatRebinds,
        Self::PhoneDies,
        Self::Administrator,
    ];
}

/// Something that is broken on purpose, to see the model notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Disks acknowledge before they have written.
    DiskForgets,
    /// Databases drop one event of a batch in twenty.
    DatabaseDrops,
    /// Databases take an event twice.
    DatabaseDoubles,
    /// Relays send a packet in forty to another call.
    RelayCrosses,
    /// Relays lose a packet in forty.
    RelayLoses,
    /// A proxy puts a client's own header fields back at the border.
    BorderLeaks,
    /// A relay gives no port back.
    PortsLeak,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// How long there is trouble; then all is mended and comes to rest.
    pub length: Duration,
    /// Proxies of each region.
    pub proxies: [usize; 2],
    /// Those of a region stand in for each other.
    pub peers: bool,
    /// People park each other, and take who is parked.
    pub parks: bool,
    /// Relays of each region.
    pub relays: usize,
    /// Phones of each region's account.
    pub phones: usize,
    /// Strangers who send what they should not.
    pub strangers: usize,
    /// Out of a thousand datagrams.
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    pub troubles: Vec<Trouble>,
    /// Between two of them, on average.
    pub pause: Duration,
    /// Octets a ledger may take.
    pub ledger_limit: u64,
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let calm = chance.one_in(8);
        let many = 1 + chance.below(6);
        let mut troubles: Vec<Trouble> =
            (0..many).map(|_| chance.pick(&Trouble::ALL)).filter(|_| !calm).collect();
        troubles.sort_unstable();
        troubles.dedup();
        let noisy = chance.one_in(2);
        let mut some = |most: usize| if noisy { chance.below(most) as u64 } else { 0 };
        let (lost, doubled, late) = (some(80), some(40), some(60));
        Self {
            seed,
            length: Duration::from_secs(120 + chance.below(240) as u64),
            proxies: [1 + chance.below(2), 1 + chance.below(2)],
            peers: seed.is_multiple_of(2),
            parks: seed.is_multiple_of(3),
            relays: 1 + chance.below(2),
            phones: 3 + chance.below(3),
            strangers: chance.below(2),
            lost,
            doubled,
            late,
            troubles,
            pause: Duration::from_secs(4 + chance.below(30) as u64),
            ledger_limit: if chance.one_in(6) { 60_000 } else { 1 << 30 },
            sabotage: None,
        }
    }

    /// A run that nothing goes wrong in.
    pub fn calm(seed: u64) -> Self {
        Self {
            troubles: Vec::new(),
            lost: 0,
            doubled: 0,
            late: 0,
            strangers: 0,
            ledger_limit: 1 << 30,
            ..Self::of(seed)
        }
    }

    pub fn is_lossless(&self) -> bool {
        self.lost == 0
    }
}
