//! NIR files: HDF5, with a group for each node, as the Python package `nir` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use hdf5_pure::{DType, DatasetBuilder, File, FileBuilder, FinishedGroup, Group, GroupBuilder};

use super::graph::{Array, Graph, Node, Values};
use crate::Error;
use crate::files::write_atomic;

/// The version of NIR whose fields are written.
const VERSION: &str = "1.0.4";

/// Names of what is no node's field.
const TYPE: &str = "type";
const METADATA: &str = "metadata";

/// Reads a graph.
///
/// # Errors
/// If the file cannot be read, is no HDF5, or holds no NIR graph.
pub fn read(path: &Path) -> Result<Graph, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let found = File::from_bytes(bytes)
        .map_err(|error| error.to_string())
        .and_then(|file| read_node(&file.group("node").map_err(|error| error.to_string())?));
    let node = found.map_err(|message| wrong(path, message))?;
    node.graph.ok_or_else(|| {
        let message = format!("holds a {}, expected a NIRGraph", node.kind);
        wrong(path, message)
    })
}

/// Writes a graph: under another name first, so that the file appears whole.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, graph: &Graph) -> Result<(), Error> {
    let mut file = FileBuilder::new();
    store(file.create_dataset("version"), &Array::text(VERSION));
    let group = file.create_group("node");
    let node = Node {
        kind: "NIRGraph".into(),
        metadata: graph.metadata.clone(),
        graph: Some(graph.clone()),
        ..Node::default()
    };
    file.add_group(write_node(group, &node));
    let bytes = file.finish();
    let bytes = bytes.map_err(|error| wrong(path, error.to_string()))?;
    write_atomic(path, &bytes)
}

fn wrong(path: &Path, message: String) -> Error {
    Error::Data {
        path: path.into(),
        offset: None,
        message,
    }
}

fn read_node(group: &Group) -> Result<Node, String> {
    let mut fields = arrays(group)?;
    let kind = match fields.remove(TYPE).map(|array| array.values) {
        Some(Values::Text(texts)) => texts.into_iter().next().unwrap_or_default(),
        _ => return Err("a node has no type".into()),
    };
    let groups = group.groups().map_err(|error| error.to_string())?;
    let within = |name: &str| group.group(name).map_err(|error| error.to_string());
    let metadata = match groups.iter().any(|name| name == METADATA) {
        true => arrays(&within(METADATA)?)?,
        false => BTreeMap::new(),
    };
    let mut node = Node {
        kind,
        fields,
        metadata,
        graph: None,
    };
    if node.kind == "NIRGraph" {
        let edges = edges(node.fields.remove("edges"))?;
        let group = within("nodes")?;
        let names = group.groups().map_err(|error| error.to_string())?;
        let read = |name: String| {
            let group = group.group(&name).map_err(|error| error.to_string())?;
            let node = read_node(&group).map_err(|message| format!("{name}: {message}"))?;
            Ok((name, node))
        };
        node.graph = Some(Graph {
            nodes: names.into_iter().map(read).collect::<Result<_, String>>()?,
            edges,
            metadata: node.metadata.clone(),
        });
    }
    Ok(node)
}

fn edges(array: Option<Array>) -> Result<Vec<(String, String)>, String> {
    match array.map(|array| array.values) {
        // A graph without edges has an empty array of any type.
        None | Some(Values::Float(_) | Values::Integer(_)) => Ok(Vec::new()),
        Some(Values::Text(names)) if names.len().is_multiple_of(2) => {
            let pairs = names.chunks_exact(2);
            Ok(pairs
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect())
        }
        Some(Values::Text(_)) => Err("edges are no pairs".into()),
    }
}

/// The data sets of a group.
fn arrays(group: &Group) -> Result<BTreeMap<String, Array>, String> {
    let names = group.datasets().map_err(|error| error.to_string())?;
    let read = |name: String| {
        let array = array(group, &name).map_err(|error| format!("{name}: {error}"))?;
        Ok((name, array))
    };
    names.into_iter().map(read).collect()
}

fn array(group: &Group, name: &str) -> Result<Array, hdf5_pure::Error> {
    let data = group.dataset(name)?;
    let shape = data.shape()?.into_iter().map(|n| n as usize).collect();
    let values = match data.dtype()? {
        DType::F32 | DType::F64 => Values::Float(data.read_f64()?),
        DType::String | DType::VariableLengthString => Values::Text(data.read_string()?),
        _ => Values::Integer(data.read_i64()?),
    };
    Ok(Array { shape, values })
}

fn write_node(mut group: GroupBuilder, node: &Node) -> FinishedGroup {
    store(group.create_dataset(TYPE), &Array::text(&node.kind));
    for (name, array) in &node.fields {
        store(group.create_dataset(name), array);
    }
    if !node.metadata.is_empty() {
        let mut within = group.create_group(METADATA);
        for (name, array) in &node.metadata {
            store(within.create_dataset(name), array);
        }
        group.add_group(within.finish());
    }
    if let Some(graph) = &node.graph {
        let edges = graph
            .edges
            .iter()
            .flat_map(|(from, to)| [from.clone(), to.clone()]);
        let edges = Array {
            shape: vec![graph.edges.len(), 2],
            values: Values::Text(edges.collect()),
        };
        store(group.create_dataset("edges"), &edges);
        let mut nodes = group.create_group("nodes");
        for (name, node) in &graph.nodes {
            let within = nodes.create_group(name);
            nodes.add_group(write_node(within, node));
        }
        group.add_group(nodes.finish());
    }
    group.finish()
}

fn store(data: &mut DatasetBuilder, array: &Array) {
    match &array.values {
        Values::Float(values) => data.with_f64_data(values),
        Values::Integer(values) => data.with_i64_data(values),
        Values::Text(values) => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            data.with_vlen_strings(&values)
        }
    };
    let shape: Vec<u64> = array.shape.iter().map(|&n| n as u64).collect();
    data.with_shape(&shape);
}
