//! A graph's nodes in the order in which they are computed.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Node};

/// A node with what it reads.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: String,
    pub(super) node: &'a Node,
    /// Places before it, whose outputs are added; none of the graph's input.
    pub(super) sources: Vec<usize>,
    /// The weights by which it reads its own spikes.
    pub(super) recurrent: Option<&'a Node>,
}

/// Whether nodes of that type keep a state.
fn is_neuron(kind: &str) -> bool {
    ["I", "IF", "LI", "LIF", "CubaLI", "CubaLIF"].contains(&kind)
}

/// Nodes and edges of a graph and all graphs within it.
#[derive(Default)]
struct Flat<'a> {
    nodes: BTreeMap<String, &'a Node>,
    edges: Vec<(String, String)>,
}

impl<'a> Flat<'a> {
    fn add(&mut self, prefix: &str, graph: &'a Graph) -> Result<(), String> {
        let path = |name: &str| format!("{prefix}{name}");
        for (name, node) in &graph.nodes {
            match &node.graph {
                Some(within) => self.add(&format!("{}.", path(name)), within)?,
                None if self.nodes.insert(path(name), node).is_some() => {
                    return Err(format!("{} is there twice", path(name)));
                }
                None => {}
            }
        }
        let end = |name: &str, kind: &str| -> Result<String, String> {
            let node = graph.nodes.get(name);
            let node = node.ok_or_else(|| format!("an edge names `{name}`, which is no node"))?;
            let Some(within) = &node.graph else {
                return Ok(path(name));
            };
            let mut ends = within.nodes.iter().filter(|(_, node)| node.kind == kind);
            let (inner, _) = ends.next().ok_or_else(|| format!("{name} has no {kind}"))?;
            Ok(path(&format!("{name}.{inner}")))
        };
        for (from, to) in &graph.edges {
            self.edges.push((end(from, "Output")?, end(to, "Input")?));
        }
        Ok(())
    }

    /// Takes out the weights between a neuron and itself.
    fn take_recurrent(&mut self) -> Result<BTreeMap<String, &'a Node>, String> {
        let mut found: BTreeMap<String, (String, &'a Node)> = BTreeMap::new();
        for (neuron, node) in &self.nodes {
            let mut back = self.edges.iter().filter(|(from, to)| {
                from == neuron && self.edges.contains(&(to.clone(), from.clone()))
            });
            if let Some((_, weights)) = back.next().filter(|_| is_neuron(&node.kind)) {
                self.check_recurrent(neuron, weights)?;
                found.insert(neuron.clone(), (weights.clone(), self.nodes[weights]));
            }
        }
        for (weights, _) in found.values() {
            self.nodes.remove(weights);
            self.edges
                .retain(|(from, to)| from != weights && to != weights);
        }
        let weights = found.into_iter();
        Ok(weights.map(|(neuron, (_, node))| (neuron, node)).collect())
    }

    /// Whether a node is only the weights between a neuron and itself.
    fn check_recurrent(&self, neuron: &str, weights: &str) -> Result<(), String> {
        let kind = &self.nodes[weights].kind;
        if !["Affine", "Linear"].contains(&kind.as_str()) {
            return Err(format!(
                "{weights} is a {kind} between {neuron} and itself, expected Affine or Linear"
            ));
        }
        let other = |from: &str, to: &str| {
            from == weights && to != neuron || to == weights && from != neuron
        };
        match self.edges.iter().any(|(from, to)| other(from, to)) {
            true => Err(format!(
                "{weights} is between {neuron} and itself and others"
            )),
            false => Ok(()),
        }
    }

    /// Whether there is one input and one output, and every other node reads another.
    fn check(&self, graph: &Graph) -> Result<(), String> {
        let reads = |name: &str| self.edges.iter().any(|(_, to)| to == name);
        for kind in ["Input", "Output"] {
            let mut ends = graph.nodes.iter().filter(|(_, node)| node.kind == kind);
            ends.next().ok_or_else(|| format!("has no {kind}"))?;
            if let Some((second, _)) = ends.next() {
                return Err(format!("{second} is a second {kind}"));
            }
        }
        for (name, node) in &self.nodes {
            let starts = node.kind == "Input" && graph.nodes.contains_key(name);
            match reads(name) {
                true if starts => return Err(format!("{name} is an Input that reads a node")),
                false if !starts => return Err(format!("{name} reads nothing")),
                _ => {}
            }
        }
        match self.edges.iter().find(|(from, to)| from == to) {
            Some((name, _)) => Err(format!("{name} reads itself without weights")),
            None => Ok(()),
        }
    }
}

/// The nodes, each after those it reads.
pub(super) fn in_order(graph: &Graph) -> Result<Vec<Place<'_>>, String> {
    let mut flat = Flat::default();
    flat.add("", graph)?;
    flat.check(graph)?;
    let recurrent = flat.take_recurrent()?;
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut waiting: BTreeSet<&String> = flat.nodes.keys().collect();
    while !waiting.is_empty() {
        let sources = |name: &String| -> Option<Vec<usize>> {
            let from = flat.edges.iter().filter(|(_, to)| to == name);
            let place = |from: &String| places.iter().position(|place| place.name == *from);
            from.map(|(from, _)| place(from)).collect()
        };
        let ready = waiting
            .iter()
            .find_map(|name| Some((*name, sources(name)?)));
        let Some((name, sources)) = ready else {
            let names: Vec<&str> = waiting.iter().map(|name| name.as_str()).collect();
            let names = names.join(", ");
            return Err(format!(
                "{names} read each other, and no neuron reads itself alone"
            ));
        };
        waiting.remove(name);
        places.push(Place {
            name: name.clone(),
            node: flat.nodes[name],
            sources,
            recurrent: recurrent.get(name).copied(),
        });
    }
    Ok(places)
}
