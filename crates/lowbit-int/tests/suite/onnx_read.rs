//! Files written by hand, and what is read of them.

use lowbit_int::onnx::proto::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use lowbit_int::{Graph, interpret, onnx};
use prost::Message;

/// A file of one operator or a few between quantizers of steps of 1: they make `sum` of `real`, whose
/// integers `x` are of 8 bits with sign.
struct Written {
    shape: Vec<usize>,
    constants: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
    let attribute = |&(name, i): &(&str, i64)| AttributeProto {
        name: Some(name.into()),
        i: Some(i),
        r#type: Some(2),
        ..AttributeProto::default()
    };
    NodeProto {
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        name: Some(output.into()),
        op_type: Some(op.into()),
        attribute: attributes.iter().map(attribute).collect(),
        domain: None,
    }
}

fn tensor(name: &str, dims: &[i64], data_type: DataType, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(data_type as i32),
        name: Some(name.into()),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, raw)
}

fn bytes(name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
    let raw = values.iter().map(|&v| v as u8).collect();
    tensor(name, dims, DataType::Int8, raw)
}

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let free = Dimension::Free("batch".into());
    let sizes = shape.iter().map(|&size| Dimension::Size(size as i64));
    let dims = std::iter::once(free).chain(sizes);
    let shape = TensorShapeProto {
        dim: dims.map(|d| DimensionProto { value: Some(d) }).collect(),
    };
    let tensor_type = TensorTypeProto {
        elem_type: Some(DataType::Float as i32),
        shape: Some(shape),
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            tensor_type: Some(tensor_type),
        }),
    }
}

impl Written {
    fn new(shape: &[usize], constants: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Self {
        Self {
            shape: shape.to_vec(),
            constants,
            nodes,
        }
    }

    fn read(&self) -> Result<Graph, String> {
        let mut nodes = vec![
            node("QuantizeLinear", &["x", "one", "zero"], "k", &[]),
            node("DequantizeLinear", &["k", "one", "zero"], "real", &[]),
        ];
        nodes.extend(self.nodes.clone());
        nodes.push(node("QuantizeLinear", &["sum", "one", "zero"], "y", &[]));
        nodes.push(node("DequantizeLinear", &["y", "one", "zero"], "out", &[]));
        let mut constants = vec![floats("one", &[], &[1.0]), bytes("zero", &[], &[0])];
        constants.extend(self.constants.clone());
        let graph = GraphProto {
            node: nodes,
            initializer: constants,
            input: vec![value("x", &self.shape)],
            output: vec![value("out", &[])],
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        onnx::read(&model.encode_to_vec()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn makes(&self, image: &[i64], expected: &[i64]) {
        let graph = self.read().unwrap();
        assert_eq!(interpret(&graph, &[image]).unwrap(), [expected]);
    }

    #[track_caller]
    fn refused(&self, message: &str) {
        assert_eq!(self.read().unwrap_err(), message);
    }
}

/// A product of `real` with the matrix of `values`, whose scales are of an axis.
fn matrix(
    op: (&str, &[(&str, i64)]),
    dims: &[i64],
    values: &[i8],
    scales: &[f32],
    of: &[(&str, i64)],
) -> Written {
    let scale_dims = [scales.len() as i64];
    let scale_dims = if scales.len() > 1 {
        &scale_dims[..]
    } else {
        &[]
    };
    let constants = vec![
        bytes("w", dims, values),
        floats("scales", scale_dims, scales),
    ];
    let nodes = vec![
        node("DequantizeLinear", &["w", "scales"], "weights", of),
        node(op.0, &["real", "weights"], "sum", op.1),
    ];
    Written::new(&[2], constants, nodes)
}

#[test]
fn matrices_of_nothing_are_refused() {
    for op in ["MatMul", "Gemm"] {
        for dims in [[0, 10], [10, 0]] {
            let message = format!("sum: weights' shape is {dims:?}, expected 2 dimensions");
            matrix((op, &[]), &dims, &[], &[1.0], &[]).refused(&message);
        }
    }
}

/// 3 in steps of 1/4 is 3/4, of which halves go to even; a clip from -4 to 8 in steps of 1/2 is one from
/// -2 to 4.
#[test]
fn constants_have_their_scales() {
    let constants = vec![bytes("three", &[], &[3]), floats("quarter", &[], &[0.25])];
    let nodes = vec![
        node("DequantizeLinear", &["three", "quarter"], "factor", &[]),
        node("Mul", &["real", "factor"], "sum", &[]),
    ];
    // 0.75, 1.5, 2.25, 3, -4.5, 75
    let mul = Written::new(&[6], constants, nodes);
    mul.makes(&[1, 2, 3, 4, -6, 100], &[1, 2, 2, 3, -4, 75]);
    let constants = vec![
        bytes("low", &[], &[-4]),
        bytes("high", &[], &[8]),
        floats("half", &[], &[0.5]),
    ];
    let nodes = vec![
        node("DequantizeLinear", &["low", "half"], "least", &[]),
        node("DequantizeLinear", &["high", "half"], "greatest", &[]),
        node("Clip", &["real", "least", "greatest"], "sum", &[]),
    ];
    let clip = Written::new(&[6], constants, nodes);
    clip.makes(&[-128, -3, -2, 3, 5, 127], &[-2, -2, -2, 3, 4, 4]);
}

/// On images of `[2, 2, 2]`, where ONNX aligns shapes at their ends.
#[test]
fn factors_are_for_all_or_for_channels() {
    let of = |dims: &[i64], factors: &[f32]| {
        let constants = vec![floats("factor", dims, factors)];
        let nodes = vec![node("Mul", &["real", "factor"], "sum", &[])];
        Written::new(&[2, 2, 2], constants, nodes)
    };
    let image = [1, 2, 3, 4, 5, 6, 7, 8];
    let channels = [2, 4, 6, 8, 15, 18, 21, 24];
    of(&[2, 1, 1], &[2.0, 3.0]).makes(&image, &channels);
    of(&[1, 2, 1, 1], &[2.0, 3.0]).makes(&image, &channels);
    for dims in [&[][..], &[1], &[1, 1, 1, 1]] {
        of(dims, &[3.0]).makes(&image, &[3, 6, 9, 12, 15, 18, 21, 24]);
    }
    for dims in [
        &[2][..],
        &[1, 1, 2],
        &[2, 1],
        &[2, 1, 1, 1],
        &[1, 2, 1, 1, 1],
    ] {
        let message =
            format!("sum: factors of shape {dims:?}, expected one for all or for each channel");
        of(dims, &[2.0, 3.0]).refused(&message);
    }
    of(&[3, 1, 1], &[2.0, 3.0, 4.0])
        .refused("sum: factors of shape [3, 1, 1], expected one for all or for each channel");
    of(&[1; 5], &[2.0])
        .refused("sum: factors of shape [1, 1, 1, 1, 1], expected one for all or for each channel");
}

/// Scales of 1 and 2 are of the outputs: of the rows of `Gemm`'s transposed matrix, of the columns of
/// others.
#[test]
fn scales_are_of_the_outputs() {
    let (dims, values, scales) = ([2, 2], [1, 2, 3, 4], [1.0, 2.0]);
    let of = |op: &str, attributes: &[(&str, i64)], of: &[(&str, i64)]| {
        matrix((op, attributes), &dims, &values, &scales, of)
    };
    let image = [10, 1];
    // 10 + 3, 2 (20 + 4); 10 + 2, 2 (30 + 4).
    for axis in [&[][..], &[("axis", 1)], &[("axis", -1)]] {
        of("MatMul", &[], axis).makes(&image, &[13, 48]);
        of("Gemm", &[], axis).makes(&image, &[13, 48]);
        of("Gemm", &[("transB", 1)], axis)
            .refused("sum: weights have scales of axis 1, expected 0");
    }
    for axis in [[("axis", 0)], [("axis", -2)]] {
        of("Gemm", &[("transB", 1)], &axis).makes(&image, &[12, 68]);
        for op in ["MatMul", "Gemm"] {
            of(op, &[], &axis).refused("sum: weights have scales of axis 0, expected 1");
        }
    }
    for axis in [2, -3, i64::MIN] {
        let message =
            format!("weights: 2 scales, expected one for each index of axis {axis} of [2, 2]");
        of("MatMul", &[], &[("axis", axis)]).refused(&message);
    }
    of("MatMul", &[], &[("block_size", 1)]).refused("weights: block_size is not read");
    let mut rows = of("MatMul", &[], &[]);
    rows.shape = vec![2, 2];
    rows.refused("sum: rows of sums have one scale");
    for (op, outputs) in [("Conv", 0), ("ConvTranspose", 1)] {
        let dims = [2, 2, 1];
        let convolution = |axis| matrix((op, &[]), &dims, &values, &scales, &[("axis", axis)]);
        let mut fits = convolution(outputs);
        fits.shape = vec![2, 1];
        let expected = if outputs == 0 { [12, 68] } else { [13, 48] };
        fits.makes(&image, &expected);
        let mut others = convolution(1 - outputs);
        others.shape = vec![2, 1];
        let axis = 1 - outputs;
        others.refused(&format!(
            "sum: weights have scales of axis {axis}, expected {outputs}"
        ));
    }
}

/// Of the batch and two features, the axes are 0 and 1, or -2 and -1.
#[test]
fn the_batch_is_not_joined() {
    let of = |axis: i64| {
        let nodes = vec![node("Concat", &["real", "real"], "sum", &[("axis", axis)])];
        Written::new(&[2], vec![], nodes)
    };
    for axis in [i64::MIN, -3, -2, 0] {
        of(axis).refused("sum: the batch is not joined");
    }
    for axis in [-1, 1] {
        of(axis).makes(&[3, -4], &[3, -4, 3, -4]);
    }
    of(2).refused("sum: axis is 1, expected below 1");
}

/// Scales of 2 and of 3 of the same integers are two constants; those of a constant that has a scale
/// already are none.
#[test]
fn constants_are_dequantized_once() {
    let constants = vec![
        bytes("w", &[], &[5]),
        floats("two", &[], &[2.0]),
        floats("three", &[], &[3.0]),
    ];
    let nodes = vec![
        node("DequantizeLinear", &["w", "two"], "ten", &[]),
        node("DequantizeLinear", &["w", "three"], "fifteen", &[]),
        node("Mul", &["real", "ten"], "first", &[]),
        node("Mul", &["real", "fifteen"], "second", &[]),
        node("Sub", &["second", "first"], "sum", &[]),
    ];
    Written::new(&[2], constants.clone(), nodes).makes(&[1, -3], &[5, -15]);
    let nodes = vec![
        node("DequantizeLinear", &["w", "two"], "ten", &[]),
        node("DequantizeLinear", &["ten", "three"], "thirty", &[]),
        node("Mul", &["real", "thirty"], "sum", &[]),
    ];
    let twice = Written::new(&[2], constants.clone(), nodes);
    twice.refused("thirty: ten is dequantized already");
    let nodes = vec![
        node("DequantizeLinear", &["two", "three"], "six", &[]),
        node("Mul", &["real", "six"], "sum", &[]),
    ];
    let float = Written::new(&[2], constants, nodes);
    float.refused("six: two is dequantized already");
}

/// `QuantizeLinear` without a zero point says in an attribute what it makes.
#[test]
fn types_may_be_attributes() {
    let of = |output_dtype: &[(&str, i64)]| {
        let nodes = vec![
            node("QuantizeLinear", &["real", "one"], "h", output_dtype),
            node("DequantizeLinear", &["h", "one"], "sum", &[]),
        ];
        Written::new(&[3], vec![], nodes)
    };
    let image = [-100, 0, 100];
    for unsigned in [&[][..], &[("output_dtype", 0)], &[("output_dtype", 2)]] {
        of(unsigned).makes(&image, &[0, 0, 100]);
    }
    of(&[("output_dtype", 3)]).makes(&image, &image);
    of(&[("output_dtype", i64::MAX)]).refused("h: output_dtype is no type");
}

/// A transposed convolution of two groups of two outputs, whose two scales are each of an output of
/// both, and a factor for each output.
#[test]
fn scales_of_groups_are_refused() {
    let constants = vec![
        bytes("w", &[2, 2, 1], &[1, 2, 3, 4]),
        floats("scales", &[2], &[1.0, 2.0]),
        floats("factor", &[4, 1], &[1.0, 2.0, 3.0, 4.0]),
    ];
    let nodes = vec![
        node("DequantizeLinear", &["w", "scales"], "weights", &[]),
        node(
            "ConvTranspose",
            &["real", "weights"],
            "product",
            &[("group", 2)],
        ),
        node("Mul", &["product", "factor"], "sum", &[]),
    ];
    Written::new(&[2, 1], constants, nodes).refused("sum: [2, 4] factors do not fit each other");
}
