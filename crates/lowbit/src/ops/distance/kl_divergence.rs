//! The divergence of class probabilities.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};

/// `mean over n of (sum over c of p[n, c] (log p[n, c] - log q[n, c]))`, where `p` is the softmax of
/// `teacher / temperature` and `q` that of `scores / temperature`: the Kullback-Leibler divergence
/// of the teacher's softened probabilities from the student's (Hinton, Vinyals, Dean, arXiv
/// 1503.02531, section 2), a mean over the batch and a sum over the classes.
///
/// The gradient of `scores[n, c]` is `(q[n, c] - p[n, c]) / (temperature * batch)`; the teacher gets
/// none. Logarithms and sums are in `f64` and in the order of rows and classes, so that the bits
/// depend on no thread and no instruction set, and a probability that is 0 in `f32` costs nothing.
///
/// # Shapes
/// - `scores`, `teacher`: `[batch, classes]`
/// - result: `[1]`
///
/// # Panics
/// If the shapes differ, or the temperature is not positive.
pub fn kl_divergence(scores: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    assert_eq!(
        scores.dims(),
        teacher.dims(),
        "a teacher's score is expected for each score"
    );
    assert!(
        temperature > 0.0,
        "the temperature is {temperature}, expected a positive number"
    );
    operator::run(
        KlDivergence { temperature },
        vec![scores.into_dispatch(), teacher.into_dispatch()],
    )
}

/// The operator behind [`kl_divergence()`].
#[derive(Debug, Clone)]
struct KlDivergence {
    temperature: f64,
}

impl KlDivergence {
    /// The logarithms of the probabilities.
    fn logarithms<B: Kernels>(&self, scores: FloatTensor<B>) -> FloatTensor<B> {
        let softened = B::float_div_scalar(scores, self.temperature.into());
        <B as ActivationOps<B>>::log_softmax(softened, 1)
    }

    /// The same of one row, in `f64`.
    fn row(&self, scores: &[f32]) -> Vec<f64> {
        let softened = |&score: &f32| f64::from(score) / self.temperature;
        let greatest = scores
            .iter()
            .map(softened)
            .fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (softened(s) - greatest).exp()).sum();
        let shift = greatest + sum.ln();
        scores.iter().map(|score| softened(score) - shift).collect()
    }
}

impl Operator<1> for KlDivergence {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [scores, teacher] = inputs.tensors();
        let batch = scores.shape()[0];
        let (q, p) = (self.logarithms::<B>(scores), self.logarithms::<B>(teacher));
        let terms = B::float_mul(B::float_exp(p.clone()), B::float_sub(p, q));
        let sum = B::float_sum(terms);
        vec![B::float_div_scalar(sum, (batch as f64).into())]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [scores, teacher] = array(incoming.inputs);
        let shape = scores.shape();
        let share = self.temperature * shape[0] as f64;
        let probabilities = |scores| B::float_exp(self.logarithms::<B>(scores));
        let difference = B::float_sub(probabilities(scores), probabilities(teacher));
        let grad = B::float_expand(B::float_reshape(incoming.grad, Shape::new([1, 1])), shape);
        [Some(B::float_div_scalar(
            B::float_mul(difference, grad),
            share.into(),
        ))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [scores, teacher] = inputs.tensors();
        let dtype = scores.dtype();
        let [scores, teacher] = [scores, teacher].map(|x| flex::contiguous(flex::to_f32(x)));
        let (batch, classes) = (scores.layout().shape()[0], scores.layout().shape()[1]);
        let rows = |x: &FlexTensor| -> Vec<Vec<f64>> {
            let rows = x.storage::<f32>().chunks_exact(classes.max(1));
            rows.map(|row| self.row(row)).collect()
        };
        let (q, p) = (rows(&scores), rows(&teacher));
        let terms = p.iter().flatten().zip(q.iter().flatten());
        let sum: f64 = terms.map(|(p, q)| p.exp() * (p - q)).sum();
        let mean = sum / batch as f64;
        vec![flex::to_dtype(flex::from_slice(&[mean as f32]), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [scores, teacher] = array(incoming.inputs);
        let dtype = scores.dtype();
        let [scores, teacher] = [scores, teacher].map(|x| flex::contiguous(flex::to_f32(x)));
        let (batch, classes) = (scores.layout().shape()[0], scores.layout().shape()[1]);
        let share = f64::from(flex::to_vec(&incoming.grad)[0]) / (self.temperature * batch as f64);
        let mut output = Buffer::new(scores.layout().num_elements());
        let classes = classes.max(1);
        let rows = scores.storage::<f32>().chunks_exact(classes);
        let rows = rows.zip(teacher.storage::<f32>().chunks_exact(classes));
        for (output, (scores, teacher)) in output.chunks_exact_mut(classes).zip(rows) {
            let (q, p) = (self.row(scores), self.row(teacher));
            for (output, (q, p)) in output.iter_mut().zip(q.iter().zip(&p)) {
                *output = ((q.exp() - p.exp()) * share) as f32;
            }
        }
        [Some(flex::to_dtype(
            flex::from_buffer(output, scores.layout().clone()),
            dtype,
        ))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn read(data: TensorData) -> Vec<f32> {
        data.iter::<f32>().collect()
    }

    /// At temperature 2, the softened scores of the student are (0, 0), so that q = (1/2, 1/2), and
    /// those of the teacher (0, ln 3), so that p = (1/4, 3/4). The divergence is
    /// 1/4 ln(1/2) + 3/4 ln(3/2); the second row agrees and adds nothing. Gradients are
    /// (q - p) / (2 * 2): +-1/16.
    #[test]
    fn values_and_gradients_by_hand() {
        let device = Device::flex().autodiff();
        let scores = Tensor::<2>::from_floats([[7.0, 7.0], [1.0, 2.0]], &device).require_grad();
        let teacher = [[5.0, 5.0 + 2.0 * 3f32.ln()], [1001.0, 1002.0]];
        let teacher = Tensor::<2>::from_floats(teacher, &Device::flex());
        let loss = kl_divergence(scores.clone(), teacher, 2.0);
        let grads = (loss.clone() * 3.0).backward();
        let expected = (0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln()) / 2.0;
        let loss = f64::from(read(loss.into_data())[0]);
        assert!((loss - expected).abs() < 1e-7, "{loss} {expected}");
        let gradient = read(scores.grad(&grads).unwrap().into_data());
        for (g, expected) in gradient.iter().zip([0.1875, -0.1875, 0.0, 0.0]) {
            assert!((g - expected).abs() < 1e-7, "{g} {expected}");
        }
    }

    /// The definition in `f64`, and its derivative by differences of it.
    #[test]
    fn it_is_the_definition_and_its_derivative() {
        let (batch, classes, temperature) = (5, 7, 3.0);
        let wave = |f: f32, size: f32| -> Vec<f32> {
            let values = (0..batch * classes).map(|i| (i as f32 * f).sin() * size);
            values.collect()
        };
        let (scores, teacher) = (wave(0.7, 6.0), wave(1.3, 9.0));
        let softmax = |row: &[f64]| -> Vec<f64> {
            let powers: Vec<f64> = row.iter().map(|x| (x / temperature).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|x| x / sum).collect()
        };
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| x.into()).collect() };
        let defined = |scores: &[f64]| -> f64 {
            let teacher = wide(&teacher);
            let rows = scores.chunks(classes).zip(teacher.chunks(classes));
            let sums = rows.map(|(q, p)| {
                let (q, p) = (softmax(q), softmax(p));
                let terms = p.iter().zip(&q).map(|(p, q)| p * (p.ln() - q.ln()));
                terms.sum::<f64>()
            });
            sums.sum::<f64>() / batch as f64
        };
        let device = Device::flex().autodiff();
        let tensor = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [batch, classes]), &device)
        };
        let student = tensor(&scores).require_grad();
        let loss = kl_divergence(student.clone(), tensor(&teacher), temperature);
        let grads = loss.backward();
        let loss = f64::from(read(loss.into_data())[0]);
        assert!((loss - defined(&wide(&scores))).abs() < 1e-6 * loss);
        let gradient = read(student.grad(&grads).unwrap().into_data());
        for (i, &gradient) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut scores = wide(&scores);
                scores[i] += step;
                defined(&scores)
            };
            let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
            let error = (f64::from(gradient) - expected).abs();
            assert!(error < 1e-8, "{gradient} {expected}");
        }
    }

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
        let operator = KlDivergence { temperature: 4.0 };
        let wave = |f: f32| {
            let values: Vec<f32> = (0..33 * 7).map(|i| (i as f32 * f).sin() * 8.0).collect();
            FlexTensor::from_data(TensorData::new(values, [33, 7]))
        };
        let both = || vec![wave(0.3), wave(0.9)];
        let assert_close = |a: &FlexTensor, b: &FlexTensor| {
            for (a, b) in flex::to_vec(a).iter().zip(flex::to_vec(b)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        };
        let [kernel] = array(operator.flex_forward(Inputs::new(both())));
        let [plain] = array(operator.forward::<Flex>(Inputs::new(both())));
        assert_close(&kernel, &plain);
        let incoming = || Incoming::new(both(), flex::from_slice(&[3.0]));
        let [kernel] = operator.flex_backward(incoming()).map(Option::unwrap);
        let [plain] = operator.backward::<Flex>(incoming()).map(Option::unwrap);
        assert_close(&kernel, &plain);
    }

    #[test]
    #[should_panic(expected = "a teacher's score is expected for each score")]
    fn another_number_of_classes_is_refused() {
        let device = Device::flex();
        kl_divergence(
            Tensor::zeros([1, 10], &device),
            Tensor::zeros([1, 100], &device),
            1.0,
        );
    }
}
