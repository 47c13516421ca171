use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;

/// How much of what was heard is kept, in seconds.
const KEPT: usize = 2;

/// What the phone heard of late.
pub(crate) struct Ear(Mutex<Memory>);

struct Memory {
    rate: u32,
    samples: VecDeque<i16>,
    packets: u64,
    from: BTreeSet<SocketAddr>,
}

/// A look at what was heard in the last half second.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The dominant tone in Hz; `None` while there is too little or silence.
    pub tone: Option<f64>,
    /// Audio packets since the call began.
    pub packets: u64,
    /// The addresses they came from.
    pub from: BTreeSet<SocketAddr>,
}

impl Heard {
    /// Whether the tone is the one that was sent, within 12 Hz.
    pub fn is(&self, sent: u32) -> bool {
        self.tone.is_some_and(|heard| (heard - f64::from(sent)).abs() <= 12.0)
    }
}

impl Ear {
    pub fn new(rate: u32) -> Self {
        Self(Mutex::new(Memory {
            rate,
            samples: VecDeque::new(),
            packets: 0,
            from: BTreeSet::new(),
        }))
    }

    pub fn take(&self, from: SocketAddr, samples: &[i16]) {
        let mut memory = self.lock();
        memory.packets += 1;
        // A relay has a handful of addresses; a flood is not worth remembering.
        if memory.from.len() < 8 {
            memory.from.insert(from);
        }
        memory.samples.extend(samples);
        let excess = memory.samples.len().saturating_sub(KEPT * memory.rate as usize);
        memory.samples.drain(..excess);
    }

    /// Forgets the samples: what is heard next is judged alone.
    pub fn forget(&self) {
        self.lock().samples.clear();
    }

    pub fn heard(&self) -> Heard {
        let mut memory = self.lock();
        let half_a_second = memory.rate as usize / 2;
        let enough = memory.samples.len() >= half_a_second;
        let rate = memory.rate;
        let tone = enough.then(|| {
            let recent = memory.samples.make_contiguous();
            landline_media::audio::strongest_tone(&recent[recent.len() - half_a_second..], rate)
        });
        Heard {
            tone: tone.flatten().map(|(hz, _)| hz),
            packets: memory.packets,
            from: memory.from.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
