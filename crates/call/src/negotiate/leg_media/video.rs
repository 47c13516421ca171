//! Video with one peer: when it is offered, agreed, and told the relay.

use landline_control::{Direction, LegId, Op, Protocol, VideoType};

use serde::{Deserialize, Serialize};

use super::{Agreed, LegMedia, Terms, mirrored, narrowed};
use crate::negotiate::read::Line;
use crate::negotiate::video::{self, Video};

/// What of the agreement is about video: kept apart with a call that outlives
/// its process, as it came to the descriptions later than the rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeptVideo {
    peer: Option<Video>,
    agreed: Option<Video>,
    told: Option<Video>,
}

impl LegMedia {
    /// Nothing where there is none.
    pub(crate) fn kept_video(&self) -> Option<KeptVideo> {
        let Agreed { peer, terms, told } = self.agreed.as_ref()?;
        let (peer, agreed, told) = (peer.video.clone(), terms.video.clone(), told.video.clone());
        let is_any = peer.is_some() || agreed.is_some() || told.is_some();
        is_any.then_some(KeptVideo { peer, agreed, told })
    }

    pub(crate) fn restore_video(&mut self, kept: KeptVideo) {
        if let Some(Agreed { peer, terms, told }) = &mut self.agreed {
            (peer.video, terms.video, told.video) = (kept.peer, kept.agreed, kept.told);
        }
    }

    pub(super) fn is_video_news(&self, agreed: &Agreed, wanted: &Terms) -> bool {
        let is_same = match (&agreed.told.video, &wanted.video) {
            (Some(told), Some(wanted)) => told.says_as(wanted),
            (None, None) => true,
            _ => false,
        };
        self.carries_video() && !is_same
    }

    /// As browsers do: beside the sound, by the same transport.
    pub(super) fn carries_video(&self) -> bool {
        self.bundle && self.mux && self.spec.ice && self.spec.protocol == Protocol::Dtls
    }

    /// Where the other side's video stands in our offer. A line for it is added
    /// when there is none.
    pub(super) fn video_line(&mut self, wanted: Option<&Video>) -> Option<usize> {
        let wanted = wanted.filter(|_| self.carries_video())?;
        let formats = wanted.codecs.iter().map(|it| it.codec.number.to_string()).collect();
        let index = video::line(&self.lines).unwrap_or_else(|| {
            let taken = |mid: &String| self.lines.iter().any(|it| it.mid.as_ref() == Some(mid));
            let mid = (self.lines.len()..).map(|n| n.to_string()).find(|mid| !taken(mid));
            let (kind, proto) = ("video".to_owned(), self.proto.clone());
            self.lines.push(Line { kind, proto, formats: Vec::new(), mid });
            self.lines.len() - 1
        });
        self.lines.get_mut(index)?.formats = formats;
        Some(index)
    }

    /// Tells the relay of the peer: nothing before there is anything to tell.
    pub(crate) fn remote_ops(&self, leg: LegId) -> Vec<Op> {
        let Some(remote) = self.remote() else { return Vec::new() };
        let video = self.video_types().map(|(direction, types)| Op::Video(leg, direction, types));
        [Op::Remote(leg, Box::new(remote))].into_iter().chain(video).collect()
    }

    /// What the relay has to know of the peer's video, once there was any.
    fn video_types(&self) -> Option<(Direction, Vec<VideoType>)> {
        video::line(&self.lines)?;
        let agreed = self.agreed.as_ref();
        let both = agreed.and_then(|it| it.terms.video.as_ref().zip(it.told.video.as_ref()));
        let Some((video, other)) = both else { return Some((Direction::Inactive, Vec::new())) };
        let sound = self.said().unwrap_or_default();
        let mut types = video.types();
        types.retain(|kind| sound.iter().all(|it| it.number != kind.number));
        Some((narrowed(other.direction, mirrored(video.direction)), types))
    }
}
