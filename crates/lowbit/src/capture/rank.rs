//! Tensors whose rank is not known while compiling.

/// A function of a tensor of some rank.
macro_rules! of_any_rank {
    ($x:ident, $body:expr) => {{
        macro_rules! of_rank {
            ($rank:literal) => {{
                let $x = burn::tensor::Tensor::<$rank>::from_dispatch($x);
                $body
            }};
        }
        match burn::backend::TensorMetadata::shape(&$x).len() {
            1 => of_rank!(1),
            2 => of_rank!(2),
            3 => of_rank!(3),
            4 => of_rank!(4),
            5 => of_rank!(5),
            6 => of_rank!(6),
            rank => panic!("a tensor has {rank} dimensions, expected at most 6"),
        }
    }};
}

pub(crate) use of_any_rank;
