//! What is played to people: had from the region's database or made, encoded
//! once for each codec, and kept for as long as there is room.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use landline_control::{LegId, Sound};
use landline_media::audio::{Codec, Renderer, beep, greeting, no_messages, no_more_messages, tune};
use landline_media::play::{Clip, SOUND_RATE};
use landline_region::{AccountSid, RecordingSid, SoundSid};
use landline_store::{RecordedEntry, Store, StoreError};
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

    /// What a caller left in a mailbox.
    fn message(&self, account: AccountSid, recording: RecordingSid) -> Loading {
        Box::pin(async move { Err(no_message(account, recording)) })
    }
}

fn no_message(account: AccountSid, recording: RecordingSid) -> StoreError {
    let what = format!("recording {recording} of account {account}");
    StoreError::NotFound { what, next: "another message is played".to_owned() }
}

impl SoundSource for Store {
    fn load(&self, account: AccountSid, sound: SoundSid) -> Loading {
        let store = self.clone();
        Box::pin(async move { store.sound_samples(account, sound).await })
    }

    fn message(&self, account: AccountSid, recording: RecordingSid) -> Loading {
        let store = self.clone();
        Box::pin(async move {
            if store.recording_show(recording).await?.account != account {
                return Err(no_message(account, recording));
            }
            rendered(&store, recording).await
        })
    }
}

impl fmt::Debug for dyn SoundSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoundSource(..)")
    }
}

/// The caller's side of a recording, verified on the way.
async fn rendered(store: &Store, recording: RecordingSid) -> Result<Vec<i16>, StoreError> {
    let mut reader = store.recording_reader(recording).await?;
    let (mut renderer, mut frames) = (Renderer::new(SOUND_RATE), Vec::new());
    while let Some(entries) = reader.next().await? {
        for entry in &entries {
            match entry {
                RecordedEntry::PayloadTypes { leg: LegId(0), types } => {
                    renderer.payload_types(0, types);
                }
                RecordedEntry::Packet { leg: LegId(0), at_ms, packet } => {
                    renderer.push(u64::from(*at_ms), 0, packet, &mut frames);
                }
                _ => {}
            }
        }
        // Decoding is work, and others wait for this thread.
        tokio::task::yield_now().await;
    }
    renderer.finish(&mut frames);
    Ok(frames.into_iter().map(|[caller, _]| caller).collect())
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
        let owner = is_stored(sound).then_some(account);
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
        let loading = self.source.as_ref().and_then(|source| match sound {
            Sound::Message(recording) => Some(source.message(account, recording)),
            _ => own(sound).map(|sid| source.load(account, sid)),
        });
        let samples = match loading {
            Some(loading) => match loading.await {
                Ok(samples) => Some(samples),
                Err(error) => {
                    tracing::warn!(?sound, %error, "a sound could not be had");
                    None
                }
            },
            None => None,
        };
        // Who waits is to hear something: an account's own may be gone, or its
        // database out of reach.
        let is_wanted = samples.is_some() || !is_stored(sound);
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

/// What an account has put to be played.
const fn own(sound: Sound) -> Option<SoundSid> {
    match sound {
        Sound::Own(sid) | Sound::Greeting(Some(sid)) => Some(sid),
        _ => None,
    }
}

/// What lies in the region's database.
const fn is_stored(sound: Sound) -> bool {
    own(sound).is_some() || matches!(sound, Sound::Message(_))
}

fn built_in(sound: Sound) -> Vec<i16> {
    match sound {
        Sound::Tune | Sound::Own(_) => tune(SOUND_RATE),
        Sound::Greeting(_) => greeting(SOUND_RATE),
        Sound::Beep => beep(SOUND_RATE),
        // One that is gone: the next follows.
        Sound::Message(_) => Vec::new(),
        Sound::NoMessages => no_messages(SOUND_RATE),
        Sound::NoMoreMessages => no_more_messages(SOUND_RATE),
    }
}
