//! The memory that a ring's requests point to.

use std::io;
use std::os::fd::RawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, opcode, squeue};
use landline_media::{MAX_PACKET, PacketBuf};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use socket2::SockAddr;

/// Datagrams that may have come and not been looked at, of all sockets; a power of
/// two. What is beyond waits in the sockets.
const BUFFERS: u16 = 1024;
/// A datagram as long as any may be, whence it came, and what the kernel says of it.
const BUFFER: usize = 2048;
const HEADER: usize = 16;
/// Of an IPv6 address, the longer one.
const NAME: usize = size_of::<libc::sockaddr_in6>();
const GROUP: u16 = 0;

const _: () = assert!(HEADER + NAME + MAX_PACKET <= BUFFER && BUFFERS.is_power_of_two());

/// Buffers that the kernel takes for what comes, and the queue by which it gets
/// them.
pub(super) struct Incoming {
    /// The queue, then the buffers.
    memory: NonNull<u8>,
    tail: u16,
    /// What is asked of every datagram.
    header: Box<libc::msghdr>,
}

// SAFETY: the memory is this handle's alone but for the kernel.
unsafe impl Send for Incoming {}

const QUEUE: usize = BUFFERS as usize * size_of::<BufRingEntry>();
const MEMORY: usize = QUEUE + BUFFERS as usize * BUFFER;

impl Incoming {
    pub fn new(uring: &IoUring) -> io::Result<Self> {
        // SAFETY: a new mapping, of no file, anywhere.
        let memory = unsafe {
            mmap_anonymous(
                null_mut(),
                MEMORY,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: of integers and pointers, all of which may be zero.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME as libc::socklen_t;
        let mut new = Self { memory, tail: 0, header };
        // SAFETY: the queue is at the mapping's beginning, a page's, and is mapped
        // until `new` is dropped, which is after the ring.
        unsafe {
            let queue = memory.as_ptr() as u64;
            uring.submitter().register_buf_ring_with_flags(queue, BUFFERS, GROUP, 0)?;
        }
        (0..BUFFERS).for_each(|buffer| new.give(buffer));
        Ok(new)
    }

    pub fn header(&self) -> &libc::msghdr {
        &self.header
    }

    /// For all datagrams that come to the socket.
    pub fn request(&self, socket: RawFd) -> squeue::Entry {
        opcode::RecvMsgMulti::new(Fd(socket), &raw const *self.header, GROUP).build()
    }

    pub fn buffer(&self, number: u16) -> &[u8] {
        // SAFETY: within the mapping, and the kernel leaves it alone until it is
        // given again.
        unsafe { std::slice::from_raw_parts(self.place(number), BUFFER) }
    }

    fn place(&self, number: u16) -> *mut u8 {
        let at = QUEUE + usize::from(number % BUFFERS) * BUFFER;
        // SAFETY: `number` is below `BUFFERS`.
        unsafe { self.memory.as_ptr().add(at) }
    }

    /// The kernel may use it (again).
    pub fn give(&mut self, number: u16) {
        let queue = self.memory.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the entry is within the queue, the kernel reads it only below the
        // tail, and the tail is told after it is written.
        unsafe {
            let entry = &mut *queue.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.place(number) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(queue).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, with this length; the ring is gone.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), MEMORY) };
    }
}

/// Datagrams on their way to the kernel.
pub(super) struct Outgoing {
    places: Vec<(PacketBuf, SockAddr)>,
    most: usize,
    used: usize,
}

impl Outgoing {
    pub fn new(most: usize) -> Self {
        // They must stay where they are.
        Self { places: Vec::with_capacity(most), most, used: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.used == self.most
    }

    /// The kernel has taken them, if nothing waits.
    pub fn sent(&mut self, nothing_waits: bool) {
        if nothing_waits {
            self.used = 0;
        }
    }

    pub fn request(
        &mut self,
        socket: RawFd,
        octets: &[u8],
        to: SockAddr,
    ) -> io::Result<squeue::Entry> {
        if self.is_full() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.used == self.places.len() {
            self.places.push((PacketBuf::new(), to.clone()));
        }
        let place = self.places.get_mut(self.used).ok_or(io::ErrorKind::OutOfMemory)?;
        place.0.set_len(0);
        if !place.0.append(octets) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        place.1 = to;
        self.used += 1;
        let octets = place.0.as_slice();
        let request = opcode::Send::new(Fd(socket), octets.as_ptr(), octets.len() as u32)
            // It is sent now or not at all, so that it is over by then.
            .flags(libc::MSG_DONTWAIT)
            .dest_addr(place.1.as_ptr().cast())
            .dest_addr_len(place.1.len());
        Ok(request.build())
    }
}
