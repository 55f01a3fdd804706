//! Circles of a graph.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What imports what, by name.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns a shortest circle for each group of nodes that reach each other, beginning with its first node.
pub(crate) fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for node in graph.keys() {
        if seen.contains(node) {
            continue;
        }
        if let Some(circle) = shortest(graph, node) {
            let from_here = reached(graph, node);
            let group = from_here
                .iter()
                .filter(|other| reached(graph, other).contains(node));
            seen.extend(group.cloned());
            found.push(circle);
        }
    }
    found
}

fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(node) = next.pop() {
        for to in graph.get(&node).into_iter().flatten() {
            if reached.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    reached
}

/// The shortest way from a node back to it.
fn shortest(graph: &Graph, from: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last().expect("a way has a node");
        for to in graph.get(last).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(to.clone());
            if to == from {
                return Some(longer);
            }
            if seen.insert(to.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[test]
fn a_circle_is_found_and_named_once() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        graph
    };
    assert!(circles(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    let found = circles(&graph(&[
        ("a", "b"),
        ("b", "c"),
        ("c", "b"),
        ("c", "d"),
        ("d", "b"),
    ]));
    assert_eq!(found, [["b", "c", "b"]]);
}
