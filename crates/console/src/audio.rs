//! A recording as something to listen to: two channels of 16 bits, the caller
//! left, the callee right. Rendered as it is read; little of it is in memory.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use landline_control::{LegId, PayloadType};
use landline_media::RtpInfo;
use landline_media::audio::{Rendered, Renderer, best_rate};
use landline_region::RecordingSid;
use landline_store::{RecordedEntry, RecordingReader, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Pieces that wait for a client who reads slowly.
const AHEAD: usize = 4;
/// Octets of one, of a file that is in memory.
const PIECE: usize = 64 << 10;
/// Longer recordings are rendered once to be measured and once to be sent.
const KEPT_FRAMES: usize = 4 << 20;
const HEADER: u64 = 44;
const SAMPLE: u64 = 2;

type Frames = Vec<[i16; 2]>;

/// The whole of it, for those who want it in memory.
pub async fn rendered(store: &Store, sid: RecordingSid) -> Result<Rendered, StoreError> {
    let rate = rate_of(store, sid).await?;
    let mut playback = Playback::new(store, sid, rate).await?;
    let mut samples = Vec::new();
    while let Some(more) = playback.next().await? {
        samples.extend(more);
    }
    Ok(Rendered { rate, samples })
}

/// Whom a file lets hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    Both,
    /// Where nobody else was there.
    Caller,
}

impl Channels {
    const fn count(self) -> u16 {
        match self {
            Self::Both => 2,
            Self::Caller => 1,
        }
    }

    fn octets_of(self, frames: &[[i16; 2]]) -> Bytes {
        let heard = usize::from(self.count());
        let samples = frames.iter().flat_map(|frame| frame.iter().take(heard));
        samples.flat_map(|sample| sample.to_le_bytes()).collect()
    }
}

/// A WAV file on its way out.
pub struct Wav {
    pub octets: u64,
    pub body: Body,
}

/// Verifies and measures the whole recording first: a client that is told 200
/// gets all of it. `permit` is held until the last octet is read.
pub async fn wav(
    store: &Store,
    sid: RecordingSid,
    channels: Channels,
    permit: OwnedSemaphorePermit,
) -> Result<Option<Wav>, StoreError> {
    let rate = rate_of(store, sid).await?;
    let (frames, kept) = measured(store, sid, rate).await?;
    // RIFF counts in 32 bits.
    let octets = HEADER + frames * SAMPLE * u64::from(channels.count());
    let Ok(length) = u32::try_from(octets) else { return Ok(None) };
    let header = header(rate, channels.count(), length);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let store = store.clone();
    tokio::spawn(async move {
        let _permit = permit;
        if sender.send(Ok(header)).await.is_err() {
            return;
        }
        match kept {
            Some(frames) => {
                let _gone = sender.send(Ok(channels.octets_of(&frames))).await;
            }
            None => send_again(&store, sid, rate, channels, &sender).await,
        }
    });
    Ok(Some(Wav { octets, body: Body::new(Received(receiver)) }))
}

async fn send_again(
    store: &Store,
    sid: RecordingSid,
    rate: u32,
    channels: Channels,
    sender: &mpsc::Sender<Result<Bytes, StoreError>>,
) {
    let mut playback = match Playback::new(store, sid, rate).await {
        Ok(playback) => playback,
        Err(error) => return drop(sender.send(Err(error)).await),
    };
    loop {
        let piece = match playback.next().await {
            Ok(Some(frames)) => Ok(channels.octets_of(&frames)),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if sender.send(piece).await.is_err() || failed {
            return;
        }
    }
}

/// How many frames there are, and the frames themselves if they are few.
async fn measured(
    store: &Store,
    sid: RecordingSid,
    rate: u32,
) -> Result<(u64, Option<Frames>), StoreError> {
    let mut playback = Playback::new(store, sid, rate).await?;
    let (mut count, mut kept) = (0, Some(Vec::new()));
    while let Some(frames) = playback.next().await? {
        count += frames.len() as u64;
        kept = kept.filter(|kept: &Frames| kept.len() + frames.len() <= KEPT_FRAMES);
        if let Some(kept) = &mut kept {
            kept.extend(frames);
        }
        // Decoding is work, and others wait for this thread.
        tokio::task::yield_now().await;
    }
    Ok((count, kept))
}

struct Playback {
    reader: RecordingReader,
    renderer: Option<Renderer>,
}

impl Playback {
    async fn new(store: &Store, sid: RecordingSid, rate: u32) -> Result<Self, StoreError> {
        let reader = store.recording_reader(sid).await?;
        Ok(Self { reader, renderer: Some(Renderer::new(rate)) })
    }

    async fn next(&mut self) -> Result<Option<Frames>, StoreError> {
        let Some(mut renderer) = self.renderer.take() else { return Ok(None) };
        let mut frames = Vec::new();
        match self.reader.next().await? {
            Some(entries) => {
                for entry in &entries {
                    play(&mut renderer, entry, &mut frames);
                }
                self.renderer = Some(renderer);
            }
            None => renderer.finish(&mut frames),
        }
        Ok(Some(frames))
    }
}

fn play(renderer: &mut Renderer, entry: &RecordedEntry, frames: &mut Frames) {
    match entry {
        RecordedEntry::PayloadTypes { leg, types } => renderer.payload_types(channel(*leg), types),
        RecordedEntry::Packet { leg, at_ms, packet } => {
            renderer.push(u64::from(*at_ms), channel(*leg), packet, frames);
        }
        RecordedEntry::Dropped { .. } | RecordedEntry::Gap { .. } => {}
    }
}

/// Leg 0 is the caller's channel; the callee's is whichever leg it was joined to.
const fn channel(leg: LegId) -> usize {
    if leg.0 == 0 { 0 } else { 1 }
}

/// The rate of the encodings that packets really have: much is negotiated
/// that nobody sends.
async fn rate_of(store: &Store, sid: RecordingSid) -> Result<u32, StoreError> {
    let mut reader = store.recording_reader(sid).await?;
    let mut known: [Vec<PayloadType>; 2] = [Vec::new(), Vec::new()];
    let mut used: BTreeSet<String> = BTreeSet::new();
    while let Some(entries) = reader.next().await? {
        for entry in entries {
            match entry {
                RecordedEntry::PayloadTypes { leg, types } => known[channel(leg)] = types,
                RecordedEntry::Packet { leg, packet, .. } => {
                    let number = RtpInfo::parse(&packet).map(|info| info.payload_type).ok();
                    let kind = known[channel(leg)].iter().find(|kind| Some(kind.number) == number);
                    if let Some(kind) = kind.filter(|kind| !used.contains(&kind.encoding)) {
                        used.insert(kind.encoding.clone());
                    }
                }
                RecordedEntry::Dropped { .. } | RecordedEntry::Gap { .. } => {}
            }
        }
    }
    Ok(best_rate(used.iter().map(String::as_str)))
}

/// A WAV file of one channel. `permit` is held until most of it is read.
pub fn mono_wav(rate: u32, samples: &[i16], permit: OwnedSemaphorePermit) -> Wav {
    let octets = HEADER as u32 + 2 * samples.len() as u32;
    let mut file = header(rate, 1, octets).to_vec();
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    let mut file = Bytes::from(file);
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _permit = permit;
        while !file.is_empty() {
            let piece = file.split_to(file.len().min(PIECE));
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    });
    Wav { octets: octets.into(), body: Body::new(Received(receiver)) }
}

/// RIFF/WAVE with one `fmt ` and one `data` chunk.
fn header(rate: u32, channels: u16, octets: u32) -> Bytes {
    let frame = 2 * channels;
    let mut header = Vec::with_capacity(HEADER as usize);
    header.extend(b"RIFF");
    header.extend((octets - 8).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    // PCM.
    header.extend(1u16.to_le_bytes());
    header.extend(channels.to_le_bytes());
    header.extend(rate.to_le_bytes());
    header.extend((rate * u32::from(frame)).to_le_bytes());
    header.extend(frame.to_le_bytes());
    header.extend(16u16.to_le_bytes());
    header.extend(b"data");
    header.extend((octets - HEADER as u32).to_le_bytes());
    header.into()
}

/// What comes out of a channel, as a body.
struct Received(mpsc::Receiver<Result<Bytes, StoreError>>);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
