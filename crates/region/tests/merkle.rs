//! The log's tree against the definitions of RFC 6962 §2.1, computed the slow
//! way over all leaves, and against the roots that Certificate Transparency's
//! implementations test themselves with.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use landline_region::merkle::{
    Frontier, Node, Plan, Sha256, Tree, is_consistent, is_included, leaf_hash, node_count, peaks,
};
use proptest::prelude::*;

/// MTH(D[n]), written as the RFC writes it.
fn naive_root(entries: &[Vec<u8>]) -> [u8; 32] {
    let sha256 = |octets: &[u8]| <[u8; 32]>::try_from(digest(&SHA256, octets).as_ref()).unwrap();
    match entries {
        [] => sha256(b""),
        [entry] => sha256(&[&[0x00], entry.as_slice()].concat()),
        _ => {
            let k = naive_split(entries.len());
            let (left, right) = (naive_root(&entries[..k]), naive_root(&entries[k..]));
            sha256(&[&[0x01], left.as_slice(), right.as_slice()].concat())
        }
    }
}

fn naive_split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// PATH(m, D[n]).
fn naive_path(m: usize, entries: &[Vec<u8>]) -> Vec<[u8; 32]> {
    if entries.len() == 1 {
        return Vec::new();
    }
    let k = naive_split(entries.len());
    let (mut path, other) = match m < k {
        true => (naive_path(m, &entries[..k]), naive_root(&entries[k..])),
        false => (naive_path(m - k, &entries[k..]), naive_root(&entries[..k])),
    };
    path.push(other);
    path
}

/// SUBPROOF(m, D[n], b).
fn naive_proof(m: usize, entries: &[Vec<u8>], b: bool) -> Vec<[u8; 32]> {
    let n = entries.len();
    if m == n {
        return if b { Vec::new() } else { vec![naive_root(entries)] };
    }
    let k = naive_split(n);
    let (mut proof, other) = match m <= k {
        true => (naive_proof(m, &entries[..k], b), naive_root(&entries[k..])),
        false => (naive_proof(m - k, &entries[k..], false), naive_root(&entries[..k])),
    };
    proof.push(other);
    proof
}

/// A tree as the store keeps it: its nodes by position.
#[derive(Default)]
struct Log {
    frontier: Frontier,
    nodes: HashMap<u64, Sha256>,
}

impl Log {
    fn of(entries: &[Vec<u8>]) -> Self {
        let mut log = Self::default();
        for entry in entries {
            let nodes = &mut log.nodes;
            log.frontier.append(leaf_hash(entry), |node, hash| {
                assert!(nodes.insert(node.position(), hash).is_none(), "{node:?} twice");
            });
        }
        log
    }

    fn carry_out(&self, plan: &Plan) -> Vec<Sha256> {
        plan.assemble(|node: Node| self.nodes.get(&node.position()).copied()).unwrap()
    }
}

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
}

fn bare(hashes: Vec<Sha256>) -> Vec<[u8; 32]> {
    hashes.into_iter().map(|hash| hash.0).collect()
}

#[test]
fn the_roots_are_those_that_certificate_transparency_tests_with() {
    let leaves: Vec<Vec<u8>> = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    .iter()
    .map(|leaf| hex::decode(leaf).unwrap())
    .collect();
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(Log::of(&leaves[..size]).frontier.root().to_string(), *root, "{size} leaves");
    }
}

#[test]
fn every_proof_of_every_small_tree_is_the_definitions() {
    for size in 1..=33 {
        let entries = entries(size);
        let log = Log::of(&entries);
        assert_eq!(log.frontier.root().0, naive_root(&entries));
        assert_eq!(log.nodes.len() as u64, node_count(size as u64));
        for index in 0..size {
            let plan = Plan::inclusion(index as u64, size as u64).unwrap();
            assert_eq!(bare(log.carry_out(&plan)), naive_path(index, &entries), "{index}/{size}");
        }
        for old in 1..=size {
            let plan = Plan::consistency(old as u64, size as u64).unwrap();
            assert_eq!(
                bare(log.carry_out(&plan)),
                naive_proof(old, &entries, true),
                "{old}/{size}"
            );
        }
        assert_eq!(Plan::inclusion(size as u64, size as u64), None);
        assert_eq!(Plan::consistency(size as u64 + 1, size as u64), None);
    }
}

proptest! {
    #[test]
    fn a_true_inclusion_proof_holds_and_any_change_of_it_does_not(
        size in 1_usize..300, index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let entries = entries(size);
        let (log, index) = (Log::of(&entries), index.index(size));
        let leaf = leaf_hash(&entries[index]);
        let (index, size) = (index as u64, size as u64);
        let path = log.carry_out(&Plan::inclusion(index, size).unwrap());
        let root = Sha256(naive_root(&entries));
        prop_assert!(is_included(leaf, index, size, &path, root));

        let other = other.index(entries.len()) as u64;
        if other != index {
            prop_assert!(!is_included(leaf, other, size, &path, root));
            prop_assert!(!is_included(leaf_hash(&entries[other as usize]), index, size, &path, root));
        }
        prop_assert!(!is_included(leaf, index, size, &path, Sha256::of(b"other")));
        let mut longer = path.clone();
        longer.push(root);
        prop_assert!(!is_included(leaf, index, size, &longer, root));
        if !path.is_empty() {
            prop_assert!(!is_included(leaf, index, size, &path[1..], root));
            let mut changed = path.clone();
            let at = at.index(changed.len());
            changed[at].0[7] ^= 1;
            prop_assert!(!is_included(leaf, index, size, &changed, root));
        }
    }

    #[test]
    fn a_log_is_consistent_with_its_own_past_and_with_no_other(
        size in 1_usize..300, old in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
    ) {
        let new_entries = entries(size);
        let old = 1 + old.index(size);
        let log = Log::of(&new_entries);
        let path = log.carry_out(&Plan::consistency(old as u64, size as u64).unwrap());
        let tree = |entries: &[Vec<u8>]| Tree {
            size: entries.len() as u64,
            root: Sha256(naive_root(entries)),
        };
        let (past, present) = (tree(&new_entries[..old]), tree(&new_entries));
        prop_assert!(is_consistent(past, present, &path));

        // One entry of the past was another.
        let mut rewritten = new_entries[..old].to_vec();
        rewritten[at.index(old)].push(b'!');
        prop_assert!(!is_consistent(tree(&rewritten), present, &path));
        if old < size {
            prop_assert!(!is_consistent(present, past, &path), "a log does not shrink");
            prop_assert!(!is_consistent(past, present, &path[1..]));
            let mut changed = path.clone();
            let at = at.index(changed.len());
            changed[at].0[0] ^= 0x80;
            prop_assert!(!is_consistent(past, present, &changed));
        }
    }

    #[test]
    fn a_log_goes_on_from_its_peaks(size in 0_usize..300, more in 0_usize..40) {
        let entries = entries(size + more);
        let log = Log::of(&entries[..size]);
        let hashes = peaks(0..size as u64).into_iter().map(|node| log.nodes[&node.position()]);
        let mut resumed = Frontier::resume(size as u64, hashes.collect()).unwrap();
        prop_assert_eq!(&resumed, &log.frontier);
        for entry in &entries[size..] {
            resumed.append(leaf_hash(entry), |_, _| ());
        }
        prop_assert_eq!(resumed.root().0, naive_root(&entries));
        prop_assert_eq!(Frontier::resume(size as u64 + 1, vec![]).is_some(), false);
    }
}
