//! Files of integers.
use super::ExportError;
use super::proto::ModelProto;
use crate::graph::Graph;

pub(super) fn write(_graph: &Graph) -> Result<ModelProto, ExportError> {
    Err(ExportError::new("todo", "todo"))
}
