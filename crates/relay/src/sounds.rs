//! What is played to people: had from the region's database or made, encoded
//! once for each codec, and kept for as long as there is room.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use landline_control::Sound;
use landline_media::audio::{Codec, tune};
use landline_media::play::{Clip, SOUND_RATE};
use landline_region::{AccountSid, SoundSid};
use landline_store::{Store, StoreError};
use prometheus::IntCounter;
use tokio::runtime::Handle;

/// What is longer in memory is had anew: somebody may have taken it away.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Sounds that are looked for or kept, in any codec.
const MOST: usize = 1024;

/// Samples at 16 kHz, once they are there.
pub type Loading = Pin<Box<dyn Future<Output = Result<Vec<i16>, StoreError>> + Send>>;

/// Where the accounts' own sounds come from: the region's database.
pub trait SoundSource: Send + Sync {
    fn load(&self, account: AccountSid, sound: SoundSid) -> Loading;
}

impl SoundSource for Store {
    fn load(&self, account: AccountSid, sound: SoundSid) -> Loading {
        let store = self.clone();
        Box::pin(async move { store.sound_samples(account, sound).await })
    }
}

impl fmt::Debug for dyn SoundSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoundSource(..)")
    }
}

/// A sound that is on its way, or there, or not to be had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Awaited(Arc<OnceLock<Option<Arc<Clip>>>>);

impl Awaited {
    /// `None` while it is on its way.
    pub fn look(&self) -> Option<Option<&Arc<Clip>>> {
        self.0.get().map(Option::as_ref)
    }

    fn is(&self, clip: Option<Clip>) {
        let _first = self.0.set(clip.map(Arc::new));
    }

    fn octets(&self) -> usize {
        self.look().flatten().map_or(0, |clip| clip.octets())
    }
}

/// An account's own sounds are nobody else's.
type Name = (Option<AccountSid>, Sound, Codec);

#[derive(Debug)]
pub(crate) struct Clips {
    source: Option<Arc<dyn SoundSource>>,
    /// Octets that are kept.
    room: usize,
    missing: IntCounter,
    known: Mutex<BTreeMap<Name, Known>>,
}

#[derive(Debug)]
struct Known {
    clip: Awaited,
    since: Instant,
    used: Instant,
}

impl Clips {
    pub fn new(source: Option<Arc<dyn SoundSource>>, room: usize, missing: IntCounter) -> Self {
        Self { source, room, missing, known: Mutex::default() }
    }

    /// The sound in this codec. Neither had nor encoded by who asks, but on
    /// `runtime`.
    pub fn want(
        self: &Arc<Self>,
        now: Instant,
        runtime: &Handle,
        account: AccountSid,
        sound: Sound,
        codec: Codec,
    ) -> Awaited {
        let owner = (sound != Sound::Tune).then_some(account);
        let name = (owner, sound, codec);
        let mut known = self.lock();
        if let Some(it) = known.get_mut(&name)
            && now < it.since + KEPT
            && it.clip.look() != Some(None)
        {
            it.used = now;
            return it.clip.clone();
        }
        self.make_room(&mut known);
        let clip = Awaited::default();
        if known.len() >= MOST {
            self.missing.inc();
            clip.is(None);
            return clip;
        }
        known.insert(name, Known { clip: clip.clone(), since: now, used: now });
        drop(known);
        runtime.spawn(Arc::clone(self).fetch(clip.clone(), account, sound, codec));
        clip
    }

    /// Those that were used the longest ago go first; those on their way stay.
    fn make_room(&self, known: &mut BTreeMap<Name, Known>) {
        let mut octets: usize = known.values().map(|it| it.clip.octets()).sum();
        while octets > self.room || known.len() >= MOST {
            let there = known.iter().filter(|(_, it)| it.clip.look().is_some());
            let Some(name) = there.min_by_key(|(_, it)| it.used).map(|(name, _)| *name) else {
                return;
            };
            octets -= known.remove(&name).map_or(0, |it| it.clip.octets());
        }
    }

    async fn fetch(
        self: Arc<Self>,
        clip: Awaited,
        account: AccountSid,
        sound: Sound,
        codec: Codec,
    ) {
        let samples = match (sound, &self.source) {
            (Sound::Tune, _) => Some(None),
            (Sound::Own(sid), Some(source)) => match source.load(account, sid).await {
                Ok(samples) => Some(Some(samples)),
                Err(error) => {
                    tracing::warn!(sound = %sid, %error, "a sound could not be had");
                    None
                }
            },
            (Sound::Own(_), None) => None,
        };
        let Some(samples) = samples else { return self.is_missing(&clip) };
        let encoded = tokio::task::spawn_blocking(move || {
            let samples = samples.unwrap_or_else(|| tune(SOUND_RATE));
            Clip::encode(codec, &samples)
        });
        match encoded.await {
            Ok(Ok(encoded)) => clip.is(Some(encoded)),
            Ok(Err(_)) | Err(_) => self.is_missing(&clip),
        }
    }

    fn is_missing(&self, clip: &Awaited) {
        self.missing.inc();
        clip.is(None);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Known>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
