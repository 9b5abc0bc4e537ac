//! Running recorded operations: the same calls of the same backend, in the same order, as the model
//! itself would make.

use std::collections::HashMap;

use burn::backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps, IntTensorOps, ModuleOps};
use burn::backend::{Dispatch, DispatchDevice, DispatchTensor as T, Scalar};
use burn::tensor::ops::PadMode;
use burn::tensor::{BoolDType, FloatDType, IntDType, Shape, Slice};
use burn_ir::{
    ActivationOperationIr, BaseOperationIr, BoolOperationIr, CustomOpIr, FloatOperationIr,
    IntOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr, TensorId, TensorIr,
    TensorStatus,
};

use crate::ops::{RecordedOperator, recorded_index};

/// The tensors of a run that something will read yet.
#[derive(Debug)]
pub(crate) struct Tensors<'a> {
    values: HashMap<TensorId, T>,
    /// What the next operation reads in place of some.
    stand_ins: HashMap<TensorId, T>,
    own_operators: &'a [RecordedOperator],
    device: DispatchDevice,
}

/// An operation that cannot be run again, by name.
pub(crate) struct NotReplayed(pub(crate) String);

impl<'a> Tensors<'a> {
    pub(crate) fn new(
        values: HashMap<TensorId, T>,
        own_operators: &'a [RecordedOperator],
        device: DispatchDevice,
    ) -> Self {
        Self {
            values,
            stand_ins: HashMap::new(),
            own_operators,
            device,
        }
    }

    /// The tensor, which is gone after its last reader.
    pub(crate) fn read(&mut self, tensor: &TensorIr) -> T {
        let of = |values: &mut HashMap<TensorId, T>| match tensor.status {
            TensorStatus::ReadWrite => values.remove(&tensor.id),
            _ => values.get(&tensor.id).cloned(),
        };
        let (value, stand_in) = (of(&mut self.values), of(&mut self.stand_ins));
        let value = stand_in.or(value);
        value.unwrap_or_else(|| panic!("tensor {:?} was read before it was made", tensor.id))
    }

    fn read_if(&mut self, tensor: &Option<TensorIr>) -> Option<T> {
        tensor.as_ref().map(|tensor| self.read(tensor))
    }

    pub(crate) fn write(&mut self, tensor: &TensorIr, value: T) {
        self.values.insert(tensor.id, value);
    }

    /// The tensor is no more.
    pub(crate) fn forget(&mut self, id: TensorId) {
        self.values.remove(&id);
    }

    /// Lets the next operation read something else in place of a tensor.
    pub(crate) fn stand_in(&mut self, id: TensorId, change: impl FnOnce(T) -> T) {
        if let Some(value) = self.values.get(&id) {
            let value = change(value.clone());
            self.stand_ins.insert(id, value);
        }
    }

    /// All operations after it read what was made.
    pub(crate) fn no_stand_ins(&mut self) {
        self.stand_ins.clear();
    }

    /// Changes what the readers of a tensor get.
    pub(crate) fn change(&mut self, id: TensorId, change: impl FnOnce(T) -> T) {
        if let Some(value) = self.values.remove(&id) {
            self.values.insert(id, change(value));
        }
    }

    pub(crate) fn get(&self, id: TensorId) -> Option<&T> {
        self.values.get(&id)
    }

    /// Runs one operation.
    ///
    /// # Errors
    /// If it is none that a model's forward makes.
    pub(crate) fn run(&mut self, operation: &OperationIr) -> Result<(), NotReplayed> {
        match operation {
            OperationIr::BaseFloat(op) => self.base(op, &FLOAT),
            OperationIr::BaseInt(op) => self.base(op, &INT),
            OperationIr::BaseBool(op) => self.base(op, &BOOL),
            OperationIr::NumericFloat(_, op) => self.numeric(op, &FLOATS),
            OperationIr::NumericInt(_, op) => self.numeric(op, &INTS),
            OperationIr::Bool(op) => self.bool(op),
            OperationIr::Int(op) => self.int(op),
            OperationIr::Float(_, op) => self.float(op),
            OperationIr::Module(op) => self.module(op),
            OperationIr::Activation(op) => self.activation(op),
            OperationIr::Init(_) => Ok(()),
            OperationIr::Drop(tensor) => {
                self.values.remove(&tensor.id);
                Ok(())
            }
            OperationIr::Custom(op) => self.custom(op),
            OperationIr::Distributed(_) => not_replayed(operation),
        }
    }
}

impl Tensors<'_> {
    /// One of our own operators.
    fn custom(&mut self, op: &CustomOpIr) -> Result<(), NotReplayed> {
        let (floats, indices): (Vec<_>, Vec<_>) =
            op.inputs.iter().partition(|tensor| tensor.dtype.is_float());
        let tensors = floats.into_iter().map(|tensor| self.read(tensor)).collect();
        let indices = indices.first().map(|tensor| self.read(tensor));
        let index = recorded_index(op);
        let Some(operator) = index.and_then(|index| self.own_operators.get(index)) else {
            return Err(NotReplayed(op.id.clone()));
        };
        let made = operator.run(tensors, indices);
        for (out, value) in op.outputs.iter().zip(made) {
            self.write(out, value);
        }
        Ok(())
    }
}

/// The name of an operation, such as `Matmul`: the innermost variant.
pub(crate) fn name(operation: &impl std::fmt::Debug) -> String {
    let text = format!("{operation:?}");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text
        .split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty());
    let outer = [
        "BaseFloat",
        "BaseInt",
        "BaseBool",
        "NumericFloat",
        "NumericInt",
        "Bool",
        "Int",
        "Float",
        "Module",
        "Activation",
        "F32",
        "I64",
    ];
    let mut names = names.skip_while(|word| outer.contains(word));
    names.next().unwrap_or("operation").into()
}

fn not_replayed<O: std::fmt::Debug>(operation: &O) -> Result<(), NotReplayed> {
    Err(NotReplayed(name(operation)))
}

/// What tensors of every kind can do.
struct Base {
    reshape: fn(T, Shape) -> T,
    swap_dims: fn(T, usize, usize) -> T,
    permute: fn(T, &[usize]) -> T,
    flip: fn(T, &[usize]) -> T,
    expand: fn(T, Shape) -> T,
    unfold: fn(T, usize, usize, usize) -> T,
    slice: fn(T, &[Slice]) -> T,
    slice_assign: fn(T, &[Slice], T) -> T,
    gather: fn(usize, T, T) -> T,
    select: fn(T, usize, T) -> T,
    mask_where: fn(T, T, T) -> T,
    mask_fill: fn(T, T, Scalar) -> T,
    equal: fn(T, T, BoolDType) -> T,
    equal_elem: fn(T, Scalar, BoolDType) -> T,
    not_equal: fn(T, T, BoolDType) -> T,
    not_equal_elem: fn(T, Scalar, BoolDType) -> T,
    repeat_dim: fn(T, usize, usize) -> T,
    cat: fn(Vec<T>, usize) -> T,
    empty: fn(&TensorIr, &DispatchDevice) -> T,
    ones: fn(&TensorIr, &DispatchDevice) -> T,
    zeros: fn(&TensorIr, &DispatchDevice) -> T,
}

const FLOAT: Base = Base {
    reshape: Dispatch::float_reshape,
    swap_dims: Dispatch::float_swap_dims,
    permute: Dispatch::float_permute,
    flip: Dispatch::float_flip,
    expand: Dispatch::float_expand,
    unfold: Dispatch::float_unfold,
    slice: Dispatch::float_slice,
    slice_assign: Dispatch::float_slice_assign,
    gather: Dispatch::float_gather,
    select: Dispatch::float_select,
    mask_where: Dispatch::float_mask_where,
    mask_fill: Dispatch::float_mask_fill,
    equal: Dispatch::float_equal,
    equal_elem: Dispatch::float_equal_elem,
    not_equal: Dispatch::float_not_equal,
    not_equal_elem: Dispatch::float_not_equal_elem,
    repeat_dim: Dispatch::float_repeat_dim,
    cat: Dispatch::float_cat,
    empty: |out, device| Dispatch::float_empty(out.shape.clone(), device, out.dtype.into()),
    ones: |out, device| Dispatch::float_ones(out.shape.clone(), device, out.dtype.into()),
    zeros: |out, device| Dispatch::float_zeros(out.shape.clone(), device, out.dtype.into()),
};

const INT: Base = Base {
    reshape: Dispatch::int_reshape,
    swap_dims: Dispatch::int_swap_dims,
    permute: Dispatch::int_permute,
    flip: Dispatch::int_flip,
    expand: Dispatch::int_expand,
    unfold: Dispatch::int_unfold,
    slice: Dispatch::int_slice,
    slice_assign: Dispatch::int_slice_assign,
    gather: Dispatch::int_gather,
    select: Dispatch::int_select,
    mask_where: Dispatch::int_mask_where,
    mask_fill: Dispatch::int_mask_fill,
    equal: Dispatch::int_equal,
    equal_elem: Dispatch::int_equal_elem,
    not_equal: Dispatch::int_not_equal,
    not_equal_elem: Dispatch::int_not_equal_elem,
    repeat_dim: Dispatch::int_repeat_dim,
    cat: Dispatch::int_cat,
    empty: |out, device| Dispatch::int_empty(out.shape.clone(), device, out.dtype.into()),
    ones: |out, device| Dispatch::int_ones(out.shape.clone(), device, out.dtype.into()),
    zeros: |out, device| Dispatch::int_zeros(out.shape.clone(), device, out.dtype.into()),
};

const BOOL: Base = Base {
    reshape: Dispatch::bool_reshape,
    swap_dims: Dispatch::bool_swap_dims,
    permute: Dispatch::bool_permute,
    flip: Dispatch::bool_flip,
    expand: Dispatch::bool_expand,
    unfold: Dispatch::bool_unfold,
    slice: Dispatch::bool_slice,
    slice_assign: Dispatch::bool_slice_assign,
    gather: Dispatch::bool_gather,
    select: Dispatch::bool_select,
    mask_where: Dispatch::bool_mask_where,
    mask_fill: Dispatch::bool_mask_fill,
    equal: |left, right, _| Dispatch::bool_equal(left, right),
    equal_elem: |left, right, _| Dispatch::bool_equal_elem(left, right),
    not_equal: |left, right, _| Dispatch::bool_not_equal(left, right),
    not_equal_elem: |left, right, _| Dispatch::bool_not_equal_elem(left, right),
    repeat_dim: Dispatch::bool_repeat_dim,
    cat: Dispatch::bool_cat,
    empty: |out, device| Dispatch::bool_empty(out.shape.clone(), device, out.dtype.into()),
    ones: |out, device| Dispatch::bool_ones(out.shape.clone(), device, out.dtype.into()),
    zeros: |out, device| Dispatch::bool_zeros(out.shape.clone(), device, out.dtype.into()),
};

impl Tensors<'_> {
    fn base(&mut self, op: &BaseOperationIr, kind: &Base) -> Result<(), NotReplayed> {
        let (out, value) = match op {
            BaseOperationIr::Reshape(d) => {
                let shape = d.out.shape.clone();
                (&d.out, (kind.reshape)(self.read(&d.input), shape))
            }
            BaseOperationIr::SwapDims(d) => (
                &d.out,
                (kind.swap_dims)(self.read(&d.input), d.dim1, d.dim2),
            ),
            BaseOperationIr::Permute(d) => (&d.out, (kind.permute)(self.read(&d.input), &d.axes)),
            BaseOperationIr::Flip(d) => (&d.out, (kind.flip)(self.read(&d.input), &d.axes)),
            BaseOperationIr::Expand(d) => {
                let shape = d.out.shape.clone();
                (&d.out, (kind.expand)(self.read(&d.input), shape))
            }
            BaseOperationIr::Unfold(d) => {
                let x = self.read(&d.input);
                (&d.out, (kind.unfold)(x, d.dim, d.size, d.step))
            }
            BaseOperationIr::Slice(d) => (&d.out, (kind.slice)(self.read(&d.tensor), &d.ranges)),
            BaseOperationIr::SliceAssign(d) => {
                let (x, value) = (self.read(&d.tensor), self.read(&d.value));
                (&d.out, (kind.slice_assign)(x, &d.ranges, value))
            }
            BaseOperationIr::Gather(d) => {
                let (x, indices) = (self.read(&d.tensor), self.read(&d.indices));
                (&d.out, (kind.gather)(d.dim, x, indices))
            }
            BaseOperationIr::Select(d) => {
                let (x, indices) = (self.read(&d.tensor), self.read(&d.indices));
                (&d.out, (kind.select)(x, d.dim, indices))
            }
            BaseOperationIr::MaskWhere(d) => {
                let (x, mask) = (self.read(&d.tensor), self.read(&d.mask));
                (&d.out, (kind.mask_where)(x, mask, self.read(&d.value)))
            }
            BaseOperationIr::MaskFill(d) => {
                let (x, mask) = (self.read(&d.tensor), self.read(&d.mask));
                (&d.out, (kind.mask_fill)(x, mask, d.value.into()))
            }
            BaseOperationIr::Equal(d) => {
                let (left, right) = (self.read(&d.lhs), self.read(&d.rhs));
                (&d.out, (kind.equal)(left, right, d.out.dtype.into()))
            }
            BaseOperationIr::EqualElem(d) => {
                let left = self.read(&d.lhs);
                let dtype = d.out.dtype.into();
                (&d.out, (kind.equal_elem)(left, d.rhs.into(), dtype))
            }
            BaseOperationIr::NotEqual(d) => {
                let (left, right) = (self.read(&d.lhs), self.read(&d.rhs));
                (&d.out, (kind.not_equal)(left, right, d.out.dtype.into()))
            }
            BaseOperationIr::NotEqualElem(d) => {
                let left = self.read(&d.lhs);
                let dtype = d.out.dtype.into();
                (&d.out, (kind.not_equal_elem)(left, d.rhs.into(), dtype))
            }
            BaseOperationIr::RepeatDim(d) => (
                &d.out,
                (kind.repeat_dim)(self.read(&d.tensor), d.dim, d.times),
            ),
            BaseOperationIr::Cat(d) => {
                let all = d.tensors.iter().map(|tensor| self.read(tensor)).collect();
                (&d.out, (kind.cat)(all, d.dim))
            }
            BaseOperationIr::Cast(d) if d.input.dtype.is_float() => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::float_cast(x, d.out.dtype.into()))
            }
            BaseOperationIr::Cast(d) if !d.input.dtype.is_bool() => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::int_cast(x, d.out.dtype.into()))
            }
            BaseOperationIr::Empty(d) => (&d.out, (kind.empty)(&d.out, &self.device)),
            BaseOperationIr::Ones(d) => (&d.out, (kind.ones)(&d.out, &self.device)),
            BaseOperationIr::Zeros(d) => (&d.out, (kind.zeros)(&d.out, &self.device)),
            other => return not_replayed(other),
        };
        self.write(out, value);
        Ok(())
    }
}

type Binary = fn(T, T) -> T;
type WithScalar = fn(T, Scalar) -> T;
type Unary = fn(T) -> T;
type AlongAxis = fn(T, usize) -> T;
type Comparison = fn(T, T, BoolDType) -> T;
type ComparisonWithScalar = fn(T, Scalar, BoolDType) -> T;

/// What tensors of numbers can do.
struct Numeric {
    add: Binary,
    sub: Binary,
    mul: Binary,
    div: Binary,
    remainder: Binary,
    add_scalar: WithScalar,
    sub_scalar: WithScalar,
    mul_scalar: WithScalar,
    div_scalar: WithScalar,
    remainder_scalar: WithScalar,
    powi: Binary,
    powi_scalar: WithScalar,
    clamp_min: WithScalar,
    clamp_max: WithScalar,
    abs: Unary,
    neg: Unary,
    sign: Unary,
    sum: Unary,
    mean: Unary,
    prod: Unary,
    max: Unary,
    min: Unary,
    max_abs: Unary,
    sum_dim: AlongAxis,
    mean_dim: AlongAxis,
    prod_dim: AlongAxis,
    max_dim: AlongAxis,
    min_dim: AlongAxis,
    max_abs_dim: AlongAxis,
    cumsum: AlongAxis,
    cumprod: AlongAxis,
    cummin: AlongAxis,
    cummax: AlongAxis,
    greater: Comparison,
    greater_equal: Comparison,
    lower: Comparison,
    lower_equal: Comparison,
    greater_elem: ComparisonWithScalar,
    greater_equal_elem: ComparisonWithScalar,
    lower_elem: ComparisonWithScalar,
    lower_equal_elem: ComparisonWithScalar,
    clamp: fn(T, Scalar, Scalar) -> T,
    full: fn(&TensorIr, Scalar, &DispatchDevice) -> T,
    argmax: fn(T, usize, IntDType) -> T,
    argmin: fn(T, usize, IntDType) -> T,
    max_dim_with_indices: fn(T, usize, IntDType) -> (T, T),
    min_dim_with_indices: fn(T, usize, IntDType) -> (T, T),
    sum_dims: fn(T, &[usize]) -> T,
    sort: fn(T, usize, bool) -> T,
    pad: fn(T, &[(usize, usize)], PadMode) -> T,
}

const FLOATS: Numeric = Numeric {
    add: Dispatch::float_add,
    sub: Dispatch::float_sub,
    mul: Dispatch::float_mul,
    div: Dispatch::float_div,
    remainder: Dispatch::float_remainder,
    add_scalar: Dispatch::float_add_scalar,
    sub_scalar: Dispatch::float_sub_scalar,
    mul_scalar: Dispatch::float_mul_scalar,
    div_scalar: Dispatch::float_div_scalar,
    remainder_scalar: Dispatch::float_remainder_scalar,
    powi: Dispatch::float_powi,
    powi_scalar: Dispatch::float_powi_scalar,
    clamp_min: Dispatch::float_clamp_min,
    clamp_max: Dispatch::float_clamp_max,
    abs: Dispatch::float_abs,
    neg: Dispatch::float_neg,
    sign: Dispatch::float_sign,
    sum: Dispatch::float_sum,
    mean: Dispatch::float_mean,
    prod: Dispatch::float_prod,
    max: Dispatch::float_max,
    min: Dispatch::float_min,
    max_abs: Dispatch::float_max_abs,
    sum_dim: Dispatch::float_sum_dim,
    mean_dim: Dispatch::float_mean_dim,
    prod_dim: Dispatch::float_prod_dim,
    max_dim: Dispatch::float_max_dim,
    min_dim: Dispatch::float_min_dim,
    max_abs_dim: Dispatch::float_max_abs_dim,
    cumsum: Dispatch::float_cumsum,
    cumprod: Dispatch::float_cumprod,
    cummin: Dispatch::float_cummin,
    cummax: Dispatch::float_cummax,
    greater: Dispatch::float_greater,
    greater_equal: Dispatch::float_greater_equal,
    lower: Dispatch::float_lower,
    lower_equal: Dispatch::float_lower_equal,
    greater_elem: Dispatch::float_greater_elem,
    greater_equal_elem: Dispatch::float_greater_equal_elem,
    lower_elem: Dispatch::float_lower_elem,
    lower_equal_elem: Dispatch::float_lower_equal_elem,
    clamp: Dispatch::float_clamp,
    full: |out, value, device| {
        Dispatch::float_full(out.shape.clone(), value, device, out.dtype.into())
    },
    argmax: Dispatch::float_argmax,
    argmin: Dispatch::float_argmin,
    max_dim_with_indices: Dispatch::float_max_dim_with_indices,
    min_dim_with_indices: Dispatch::float_min_dim_with_indices,
    sum_dims: Dispatch::float_sum_dims,
    sort: Dispatch::float_sort,
    pad: Dispatch::float_pad,
};

const INTS: Numeric = Numeric {
    add: Dispatch::int_add,
    sub: Dispatch::int_sub,
    mul: Dispatch::int_mul,
    div: Dispatch::int_div,
    remainder: Dispatch::int_remainder,
    add_scalar: Dispatch::int_add_scalar,
    sub_scalar: Dispatch::int_sub_scalar,
    mul_scalar: Dispatch::int_mul_scalar,
    div_scalar: Dispatch::int_div_scalar,
    remainder_scalar: Dispatch::int_remainder_scalar,
    powi: Dispatch::int_powi,
    powi_scalar: Dispatch::int_powi_scalar,
    clamp_min: Dispatch::int_clamp_min,
    clamp_max: Dispatch::int_clamp_max,
    abs: Dispatch::int_abs,
    neg: Dispatch::int_neg,
    sign: Dispatch::int_sign,
    sum: Dispatch::int_sum,
    mean: Dispatch::int_mean,
    prod: Dispatch::int_prod,
    max: Dispatch::int_max,
    min: Dispatch::int_min,
    max_abs: Dispatch::int_max_abs,
    sum_dim: Dispatch::int_sum_dim,
    mean_dim: Dispatch::int_mean_dim,
    prod_dim: Dispatch::int_prod_dim,
    max_dim: Dispatch::int_max_dim,
    min_dim: Dispatch::int_min_dim,
    max_abs_dim: Dispatch::int_max_abs_dim,
    cumsum: Dispatch::int_cumsum,
    cumprod: Dispatch::int_cumprod,
    cummin: Dispatch::int_cummin,
    cummax: Dispatch::int_cummax,
    greater: Dispatch::int_greater,
    greater_equal: Dispatch::int_greater_equal,
    lower: Dispatch::int_lower,
    lower_equal: Dispatch::int_lower_equal,
    greater_elem: Dispatch::int_greater_elem,
    greater_equal_elem: Dispatch::int_greater_equal_elem,
    lower_elem: Dispatch::int_lower_elem,
    lower_equal_elem: Dispatch::int_lower_equal_elem,
    clamp: Dispatch::int_clamp,
    full: |out, value, device| {
        Dispatch::int_full(out.shape.clone(), value, device, out.dtype.into())
    },
    argmax: |x, axis, _| Dispatch::int_argmax(x, axis),
    argmin: |x, axis, _| Dispatch::int_argmin(x, axis),
    max_dim_with_indices: |x, axis, _| Dispatch::int_max_dim_with_indices(x, axis),
    min_dim_with_indices: |x, axis, _| Dispatch::int_min_dim_with_indices(x, axis),
    sum_dims: |x, axes| {
        axes.iter()
            .fold(x, |x, &axis| Dispatch::int_sum_dim(x, axis))
    },
    sort: Dispatch::int_sort,
    pad: Dispatch::int_pad,
};

impl Tensors<'_> {
    fn numeric(&mut self, op: &NumericOperationIr, kind: &Numeric) -> Result<(), NotReplayed> {
        use NumericOperationIr as Op;
        let (out, value) = match op {
            Op::Add(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.add)),
            Op::Sub(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.sub)),
            Op::Mul(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.mul)),
            Op::Div(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.div)),
            Op::Rem(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.remainder)),
            Op::Powi(d) => (&d.out, self.binary(&d.lhs, &d.rhs, kind.powi)),
            Op::AddScalar(d) => (&d.out, (kind.add_scalar)(self.read(&d.lhs), d.rhs.into())),
            Op::SubScalar(d) => (&d.out, (kind.sub_scalar)(self.read(&d.lhs), d.rhs.into())),
            Op::MulScalar(d) => (&d.out, (kind.mul_scalar)(self.read(&d.lhs), d.rhs.into())),
            Op::DivScalar(d) => (&d.out, (kind.div_scalar)(self.read(&d.lhs), d.rhs.into())),
            Op::RemScalar(d) => {
                let x = self.read(&d.lhs);
                (&d.out, (kind.remainder_scalar)(x, d.rhs.into()))
            }
            Op::PowiScalar(d) => (&d.out, (kind.powi_scalar)(self.read(&d.lhs), d.rhs.into())),
            Op::ClampMin(d) => (&d.out, (kind.clamp_min)(self.read(&d.lhs), d.rhs.into())),
            Op::ClampMax(d) => (&d.out, (kind.clamp_max)(self.read(&d.lhs), d.rhs.into())),
            Op::Clamp(d) => {
                let x = self.read(&d.tensor);
                (&d.out, (kind.clamp)(x, d.min.into(), d.max.into()))
            }
            Op::Abs(d) => (&d.out, (kind.abs)(self.read(&d.input))),
            Op::Neg(d) => (&d.out, (kind.neg)(self.read(&d.input))),
            Op::Sign(d) => (&d.out, (kind.sign)(self.read(&d.input))),
            Op::Pad(d) => {
                let x = self.read(&d.input);
                (&d.out, (kind.pad)(x, &d.padding, d.mode.into()))
            }
            Op::Full(d) => (&d.out, (kind.full)(&d.out, d.value.into(), &self.device)),
            other => return self.reduction(other, kind),
        };
        self.write(out, value);
        Ok(())
    }

    fn reduction(&mut self, op: &NumericOperationIr, kind: &Numeric) -> Result<(), NotReplayed> {
        use NumericOperationIr as Op;
        let (out, value) = match op {
            Op::Sum(d) => (&d.out, (kind.sum)(self.read(&d.input))),
            Op::Mean(d) => (&d.out, (kind.mean)(self.read(&d.input))),
            Op::Prod(d) => (&d.out, (kind.prod)(self.read(&d.input))),
            Op::Max(d) => (&d.out, (kind.max)(self.read(&d.input))),
            Op::Min(d) => (&d.out, (kind.min)(self.read(&d.input))),
            Op::MaxAbs(d) => (&d.out, (kind.max_abs)(self.read(&d.input))),
            Op::SumDim(d) => (&d.out, (kind.sum_dim)(self.read(&d.input), d.axis)),
            Op::MeanDim(d) => (&d.out, (kind.mean_dim)(self.read(&d.input), d.axis)),
            Op::ProdDim(d) => (&d.out, (kind.prod_dim)(self.read(&d.input), d.axis)),
            Op::MaxDim(d) => (&d.out, (kind.max_dim)(self.read(&d.input), d.axis)),
            Op::MinDim(d) => (&d.out, (kind.min_dim)(self.read(&d.input), d.axis)),
            Op::MaxAbsDim(d) => (&d.out, (kind.max_abs_dim)(self.read(&d.input), d.axis)),
            Op::SumDims(d) => (&d.out, (kind.sum_dims)(self.read(&d.input), &d.axes)),
            Op::CumSum(d) => (&d.out, (kind.cumsum)(self.read(&d.input), d.axis)),
            Op::CumProd(d) => (&d.out, (kind.cumprod)(self.read(&d.input), d.axis)),
            Op::CumMin(d) => (&d.out, (kind.cummin)(self.read(&d.input), d.axis)),
            Op::CumMax(d) => (&d.out, (kind.cummax)(self.read(&d.input), d.axis)),
            Op::ArgMax(d) => {
                let x = self.read(&d.input);
                (&d.out, (kind.argmax)(x, d.axis, d.out.dtype.into()))
            }
            Op::ArgMin(d) => {
                let x = self.read(&d.input);
                (&d.out, (kind.argmin)(x, d.axis, d.out.dtype.into()))
            }
            Op::Sort(d) => (
                &d.out,
                (kind.sort)(self.read(&d.input), d.dim, d.descending),
            ),
            Op::MaxDimWithIndices(d) => {
                let x = self.read(&d.tensor);
                let dtype = d.out_indices.dtype.into();
                let (values, indices) = (kind.max_dim_with_indices)(x, d.dim, dtype);
                self.write(&d.out_indices, indices);
                (&d.out, values)
            }
            Op::MinDimWithIndices(d) => {
                let x = self.read(&d.tensor);
                let dtype = d.out_indices.dtype.into();
                let (values, indices) = (kind.min_dim_with_indices)(x, d.dim, dtype);
                self.write(&d.out_indices, indices);
                (&d.out, values)
            }
            other => return self.comparison(other, kind),
        };
        self.write(out, value);
        Ok(())
    }

    fn comparison(&mut self, op: &NumericOperationIr, kind: &Numeric) -> Result<(), NotReplayed> {
        use NumericOperationIr as Op;
        let (d, compare) = match op {
            Op::Greater(d) => (d, kind.greater),
            Op::GreaterEqual(d) => (d, kind.greater_equal),
            Op::Lower(d) => (d, kind.lower),
            Op::LowerEqual(d) => (d, kind.lower_equal),
            other => return self.comparison_with_scalar(other, kind),
        };
        let (left, right) = (self.read(&d.lhs), self.read(&d.rhs));
        let value = compare(left, right, d.out.dtype.into());
        self.write(&d.out, value);
        Ok(())
    }

    fn comparison_with_scalar(
        &mut self,
        op: &NumericOperationIr,
        kind: &Numeric,
    ) -> Result<(), NotReplayed> {
        use NumericOperationIr as Op;
        let (d, compare) = match op {
            Op::GreaterElem(d) => (d, kind.greater_elem),
            Op::GreaterEqualElem(d) => (d, kind.greater_equal_elem),
            Op::LowerElem(d) => (d, kind.lower_elem),
            Op::LowerEqualElem(d) => (d, kind.lower_equal_elem),
            other => return not_replayed(other),
        };
        let value = compare(self.read(&d.lhs), d.rhs.into(), d.out.dtype.into());
        self.write(&d.out, value);
        Ok(())
    }

    fn binary(&mut self, left: &TensorIr, right: &TensorIr, compute: Binary) -> T {
        let (left, right) = (self.read(left), self.read(right));
        compute(left, right)
    }

    fn bool(&mut self, op: &BoolOperationIr) -> Result<(), NotReplayed> {
        let (out, value) = match op {
            BoolOperationIr::IntoFloat(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::bool_into_float(x, d.out.dtype.into()))
            }
            BoolOperationIr::IntoInt(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::bool_into_int(x, d.out.dtype.into()))
            }
            BoolOperationIr::Not(d) => (&d.out, Dispatch::bool_not(self.read(&d.input))),
            BoolOperationIr::And(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::bool_and)),
            BoolOperationIr::Or(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::bool_or)),
            BoolOperationIr::Xor(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::bool_xor)),
        };
        self.write(out, value);
        Ok(())
    }

    fn int(&mut self, op: &IntOperationIr) -> Result<(), NotReplayed> {
        let (out, value) = match op {
            IntOperationIr::IntoFloat(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::int_into_float(x, d.out.dtype.into()))
            }
            IntOperationIr::Matmul(d) => {
                (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::int_matmul))
            }
            other => return not_replayed(other),
        };
        self.write(out, value);
        Ok(())
    }

    fn float(&mut self, op: &FloatOperationIr) -> Result<(), NotReplayed> {
        use FloatOperationIr as Op;
        let (d, compute): (_, Unary) = match op {
            Op::Exp(d) => (d, Dispatch::float_exp),
            Op::Log(d) => (d, Dispatch::float_log),
            Op::Log1p(d) => (d, Dispatch::float_log1p),
            Op::Erf(d) => (d, Dispatch::float_erf),
            Op::Sqrt(d) => (d, Dispatch::float_sqrt),
            Op::Cos(d) => (d, Dispatch::float_cos),
            Op::Cosh(d) => (d, Dispatch::float_cosh),
            Op::Sin(d) => (d, Dispatch::float_sin),
            Op::Sinh(d) => (d, Dispatch::float_sinh),
            Op::Tan(d) => (d, Dispatch::float_tan),
            Op::Tanh(d) => (d, Dispatch::float_tanh),
            Op::ArcCos(d) => (d, Dispatch::float_acos),
            Op::ArcCosh(d) => (d, Dispatch::float_acosh),
            Op::ArcSin(d) => (d, Dispatch::float_asin),
            Op::ArcSinh(d) => (d, Dispatch::float_asinh),
            Op::ArcTan(d) => (d, Dispatch::float_atan),
            Op::ArcTanh(d) => (d, Dispatch::float_atanh),
            Op::Round(d) => (d, Dispatch::float_round),
            Op::Floor(d) => (d, Dispatch::float_floor),
            Op::Ceil(d) => (d, Dispatch::float_ceil),
            Op::Trunc(d) => (d, Dispatch::float_trunc),
            Op::Recip(d) => (d, Dispatch::float_recip),
            other => return self.float_with_others(other),
        };
        let value = compute(self.read(&d.input));
        self.write(&d.out, value);
        Ok(())
    }

    fn float_with_others(&mut self, op: &FloatOperationIr) -> Result<(), NotReplayed> {
        use FloatOperationIr as Op;
        let (out, value) = match op {
            Op::Matmul(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::float_matmul)),
            Op::Powf(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::float_powf)),
            Op::Hypot(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::float_hypot)),
            Op::ArcTan2(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::float_atan2)),
            Op::PowfScalar(d) => {
                let x = self.read(&d.lhs);
                (&d.out, Dispatch::float_powf_scalar(x, d.rhs.into()))
            }
            Op::Cross(d) => {
                let (left, right) = (self.read(&d.lhs), self.read(&d.rhs));
                (&d.out, Dispatch::float_cross(left, right, d.dim))
            }
            Op::IntoInt(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::float_into_int(x, d.out.dtype.into()))
            }
            Op::IsNan(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::float_is_nan(x, d.out.dtype.into()))
            }
            Op::IsInf(d) => {
                let x = self.read(&d.input);
                (&d.out, Dispatch::float_is_inf(x, d.out.dtype.into()))
            }
            Op::Random(d) => {
                let (shape, dtype): (_, FloatDType) = (d.out.shape.clone(), d.out.dtype.into());
                let value = Dispatch::float_random(shape, d.distribution, &self.device, dtype);
                (&d.out, value)
            }
            Op::GridSample2d(d) => {
                let (x, grid) = (self.read(&d.tensor), self.read(&d.grid));
                let options = d.options.clone().into();
                (&d.out, Dispatch::float_grid_sample_2d(x, grid, options))
            }
            other => return not_replayed(other),
        };
        self.write(out, value);
        Ok(())
    }

    fn activation(&mut self, op: &ActivationOperationIr) -> Result<(), NotReplayed> {
        use ActivationOperationIr as Op;
        let (out, value) = match op {
            Op::Relu(d) => (&d.out, Dispatch::relu(self.read(&d.input))),
            Op::LeakyRelu(d) => (
                &d.out,
                Dispatch::leaky_relu(self.read(&d.lhs), d.rhs.into()),
            ),
            Op::PRelu(d) => (&d.out, self.binary(&d.lhs, &d.rhs, Dispatch::prelu)),
            Op::Gelu(d) => (&d.out, Dispatch::gelu(self.read(&d.input))),
            Op::Sigmoid(d) => (&d.out, Dispatch::sigmoid(self.read(&d.input))),
            Op::LogSigmoid(d) => (&d.out, Dispatch::log_sigmoid(self.read(&d.input))),
            Op::HardSigmoid(d) => {
                let x = self.read(&d.tensor);
                (
                    &d.out,
                    Dispatch::hard_sigmoid(x, d.alpha.into(), d.beta.into()),
                )
            }
            Op::Softmax(d) => (&d.out, Dispatch::softmax(self.read(&d.input), d.axis)),
            Op::LogSoftmax(d) => (&d.out, Dispatch::log_softmax(self.read(&d.input), d.axis)),
            Op::Softmin(d) => (&d.out, Dispatch::softmin(self.read(&d.input), d.axis)),
            other => return not_replayed(other),
        };
        self.write(out, value);
        Ok(())
    }

    fn module(&mut self, op: &ModuleOperationIr) -> Result<(), NotReplayed> {
        use ModuleOperationIr as Op;
        let (out, value) = match op {
            Op::Embedding(d) => (
                &d.out,
                self.binary(&d.weights, &d.indices, Dispatch::embedding),
            ),
            Op::Linear(d) => {
                let (x, weight) = (self.read(&d.x), self.read(&d.weight));
                (&d.out, Dispatch::linear(x, weight, self.read_if(&d.bias)))
            }
            Op::BatchNorm(d) => {
                let (x, gamma, beta) = (self.read(&d.x), self.read(&d.gamma), self.read(&d.beta));
                let (mean, variance) = (self.read(&d.mean), self.read(&d.variance));
                let epsilon = d.epsilon.elem();
                (
                    &d.out,
                    Dispatch::batch_norm(x, gamma, beta, mean, variance, epsilon),
                )
            }
            Op::LayerNorm(d) => {
                let (x, gamma) = (self.read(&d.input), self.read(&d.gamma));
                let beta = self.read_if(&d.beta);
                (
                    &d.out,
                    Dispatch::layer_norm(x, gamma, beta, d.epsilon.elem()),
                )
            }
            Op::Attention(d) => {
                let (query, key) = (self.read(&d.query), self.read(&d.key));
                let value = self.read(&d.value);
                let (mask, bias) = (self.read_if(&d.mask), self.read_if(&d.attn_bias));
                let options = d.options.clone().into();
                (
                    &d.out,
                    Dispatch::attention(query, key, value, mask, bias, options),
                )
            }
            Op::Interpolate(d) => {
                let (x, options) = (self.read(&d.x), d.options.clone().into());
                (&d.out, Dispatch::interpolate(x, d.output_size, options))
            }
            other => return self.convolution(other),
        };
        self.write(out, value);
        Ok(())
    }

    fn convolution(&mut self, op: &ModuleOperationIr) -> Result<(), NotReplayed> {
        use ModuleOperationIr as Op;
        macro_rules! convolution {
            ($d:ident, $compute:expr) => {{
                let (x, weight) = (self.read(&$d.x), self.read(&$d.weight));
                let bias = self.read_if(&$d.bias);
                (
                    &$d.out,
                    $compute(x, weight, bias, $d.options.clone().into()),
                )
            }};
        }
        let (out, value) = match op {
            Op::Conv1d(d) => convolution!(d, Dispatch::conv1d),
            Op::Conv2d(d) => convolution!(d, Dispatch::conv2d),
            Op::Conv3d(d) => convolution!(d, Dispatch::conv3d),
            Op::ConvTranspose1d(d) => convolution!(d, Dispatch::conv_transpose1d),
            Op::ConvTranspose2d(d) => convolution!(d, Dispatch::conv_transpose2d),
            Op::ConvTranspose3d(d) => convolution!(d, Dispatch::conv_transpose3d),
            Op::DeformableConv2d(d) => {
                let (x, offset) = (self.read(&d.x), self.read(&d.offset));
                let (mask, weight) = (self.read_if(&d.mask), self.read(&d.weight));
                let (bias, options) = (self.read_if(&d.bias), d.options.clone().into());
                (
                    &d.out,
                    Dispatch::deform_conv2d(x, offset, weight, mask, bias, options),
                )
            }
            other => return self.pool(other),
        };
        self.write(out, value);
        Ok(())
    }

    fn pool(&mut self, op: &ModuleOperationIr) -> Result<(), NotReplayed> {
        use ModuleOperationIr as Op;
        macro_rules! average {
            ($d:ident, $compute:expr) => {{
                let x = self.read(&$d.x);
                let inside = ($d.count_include_pad, $d.ceil_mode);
                let value = $compute(x, $d.kernel_size, $d.stride, $d.padding, inside.0, inside.1);
                (&$d.out, value)
            }};
        }
        macro_rules! maximum {
            ($d:ident, $compute:expr $(, $dtype:expr)?) => {{
                let x = self.read(&$d.x);
                let window = ($d.kernel_size, $d.stride, $d.padding, $d.dilation);
                let (size, stride, padding, dilation) = window;
                $compute(x, size, stride, padding, dilation, $d.ceil_mode $(, $dtype)?)
            }};
        }
        let (out, value) = match op {
            Op::AvgPool1d(d) => average!(d, Dispatch::avg_pool1d),
            Op::AvgPool2d(d) => average!(d, Dispatch::avg_pool2d),
            Op::AdaptiveAvgPool1d(d) => (
                &d.out,
                Dispatch::adaptive_avg_pool1d(self.read(&d.x), d.output_size),
            ),
            Op::AdaptiveAvgPool2d(d) => (
                &d.out,
                Dispatch::adaptive_avg_pool2d(self.read(&d.x), d.output_size),
            ),
            Op::AdaptiveAvgPool3d(d) => (
                &d.out,
                Dispatch::adaptive_avg_pool3d(self.read(&d.x), d.output_size),
            ),
            Op::MaxPool1d(d) => (&d.out, maximum!(d, Dispatch::max_pool1d)),
            Op::MaxPool2d(d) => (&d.out, maximum!(d, Dispatch::max_pool2d)),
            Op::MaxPool1dWithIndices(d) => {
                let dtype: IntDType = d.out_indices.dtype.into();
                let made = maximum!(d, Dispatch::max_pool1d_with_indices, dtype);
                self.write(&d.out_indices, made.indices);
                (&d.out, made.output)
            }
            Op::MaxPool2dWithIndices(d) => {
                let dtype: IntDType = d.out_indices.dtype.into();
                let made = maximum!(d, Dispatch::max_pool2d_with_indices, dtype);
                self.write(&d.out_indices, made.indices);
                (&d.out, made.output)
            }
            other => return not_replayed(other),
        };
        self.write(out, value);
        Ok(())
    }
}
