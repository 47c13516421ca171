//! Who plays: one account in each region, with nothing in common.

use landline_residency::{Canary, CanaryList, Exception, PlaceKind, Word, WordKind};

use crate::api::Key;
use crate::judge::tls;
use crate::region::{CONSOLE, INTER_REGION};

/// A region's account.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    pub region: &'static str,
    pub jurisdiction: &'static str,
    pub account: &'static str,
    pub domain: &'static str,
    pub trunk: [&'static str; 3],
    /// Caller, callee, and one who travels: at another region's edge, and in
    /// calls to accounts of other regions.
    pub people: [Person; 3],
}

#[derive(Debug, Clone, Copy)]
pub struct Person {
    pub user: &'static str,
    pub display: &'static str,
    pub number: &'static str,
    pub password: &'static str,
    pub tone: u32,
}

const fn person(
    user: &'static str,
    display: &'static str,
    number: &'static str,
    password: &'static str,
    tone: u32,
) -> Person {
    Person { user, display, number, password, tone }
}

impl Cast {
    pub const ALL: [Self; 3] = [
        Self {
            region: "us1",
            jurisdiction: "US",
            account: "Prairie Wind Hardware",
            domain: "prairie-wind.test",
            trunk: ["midwest-exchange", "trunk-of-prairie", "Gopher7!Lantern*Quartz"],
            people: [
                person("willow.forge", "Dakota Birch", "+12125550142", "tumbleweed-Fjord-41", 487),
                person("copper.mesa", "Wyatt Sable", "+13125550187", "cottonwood-Opal-88", 911),
                person("granite.pike", "June Calloway", "+16465550119", "saddle-Nimbus-63", 1397),
            ],
        },
        Self {
            region: "ie1",
            jurisdiction: "IE",
            account: "Harbour Lane Bakers",
            domain: "harbour-lane.test",
            trunk: ["liffey-carriers", "trunk-of-harbour", "Curlew3?Saffron~Slate"],
            people: [
                person("thistle.ford", "Siobhán Quill", "+353155501234", "turlough-Velvet-17", 673),
                person("heron.slipway", "Pádraig Wren", "+353155505678", "bodhran-Cinder-52", 1181),
                person("bramble.quay", "Aoife Lanigan", "+353155509012", "currach-Zephyr-09", 1523),
            ],
        },
        Self {
            region: "au1",
            jurisdiction: "AU",
            account: "Mallee Gum Surveyors",
            domain: "mallee-gum.test",
            trunk: ["nullarbor-telecom", "trunk-of-mallee", "Bilby9#Ochre%Tundra"],
            people: [
                person("wattle.creek", "Matilda Finch", "+61255501017", "billabong-Quoll-26", 563),
                person("gecko.ridge", "Banjo Ferrier", "+61255502028", "coolibah-Umber-74", 797),
                person("saltbush.flat", "Jarrah Holt", "+61255503039", "jackaroo-Indigo-35", 1747),
            ],
        },
    ];

    pub fn of(region: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|cast| cast.region == region)
    }
}

const ROLES: [&str; 3] = ["caller", "callee", "traveller"];

/// What belongs to each region alone, and what may be elsewhere.
pub fn canaries() -> CanaryList {
    let canaries = Cast::ALL.iter().map(canary).collect();
    CanaryList { canaries, exceptions: exceptions() }
}

fn canary(cast: &Cast) -> Canary {
    let text = |what: &str, text: &str| Word {
        what: what.to_owned(),
        text: text.to_owned(),
        kind: WordKind::Text,
    };
    let mut words = vec![
        text("account name", cast.account),
        text("SIP domain", cast.domain),
        text("trunk name", cast.trunk[0]),
        text("trunk user", cast.trunk[1]),
        text("trunk password", cast.trunk[2]),
    ];
    for (role, person) in ROLES.iter().zip(&cast.people) {
        words.push(text(&format!("{role}'s user name"), person.user));
        words.push(text(&format!("{role}'s display name"), person.display));
        words.push(text(&format!("{role}'s password"), person.password));
        words.push(Word {
            what: format!("{role}'s number"),
            text: person.number.to_owned(),
            kind: WordKind::Number,
        });
    }
    let tones = cast.people.iter().map(|person| person.tone).collect();
    Canary { region: cast.region.to_owned(), words, tones }
}

/// The secrets of the account's API keys, which nobody knows beforehand.
pub fn add_keys(list: &mut CanaryList, region: &str, keys: &[Key]) {
    let words = keys.iter().map(|key| Word {
        what: format!("{}'s API secret", key.role),
        text: key.secret.clone(),
        kind: WordKind::Text,
    });
    let canary = list.canaries.iter_mut().find(|canary| canary.region == region);
    canary.into_iter().for_each(|canary| canary.words.extend(words.clone()));
}

/// The region that holds what is between regions, on the wire.
pub const BETWEEN: &str = "between regions";
/// And that of what all regions share.
pub const SHARED: &str = "all regions";
/// And that of what is made to leave its region: not even the region's own
/// canaries may be in it.
pub const OUTSIDE: &str = "readers outside";

/// Whose traveller registers at whose edge.
const TRAVELS: [(&str, &str); 3] = [("us1", "ie1"), ("ie1", "au1"), ("au1", "us1")];

/// Whose traveller calls whose, by name, and whose callee whose, by number.
/// There is no such call between us1 and au1: nothing of one may be in the other.
pub const CALLS: [(&str, &str); 2] = [("us1", "ie1"), ("ie1", "au1")];
/// Whose traveller dials whose and is refused: the account takes no such calls.
pub const REFUSED: (&str, &str) = ("au1", "us1");

/// What a phone shows the edge that it chose, and is shown there: itself, and
/// who calls it.
const AT_AN_EDGE: [&str; 5] = [
    "SIP domain",
    "traveller's user name",
    "traveller's display name",
    "caller's user name",
    "caller's display name",
];

fn exceptions() -> Vec<Exception> {
    let why = "the directory says which region is home to which SIP domain";
    let directory = (PlaceKind::Directory, "shared/directory.json".to_owned());
    let mut all = vec![exception("directory", ("*", SHARED, "SIP domain"), directory, why)];
    for cast in Cast::ALL {
        let place = (PlaceKind::CoreDump, format!("{}/core.*", cast.region));
        all.push(exception("directory-memory", ("*", cast.region, "SIP domain"), place, why));
    }
    for (home, edge) in TRAVELS {
        all.extend(at_a_console(home, edge));
        for what in AT_AN_EDGE {
            let why = "a phone that registers at another region's edge is forwarded home";
            all.extend(on_links("edge-link", [home, edge], home, what, why));
            let place = (PlaceKind::Capture, format!("client of {edge}: *"));
            let why = "what the phone itself sends to the edge that it chose, and is sent";
            all.push(exception("edge-client", (home, edge, what), place, why));
            // A proxy does not wipe what it has forwarded from its memory.
            let place = (PlaceKind::CoreDump, core(edge, "proxy"));
            let why = "OPEN: what was forwarded stays in freed memory until that is used again";
            all.push(exception("edge-memory", (home, edge, what), place, why));
        }
    }
    for (from, to) in CALLS {
        all.extend(across([from, to]));
        all.extend(across([to, from]));
    }
    all.extend(dialled(REFUSED));
    all
}

/// What a customer's program shows the API of a region that is not its home.
fn at_a_console(home: &str, edge: &str) -> Vec<Exception> {
    let what = "operator's API secret";
    let places = [
        (PlaceKind::Decrypted, tls(&format!("client of {edge}"), edge, CONSOLE)),
        (PlaceKind::CoreDump, core(edge, "console")),
    ];
    let why = "a key that its holder shows to the wrong region's API";
    places.map(|place| exception("console-client", (home, edge, what), place, why)).into()
}

/// The crash dump of the process that has this role.
fn core(region: &str, role: &str) -> String {
    let process = if region == ONE_PROCESS { "up" } else { role };
    format!("{region}/core.{process}")
}

/// The region whose roles share a process.
pub const ONE_PROCESS: &str = "au1";

/// Two calls, each at home: what the one at `other` may hold of the one at
/// `owner`. Nobody's display name, no name where a number was dialled.
fn across([owner, other]: [&str; 2]) -> Vec<Exception> {
    let mut all = Vec::new();
    let why = "the other party of a call, as it was dialled or presents itself";
    for what in ["SIP domain", "traveller's user name", "callee's number"] {
        all.extend(on_links("call-link", [owner, other], owner, what, why));
        for place in on_record(other) {
            all.push(exception("call-party", (owner, other, what), place, why));
        }
    }
    let why = "the other party's voice, in the recording of one's own call";
    let [_, callee, traveller] =
        Cast::of(owner).map_or([0; 3], |cast| cast.people.map(|it| it.tone));
    for tone in [callee, traveller] {
        for place in [
            (PlaceKind::File, format!("{other}/exports/*")),
            (PlaceKind::Listing, "*.wav by operator".to_owned()),
            (PlaceKind::Decrypted, tls(other, &format!("client of {other}"), CONSOLE)),
            (PlaceKind::CoreDump, core(other, "relay")),
            (PlaceKind::CoreDump, core(other, "console")),
        ] {
            let what = format!("tone of {tone} Hz");
            all.push(exception("call-voice", (owner, other, &what), place, why));
        }
    }
    all
}

/// An account of `from` dials one of `to` in vain: its own region writes down whom.
fn dialled((from, to): (&str, &str)) -> Vec<Exception> {
    let why = "whom the region's own account dialled";
    let each = |what: &'static str| {
        on_record(from).map(|place| exception("dialled", (to, from, what), place, why))
    };
    ["SIP domain", "traveller's user name"].into_iter().flat_map(each).collect()
}

/// Where whoever was called or calls stands: on the phone's wire, in the
/// account's list of calls, in the memory of what wrote and read that.
fn on_record(region: &str) -> [(PlaceKind, String); 6] {
    [
        (PlaceKind::Capture, format!("client of {region}: *")),
        (PlaceKind::Listing, "landline calls list*".to_owned()),
        (PlaceKind::Listing, "*/Calls*".to_owned()),
        (PlaceKind::Decrypted, tls(region, &format!("client of {region}"), CONSOLE)),
        (PlaceKind::CoreDump, core(region, "proxy")),
        (PlaceKind::CoreDump, core(region, "console")),
    ]
}

fn on_links(
    id: &str,
    [one, other]: [&str; 2],
    owner: &str,
    what: &str,
    why: &str,
) -> [Exception; 2] {
    // There in requests, back in their answers.
    [(one, other), (other, one)].map(|(from, to)| {
        let place = (PlaceKind::Decrypted, tls(from, to, INTER_REGION));
        exception(&format!("{id} from {from}"), (owner, BETWEEN, what), place, why)
    })
}

fn exception(
    id: &str,
    (canary, held_by, what): (&str, &str, &str),
    (place, name): (PlaceKind, String),
    why: &str,
) -> Exception {
    Exception {
        id: format!("{id}: {what} of {canary} at {held_by}, {}", place.name()),
        canary: canary.to_owned(),
        held_by: held_by.to_owned(),
        what: what.to_owned(),
        place,
        name,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cast_has_nothing_in_common() {
        canaries().check().unwrap();
    }
}
