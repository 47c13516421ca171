//! A disk that is slow, fails, fills, and at a power cut forgets what it was not
//! told to keep.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use landline_store::ledger::{Disk, DiskFile};

use crate::chance::Chance;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    #[default]
    Well,
    Slow,
    /// One operation in three fails, some of them half done.
    Failing,
    /// Has room for nothing more.
    Full,
}

#[derive(Clone, Default)]
struct Content {
    octets: Vec<u8>,
    /// How many of them a power cut leaves for sure.
    synced: usize,
}

/// A change of names that is not synced.
enum NameChange {
    Made(String),
    Replaced(String, Option<Content>),
    Removed(String, Content),
    Renamed { from: String, to: String, replaced: Option<Content> },
}

struct State {
    files: BTreeMap<String, Content>,
    names: Vec<NameChange>,
    health: Health,
    chance: Chance,
    /// Acknowledges at once, and writes when it likes.
    forgets: bool,
    /// A write is under way: what files there were, and how long.
    under_way: Option<BTreeMap<String, usize>>,
}

/// Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Rc<RefCell<State>>);

impl SimDisk {
    pub fn new(chance: Chance, forgets: bool) -> Self {
        Self(Rc::new(RefCell::new(State {
            files: BTreeMap::new(),
            names: Vec::new(),
            health: Health::Well,
            chance,
            forgets,
            under_way: None,
        })))
    }

    pub fn health(&self) -> Health {
        self.0.borrow().health
    }

    pub fn set_health(&self, health: Health) {
        self.0.borrow_mut().health = health;
    }

    /// A write begins that takes its time; until [`SimDisk::written`] a death
    /// leaves any part of it.
    pub fn writing(&self) {
        let mut state = self.0.borrow_mut();
        let lengths = state.files.iter().map(|(name, file)| (name.clone(), file.octets.len()));
        state.under_way = Some(lengths.collect());
    }

    pub fn written(&self) {
        self.0.borrow_mut().under_way = None;
    }

    /// The process died: what it had written is with the kernel, and of the
    /// write that was under way any part.
    pub fn process_died(&self) {
        self.0.borrow_mut().tear();
    }

    /// What was not synced may be there or not.
    pub fn power_cut(&self) {
        let mut state = self.0.borrow_mut();
        state.tear();
        let keep = state.chance.below_or_all();
        while state.names.len() > keep {
            let Some(change) = state.names.pop() else { break };
            state.undo(change);
        }
        state.names.clear();
        let State { files, chance, .. } = &mut *state;
        for file in files.values_mut() {
            let unsure = file.octets.len() - file.synced;
            file.octets.truncate(file.synced + chance.below(unsure + 1));
            file.synced = file.octets.len();
        }
    }
}

impl State {
    fn tear(&mut self) {
        let Some(before) = self.under_way.take() else { return };
        for (name, file) in &mut self.files {
            let floor = before.get(name).copied().unwrap_or(0).min(file.octets.len());
            let fresh = file.octets.len() - floor;
            file.octets.truncate(floor + self.chance.below(fresh + 1));
            file.synced = file.synced.min(file.octets.len());
        }
    }

    fn undo(&mut self, change: NameChange) {
        match change {
            NameChange::Made(name) => drop(self.files.remove(&name)),
            NameChange::Removed(name, content) => drop(self.files.insert(name, content)),
            NameChange::Replaced(name, Some(content)) => drop(self.files.insert(name, content)),
            NameChange::Replaced(name, None) => drop(self.files.remove(&name)),
            NameChange::Renamed { from, to, replaced } => {
                if let Some(content) = self.files.remove(&to) {
                    self.files.insert(from, content);
                }
                if let Some(content) = replaced {
                    self.files.insert(to, content);
                }
            }
        }
    }

    /// Whether the disk does what it is asked.
    fn ready(&mut self) -> io::Result<()> {
        match self.health {
            Health::Failing if self.chance.one_in(3) => Err(io::Error::other("the disk failed")),
            _ => Ok(()),
        }
    }

    fn room(&mut self) -> io::Result<()> {
        match self.health {
            Health::Full => Err(io::ErrorKind::StorageFull.into()),
            _ => self.ready(),
        }
    }

    fn append(&mut self, name: &str, octets: &[u8]) -> io::Result<()> {
        let room = self.room();
        let taken = match room {
            Ok(()) => octets.len(),
            Err(_) => self.chance.below(octets.len()),
        };
        let file = self.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        file.octets.extend_from_slice(&octets[..taken]);
        room
    }
}

trait BelowOrAll {
    fn below_or_all(&mut self) -> usize;
}

impl BelowOrAll for Chance {
    /// A small number, or one that is beyond any.
    fn below_or_all(&mut self) -> usize {
        if self.one_in(2) { usize::MAX } else { self.below(4) }
    }
}

pub struct SimFile {
    disk: SimDisk,
    name: String,
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.0.borrow_mut();
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room()?;
        state.files.insert(name.to_owned(), Content::default());
        state.names.push(NameChange::Made(name.to_owned()));
        Ok(SimFile { disk: self.clone(), name: name.to_owned() })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        match self.0.borrow().files.contains_key(name) {
            true => Ok(SimFile { disk: self.clone(), name: name.to_owned() }),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().files.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.ready()?;
        if !state.forgets {
            state.names.clear();
        }
        Ok(())
    }

    fn replace(&self, name: &str, text: &str, synced: bool) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.room()?;
        let octets = text.as_bytes().to_vec();
        let synced = if synced && !state.forgets { octets.len() } else { 0 };
        let former = state.files.insert(name.to_owned(), Content { octets, synced });
        state.names.push(NameChange::Replaced(name.to_owned(), former));
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let state = self.0.borrow();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(String::from_utf8_lossy(&file.octets).into_owned())
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        self.open(name)?.cut(length)?;
        self.open(name)?.sync()
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.room()?;
        let file = state.files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        let former = state.files.insert(to.to_owned(), Content { synced: 0, ..file });
        state.names.push(NameChange::Replaced(to.to_owned(), former));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.ready()?;
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = state.files.insert(to.to_owned(), file);
        let (from, to) = (from.to_owned(), to.to_owned());
        state.names.push(NameChange::Renamed { from, to, replaced });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.ready()?;
        let file = state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.names.push(NameChange::Removed(name.to_owned(), file));
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("ledger").join(name)
    }
}

impl DiskFile for SimFile {
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.disk.0.borrow_mut().append(&self.name, octets)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.ready()?;
        if state.forgets {
            return Ok(());
        }
        let file = state.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        file.synced = file.octets.len();
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.ready()?;
        let file = state.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        file.octets.truncate(length as usize);
        file.synced = file.synced.min(length as usize);
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.0.borrow();
        let file = state.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let end = offset as usize + into.len();
        let found = file.octets.get(offset as usize..end);
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.0.borrow();
        let file = state.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.octets.len() as u64)
    }
}
