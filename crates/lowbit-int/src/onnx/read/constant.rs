//! A file's constants, and the attributes of its nodes.

use crate::onnx::proto::{DataType, NodeProto, TensorProto};
use crate::ops::{Sliding, Windows};

/// Constants with a scale for all, or for each index of an axis.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
    /// Bits and sign of integers.
    pub(super) width: Option<(u32, bool)>,
    pub(super) scale: Vec<f64>,
    pub(super) axis: usize,
    /// Whether they stand for real numbers.
    pub(super) is_real: bool,
}

/// Elements as the file has them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Constant {
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Floats(values) => values.len(),
            Values::Integers(values) => values.len(),
        }
    }

    /// What the elements stand for.
    pub(super) fn reals(&self) -> Vec<f64> {
        let values: Vec<f64> = match &self.values {
            Values::Floats(values) => values.iter().map(|&v| v.into()).collect(),
            Values::Integers(values) => values.iter().map(|&v| v as f64).collect(),
        };
        let values = values.into_iter().enumerate();
        values
            .map(|(at, value)| value * self.scale_at(at))
            .collect()
    }

    /// The scale of an element.
    fn scale_at(&self, at: usize) -> f64 {
        let inner: usize = self.shape.iter().skip(self.axis + 1).product();
        match self.scale[..] {
            [scale] => scale,
            _ => self.scale[at / inner % self.scale.len()],
        }
    }

    /// Integers that are not dequantized.
    pub(super) fn integers(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Integers(values) if !self.is_real => Some(values),
            _ => None,
        }
    }

    /// Quantized constants as they are, and floats in the greatest power of two, at most 1, of which all
    /// are multiples.
    pub(super) fn quantized(mut self) -> Option<Self> {
        let Values::Floats(floats) = &self.values else {
            return Some(self);
        };
        let exponents = floats.iter().filter(|&&v| v != 0.0).map(|v| {
            let bits = v.to_bits();
            let exponent = ((bits >> 23) & 0xff).max(1) as i32 - 150;
            let mantissa = (bits & 0x7f_ffff) | if bits << 1 >> 24 > 0 { 0x80_0000 } else { 0 };
            exponent + mantissa.trailing_zeros() as i32
        });
        let step = f64::from(exponents.min().unwrap_or(0).min(0)).exp2();
        let integers: Vec<f64> = floats.iter().map(|&v| f64::from(v) / step).collect();
        let most = integers.iter().fold(0f64, |most, v| most.max(v.abs()));
        if !(most < f64::from(1 << 30) && step > 0.0) {
            return None;
        }
        let bits = 65 - (most as i64).leading_zeros();
        self.values = Values::Integers(integers.iter().map(|&v| v as i64).collect());
        self.width = Some((bits, true));
        self.scale = self.scale.iter().map(|scale| scale * step).collect();
        Some(self)
    }
}

/// A constant's elements, in one of the places where they may be.
pub(super) fn elements(tensor: &TensorProto) -> Option<Constant> {
    let data_type = tensor.data_type?;
    let values = match &tensor.raw_data {
        Some(raw) => of_bytes(raw, data_type)?,
        None => match data_type {
            1 => Values::Floats(tensor.float_data.clone()),
            2..=6 => Values::Integers(tensor.int32_data.iter().map(|&v| v.into()).collect()),
            7 => Values::Integers(tensor.int64_data.clone()),
            _ => return None,
        },
    };
    let sizes = tensor.dims.iter().map(|&d| usize::try_from(d).ok());
    let shape: Vec<usize> = sizes.collect::<Option<_>>()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let constant = Constant {
        shape,
        is_real: data_type == DataType::Float as i32,
        values,
        width: width(data_type).ok(),
        scale: vec![1.0],
        axis: 0,
    };
    (count == constant.len()).then_some(constant)
}

/// Little-endian elements; of a type that nothing here reads, there are none.
fn of_bytes(raw: &[u8], data_type: i32) -> Option<Values> {
    if data_type == DataType::Float as i32 {
        let floats = raw.chunks_exact(4);
        let floats = floats.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        return Some(Values::Floats(floats.collect()));
    }
    let (size, signed) = match data_type {
        2 => (1, false),
        3 => (1, true),
        4 => (2, false),
        5 => (2, true),
        6 => (4, true),
        7 => (8, true),
        _ => return None,
    };
    let integer = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(bytes);
        let unused = 64 - 8 * size;
        let value = i64::from_le_bytes(wide);
        if signed {
            value << unused >> unused
        } else {
            value
        }
    };
    Some(Values::Integers(
        raw.chunks_exact(size).map(integer).collect(),
    ))
}

/// Bits and sign of a quantizer's type.
pub(super) fn width(data_type: i32) -> Result<(u32, bool), String> {
    const TYPES: [(DataType, u32, bool); 5] = [
        (DataType::Uint8, 8, false),
        (DataType::Int8, 8, true),
        (DataType::Uint16, 16, false),
        (DataType::Int16, 16, true),
        (DataType::Int32, 32, true),
    ];
    let found = TYPES.iter().find(|(known, ..)| *known as i32 == data_type);
    let (_, bits, signed) = found.ok_or(format!("type {data_type} is not of 8, 16 or 32 bits"))?;
    Ok((*bits, *signed))
}

/// Whether factors are one for all, or one for each index of a tensor's first dimension but the batch:
/// ONNX aligns shapes at their ends.
pub(super) fn is_of_channels(factors: &[usize], tensor: &[usize]) -> bool {
    let rank = tensor.len();
    let inner = match factors.strip_prefix(&[1]) {
        Some(inner) if inner.len() == rank => inner,
        _ => factors,
    };
    let alike = |expected: usize| {
        inner.first() == Some(&expected) && inner[1..].iter().all(|&size| size == 1)
    };
    let for_all = inner.len() <= rank && inner.iter().all(|&size| size == 1);
    for_all || inner.len() == rank && alike(tensor[0])
}

pub(super) fn check_blocks(node: &NodeProto) -> Result<(), String> {
    match integer(node, "block_size") {
        None | Some(0) => Ok(()),
        Some(_) => Err("block_size is not read".into()),
    }
}

/// The axis of a constant's scales, of which there are so many; a negative one is counted from the end.
pub(super) fn axis(node: &NodeProto, shape: &[usize], scales: usize) -> Result<usize, String> {
    let given = integer(node, "axis").unwrap_or(1);
    let rank = if given < 0 { shape.len() as i64 } else { 0 };
    let axis = usize::try_from(given + rank).ok();
    let axis = axis.filter(|&axis| shape.get(axis) == Some(&scales));
    axis.ok_or_else(|| {
        format!("{scales} scales, expected one for each index of axis {given} of {shape:?}")
    })
}

pub(super) fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    let found = node.attribute.iter().find(|a| a.name() == name);
    found.and_then(|attribute| attribute.i)
}

pub(super) fn text<'n>(node: &'n NodeProto, name: &str) -> Option<&'n [u8]> {
    let found = node.attribute.iter().find(|a| a.name() == name);
    found.and_then(|attribute| attribute.s.as_deref())
}

pub(super) fn sizes(node: &NodeProto, name: &str) -> Result<Option<Vec<usize>>, String> {
    let Some(attribute) = node.attribute.iter().find(|a| a.name() == name) else {
        return Ok(None);
    };
    let sizes = attribute
        .ints
        .iter()
        .map(|&size| usize::try_from(size).ok());
    let sizes: Option<Vec<usize>> = sizes.collect();
    sizes
        .map(Some)
        .ok_or(format!("{name} has a number below 0"))
}

/// Strides, paddings and dilations.
pub(super) fn sliding(node: &NodeProto, dimensions: usize) -> Result<Sliding, String> {
    let auto = text(node, "auto_pad").unwrap_or(b"NOTSET");
    if auto != b"NOTSET" || integer(node, "ceil_mode").unwrap_or(0) != 0 {
        return Err("auto_pad and ceil_mode are not read".into());
    }
    let mut sliding = Sliding::new(dimensions);
    if let Some(stride) = sizes(node, "strides")? {
        sliding.stride = stride;
    }
    if let Some(dilation) = sizes(node, "dilations")? {
        sliding.dilation = dilation;
    }
    if let Some(pads) = sizes(node, "pads")? {
        let (before, after) = pads.split_at(pads.len() / 2);
        let pairs = before.iter().zip(after);
        sliding.padding = pairs.map(|(&before, &after)| [before, after]).collect();
    }
    Ok(sliding)
}

pub(super) fn windows(node: &NodeProto) -> Result<Windows, String> {
    let kernel = sizes(node, "kernel_shape")?.ok_or("has no kernel_shape")?;
    let sliding = sliding(node, kernel.len())?;
    Ok(Windows::Sliding { kernel, sliding })
}

/// The axis of a shape that has one, of constants of a rank.
pub(super) fn one_axis(shape: &[usize], rank: usize) -> Option<usize> {
    let mut long = (0..shape.len()).filter(|&d| shape[d] > 1);
    let axis = long
        .next()
        .map_or(0, |d| d + rank.max(shape.len()) - shape.len());
    (long.next().is_none() && shape.len() <= rank.max(1)).then_some(axis)
}
