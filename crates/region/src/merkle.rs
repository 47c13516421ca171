//! An append-only Merkle tree: RFC 9162 §2.1, whose hashes are those of
//! RFC 6962 §2.1.
//!
//! Only perfect subtrees are ever kept; what a head, an inclusion proof or a
//! consistency proof needs beyond them is put together from those. The machine
//! names the nodes it needs and the shell reads them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// A SHA-256 hash, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 hash: 64 lower-case hexadecimal digits")]
pub struct InvalidHash;

impl Sha256 {
    pub fn of(octets: &[u8]) -> Self {
        Self::finished(digest(&SHA256, octets).as_ref())
    }

    fn joined(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        Self::finished(context.finish().as_ref())
    }

    fn finished(octets: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(octets);
        Self(hash)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        // One way to write each hash: what is signed is the text.
        if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
            return Err(InvalidHash);
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| InvalidHash)?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = InvalidHash;

    fn try_from(text: String) -> Result<Self, InvalidHash> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hash.to_string()
    }
}

/// RFC 9162 §2.1.1: leaves and nodes differ in their first octet, so that
/// neither can be taken for the other.
pub fn leaf_hash(entry: &[u8]) -> Sha256 {
    Sha256::joined(&[&[0], entry])
}

pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    Sha256::joined(&[&[1], &left.0, &right.0])
}

/// A perfect subtree: the leaves `index << level .. (index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    pub level: u32,
    pub index: u64,
}

impl Node {
    /// One number for each node, and nodes in the order of an in-order walk
    /// (as RFC 9420, appendix C): leaf n is 2n, what joins 2n and 2n + 2 is 2n + 1.
    pub fn position(self) -> u64 {
        (((self.index << 1) | 1) << self.level) - 1
    }
}

/// How many perfect subtrees, leaves among them, a tree of `size` leaves has.
pub const fn node_count(size: u64) -> u64 {
    // Each peak of n leaves has 2n - 1 nodes.
    2 * size - size.count_ones() as u64
}

/// The right edge of a growing tree: its perfect subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Sha256>,
}

impl Frontier {
    /// Of a tree that has `size` leaves; `peaks` are the hashes of
    /// [`peaks`]`(0..size)`. `None` where there are more or fewer.
    pub fn resume(size: u64, peaks: Vec<Sha256>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, and tells of every perfect subtree that it completes, the
    /// leaf itself first.
    pub fn append(&mut self, leaf: Sha256, mut completed: impl FnMut(Node, Sha256)) {
        let (mut hash, mut node) = (leaf, Node { level: 0, index: self.size });
        completed(node, hash);
        while node.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            node = Node { level: node.level + 1, index: node.index >> 1 };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// RFC 9162 §2.1.1: the hash of nothing is that of the empty string.
    pub fn root(&self) -> Sha256 {
        fold(&self.peaks).unwrap_or_else(|| Sha256::of(b""))
    }
}

/// The tree hash over subtrees from the largest to the smallest.
fn fold(peaks: &[Sha256]) -> Option<Sha256> {
    let mut hashes = peaks.iter().rev().copied();
    let last = hashes.next()?;
    Some(hashes.fold(last, |right, left| node_hash(&left, &right)))
}

/// The root over these leaves, in order.
pub fn root(leaves: impl IntoIterator<Item = Sha256>) -> Sha256 {
    let mut frontier = Frontier::default();
    leaves.into_iter().for_each(|leaf| frontier.append(leaf, |_, _| ()));
    frontier.root()
}

/// The perfect subtrees that a run of leaves consists of, as such runs occur
/// in proofs: their start is a multiple of their largest subtree's size.
pub fn peaks(leaves: Range<u64>) -> Vec<Node> {
    let (mut nodes, mut start) = (Vec::new(), leaves.start);
    while start < leaves.end {
        let level = (leaves.end - start).ilog2();
        nodes.push(Node { level, index: start >> level });
        start += 1 << level;
    }
    nodes
}

/// A proof before its hashes were looked up: the runs of leaves whose tree
/// hashes it consists of, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<Range<u64>>);

impl Plan {
    /// PATH of RFC 9162 §2.1.3.1: that leaf `index` is in the tree of `size`.
    /// `None` where it is not.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut runs, mut tree) = (Vec::new(), 0..size);
        while tree.end - tree.start > 1 {
            let middle = tree.start + split(tree.end - tree.start);
            if index < middle {
                runs.push(middle..tree.end);
                tree.end = middle;
            } else {
                runs.push(tree.start..middle);
                tree.start = middle;
            }
        }
        runs.reverse();
        Some(Self(runs))
    }

    /// PROOF of RFC 9162 §2.1.4.1: that the tree of `old` leaves is the
    /// beginning of that of `new`. `None` where it is the longer one.
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        if old > new {
            return None;
        }
        let (mut runs, mut tree) = (Vec::new(), 0..new);
        if old == 0 {
            return Some(Self(runs));
        }
        while tree.end != old {
            let middle = tree.start + split(tree.end - tree.start);
            if old <= middle {
                runs.push(middle..tree.end);
                tree.end = middle;
            } else {
                runs.push(tree.start..middle);
                tree.start = middle;
            }
        }
        // The old tree's own root is known to who holds it.
        if tree.start > 0 {
            runs.push(tree);
        }
        runs.reverse();
        Some(Self(runs))
    }

    /// What must be known to carry the plan out.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.0.iter().flat_map(|run| peaks(run.clone()))
    }

    /// The proof; `None` where a node is not known.
    pub fn assemble(&self, hash_of: impl Fn(Node) -> Option<Sha256>) -> Option<Vec<Sha256>> {
        let of_run = |run: &Range<u64>| {
            let hashes: Option<Vec<Sha256>> =
                peaks(run.clone()).into_iter().map(&hash_of).collect();
            fold(&hashes?)
        };
        self.0.iter().map(of_run).collect()
    }
}

/// The largest power of two smaller than `size`, which is at least 2.
const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// RFC 9162 §2.1.3.2.
pub fn is_included(leaf: Sha256, index: u64, size: u64, path: &[Sha256], root: Sha256) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == root
}

/// A tree by its number of leaves and its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    pub size: u64,
    pub root: Sha256,
}

/// RFC 9162 §2.1.4.2: whether `old` is the beginning of `new`.
pub fn is_consistent(old: Tree, new: Tree, path: &[Sha256]) -> bool {
    if old.size == new.size {
        return path.is_empty() && old.root == new.root;
    }
    if old.size == 0 || old.size > new.size {
        // Nothing is the beginning of everything.
        return old.size == 0 && path.is_empty() && old.root == Sha256::of(b"");
    }
    let own = old.size.is_power_of_two().then_some(old.root);
    let mut path = own.into_iter().chain(path.iter().copied());
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let Some(first) = path.next() else { return false };
    let (mut of_old, mut of_new) = (first, first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            of_old = node_hash(&sibling, &of_old);
            of_new = node_hash(&sibling, &of_new);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            of_new = node_hash(&of_new, &sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && of_old == old.root && of_new == new.root
}
