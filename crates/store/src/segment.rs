//! Append-only files of sealed records: what the ledger and the recorder's
//! spool are made of.
//!
//! A segment is a head (magic, salt, CRC) and records, each with its length and
//! CRC-32C in front. Records are sealed under a key that is derived from the
//! salt; the nonce is the record's number in the segment, so a record that was
//! moved does not open. A segment is never appended to after a restart.

use std::fs::File;
use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce};

use crate::disk::{Disk, DiskFile};
use crate::keys::KeyRing;
use crate::seal;

const MAGIC: &[u8; 8] = b"LLSEG 1\n";
const HEAD: u64 = 8 + 32 + 4;
const FRAME: u64 = 4 + 4;
/// A longer record is taken for a damaged length.
pub const MAX_RECORD: usize = 16 << 20;

/// Where in the journal something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
    /// Records before the offset.
    pub index: u64,
}

impl Position {
    pub const fn start_of(segment: u64) -> Self {
        Self { segment, offset: HEAD, index: 0 }
    }
}

/// The name of a segment's file.
pub fn name(segment: u64) -> String {
    format!("{segment:012}.seg")
}

/// The disk's segments in order.
pub fn list(disk: &impl Disk) -> io::Result<Vec<u64>> {
    let number = |name: String| name.strip_suffix(".seg")?.parse().ok();
    let mut segments: Vec<u64> = disk.names()?.into_iter().filter_map(number).collect();
    segments.sort_unstable();
    Ok(segments)
}

pub struct SegmentWriter<F = File> {
    file: F,
    key: LessSafeKey,
    /// The end of what is durable.
    end: Position,
    /// Records not written yet, and how many.
    buffer: Vec<u8>,
    buffered: u64,
}

/// What a record takes on disk beyond its own octets.
pub const OVERHEAD: u64 = FRAME + 16;

impl<F: DiskFile> SegmentWriter<F> {
    pub fn create(disk: &impl Disk<File = F>, segment: u64, keys: &KeyRing) -> io::Result<Self> {
        let mut file = disk.create(&name(segment))?;
        let salt = seal::random::<32>();
        let mut head = [&MAGIC[..], &salt].concat();
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        file.append(&head)?;
        file.sync()?;
        disk.sync()?;
        Ok(Self {
            file,
            key: seal::aead(&keys.segment_key(&salt)),
            end: Position::start_of(segment),
            buffer: Vec::new(),
            buffered: 0,
        })
    }

    /// Seals a record into the buffer.
    pub fn push(&mut self, plain: &[u8]) {
        let frame = self.buffer.len();
        self.buffer.extend_from_slice(&[0; FRAME as usize]);
        let body = self.buffer.len();
        self.buffer.extend_from_slice(plain);
        let nonce = nonce(self.end.index + self.buffered);
        let tag = self.key.seal_in_place_separate_tag(
            nonce,
            Aad::from(self.end.segment.to_be_bytes()),
            &mut self.buffer[body..],
        );
        self.buffer.extend_from_slice(tag.expect("a record is shorter than 64 GiB").as_ref());
        let length = (self.buffer.len() - body) as u32;
        let crc = crc32c::crc32c(&self.buffer[body..]);
        self.buffer[frame..frame + 4].copy_from_slice(&length.to_le_bytes());
        self.buffer[frame + 4..body].copy_from_slice(&crc.to_le_bytes());
        self.buffered += 1;
    }

    pub fn buffered_octets(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Writes the buffer and waits until it is on disk. After an error the
    /// segment is cut back to its durable end and must not be used further.
    pub fn sync(&mut self) -> io::Result<()> {
        let written = self.file.append(&self.buffer).and_then(|()| self.file.sync());
        if let Err(error) = written {
            let _ = self.file.cut(self.end.offset);
            return Err(error);
        }
        self.end.offset += self.buffer.len() as u64;
        self.end.index += self.buffered;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    pub fn end(&self) -> Position {
        self.end
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Record(Vec<u8>),
    /// Its checksum or seal is wrong; it is passed over.
    Damaged,
    End,
}

pub struct SegmentReader<F = File> {
    file: F,
    key: LessSafeKey,
    position: Position,
}

impl<F: DiskFile> SegmentReader<F> {
    pub fn open(
        disk: &impl Disk<File = F>,
        position: Position,
        keys: &KeyRing,
    ) -> io::Result<Self> {
        let file = disk.open(&name(position.segment))?;
        let salt = salt(&file)?;
        Ok(Self { file, key: seal::aead(&keys.segment_key(&salt)), position })
    }

    /// The next record before `end`.
    pub fn next(&mut self, end: u64) -> io::Result<Frame> {
        let body = match frame_at(&self.file, self.position.offset, end)? {
            Found::End | Found::Torn => return Ok(Frame::End),
            Found::Bad { length } => {
                self.position.offset += FRAME + length;
                self.position.index += 1;
                return Ok(Frame::Damaged);
            }
            Found::Good(body) => body,
        };
        let nonce = nonce(self.position.index);
        self.position.offset += FRAME + body.len() as u64;
        self.position.index += 1;
        let mut plain = body;
        let aad = Aad::from(self.position.segment.to_be_bytes());
        let length = match self.key.open_in_place(nonce, aad, &mut plain) {
            Ok(opened) => opened.len(),
            Err(_) => return Ok(Frame::Damaged),
        };
        plain.truncate(length);
        Ok(Frame::Record(plain))
    }

    pub fn position(&self) -> Position {
        self.position
    }
}

/// What a segment of a former run holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The end of its last whole record.
    pub end: u64,
    pub records: u64,
    /// Records with a wrong checksum among whole ones.
    pub damaged: u64,
    /// Octets after `end`: a write that was cut off.
    pub torn: u64,
}

/// Checks the checksums of a whole segment.
pub fn scan(disk: &impl Disk, segment: u64) -> io::Result<Scan> {
    let file = disk.open(&name(segment))?;
    let length = file.length()?;
    if length < HEAD || salt(&file).is_err() {
        return Ok(Scan { torn: length, ..Scan::default() });
    }
    let mut scan = Scan { end: HEAD, ..Scan::default() };
    let (mut offset, mut damaged) = (HEAD, 0);
    loop {
        match frame_at(&file, offset, length)? {
            Found::Good(body) => {
                offset += FRAME + body.len() as u64;
                scan.records += 1;
                scan.damaged += damaged;
                damaged = 0;
                scan.end = offset;
            }
            // Part of the torn end unless a whole record follows.
            Found::Bad { length } => {
                offset += FRAME + length;
                damaged += 1;
            }
            Found::End | Found::Torn => break,
        }
    }
    scan.torn = length - scan.end;
    Ok(scan)
}

enum Found {
    Good(Vec<u8>),
    Bad {
        length: u64,
    },
    /// The length is impossible or runs past the end.
    Torn,
    End,
}

fn frame_at(file: &impl DiskFile, offset: u64, end: u64) -> io::Result<Found> {
    if offset >= end {
        return Ok(Found::End);
    }
    if end - offset < FRAME {
        return Ok(Found::Torn);
    }
    let mut frame = [0; FRAME as usize];
    file.read_at(&mut frame, offset)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = frame;
    let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let possible = (AES_256_GCM.tag_len() as u64..=MAX_RECORD as u64).contains(&length);
    if !possible || end - offset - FRAME < length {
        return Ok(Found::Torn);
    }
    let mut body = vec![0; length as usize];
    file.read_at(&mut body, offset + FRAME)?;
    match crc32c::crc32c(&body) == u32::from_le_bytes([c0, c1, c2, c3]) {
        true => Ok(Found::Good(body)),
        false => Ok(Found::Bad { length }),
    }
}

fn salt(file: &impl DiskFile) -> io::Result<[u8; 32]> {
    let mut head = [0; HEAD as usize];
    file.read_at(&mut head, 0)?;
    let (signed, crc) = head.split_at(HEAD as usize - 4);
    if !signed.starts_with(MAGIC) || crc32c::crc32c(signed).to_le_bytes() != crc {
        return Err(io::Error::other("its head is damaged"));
    }
    let mut salt = [0; 32];
    salt.copy_from_slice(&signed[MAGIC.len()..]);
    Ok(salt)
}

fn nonce(index: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    fn written(records: &[&[u8]]) -> (tempfile::TempDir, Directory, KeyRing) {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::create(&dir.path().join("keys"), "ie1".parse().unwrap()).unwrap();
        let disk = Directory(dir.path().to_owned());
        let mut writer = SegmentWriter::create(&disk, 7, &keys).unwrap();
        for record in records {
            writer.push(record);
        }
        writer.sync().unwrap();
        (dir, disk, keys)
    }

    fn read(disk: &Directory, keys: &KeyRing) -> Vec<Frame> {
        let mut reader = SegmentReader::open(disk, Position::start_of(7), keys).unwrap();
        let end = disk.path(&name(7)).metadata().unwrap().len();
        let frames = std::iter::from_fn(|| Some(reader.next(end).unwrap()));
        frames.take_while(|frame| *frame != Frame::End).collect()
    }

    #[test]
    fn records_come_back_and_do_not_lie_readable() {
        let (_dir, disk, keys) = written(&[b"first record", b"", b"third"]);
        let record = |text: &[u8]| Frame::Record(text.to_vec());
        assert_eq!(read(&disk, &keys), [record(b"first record"), record(b""), record(b"third")]);
        let octets = std::fs::read(disk.path(&name(7))).unwrap();
        assert!(!octets.windows(5).any(|window| window == b"first"));
        assert_eq!(list(&disk).unwrap(), [7]);
    }

    #[test]
    fn a_cut_end_is_torn_wherever_it_is_cut() {
        let (_dir, disk, _) = written(&[b"first record", b"second record"]);
        let path = disk.path(&name(7));
        let octets = std::fs::read(&path).unwrap();
        let first_end = HEAD as usize + FRAME as usize + 12 + 16;
        for cut in first_end + 1..octets.len() {
            std::fs::write(&path, &octets[..cut]).unwrap();
            let found = scan(&disk, 7).unwrap();
            assert_eq!((found.records, found.end, found.damaged), (1, first_end as u64, 0));
            assert_eq!(found.torn, (cut - first_end) as u64);
        }
    }

    #[test]
    fn a_damaged_record_among_whole_ones_is_passed_over() {
        let (_dir, disk, keys) = written(&[b"first", b"second", b"third"]);
        let path = disk.path(&name(7));
        let mut octets = std::fs::read(&path).unwrap();
        let second = HEAD as usize + FRAME as usize + 5 + 16 + FRAME as usize;
        octets[second] ^= 1;
        std::fs::write(&path, &octets).unwrap();
        let found = scan(&disk, 7).unwrap();
        assert_eq!((found.records, found.damaged, found.torn), (2, 1, 0));
        let frames = read(&disk, &keys);
        assert_eq!(frames[1], Frame::Damaged);
        assert_eq!(frames[2], Frame::Record(b"third".to_vec()));
    }
}
