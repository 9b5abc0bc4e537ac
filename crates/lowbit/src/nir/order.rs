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
    ["IF", "LIF", "LI", "CubaLIF", "CubaLI"].contains(&kind)
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
                None => drop(self.nodes.insert(path(name), node)),
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
    fn take_recurrent(&mut self) -> BTreeMap<String, &'a Node> {
        let mut found = BTreeMap::new();
        for (neuron, node) in &self.nodes {
            let back = self.edges.iter().filter(|(from, to)| {
                from == neuron && self.edges.contains(&(to.clone(), from.clone()))
            });
            if let Some((_, weights)) = back.into_iter().next()
                && is_neuron(&node.kind)
            {
                found.insert(neuron.clone(), (weights.clone(), self.nodes[weights]));
            }
        }
        for (weights, _) in found.values() {
            self.nodes.remove(weights);
            self.edges
                .retain(|(from, to)| from != weights && to != weights);
        }
        found
            .into_iter()
            .map(|(neuron, (_, node))| (neuron, node))
            .collect()
    }
}

/// The nodes, each after those it reads.
pub(super) fn in_order(graph: &Graph) -> Result<Vec<Place<'_>>, String> {
    let mut flat = Flat::default();
    flat.add("", graph)?;
    let recurrent = flat.take_recurrent();
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
