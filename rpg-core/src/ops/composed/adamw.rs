//! One update of AdamW and of its schedule-free form.

use super::{unwrap, wrap};
use crate::ops::{AdamWUpdate, Moments8, ScheduleFreeUpdate};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorData, TensorMetadata};

pub(in crate::ops) fn square_sum<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    unwrap(flat::<B>(x).square().sum())
}

pub(in crate::ops) fn adamw<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    moment_1: &mut FloatTensor<B>,
    moment_2: &mut FloatTensor<B>,
    update: AdamWUpdate,
) -> FloatTensor<B> {
    let shape = param.shape();
    let back = |tensor: Tensor<B, 1>| B::float_reshape(unwrap(tensor), shape.clone());
    let (param, grad) = (
        flat::<B>(param),
        flat::<B>(grad).mul_scalar(update.grad_scale),
    );
    let m = flat::<B>(moment_1.clone()).mul_scalar(update.beta_1)
        + grad.clone().mul_scalar(1.0 - update.beta_1);
    let v = flat::<B>(moment_2.clone()).mul_scalar(update.beta_2)
        + grad.square().mul_scalar(1.0 - update.beta_2);
    let (m_correction, v_correction) = update.bias_corrections();
    let denominator = v
        .clone()
        .div_scalar(v_correction)
        .sqrt()
        .add_scalar(update.eps);
    let step = m.clone().div_scalar(m_correction) / denominator;
    let param =
        param.mul_scalar(1.0 - update.lr * update.weight_decay) - step.mul_scalar(update.lr);
    *moment_1 = back(m);
    *moment_2 = back(v);
    back(param)
}

pub(in crate::ops) fn adamw_8bit<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    moments: &mut Moments8,
    update: AdamWUpdate,
) -> FloatTensor<B> {
    let (shape, dtype, device) = (param.shape(), param.dtype(), B::float_device(&param));
    let [mut values, grad] = [param, grad].map(host_values::<B>);
    moments.step(&mut values, &grad, update);
    let data = TensorData::new(values, [shape.num_elements()]);
    let flat = Tensor::<B, 1>::from_data(data.convert_dtype(dtype), (&device, dtype));
    B::float_reshape(unwrap(flat), shape)
}

fn host_values<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let data = flat::<B>(tensor).into_data().convert_dtype(DType::F32);
    data.into_vec().expect("converted to f32")
}

pub(in crate::ops) fn adamw_schedule_free<B: Backend>(
    y: FloatTensor<B>,
    grad: FloatTensor<B>,
    z: &mut FloatTensor<B>,
    moment_2: &mut FloatTensor<B>,
    update: ScheduleFreeUpdate,
) -> FloatTensor<B> {
    let shape = y.shape();
    let back = |tensor: Tensor<B, 1>| B::float_reshape(unwrap(tensor), shape.clone());
    let (y, old_z) = (flat::<B>(y), flat::<B>(z.clone()));
    let grad = flat::<B>(grad).mul_scalar(update.grad_scale);
    let v = flat::<B>(moment_2.clone()).mul_scalar(update.beta_2)
        + grad.clone().square().mul_scalar(1.0 - update.beta_2);
    let denominator = v
        .clone()
        .div_scalar(update.bias_correction())
        .sqrt()
        .add_scalar(update.eps);
    let direction = grad / denominator + y.clone().mul_scalar(update.weight_decay);
    let new_y = y.clone()
        + (old_z.clone() - y).mul_scalar(update.share)
        + direction.clone().mul_scalar(update.rate_of_y());
    *z = back(old_z - direction.mul_scalar(update.lr));
    *moment_2 = back(v);
    back(new_y)
}

/// The rank does not matter to an element-wise update.
fn flat<B: Backend>(primitive: FloatTensor<B>) -> Tensor<B, 1> {
    let n = primitive.shape().num_elements();
    wrap::<B, 1>(B::float_reshape(primitive, [n].into()))
}

impl AdamWUpdate {
    /// `1 - beta^time` of both moments.
    pub(in crate::ops) fn bias_corrections(&self) -> (f32, f32) {
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.time as i32)) as f32;
        (correction(self.beta_1), correction(self.beta_2))
    }
}
