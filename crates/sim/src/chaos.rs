//! What is done to the cluster, and when it is mended.

use std::time::Duration;

use landline_call::{Input, StartCall};
use landline_region::{AccountSid, CallSid, Personal, UserSid};

use crate::cx::{Cx, Event, Node};
use crate::database::Standing;
use crate::disk::Health;
use crate::plan::Trouble;
use crate::tenants::NAMES;
use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub enum Strike {
    /// Something goes wrong; and the next thing will.
    Any,
    Stranger(usize),
    StartProxy(usize),
    StartRelay(usize),
    MendDatabase(usize),
    MendDisk(usize),
    Heal(Node, Node),
    PhoneOn(usize),
}

/// How long after a mending its effects may last: until links stand again and
/// what was sent again is through.
const AFTERMATH: Duration = Duration::from_secs(35);
/// Until a phone behind another address has registered from there.
const REGISTERED_ANEW: Duration = Duration::from_secs(130);

impl World {
    pub fn strike(&mut self, strike: Strike) {
        match strike {
            Strike::Any => {
                if self.cx.is_over || self.cx.plan.troubles.is_empty() {
                    return;
                }
                let average = self.cx.plan.pause.as_millis() as u64;
                let pause = self.cx.chance.millis(average / 4, average * 2);
                self.cx.after(pause, Event::Chaos(Strike::Any));
                let trouble = self.cx.chance.pick(&self.cx.plan.troubles.clone());
                self.cx.model.struck += 1;
                self.cause(trouble);
            }
            Strike::Stranger(stranger) => self.stranger_acts(stranger),
            Strike::StartProxy(proxy) => {
                if self.proxies[proxy].life.is_none() {
                    self.proxies[proxy].start(&mut self.cx);
                }
            }
            Strike::StartRelay(relay) => self.start_relay(relay),
            Strike::MendDatabase(region) => {
                self.cx.databases[region].standing = Standing::Up;
                self.cx.remark(format_args!("database {region} is well"));
            }
            Strike::MendDisk(proxy) => self.mend_disk(proxy),
            Strike::Heal(a, b) => {
                self.cx.parted.remove(&(a, b));
                self.cx.remark(format_args!("{a:?} and {b:?} reach each other"));
            }
            Strike::PhoneOn(phone) => self.phones[phone].power_on(&mut self.cx),
        }
    }

    pub fn start_relay(&mut self, relay: usize) {
        if self.relays[relay].life.is_none() {
            self.relays[relay].start(&mut self.cx, &self.runtime);
            let until = self.cx.at() + AFTERMATH;
            let died = [Trouble::RelayDeath, Trouble::RelayDrain];
            self.cx.model.mended(Node::Relay(relay), &died, until);
        }
    }

    fn mend_disk(&mut self, proxy: usize) {
        self.proxies[proxy].mend();
        let until = self.cx.at() + AFTERMATH;
        self.cx.model.mended(Node::Proxy(proxy), &Trouble::DISK, until);
        self.cx.remark(format_args!("the disk of proxy {proxy} is well"));
    }

    fn cause(&mut self, trouble: Trouble) {
        let at = self.cx.at();
        let proxy = self.cx.chance.below(self.proxies.len());
        let relay = self.cx.chance.below(self.relays.len());
        let phone = self.cx.chance.below(self.phones.len());
        let region = self.cx.chance.below(2);
        match trouble {
            Trouble::ProxyDeath => self.kill_proxy(proxy, false),
            Trouble::PowerCut => self.kill_proxy(proxy, true),
            Trouble::RelayDeath => self.kill_relay(relay),
            Trouble::RelayDrain => {
                self.cx.remark(format_args!("relay {relay} drains"));
                self.relays[relay].drain_sessions();
                self.relays[relay].drain(&mut self.cx);
                let pause = self.cx.chance.millis(5_000, 60_000);
                let node = Node::Relay(relay);
                self.cx.model.trouble(node, Trouble::RelayDrain, at, Duration::MAX);
                self.later_kill(relay, pause);
            }
            Trouble::DatabaseDeath => self.database(region, true),
            Trouble::DatabaseLies => self.database(region, false),
            Trouble::Partition => self.part(),
            Trouble::ClockJump => {
                let jump = self.cx.chance.pick(&[-3_600_000, -60_000, -1_500, 2_000, 7_200_000]);
                self.proxies[proxy].skew += jump;
                self.cx.remark(format_args!("the clock of proxy {proxy} jumps by {jump} ms"));
                let until = at + REGISTERED_ANEW * 3;
                self.cx.model.trouble(Node::Proxy(proxy), trouble, at, until);
            }
            Trouble::DiskSlow => self.spoil_disk(proxy, trouble, Health::Slow),
            Trouble::DiskFails => self.spoil_disk(proxy, trouble, Health::Failing),
            Trouble::DiskFull => self.spoil_disk(proxy, trouble, Health::Full),
            Trouble::NatRebinds => {
                self.cx.nats[phone].rebind();
                self.cx.remark(format_args!("the NAT of phone {phone} rebinds"));
                let until = at + REGISTERED_ANEW;
                self.cx.model.trouble(Node::Phone(phone), trouble, at, until);
            }
            Trouble::PhoneDies => {
                self.phones[phone].power_off(&mut self.cx);
                let pause = self.cx.chance.millis(2_000, 60_000);
                self.cx.after(pause, Event::Chaos(Strike::PhoneOn(phone)));
                let until = at + pause + AFTERMATH;
                self.cx.model.trouble(Node::Phone(phone), trouble, at, until);
            }
            Trouble::Administrator => self.administrate(proxy),
        }
    }

    fn kill_proxy(&mut self, proxy: usize, power_cut: bool) {
        if self.proxies[proxy].life.is_none() {
            return;
        }
        self.cx
            .remark(format_args!("proxy {proxy} dies{}", if power_cut { ": power" } else { "" }));
        self.proxies[proxy].die(&mut self.cx, power_cut);
        self.cx.model.proxy_died();
        self.captured.clear();
        let (node, at) = (Node::Proxy(proxy), self.cx.at());
        self.cx.model.trouble(node, Trouble::ProxyDeath, at, Duration::MAX);
        let pause = self.cx.chance.millis(100, 15_000);
        self.cx.after(pause, Event::Chaos(Strike::StartProxy(proxy)));
    }

    fn kill_relay(&mut self, relay: usize) {
        if self.relays[relay].life.take().is_none() {
            return;
        }
        let silently = self.cx.chance.one_in(2);
        self.cx.remark(format_args!("relay {relay} dies"));
        let node = Node::Relay(relay);
        for (stream, side) in self.cx.streams.of(node) {
            match silently {
                true => self.cx.abandon(stream, side),
                false => self.cx.close(stream, side),
            }
        }
        self.cx.model.relay_deaths += 1;
        let at = self.cx.at();
        self.cx.model.trouble(node, Trouble::RelayDeath, at, Duration::MAX);
        let pause = self.cx.chance.millis(100, 20_000);
        self.cx.after(pause, Event::Chaos(Strike::StartRelay(relay)));
    }

    /// A drained relay is replaced.
    fn later_kill(&mut self, relay: usize, pause: Duration) {
        let task = crate::relay::Task::Replace;
        self.cx.after(pause, Event::Relay(relay, self.relays[relay].lives, task));
    }

    pub fn replace_relay(&mut self, relay: usize) {
        self.kill_relay(relay);
    }

    fn database(&mut self, region: usize, dies: bool) {
        let standing = match (dies, self.cx.chance.one_in(3)) {
            (true, false) => Standing::Down,
            (true, true) => Standing::Slow,
            (false, _) => Standing::Lies,
        };
        self.cx.databases[region].standing = standing;
        self.cx.model.database_deaths += u64::from(standing == Standing::Down);
        self.cx.remark(format_args!("database {region} is {standing:?}"));
        let pause = self.cx.chance.millis(1_000, 90_000);
        self.cx.after(pause, Event::Chaos(Strike::MendDatabase(region)));
    }

    /// Between any two machines; half the time the two belong together.
    fn part(&mut self) {
        let mut nodes: Vec<Node> = (0..self.proxies.len()).map(Node::Proxy).collect();
        nodes.extend((0..self.relays.len()).map(Node::Relay));
        nodes.extend((0..self.phones.len()).map(Node::Phone));
        let a = Node::Proxy(self.cx.chance.below(self.proxies.len()));
        let b = self.cx.chance.pick(&nodes);
        if a == b {
            return;
        }
        let pair = (a.min(b), a.max(b));
        self.cx.parted.insert(pair);
        self.cx.remark(format_args!("{a:?} and {b:?} are parted"));
        let pause = self.cx.chance.millis(500, 45_000);
        self.cx.after(pause, Event::Chaos(Strike::Heal(pair.0, pair.1)));
        let (from, until) = (self.cx.at(), self.cx.at() + pause + AFTERMATH);
        for node in [a, b] {
            self.cx.model.trouble(node, Trouble::Partition, from, until);
        }
    }

    fn spoil_disk(&mut self, proxy: usize, trouble: Trouble, health: Health) {
        self.proxies[proxy].disk.set_health(health);
        self.cx.remark(format_args!("the disk of proxy {proxy} is {health:?}"));
        let at = self.cx.at();
        self.cx.model.trouble(Node::Proxy(proxy), trouble, at, Duration::MAX);
        let pause = self.cx.chance.millis(500, 30_000);
        self.cx.after(pause, Event::Chaos(Strike::MendDisk(proxy)));
    }

    /// Ends a call, or begins one.
    fn administrate(&mut self, proxy: usize) {
        let region = self.proxies[proxy].region;
        let machines = self.proxies[proxy].life.as_ref().and_then(|life| life.machines.as_ref());
        let live = machines.and_then(|it| it.core.live().map(|live| live.sid).min());
        if let Some(sid) = live.filter(|_| self.cx.chance.one_in(2)) {
            self.cx.remark(format_args!("an administrator ends {sid}"));
            self.cx.model.ended_by_admin.insert(sid);
            return self.proxies[proxy].input(&mut self.cx, Input::HangUp(sid));
        }
        let phones = self.cx.plan.phones;
        let (from, to) = (self.cx.chance.below(phones), self.cx.chance.below(phones));
        let sid = CallSid::from_u128(u128::from(self.cx.chance.u64()) << 64 | 1);
        // One of them may be away.
        self.cx.model.let_cross((region, from));
        self.cx.model.let_cross((region, to));
        let start = StartCall {
            sid,
            account: AccountSid::from_u128(region as u128 + 1),
            from: UserSid::from_u128(region as u128 * 100 + from as u128 + 1),
            to: Personal::new(NAMES[region][to].to_owned()),
        };
        self.cx.remark(format_args!("an administrator begins {sid}"));
        self.proxies[proxy].input(&mut self.cx, Input::StartCall(start));
    }

    /// Everything is mended, and people put down what they hold.
    pub fn mend_all(&mut self) {
        self.cx.is_over = true;
        self.cx.remark(format_args!("all is mended"));
        self.cx.parted.clear();
        for database in &mut self.cx.databases {
            database.standing = Standing::Up;
        }
        for proxy in 0..self.proxies.len() {
            self.mend_disk(proxy);
            self.strike(Strike::StartProxy(proxy));
        }
        for relay in 0..self.relays.len() {
            self.start_relay(relay);
        }
        for phone in &mut self.phones {
            phone.power_on(&mut self.cx);
        }
    }
}

impl Cx {
    /// A proxy is open for business again.
    pub fn proxy_is_up(&mut self, proxy: usize) {
        let until = self.at() + AFTERMATH;
        self.model.mended(Node::Proxy(proxy), &[Trouble::ProxyDeath], until);
    }
}
