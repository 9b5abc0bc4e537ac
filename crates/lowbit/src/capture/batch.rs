//! Operations of a batch of any size, from recordings of a few sizes.
//!
//! A recorded operation holds the sizes of its tensors as numbers. Which of them belong to the batch is
//! seen by recording several sizes of it: those that differ are a multiple of it and a constant.

use burn_ir::OperationIr;
use toml::Value;

use super::record::Recording;
use super::replay::name;
use crate::Error;

/// The sizes that are recorded: two to find a line, and a third to see that it is one.
pub(super) const SIZES: [usize; 3] = [2, 3, 5];

/// An operation for batches of any size.
#[derive(Debug, Clone)]
pub(super) enum BatchOperation {
    /// It is the same for all.
    Same(Box<OperationIr>),
    /// Some of its numbers follow the batch.
    Follows(Pattern),
}

/// A value, some of whose numbers follow the batch.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Same(Value),
    /// `each * batch + more`
    Size {
        each: i64,
        more: i64,
    },
    List(Vec<Pattern>),
    Table(Vec<(String, Pattern)>),
}

/// The operations of recordings of batches of [`SIZES`].
///
/// # Errors
/// If they do not follow the size of the batch.
pub(super) fn operations(
    recordings: &[Recording; SIZES.len()],
) -> Result<Vec<BatchOperation>, Error> {
    let [first, others @ ..] = recordings;
    for other in others {
        let (a, b) = (first.operations.len(), other.operations.len());
        if a != b {
            let message = format!(
                "it is {a} operations for one size of the batch and {b} for another, expected as many"
            );
            return Err(Error::capture("the model", message));
        }
        if let Some(id) = first.constants.iter().find_map(|(id, value)| {
            let same = other.constants.get(id).is_some_and(|v| v == value);
            (!same).then_some(id)
        }) {
            let reads = |op: &&OperationIr| op.inputs().any(|tensor| tensor.id == *id);
            let reader = first.operations.iter().find(reads);
            let reader = reader.map_or_else(|| "an operation".into(), name);
            let message = "reads a constant that depends on the size of the batch";
            return Err(Error::capture(reader, message));
        }
    }
    let count = first.operations.len();
    (0..count)
        .map(|i| {
            let of_each = recordings.each_ref().map(|r| &r.operations[i]);
            operation(of_each)
        })
        .collect()
}

fn operation(of_each: [&OperationIr; SIZES.len()]) -> Result<BatchOperation, Error> {
    let [first, others @ ..] = of_each;
    if others.iter().all(|other| *other == first) {
        return Ok(BatchOperation::Same(Box::new(first.clone())));
    }
    let values = of_each.map(|op| Value::try_from(op).ok());
    let [Some(a), Some(b), Some(c)] = values else {
        return Err(does_not_follow(first));
    };
    let pattern = pattern([&a, &b, &c]).ok_or_else(|| does_not_follow(first))?;
    Ok(BatchOperation::Follows(pattern))
}

fn does_not_follow(operation: &OperationIr) -> Error {
    let message = "is not the same operation for every size of the batch";
    Error::capture(name(operation), message)
}

fn pattern(of_each: [&Value; SIZES.len()]) -> Option<Pattern> {
    match of_each {
        [a, b, c] if a == b && b == c => Some(Pattern::Same(a.clone())),
        [Value::Integer(a), Value::Integer(b), Value::Integer(c)] => {
            let [x, y, z] = SIZES.map(|size| size as i64);
            let each = (b - a) / (y - x);
            let more = a - each * x;
            (each * y + more == *b && each * z + more == *c).then_some(Pattern::Size { each, more })
        }
        [Value::Array(a), Value::Array(b), Value::Array(c)]
            if a.len() == b.len() && b.len() == c.len() =>
        {
            let items = a.iter().zip(b).zip(c);
            let items = items.map(|((a, b), c)| pattern([a, b, c]));
            items.collect::<Option<_>>().map(Pattern::List)
        }
        [Value::Table(a), Value::Table(b), Value::Table(c)] => {
            let items = a.iter().map(|(key, a)| {
                let of_each = [a, b.get(key)?, c.get(key)?];
                Some((key.clone(), pattern(of_each)?))
            });
            items.collect::<Option<_>>().map(Pattern::Table)
        }
        _ => None,
    }
}

impl BatchOperation {
    /// The operation for a batch of that size.
    pub(super) fn of(&self, batch: usize) -> OperationIr {
        match self {
            Self::Same(operation) => operation.as_ref().clone(),
            Self::Follows(pattern) => {
                let operation = pattern.of(batch as i64).try_into();
                operation.expect("of the form of a recorded operation")
            }
        }
    }
}

impl Pattern {
    fn of(&self, batch: i64) -> Value {
        match self {
            Self::Same(value) => value.clone(),
            Self::Size { each, more } => Value::Integer(each * batch + more),
            Self::List(items) => Value::Array(items.iter().map(|item| item.of(batch)).collect()),
            Self::Table(items) => {
                let items = items
                    .iter()
                    .map(|(key, item)| (key.clone(), item.of(batch)));
                Value::Table(items.collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_the_batch_are_found_wherever_they_are() {
        // Two rows an item and one more, beside what stays.
        let of = |batch: i64| {
            let text = format!("shape = [{}, 7]\nname = \"x\"\nlow = -inf", 2 * batch + 1);
            toml::from_str::<Value>(&text).unwrap()
        };
        let [a, b, c] = SIZES.map(|size| of(size as i64));
        let pattern = pattern([&a, &b, &c]).unwrap();
        assert_eq!(pattern.of(11), of(11));
        assert!(super::pattern([&a, &b, &of(6)]).is_none());
    }
}
