//! A backup's file: a head in plain, then sealed blocks, each with its length
//! and CRC-32C in front, and a last one that says that it is the last.
//!
//! Blocks are sealed under a key derived from the region's key ring and the
//! head's salt. The nonce is the block's number and the head's hash is
//! authenticated with each, so no block can be moved, left out or put into
//! another file. Reading holds one block in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce};
use aws_lc_rs::digest::{SHA256, digest};
use landline_region::{RegionCode, UnixMillis};
use serde::{Deserialize, Serialize};

use super::table::{Cell, Sum};
use crate::error::{Result, StoreError};
use crate::keys::KeyRing;
use crate::seal;

const MAGIC: &[u8; 8] = b"LLBAK 1\n";
/// A longer head is none of ours.
const LONGEST_HEAD: usize = 4096;
/// A longer block is taken for a damaged length.
const LONGEST_BLOCK: usize = 256 << 20;

/// Which half of a backup a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What happened: written once, and useless without the other half.
    Records,
    /// What lives: keys, people, settings. There is one, and it is replaced.
    Living,
}

/// In plain: what one may know of a backup without the region's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub part: Part,
    pub region: RegionCode,
    /// The identity of the key ring that it is sealed with.
    pub key_ring: String,
    /// The version of the database's schema.
    pub schema: i64,
    pub taken_at: UnixMillis,
    salt: String,
}

impl Head {
    pub fn new(part: Part, keys: &KeyRing, schema: i64, taken_at: UnixMillis) -> Self {
        let salt = hex::encode(seal::random::<32>());
        Self { part, region: keys.region(), key_ring: keys.id().to_owned(), schema, taken_at, salt }
    }

    fn key(&self, keys: &KeyRing) -> Option<LessSafeKey> {
        let mut salt = [0; 32];
        hex::decode_to_slice(&self.salt, &mut salt).ok()?;
        Some(seal::aead(&keys.backup_key(&salt)))
    }
}

#[derive(Serialize, Deserialize)]
pub enum Block {
    /// A table begins, or some columns of it by its primary key.
    Table {
        name: String,
        columns: Vec<String>,
    },
    Rows(Vec<Vec<Cell>>),
    /// What the table's rows, all of them, come to.
    TableEnd(Sum),
    /// Events of the ledger that were not in the database yet.
    Events(Vec<Vec<u8>>),
    /// The file is whole.
    End {
        rows: u64,
    },
}

/// Writes under another name; [`Writer::finish`] makes it durable and
/// [`Written::publish`] gives it its own.
pub struct Writer {
    out: BufWriter<File>,
    file: PathBuf,
    part: PathBuf,
    key: LessSafeKey,
    head_hash: [u8; 32],
    blocks: u64,
    octets: u64,
}

/// A whole file under its temporary name, which goes when this is dropped.
pub struct Written {
    file: PathBuf,
    part: PathBuf,
    published: bool,
    pub octets: u64,
}

impl Writer {
    pub fn create(file: &Path, head: &Head, keys: &KeyRing) -> Result<Self> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = file.with_file_name(name);
        let fail = |error: std::io::Error| StoreError::file(&part, error);
        let _ = std::fs::remove_file(&part);
        let out =
            File::options().create_new(true).write(true).mode(0o600).open(&part).map_err(fail)?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let json = serde_json::to_vec(head).map_err(|error| StoreError::file(&part, error))?;
        let mut octets = MAGIC.to_vec();
        octets.extend_from_slice(&(json.len() as u32).to_le_bytes());
        octets.extend_from_slice(&json);
        octets.extend_from_slice(&crc32c::crc32c(&octets).to_le_bytes());
        out.write_all(&octets).map_err(fail)?;
        let key = head.key(keys).ok_or_else(|| StoreError::file(&part, "its salt is no salt"))?;
        let (head_hash, octets) = (sha256(&octets), octets.len() as u64);
        Ok(Self { out, file: file.to_owned(), part, key, head_hash, blocks: 0, octets })
    }

    pub fn put(&mut self, block: &Block) -> Result<()> {
        let fail = |error: &dyn ToString| StoreError::file(&self.part, error.to_string());
        let mut body = postcard::to_stdvec(block).map_err(|error| fail(&error))?;
        let aad = Aad::from(self.head_hash);
        let tag = self.key.seal_in_place_separate_tag(nonce(self.blocks), aad, &mut body);
        body.extend_from_slice(tag.expect("a block is shorter than 64 GiB").as_ref());
        if body.len() > LONGEST_BLOCK {
            return Err(fail(&"a row of the database is too long for a backup"));
        }
        let (length, crc) = ((body.len() as u32).to_le_bytes(), crc32c::crc32c(&body));
        let written = [&length[..], &crc.to_le_bytes(), &body]
            .iter()
            .try_for_each(|octets| self.out.write_all(octets));
        written.map_err(|error| fail(&error))?;
        self.blocks += 1;
        self.octets += 8 + body.len() as u64;
        Ok(())
    }

    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Waits until all is on disk.
    pub fn finish(mut self) -> Result<Written> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|error| StoreError::file(&self.part, error))?;
        let (file, part) = (self.file.clone(), std::mem::take(&mut self.part));
        Ok(Written { file, part, published: false, octets: self.octets })
    }
}

/// What was begun and not finished leaves nothing behind.
impl Drop for Writer {
    fn drop(&mut self) {
        if !self.part.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl Written {
    pub fn publish(mut self) -> Result<()> {
        let renamed = std::fs::rename(&self.part, &self.file);
        let renamed = renamed.and_then(|()| crate::file::sync_parent(&self.file));
        renamed.map_err(|error| StoreError::file(&self.file, error))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

pub struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    head: Head,
    key: LessSafeKey,
    head_hash: [u8; 32],
    blocks: u64,
    offset: u64,
    length: u64,
}

impl Reader {
    /// Refuses what is no backup, another region's, or sealed with other keys.
    pub fn open(path: &Path, keys: &KeyRing) -> Result<Self> {
        let file = File::open(path).map_err(|error| StoreError::file(path, error))?;
        let length = file.metadata().map_err(|error| StoreError::file(path, error))?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let bad = |problem: &str| damaged(path, 0, problem);
        let octets = head_octets(&mut file).ok_or_else(|| bad("it is no backup's head"))?;
        let (covered, crc) = octets.split_at(octets.len() - 4);
        if crc32c::crc32c(covered).to_le_bytes() != crc {
            return Err(bad("its head was changed"));
        }
        let head: Head = serde_json::from_slice(&covered[MAGIC.len() + 4..])
            .map_err(|error| bad(&format!("its head cannot be read: {error}")))?;
        if head.region != keys.region() {
            return Err(StoreError::BackupOfAnotherRegion {
                path: path.to_owned(),
                found: head.region,
                configured: keys.region(),
            });
        }
        if head.key_ring != keys.id() {
            let (wanted, found) = (head.key_ring.clone(), keys.id().to_owned());
            return Err(StoreError::BackupOfOtherKeys { path: path.to_owned(), wanted, found });
        }
        let key = head.key(keys).ok_or_else(|| bad("its head names no salt"))?;
        let (head_hash, offset) = (sha256(&octets), octets.len() as u64);
        Ok(Self { file, path: path.to_owned(), head, key, head_hash, blocks: 0, offset, length })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How far it is read, and how long it is, in octets.
    pub fn progress(&self) -> (u64, u64) {
        (self.offset, self.length)
    }

    /// The next block. After [`Block::End`] there must be nothing.
    pub fn next(&mut self) -> Result<Block> {
        let bad = |problem: &str| damaged(&self.path, self.offset, problem);
        let mut frame = [0; 8];
        let torn = "it ends here, and is not whole";
        self.file.read_exact(&mut frame).map_err(|_| bad(torn))?;
        let [l0, l1, l2, l3, crc @ ..] = frame;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(AES_256_GCM.tag_len()..=LONGEST_BLOCK).contains(&length) {
            return Err(bad("a block's length is impossible"));
        }
        if self.length - self.offset < 8 + length as u64 {
            return Err(bad(torn));
        }
        let mut body = vec![0; length];
        self.file.read_exact(&mut body).map_err(|_| bad(torn))?;
        if crc32c::crc32c(&body).to_le_bytes() != crc {
            return Err(bad("a block was changed: its checksum is another"));
        }
        let aad = Aad::from(self.head_hash);
        let opened = self.key.open_in_place(nonce(self.blocks), aad, &mut body);
        let opened = opened.map_err(|_| bad("a block was changed or moved: its seal is broken"))?;
        let block = postcard::from_bytes(opened).map_err(|_| bad("a block is of no known kind"))?;
        self.offset += 8 + length as u64;
        self.blocks += 1;
        if matches!(block, Block::End { .. }) && self.offset != self.length {
            return Err(damaged(&self.path, self.offset, "something follows its end"));
        }
        Ok(block)
    }

    pub fn fault(&self, problem: &str) -> StoreError {
        damaged(&self.path, self.offset, problem)
    }
}

/// Magic, length, JSON and checksum; `None` where it is nothing like that.
fn head_octets(file: &mut BufReader<File>) -> Option<Vec<u8>> {
    let mut octets = vec![0; MAGIC.len() + 4];
    file.read_exact(&mut octets).ok()?;
    let (magic, length) = octets.split_at(MAGIC.len());
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    if magic != MAGIC || length > LONGEST_HEAD {
        return None;
    }
    let from = octets.len();
    octets.resize(from + length + 4, 0);
    file.read_exact(octets.get_mut(from..)?).ok()?;
    Some(octets)
}

fn damaged(path: &Path, offset: u64, problem: &str) -> StoreError {
    StoreError::Backup { path: path.to_owned(), offset, problem: problem.to_owned() }
}

fn nonce(block: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&block.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, octets).as_ref());
    hash
}
