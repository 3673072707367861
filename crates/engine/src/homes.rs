//! Which nodes may be the home of a session, as whoever knows the cluster says: a table that is replaced
//! whole, so that its readers need no lock.

use crate::handle::Handle;
use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq)]
pub struct Homes {
    /// This node itself is the home of its clients' sessions.
    pub here: bool,
    /// Of how much each node gets, those that are not named 1; with 0 it gets no new ones.
    pub weights: HashMap<Box<str>, f64>,
}

impl Default for Homes {
    fn default() -> Self {
        Homes {
            here: true,
            weights: HashMap::new(),
        }
    }
}

impl Homes {
    /// The one of `nodes` that this session's home is: weighted rendezvous hashing (Schindelhauer and
    /// Schomaker, 2005), so that a node that comes or goes moves no other's sessions.
    pub fn choose<T>(&self, session: Handle, nodes: impl Iterator<Item = (T, u64)>) -> Option<T>
    where
        T: AsRef<str>,
    {
        let scored = nodes.filter_map(|(node, seed)| {
            let weight = self.weights.get(node.as_ref()).copied().unwrap_or(1.0);
            (weight > 0.0).then(|| (score(session, seed) / weight, node))
        });
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|of| of.1)
    }
}

/// Of a node's name: the same at every proxy.
pub fn seed(node: &str) -> u64 {
    // FNV-1a.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    node.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Exponentially distributed: the least of several falls on each with its share.
fn score(session: Handle, seed: u64) -> f64 {
    let mut mixed = seed ^ u64::from(session.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for multiplier in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ mixed >> 30).wrapping_mul(multiplier);
    }
    let uniform = ((mixed >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(homes: &Homes, names: &[&'static str]) -> HashMap<&'static str, usize> {
        let mut shares = HashMap::new();
        for slot in 0..10_000 {
            let nodes = names.iter().map(|name| (*name, seed(name)));
            if let Some(node) = homes.choose(Handle::new(0, slot, 1), nodes) {
                *shares.entry(node).or_default() += 1;
            }
        }
        shares
    }

    #[test]
    fn each_node_gets_its_share() {
        let mut homes = Homes::default();
        let shares_of = shares(&homes, &["a", "b", "c", "d"]);
        assert!(
            shares_of.values().all(|of| (2_300..2_700).contains(of)),
            "{shares_of:?}"
        );
        homes.weights.insert("a".into(), 3.0);
        homes.weights.insert("b".into(), 0.0);
        let shares_of = shares(&homes, &["a", "b", "c"]);
        assert!((7_300..7_700).contains(&shares_of["a"]), "{shares_of:?}");
        assert_eq!(shares_of.get("b"), None);
    }

    #[test]
    fn one_that_goes_moves_no_others() {
        let homes = Homes::default();
        for slot in 0..1_000 {
            let session = Handle::new(1, slot, 5);
            let choose = |names: &[&'static str]| {
                homes.choose(session, names.iter().map(|name| (*name, seed(name))))
            };
            let before = choose(&["a", "b", "c"]).unwrap();
            if before != "c" {
                assert_eq!(choose(&["b", "a"]), Some(before));
            }
        }
    }
}
