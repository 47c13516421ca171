//! What is played to people: had from the region's database or made, encoded
//! once for each codec, and kept for as long as there is room.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use landline_control::Sound;
use landline_media::audio::{Codec, beep, greeting, tune};
use landline_media::play::{Clip, SOUND_RATE};
use landline_region::{AccountSid, SoundSid};
use landline_store::{Store, StoreError};
use prometheus::{IntCounter, IntGauge};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// In place of a sound that could not be had, the tune is for no longer.
const IN_PLACE: Duration = Duration::from_secs(30);
/// Sounds that are looked for or kept, in any codec.
const MOST: usize = 1024;
/// Sounds that are loaded and encoded at one time: that takes memory, and a
/// processor that packets want too.
const AT_ONCE: usize = 2;

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
pub(crate) struct Awaited(Arc<OnceLock<Had>>);

#[derive(Debug)]
struct Had {
    clip: Option<Arc<Clip>>,
    /// It is what was asked for.
    is_wanted: bool,
}

impl Awaited {
    /// `None` while it is on its way.
    pub fn look(&self) -> Option<Option<&Arc<Clip>>> {
        self.0.get().map(|had| had.clip.as_ref())
    }

    fn is(&self, clip: Option<Clip>, is_wanted: bool) {
        let _first = self.0.set(Had { clip: clip.map(Arc::new), is_wanted });
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
    /// What is longer in memory is forgotten: somebody may have taken it away.
    time: Duration,
    missing: IntCounter,
    /// Of those that are known.
    kept: IntGauge,
    work: Semaphore,
    known: Mutex<BTreeMap<Name, Known>>,
}

#[derive(Debug)]
struct Known {
    clip: Awaited,
    since: Instant,
    used: Instant,
}

impl Known {
    /// What is on its way is waited for.
    fn is_stale(&self, now: Instant, time: Duration) -> bool {
        match self.clip.0.get() {
            None => false,
            Some(had) if had.is_wanted => now >= self.since + time,
            Some(had) => had.clip.is_none() || now >= self.since + time.min(IN_PLACE),
        }
    }
}

impl Clips {
    pub fn new(
        source: Option<Arc<dyn SoundSource>>,
        (room, time): (usize, Duration),
        missing: IntCounter,
        kept: IntGauge,
    ) -> Self {
        let work = Semaphore::new(AT_ONCE);
        Self { source, room, time, missing, kept, work, known: Mutex::default() }
    }

    /// Forgets what was kept for long enough.
    pub fn sweep(&self, now: Instant) {
        let mut known = self.lock();
        known.retain(|_, it| !it.is_stale(now, self.time));
        self.kept.set(known.len() as i64);
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
        let owner = own(sound).map(|_| account);
        let name = (owner, sound, codec);
        let mut known = self.lock();
        known.retain(|_, it| !it.is_stale(now, self.time));
        if let Some(it) = known.get_mut(&name) {
            it.used = now;
            return it.clip.clone();
        }
        self.make_room(&mut known);
        let clip = Awaited::default();
        if known.len() >= MOST {
            self.missing.inc();
            clip.is(None, false);
            return clip;
        }
        known.insert(name, Known { clip: clip.clone(), since: now, used: now });
        self.kept.set(known.len() as i64);
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
        let _permit = self.work.acquire().await;
        let samples = match (own(sound), &self.source) {
            (Some(sid), Some(source)) => match source.load(account, sid).await {
                Ok(samples) => Some(samples),
                Err(error) => {
                    tracing::warn!(sound = %sid, %error, "a sound could not be had");
                    None
                }
            },
            _ => None,
        };
        // Who waits is to hear something: an account's own may be gone, or its
        // database out of reach.
        let is_wanted = samples.is_some() || own(sound).is_none();
        let encoded = tokio::task::spawn_blocking(move || {
            let samples = samples.unwrap_or_else(|| built_in(sound));
            Clip::encode(codec, &samples)
        });
        let encoded = encoded.await.ok().and_then(Result::ok);
        if !is_wanted || encoded.is_none() {
            self.missing.inc();
        }
        clip.is(encoded, is_wanted);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Known>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What lies in the region's database.
const fn own(sound: Sound) -> Option<SoundSid> {
    match sound {
        Sound::Own(sid) | Sound::Greeting(Some(sid)) => Some(sid),
        Sound::Tune | Sound::Greeting(None) | Sound::Beep => None,
    }
}

fn built_in(sound: Sound) -> Vec<i16> {
    match sound {
        Sound::Tune | Sound::Own(_) => tune(SOUND_RATE),
        Sound::Greeting(_) => greeting(SOUND_RATE),
        Sound::Beep => beep(SOUND_RATE),
    }
}
