//! What left the region on a call's behalf, as lines that follow from the
//! call's legs: whoever has the record makes the same lines again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Receipt;
use crate::catalogue::fields::{
    CALL_AUDIO, CALLEE, CALLER, DISPLAY_NAME, FIELDS, MEDIA_ADDRESS, SIP_CALL_ID,
};
use crate::egress::Flow;
use crate::{RegionCode, TrunkSid};

/// What left the region on the call's behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Whether the record says by which ways its legs went. Of calls from
    /// before it did, an empty list says nothing.
    pub reported: bool,
    /// In the order of their flows and receivers.
    pub lines: Vec<EgressLine>,
}

/// One way out, and how many of the call's legs took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressLine {
    pub flow: CallFlow,
    /// The region's code, or the trunk's sid.
    pub to: String,
    /// `None`: it is no region of ours, as a carrier.
    pub region: Option<RegionCode>,
    pub party: LegParty,
    pub legs: u64,
    /// What may have left: the names of the fields that are declared for this
    /// way, never their values.
    pub fields: Vec<String>,
}

/// A way by which something of a call leaves its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallFlow {
    /// Signalling to another region's proxies: [`Flow::InterRegionSip`].
    InterRegionSip,
    /// SRTP to another region's relay.
    InterRegionMedia,
    /// Signalling to the carrier or PBX behind a trunk of the account.
    TrunkSip,
    TrunkMedia,
}

impl CallFlow {
    pub const fn name(self) -> &'static str {
        match self {
            Self::InterRegionSip => Flow::InterRegionSip.name(),
            Self::InterRegionMedia => "inter_region_media",
            Self::TrunkSip => "trunk_sip",
            Self::TrunkMedia => "trunk_media",
        }
    }

    const fn is_to_region(self) -> bool {
        matches!(self, Self::InterRegionSip | Self::InterRegionMedia)
    }

    fn fields(self) -> Vec<String> {
        let names = |fields: &[&crate::catalogue::Field]| {
            fields.iter().map(|field| field.name.to_owned()).collect()
        };
        match self {
            Self::InterRegionSip => {
                let carried = FIELDS.iter().filter(|it| it.form_in(Flow::InterRegionSip).is_some());
                carried.map(|field| field.name.to_owned()).collect()
            }
            Self::TrunkSip => {
                names(&[&CALLER, &CALLEE, &DISPLAY_NAME, &SIP_CALL_ID, &MEDIA_ADDRESS])
            }
            Self::InterRegionMedia | Self::TrunkMedia => names(&[&CALL_AUDIO]),
        }
    }
}

/// Who was at the other end of the legs that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegParty {
    /// A user of the account itself, whose phone came in by that region's edge.
    User,
    /// Somebody of an account that is at home in that region.
    Account,
    /// Who is called, or calls, by a trunk of the account.
    Trunk,
}

/// A leg of the call's record, as far as it says where the leg went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegWay {
    pub trunk: Option<TrunkSid>,
    /// The home of the account at the other end.
    pub region: Option<RegionCode>,
    /// Other regions whose proxies the leg's signalling went through.
    pub edges: Vec<RegionCode>,
    /// Whether audio was sent to it, as far as is known.
    pub media: bool,
}

impl LegWay {
    fn ways(&self, home: RegionCode) -> Vec<(CallFlow, String, Option<RegionCode>, LegParty)> {
        let abroad = |region: &&RegionCode| **region != home;
        let mut ways = Vec::new();
        for region in self.edges.iter().filter(abroad) {
            let (flow, party) = (CallFlow::InterRegionSip, LegParty::User);
            ways.push((flow, region.to_string(), Some(*region), party));
        }
        for region in self.region.iter().filter(abroad) {
            let mut to =
                |flow| ways.push((flow, region.to_string(), Some(*region), LegParty::Account));
            to(CallFlow::InterRegionSip);
            if self.media {
                to(CallFlow::InterRegionMedia);
            }
        }
        if let Some(trunk) = &self.trunk {
            let mut to = |flow| ways.push((flow, trunk.to_string(), None, LegParty::Trunk));
            to(CallFlow::TrunkSip);
            if self.media {
                to(CallFlow::TrunkMedia);
            }
        }
        ways
    }
}

impl Egress {
    /// Of a call at home in `home`, by its legs.
    pub fn of(home: RegionCode, legs: &[LegWay]) -> Self {
        let mut lines = BTreeMap::new();
        for way in legs.iter().flat_map(|leg| leg.ways(home)) {
            *lines.entry(way).or_insert(0) += 1;
        }
        let line = |((flow, to, region, party), legs): (_, u64)| {
            let flow: CallFlow = flow;
            EgressLine { flow, to, region, party, legs, fields: flow.fields() }
        };
        Self { reported: true, lines: lines.into_iter().map(line).collect() }
    }

    /// Of a call whose record does not say.
    pub fn unreported() -> Self {
        Self { reported: false, lines: Vec::new() }
    }
}

impl EgressLine {
    /// Whether the line can be true of a call at home in `home`.
    pub(super) fn makes_sense(&self, home: RegionCode) -> bool {
        match self.region {
            Some(region) => {
                self.flow.is_to_region() && region != home && self.to == region.as_str()
            }
            None => !self.flow.is_to_region(),
        }
    }

    /// Where it went, in words.
    pub fn towards(&self) -> String {
        let party = match self.party {
            LegParty::User => "whose proxies a phone of the account came in by",
            LegParty::Account => "where the account at the other end is at home",
            LegParty::Trunk => "a trunk of the account",
        };
        match self.region {
            Some(region) => format!("{} to region {region}, {party}", self.flow.name()),
            None => format!("{} by {}, {party}", self.flow.name(), self.to),
        }
    }
}

/// How much of an account's calls in a period left by one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressTotal {
    pub flow: CallFlow,
    pub to: String,
    pub region: Option<RegionCode>,
    pub party: LegParty,
    pub calls: u64,
    pub legs: u64,
}

/// What the receipts' lines come to, in the order of their flows and receivers.
pub fn egress_totals<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> Vec<EgressTotal> {
    let mut totals = BTreeMap::new();
    for line in receipts.into_iter().flat_map(|receipt| &receipt.egress.lines) {
        let way = (line.flow, line.to.clone(), line.region, line.party);
        let (calls, legs) = totals.entry(way).or_insert((0_u64, 0_u64));
        *calls += 1;
        *legs = legs.saturating_add(line.legs);
    }
    let total = |((flow, to, region, party), (calls, legs))| EgressTotal {
        flow,
        to,
        region,
        party,
        calls,
        legs,
    };
    totals.into_iter().map(total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(code: &str) -> RegionCode {
        code.parse().unwrap()
    }

    fn shown(egress: &Egress) -> Vec<(CallFlow, &str, LegParty, u64)> {
        egress.lines.iter().map(|it| (it.flow, it.to.as_str(), it.party, it.legs)).collect()
    }

    #[test]
    fn what_stays_in_the_region_makes_no_line() {
        let ie1 = region("ie1");
        // Between two phones at home, and between two accounts of one region.
        let at_home = LegWay { region: Some(ie1), edges: vec![ie1], media: true, trunk: None };
        let egress = Egress::of(ie1, &[LegWay::default(), at_home]);
        assert!(egress.reported && egress.lines.is_empty(), "{egress:?}");
    }

    #[test]
    fn each_way_of_a_leg_is_a_line_and_legs_of_one_way_are_counted() {
        let (ie1, au1, us1) = (region("ie1"), region("au1"), region("us1"));
        let trunk = TrunkSid::from_u128(7);
        let by_edge = LegWay { edges: vec![au1, us1], media: true, ..LegWay::default() };
        let carrier = LegWay { trunk: Some(trunk), media: true, ..LegWay::default() };
        let unanswered = LegWay { trunk: Some(trunk), ..LegWay::default() };
        let account = LegWay { region: Some(au1), media: true, ..LegWay::default() };
        let legs = [by_edge.clone(), by_edge, carrier, unanswered, account];
        let (egress, trunk) = (Egress::of(ie1, &legs), trunk.to_string());
        let wanted = [
            (CallFlow::InterRegionSip, "au1", LegParty::User, 2),
            (CallFlow::InterRegionSip, "au1", LegParty::Account, 1),
            (CallFlow::InterRegionSip, "us1", LegParty::User, 2),
            (CallFlow::InterRegionMedia, "au1", LegParty::Account, 1),
            (CallFlow::TrunkSip, trunk.as_str(), LegParty::Trunk, 2),
            (CallFlow::TrunkMedia, trunk.as_str(), LegParty::Trunk, 1),
        ];
        assert_eq!(shown(&egress), wanted);
        assert!(egress.lines.iter().all(|line| line.makes_sense(ie1) && !line.fields.is_empty()));
        // A phone's own audio does not go by the edge that its signalling takes.
        let by_edge = LegWay { edges: vec![us1], media: true, ..LegWay::default() };
        assert_eq!(Egress::of(ie1, &[by_edge]).lines.len(), 1);
    }
}
