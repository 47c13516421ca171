use std::fmt;

/// What one datagram may hold on its way in.
pub const MAX_PACKET: usize = 2048 - TAIL_ROOM;

/// Room behind the longest packet for what protection appends: an SRTP tag
/// (16 octets) and the SRTCP index (4), with plenty to spare.
const TAIL_ROOM: usize = 64;

const CAPACITY: usize = MAX_PACKET + TAIL_ROOM;

/// One packet in a fixed buffer, protected and unprotected in place.
#[derive(Clone)]
pub struct PacketBuf {
    length: usize,
    data: [u8; CAPACITY],
}

impl PacketBuf {
    pub const fn new() -> Self {
        Self { length: 0, data: [0; CAPACITY] }
    }

    /// A buffer holding a copy, or `None` when it is longer than [`MAX_PACKET`].
    pub fn from_slice(packet: &[u8]) -> Option<Self> {
        let mut buffer = Self::new();
        buffer.copy_from(packet).then_some(buffer)
    }

    /// Where a socket writes the next datagram; then call [`Self::set_len`].
    /// A datagram that fills it whole may have been cut short.
    pub fn receive_area(&mut self) -> &mut [u8] {
        &mut self.data[..MAX_PACKET]
    }

    /// Sets the packet's length, at most the capacity.
    pub fn set_len(&mut self, length: usize) {
        self.length = length.min(CAPACITY);
    }

    /// Replaces the packet. False, and nothing done, when it does not fit.
    pub fn copy_from(&mut self, packet: &[u8]) -> bool {
        let fits = packet.len() <= MAX_PACKET;
        if fits {
            self.data[..packet.len()].copy_from_slice(packet);
            self.length = packet.len();
        }
        fits
    }

    /// Adds octets behind the packet, into the tail room too. False, and
    /// nothing done, when there is no room.
    pub fn append(&mut self, octets: &[u8]) -> bool {
        match self.data.get_mut(self.length..self.length + octets.len()) {
            Some(tail) => {
                tail.copy_from_slice(octets);
                self.length += octets.len();
                true
            }
            None => false,
        }
    }

    /// Cuts the packet to `length` octets, if it is longer.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.data[..self.length]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.data[..self.length]
    }

    pub const fn len(&self) -> usize {
        self.length
    }

    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Default for PacketBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketBuf({} octets)", self.length)
    }
}
