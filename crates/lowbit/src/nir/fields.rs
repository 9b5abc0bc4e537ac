//! Fields of a node as numbers in their range.

use super::graph::{Array, Node, Values};

pub(super) fn field<'a>(node: &'a Node, name: &str) -> Result<&'a Array, String> {
    node.fields
        .get(name)
        .ok_or_else(|| format!("has no {name}"))
}

/// The numbers of a field: as many as its shape says, all finite.
pub(super) fn numbers(node: &Node, name: &str) -> Result<Vec<f64>, String> {
    let array = field(node, name)?;
    let (found, shape) = (array.numbers(), &array.shape);
    if found.len() != count(shape)? {
        let length = found.len();
        return Err(format!(
            "{name} has {length} numbers for a shape of {shape:?}"
        ));
    }
    match found.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(format!("{name} has a number that is {x}")),
        None => Ok(found),
    }
}

/// The greatest of whole numbers that are sizes.
const LARGEST: f64 = (1 << 24) as f64;

/// A field of whole numbers, `least` at least.
pub(super) fn sizes(node: &Node, name: &str, least: usize) -> Result<Vec<usize>, String> {
    let found = numbers(node, name)?;
    let fits = |n: &f64| n.fract() == 0.0 && (least as f64..=LARGEST).contains(n);
    match found.iter().all(fits) {
        true => Ok(found.into_iter().map(|n| n as usize).collect()),
        false => Err(format!(
            "{name} is {found:?}, expected whole numbers from {least} to {LARGEST}"
        )),
    }
}

/// Numbers of that shape, of which a tensor can have as many.
pub(super) fn count(shape: &[usize]) -> Result<usize, String> {
    let count = shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size));
    let fits = count.filter(|&n| i32::try_from(n).is_ok());
    fits.ok_or_else(|| format!("a shape of {shape:?} is too large"))
}

/// The weight of a node, which has `N` dimensions, none of them 0.
pub(super) fn weight<const N: usize>(node: &Node) -> Result<([usize; N], Vec<f64>), String> {
    let shape = &field(node, "weight")?.shape;
    let expected = ["one", "two", "three", "four"][N - 1];
    let dims: [usize; N] = shape[..]
        .try_into()
        .ok()
        .filter(|dims: &[usize; N]| !dims.contains(&0))
        .ok_or_else(|| format!("weight has the shape {shape:?}, expected {expected}"))?;
    Ok((dims, numbers(node, "weight")?))
}

/// A bias for each of so many outputs.
pub(super) fn bias(node: &Node, outputs: usize) -> Result<Vec<f64>, String> {
    let bias = numbers(node, "bias")?;
    match bias.len() == outputs {
        true => Ok(bias),
        false => Err(format!(
            "bias has {} numbers for {outputs} outputs",
            bias.len()
        )),
    }
}

/// `N` whole numbers of a field, of which one stands for all; `least` at least.
pub(super) fn whole<const N: usize>(
    node: &Node,
    name: &str,
    least: usize,
) -> Result<[usize; N], String> {
    let found = sizes(node, name, least)?;
    match found[..] {
        [one] => Ok([one; N]),
        _ => found[..]
            .try_into()
            .map_err(|_| format!("{name} is {found:?}, expected {N}")),
    }
}

/// The groups of a convolution whose weight has that shape.
pub(super) fn groups(node: &Node, weight: &[usize], input: &[usize]) -> Result<usize, String> {
    let [groups] = whole(node, "groups", 1)?;
    let (outputs, group) = (weight[0], weight[1]);
    match group * groups == input[0] && outputs.is_multiple_of(groups) {
        true => Ok(groups),
        false => Err(format!("{} in {groups} groups", shapes(weight, input))),
    }
}

/// The padding of each dimension: numbers, or `same` or `valid`.
pub(super) fn padded<const N: usize>(
    node: &Node,
    size: [usize; N],
    dilation: [usize; N],
) -> Result<[usize; N], String> {
    let array = field(node, "padding")?;
    let Values::Text(texts) = &array.values else {
        return whole(node, "padding", 0);
    };
    match texts.first().map(String::as_str) {
        Some("valid") => Ok([0; N]),
        Some("same") if size.iter().all(|n| n % 2 == 1) => {
            Ok(std::array::from_fn(|d| dilation[d] * (size[d] - 1) / 2))
        }
        other => Err(format!(
            "padding is {other:?}, expected numbers, same of odd kernels, or valid"
        )),
    }
}

/// Windows that fit.
pub(super) fn reached(
    size: usize,
    padding: usize,
    reach: usize,
    stride: usize,
) -> Result<usize, String> {
    let room = (size + 2 * padding).checked_sub(reach);
    let room = room.ok_or_else(|| format!("windows that reach over {reach} do not fit {size}"))?;
    Ok(room / stride + 1)
}

pub(super) fn shapes(weight: &[usize], input: &[usize]) -> String {
    format!("a weight of shape {weight:?} reads an input of shape {input:?}")
}

/// The shape after a `Flatten`, whose dimensions count without the batch.
pub(super) fn flattened(node: &Node, input: &[usize]) -> Result<Vec<usize>, String> {
    let dim = |name: &str| -> Result<usize, String> {
        let dim = numbers(node, name)?.first().copied().unwrap_or(0.0) as i64;
        let counted = if dim < 0 {
            dim + input.len() as i64
        } else {
            dim
        };
        let fits = usize::try_from(counted).ok().filter(|&d| d < input.len());
        fits.ok_or_else(|| format!("{name} is {dim}, of {} dimensions", input.len()))
    };
    let (start, end) = (dim("start_dim")?, dim("end_dim")?);
    if start > end {
        return Err(format!("flattens from {start} to {end}"));
    }
    let mut shape = input[..start].to_vec();
    shape.push(input[start..=end].iter().product());
    shape.extend(&input[end + 1..]);
    Ok(shape)
}
