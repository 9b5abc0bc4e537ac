//! Weights from the tensors of a file.

use std::collections::BTreeMap;

use half::{bf16, f16};
use lowbit_formats::block::{BlockCodes, Scales};
use lowbit_formats::scalar::Affine;
use lowbit_formats::{BlockFormat, Format, pack};
use safetensors::tensor::Dtype;

use super::{Packed, Stored};

/// What the tensors of a weight are called, after its layer's name; the weight itself, where it is one of them,
/// has its usual name.
pub(crate) const PARTS: [&str; 6] = [
    "weight_packed",
    "weight_scale",
    "weight_shape",
    "weight_zero_point",
    "weight_global_scale",
    "weight_g_idx",
];

/// The weight whose part a tensor is, if it is one: the layer's name, and which part.
pub(crate) fn stem(name: &str) -> Option<(&str, &'static str)> {
    let (layer, last) = name.rsplit_once('.')?;
    let part = PARTS.into_iter().find(|part| *part == last)?;
    Some((layer, part))
}

/// The tensors of one weight.
type Parts = BTreeMap<String, Stored>;

impl Packed {
    /// A weight of its tensors, by what they are called after the layer's name. Where a width of integers does
    /// not follow from the shapes, as in rows of less than 32, it is one of `widths`.
    ///
    /// # Errors
    /// The message says which tensor is missing, or what is wrong with it.
    pub(crate) fn of(parts: &Parts, widths: &[u32]) -> Result<Self, String> {
        let packed = match parts.contains_key("weight_packed") {
            true => part(parts, "weight_packed")?,
            false => part(parts, "weight")?,
        };
        if parts.contains_key("weight_g_idx") {
            return Err(
                "has a weight_g_idx, groups of columns in another order than their own".into(),
            );
        }
        let scale = part(parts, "weight_scale")?;
        let &[rows, columns] = &packed.shape[..] else {
            return Err(format!("is {:?}, expected a matrix", packed.shape));
        };
        match (packed.dtype, scale.dtype) {
            (Dtype::I32, _) => integers_in_words(parts, packed, scale, widths),
            (Dtype::U8, Dtype::U8) => powers_of_two("mxfp4", packed, scale, [rows, 2 * columns]),
            (Dtype::U8, Dtype::F8_E4M3) => two_levels(parts, packed, scale, [rows, 2 * columns]),
            (Dtype::F8_E4M3, Dtype::U8) => {
                powers_of_two("mxfp8(e4m3", packed, scale, [rows, columns])
            }
            (Dtype::F8_E4M3, _) => floats(packed, scale, [rows, columns]),
            (Dtype::I8, _) => integers_in_bytes(parts, packed, scale, [rows, columns]),
            (dtype, scale) => Err(format!(
                "is {dtype:?} with scales of {scale:?}, a layout that is not known"
            )),
        }
    }
}

fn part<'a>(parts: &'a Parts, name: &str) -> Result<&'a Stored, String> {
    parts.get(name).ok_or_else(|| format!("lacks its {name}"))
}

/// Numbers of 16 or 32 bits in floating point.
pub(crate) fn floats_of(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let (pairs, _) = bytes.as_chunks::<2>();
    Some(match dtype {
        Dtype::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        Dtype::F16 => pairs
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        Dtype::BF16 => pairs
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
        _ => return None,
    })
}

fn scales_of(scale: &Stored) -> Result<Vec<f32>, String> {
    floats_of(scale.dtype, &scale.bytes).ok_or_else(|| {
        format!(
            "has a weight_scale of {:?}, expected F32, F16 or BF16",
            scale.dtype
        )
    })
}

fn format(text: &str) -> Result<BlockFormat, String> {
    match text.parse() {
        Ok(Format::Block(format)) => Ok(format),
        Ok(other) => Err(format!("is in {other}, which has no blocks")),
        Err(error) => Err(error.to_string()),
    }
}

/// Numbers of a run, of so many columns in so many runs.
fn run(columns: usize, groups: usize) -> Result<usize, String> {
    match groups > 0 && columns.is_multiple_of(groups) && columns > 0 {
        true => Ok(columns / groups),
        false => Err(format!("has {groups} scales for {columns} columns")),
    }
}

/// The shape of a matrix of scales; a list is a column.
fn table(scale: &Stored) -> [usize; 2] {
    match scale.shape[..] {
        [rows, columns] => [rows, columns],
        _ => [scale.shape.iter().product(), 1],
    }
}

/// The shape of a weight in words.
fn shape_of(parts: &Parts) -> Result<[usize; 2], String> {
    let shape = part(parts, "weight_shape")?;
    let (extents, _) = shape.bytes.as_chunks::<8>();
    let extents = extents.iter().map(|bytes| i64::from_le_bytes(*bytes));
    let extents: Vec<usize> = extents
        .filter_map(|extent| u32::try_from(extent).ok())
        .map(|extent| extent as usize)
        .collect();
    match (shape.dtype, &extents[..]) {
        (Dtype::I64, &[rows, columns]) => Ok([rows, columns]),
        _ => Err("has a weight_shape that is no shape of a matrix".into()),
    }
}

/// Integers of so many bits, which are stored above the lowest.
fn unpacked(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<i32>, String> {
    let codes = pack::unpack(bytes, bits, count).map_err(|error| error.to_string())?;
    let signed = codes
        .into_iter()
        .map(|code| code as i32 - (1 << (bits - 1)));
    Ok(signed.collect())
}

fn integers_in_words(
    parts: &Parts,
    packed: &Stored,
    scale: &Stored,
    known: &[u32],
) -> Result<Packed, String> {
    let [rows, columns] = shape_of(parts)?;
    let words = packed.shape[1];
    let fits = |bits: &u32| (columns * *bits as usize).div_ceil(32) == words;
    let mut fitting: Vec<u32> = (2..=8).filter(fits).collect();
    if fitting.len() > 1 {
        fitting.retain(|bits| known.contains(bits));
        if fitting.len() != 1 {
            return Err(format!(
                "has rows of {columns} integers, whose width {words} words do not tell"
            ));
        }
    }
    let (&[bits], true) = (&fitting[..], packed.shape[0] == rows) else {
        let shape = &packed.shape;
        return Err(format!(
            "of {rows} x {columns} integers of 2 to 8 bits is not packed in {shape:?} words"
        ));
    };
    let mut integers = Vec::with_capacity(rows * columns);
    for row in packed.bytes.chunks(4 * words.max(1)) {
        integers.extend(unpacked(row, bits, columns)?);
    }
    let zero_points = parts.get("weight_zero_point");
    let zero_points = zero_points.map(|packed| zero_points_in_words(packed, rows, scale, bits));
    let zero_points = zero_points.transpose()?;
    integers_with(integers, zero_points, scale, [rows, columns], bits)
}

/// Zero points, which are packed along the rows, in the order of the scales.
fn zero_points_in_words(
    packed: &Stored,
    rows: usize,
    scale: &Stored,
    bits: u32,
) -> Result<Vec<i32>, String> {
    let groups = table(scale)[1];
    let words = (rows * bits as usize).div_ceil(32);
    if packed.shape != [words, groups] || packed.dtype != Dtype::I32 {
        let found = &packed.shape;
        return Err(format!(
            "has zero points in {found:?}, expected {words} x {groups} words"
        ));
    }
    let mut zero_points = vec![0; rows * groups];
    let (all, _) = packed.bytes.as_chunks::<4>();
    for group in 0..groups {
        let column = all.iter().skip(group).step_by(groups).flatten();
        let column: Vec<u8> = column.copied().collect();
        for (row, zero_point) in unpacked(&column, bits, rows)?.into_iter().enumerate() {
            zero_points[row * groups + group] = zero_point;
        }
    }
    Ok(zero_points)
}

fn integers_in_bytes(
    parts: &Parts,
    packed: &Stored,
    scale: &Stored,
    shape: [usize; 2],
) -> Result<Packed, String> {
    let signed = |bytes: &[u8]| -> Vec<i32> { bytes.iter().map(|&b| i32::from(b as i8)).collect() };
    let zero_points = match parts.get("weight_zero_point") {
        Some(zero_points) if zero_points.dtype == Dtype::I8 => Some(signed(&zero_points.bytes)),
        Some(other) => return Err(format!("has zero points of {:?}, expected I8", other.dtype)),
        None => None,
    };
    integers_with(signed(&packed.bytes), zero_points, scale, shape, 8)
}

fn integers_with(
    integers: Vec<i32>,
    zero_points: Option<Vec<i32>>,
    scale: &Stored,
    [rows, columns]: [usize; 2],
    bits: u32,
) -> Result<Packed, String> {
    let [of_rows, groups] = table(scale);
    let scales = scales_of(scale)?;
    let symmetric = match zero_points {
        None => ",symmetric",
        Some(_) => "",
    };
    let zero_points = zero_points.unwrap_or_else(|| vec![0; scales.len()]);
    let granularity = match [of_rows, groups] {
        [1, 1] => String::new(),
        [count, 1] if count == rows => ",dim=0".into(),
        [count, groups] if count == rows => format!(",block={}", run(columns, groups)?),
        _ => {
            return Err(format!(
                "has scales {:?} for {rows} x {columns}",
                scale.shape
            ));
        }
    };
    if zero_points.len() != scales.len() {
        return Err(format!(
            "has {} zero points and {} scales",
            zero_points.len(),
            scales.len()
        ));
    }
    let both = scales.into_iter().zip(zero_points);
    let codes: Vec<u32> = integers.iter().map(|&q| q as u32).collect();
    Ok(Packed {
        format: format(&format!("affine({bits}{symmetric}{granularity})"))?,
        codes: BlockCodes {
            shape: vec![rows, columns],
            scales: Scales::Affine(
                both.map(|(scale, zero_point)| Affine { scale, zero_point })
                    .collect(),
            ),
            elements: pack::pack(&codes, bits).map_err(|error| error.to_string())?,
        },
        global: None,
        numbers: scale.dtype,
    })
}

fn powers_of_two(
    name: &str,
    packed: &Stored,
    scale: &Stored,
    [rows, columns]: [usize; 2],
) -> Result<Packed, String> {
    let block = run(columns, table(scale)[1])?;
    let text = match name.contains('(') {
        true => format!("{name},block={block})"),
        false => format!("{name}(block={block})"),
    };
    Ok(Packed {
        format: format(&text)?,
        codes: BlockCodes {
            shape: vec![rows, columns],
            scales: Scales::PowersOfTwo(scale.bytes.clone()),
            elements: packed.bytes.clone(),
        },
        global: None,
        numbers: Dtype::F32,
    })
}

fn two_levels(
    parts: &Parts,
    packed: &Stored,
    scale: &Stored,
    [rows, columns]: [usize; 2],
) -> Result<Packed, String> {
    let global = part(parts, "weight_global_scale")?;
    let found = floats_of(global.dtype, &global.bytes);
    let Some(&[global]) = found.as_deref() else {
        return Err("has a weight_global_scale that is no float".into());
    };
    let block = run(columns, table(scale)[1])?;
    Ok(Packed {
        format: format(&format!("nvfp4(block={block})"))?,
        codes: BlockCodes {
            shape: vec![rows, columns],
            scales: Scales::Float8 {
                tensor: 1.0 / global,
                blocks: scale.bytes.clone(),
            },
            elements: packed.bytes.clone(),
        },
        global: Some(global),
        numbers: Dtype::F32,
    })
}

fn floats(packed: &Stored, scale: &Stored, [rows, columns]: [usize; 2]) -> Result<Packed, String> {
    let [of_rows, of_columns] = table(scale);
    let granularity = match [of_rows, of_columns] {
        [1, 1] => String::new(),
        [count, 1] if count == rows => ",dim=0".into(),
        // Tiles are of 128 in every file that is known.
        [a, b] if [a, b] == [rows.div_ceil(128), columns.div_ceil(128)] => ",block=128x128".into(),
        _ => {
            return Err(format!(
                "has scales {:?} for {rows} x {columns}",
                scale.shape
            ));
        }
    };
    let format = format(&format!("scaled(e4m3{granularity})"))?;
    Ok(Packed {
        format,
        codes: BlockCodes {
            shape: vec![rows, columns],
            scales: Scales::Float {
                values: scales_of(scale)?,
                kind: lowbit_formats::block::ScaleType::F32,
            },
            elements: packed.bytes.clone(),
        },
        global: None,
        numbers: scale.dtype,
    })
}
