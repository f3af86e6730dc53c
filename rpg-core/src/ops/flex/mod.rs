//! The operations on Flex, the CPU backend, as single passes over memory.
//!
//! Each works on contiguous f32 and leaves other types to the composed form. Rows are divided among threads in
//! blocks whose size does not depend on the number of threads, and a block is summed in a fixed order: results
//! are the same bit for bit with any number of threads.

mod adamw;
mod attention;
mod cache;
mod delta;
mod glu;
mod head;
mod int8;
mod matmul;
mod norm;
mod project;
mod rotary;
mod rows;

use super::{
    Activation, AdamWUpdate, Attention, CacheRows, DecodeBackend, HeadLayout, HeadScores,
    Int8Matrix, ModelBackend, Moments8, Packing, RopeTable, ScheduleFreeUpdate, Weight, composed,
};
use burn::backend::Flex;
use burn::tensor::ops::IntTensor;
use burn::tensor::{DType, TensorData, TensorMetadata, bf16};
use burn_flex::FlexTensor;
use rows::Rows;

/// Rows per unit of parallel work.
const ROW_BLOCK: usize = 32;

/// Rows per unit of parallel work if a unit is to hold about `numbers` numbers.
fn rows_of(numbers: usize, width: usize) -> usize {
    (numbers / width.max(1)).clamp(1, 512)
}

fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// The tensor's values in order; copies only if they are not contiguous.
struct Values(FlexTensor);

impl Values {
    fn new(tensor: &FlexTensor) -> Self {
        Values(tensor.to_contiguous())
    }
}

impl std::ops::Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.storage::<f32>()
    }
}

fn from_vec(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// Runs `write` on the tensor's values in place, without a copy if nothing else holds them.
fn in_place<R>(tensor: &mut FlexTensor, write: impl FnOnce(&mut [f32]) -> R) -> R {
    if !tensor.is_contiguous() || tensor.layout().start_offset() != 0 {
        *tensor = tensor.to_contiguous();
    }
    write(tensor.storage_mut::<f32>())
}

fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}

impl ModelBackend for Flex {
    fn project(x: FlexTensor, weight: Weight<Self>) -> FlexTensor {
        let ([m, _], [n, k]) = (dims(&x), weight.dims());
        let few = m <= project::MAX_ROWS;
        let rows = Rows::new(&weight).filter(|_| x.dtype() == DType::F32);
        let y = match rows {
            Some(Rows::F32(weight)) if few => project::project(&Values::new(&x), &weight, m, n, k),
            // Widening nothing, the general product needs no panels.
            None | Some(Rows::F32(_)) => return composed::project::<Self>(x, weight),
            Some(Rows::Bf16(weight)) if few && k % 2 == 0 => {
                let x = Values::new(&x);
                match bytemuck::try_cast_slice::<bf16, u32>(weight.storage()) {
                    Ok(pairs) => project::project(&x, pairs, m, n, k),
                    Err(_) => project::project_widened(&x, &Rows::Bf16(weight), m, n, k),
                }
            }
            Some(rows) if few => project::project_widened(&Values::new(&x), &rows, m, n, k),
            Some(rows) => project::by_panels(&Values::new(&x), &rows, m, n, k),
        };
        from_vec(y, [m, n])
    }

    fn project_backward(weight: Weight<Self>, grad: FlexTensor) -> FlexTensor {
        let ([m, _], [n, k]) = (dims(&grad), weight.dims());
        match Rows::new(&weight).filter(|_| grad.dtype() == DType::F32) {
            None | Some(Rows::F32(_)) => composed::project_backward::<Self>(weight, grad),
            Some(rows) => {
                let dx = project::backward_by_panels(&Values::new(&grad), &rows, m, n, k);
                from_vec(dx, [m, k])
            }
        }
    }

    fn project_int8(x: FlexTensor, weight: &Int8Matrix) -> FlexTensor {
        if !all_f32(&[&x]) {
            return composed::project_int8::<Self>(x, weight);
        }
        let ([m, _], [n, _]) = (dims(&x), weight.shape());
        from_vec(int8::project(&Values::new(&x), weight), [m, n])
    }

    fn embed_backward(
        mut d_weight: FlexTensor,
        ids: IntTensor<Self>,
        grad: FlexTensor,
    ) -> FlexTensor {
        if !all_f32(&[&d_weight, &grad]) || ids.dtype() != DType::I32 {
            return composed::embed_backward::<Self>(d_weight, ids, grad);
        }
        let [_, d] = dims(&grad);
        let ids = ids.to_contiguous();
        let grad = Values::new(&grad);
        in_place(&mut d_weight, |d_weight| {
            for (&id, grad) in ids.storage::<i32>().iter().zip(grad.chunks_exact(d)) {
                for (sum, g) in d_weight[id as usize * d..][..d].iter_mut().zip(grad) {
                    *sum += g;
                }
            }
        });
        d_weight
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        if !all_f32(&[&x, &weight]) {
            return composed::rms_norm::<Self>(x, weight, eps);
        }
        let [n, d] = dims(&x);
        from_vec(
            norm::rms_norm(&Values::new(&x), &Values::new(&weight), eps as f32),
            [n, d],
        )
    }

    fn rms_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        eps: f64,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&x, &weight, &grad]) {
            return composed::rms_norm_backward::<Self>(x, weight, eps, grad);
        }
        let [n, d] = dims(&x);
        let (x, weight, grad) = (Values::new(&x), Values::new(&weight), Values::new(&grad));
        let (dx, dweight) = norm::rms_norm_backward(&x, &weight, eps as f32, &grad);
        (from_vec(dx, [n, d]), from_vec(dweight, [d]))
    }

    fn rotary(
        qkv: FlexTensor,
        heads: HeadLayout,
        rope: &RopeTable,
        packing: &Packing,
    ) -> FlexTensor {
        if !all_f32(&[&qkv]) {
            return composed::rotary::<Self>(qkv, heads, rope, packing, 1.0);
        }
        rotate(qkv, heads, rope, packing, 1.0)
    }

    fn rotary_backward(
        heads: HeadLayout,
        rope: &RopeTable,
        packing: &Packing,
        grad: FlexTensor,
    ) -> FlexTensor {
        if !all_f32(&[&grad]) {
            return composed::rotary::<Self>(grad, heads, rope, packing, -1.0);
        }
        rotate(grad, heads, rope, packing, -1.0)
    }

    fn head_norm(
        mut qkv: FlexTensor,
        q_weight: FlexTensor,
        k_weight: FlexTensor,
        heads: HeadLayout,
        eps: f64,
    ) -> FlexTensor {
        if !all_f32(&[&qkv, &q_weight, &k_weight]) {
            return composed::head_norm::<Self>(qkv, q_weight, k_weight, heads, eps);
        }
        let (q_weight, k_weight) = (Values::new(&q_weight), Values::new(&k_weight));
        in_place(&mut qkv, |qkv| {
            norm::head_norm(qkv, &q_weight, &k_weight, heads, eps as f32)
        });
        qkv
    }

    fn head_norm_backward(
        qkv: FlexTensor,
        q_weight: FlexTensor,
        k_weight: FlexTensor,
        heads: HeadLayout,
        eps: f64,
        mut grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if !all_f32(&[&qkv, &q_weight, &k_weight, &grad]) {
            return composed::head_norm_backward::<Self>(qkv, q_weight, k_weight, heads, eps, grad);
        }
        let weights = [&*Values::new(&q_weight), &*Values::new(&k_weight)];
        let qkv = Values::new(&qkv);
        let [dq, dk] = in_place(&mut grad, |grad| {
            norm::head_norm_backward(&qkv, weights, heads, eps as f32, grad)
        });
        (
            grad,
            from_vec(dq, [weights[0].len()]),
            from_vec(dk, [weights[1].len()]),
        )
    }

    fn causal_attention(
        qkv: FlexTensor,
        attention: Attention,
        packing: &Packing,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&qkv]) {
            return composed::attention::<Self>(qkv, attention, packing);
        }
        let (n, heads) = (packing.n_tokens(), attention.heads);
        let (output, lse) = attention::forward(&Values::new(&qkv), attention, packing);
        (
            from_vec(output, [n, heads.q_width()]),
            from_vec(lse, [n, heads.n_heads]),
        )
    }

    fn causal_attention_backward(
        qkv: FlexTensor,
        output: FlexTensor,
        lse: FlexTensor,
        attention: Attention,
        packing: &Packing,
        grad: FlexTensor,
    ) -> FlexTensor {
        if !all_f32(&[&qkv, &output, &lse, &grad]) {
            return composed::attention_backward::<Self>(
                qkv, output, lse, attention, packing, grad,
            );
        }
        let (qkv, output) = (Values::new(&qkv), Values::new(&output));
        let (lse, grad) = (Values::new(&lse), Values::new(&grad));
        let dqkv = attention::backward(&qkv, &output, &lse, &grad, attention, packing);
        from_vec(dqkv, [packing.n_tokens(), attention.heads.width()])
    }

    fn glu(gate_up: FlexTensor, activation: Activation) -> FlexTensor {
        if !all_f32(&[&gate_up]) {
            return composed::glu::<Self>(gate_up, activation);
        }
        let [n, width] = dims(&gate_up);
        let values = glu::forward(&Values::new(&gate_up), width / 2, activation);
        from_vec(values, [n, width / 2])
    }

    fn glu_backward(gate_up: FlexTensor, activation: Activation, grad: FlexTensor) -> FlexTensor {
        if !all_f32(&[&gate_up, &grad]) {
            return composed::glu_backward::<Self>(gate_up, activation, grad);
        }
        let [n, width] = dims(&gate_up);
        let (gate_up, grad) = (Values::new(&gate_up), Values::new(&grad));
        from_vec(
            glu::backward(&gate_up, &grad, width / 2, activation),
            [n, width],
        )
    }

    fn head_logprobs(
        hidden: FlexTensor,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> (FlexTensor, FlexTensor) {
        let rows = Rows::new(&head).filter(|_| all_f32(&[&hidden]));
        let (Some(rows), DType::I32) = (rows, targets.dtype()) else {
            return composed::head_logprobs::<Self>(hidden, head, targets, temperature, max_logits);
        };
        let ([m, d], [v, _]) = (dims(&hidden), head.dims());
        let targets = targets.to_contiguous();
        let (logprobs, entropy) = head::forward(head::Operands {
            hidden: &Values::new(&hidden),
            head: &rows,
            targets: targets.storage(),
            d,
            v,
            inverse_temperature: (1.0 / temperature) as f32,
            max_logits,
        });
        (from_vec(logprobs, [m]), from_vec(entropy, [m]))
    }

    fn head_logprobs_backward(
        hidden: FlexTensor,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
        scores: HeadScores<Self>,
        is_trained: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let is_f32 = all_f32(&[&hidden, &scores.logprobs, &scores.grad]);
        let rows = Rows::new(&head).filter(|_| is_f32);
        let (Some(rows), DType::I32) = (rows, targets.dtype()) else {
            return composed::head_logprobs_backward::<Self>(
                hidden,
                head,
                targets,
                temperature,
                max_logits,
                scores,
                is_trained,
            );
        };
        let ([m, d], [v, _]) = (dims(&hidden), head.dims());
        let targets = targets.to_contiguous();
        let operands = head::Operands {
            hidden: &Values::new(&hidden),
            head: &rows,
            targets: targets.storage(),
            d,
            v,
            inverse_temperature: (1.0 / temperature) as f32,
            max_logits,
        };
        let (logprobs, grad) = (Values::new(&scores.logprobs), Values::new(&scores.grad));
        let entropy = scores.entropy.as_ref();
        let entropy = entropy.map(|(value, grad)| (Values::new(value), Values::new(grad)));
        let of_entropy = entropy.as_ref().map(|(value, grad)| (&**value, &**grad));
        let (d_hidden, d_head) = head::backward(operands, &logprobs, &grad, of_entropy, is_trained);
        let d_head = d_head.map(|d_head| from_vec(d_head, [v, d]));
        (from_vec(d_hidden, [m, d]), d_head)
    }
}

impl DecodeBackend for Flex {
    const READS_BF16: bool = true;

    const MULTIPLIES_INT8: bool = true;

    // A thread outside the pool would fall asleep and be woken at each of some hundred operations.
    fn on_workers<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn cache_write(
        keys: &mut FlexTensor,
        values: &mut FlexTensor,
        qkv: FlexTensor,
        heads: HeadLayout,
        rows: &CacheRows,
    ) {
        if !all_f32(&[keys, values, &qkv]) {
            return composed::cache_write::<Self>(keys, values, qkv, heads, rows);
        }
        let [_, _, capacity, _] = dims(keys);
        let qkv = Values::new(&qkv);
        let first = heads.q_width();
        for (cache, start) in [(keys, first), (values, first + heads.kv_width())] {
            in_place(cache, |cache| {
                cache::write(cache, capacity, &qkv, start, heads, rows)
            });
        }
    }

    fn cache_copy(cache: &mut FlexTensor, from: usize, to: &[usize], len: usize) {
        if !all_f32(&[cache]) {
            return composed::cache_copy::<Self>(cache, from, to, len);
        }
        let [_, n_heads, capacity, head_dim] = dims(cache);
        in_place(cache, |cache| {
            cache::copy(cache, [n_heads, capacity, head_dim], from, to, len);
        });
    }

    fn cached_attention(
        qkv: FlexTensor,
        keys: &FlexTensor,
        values: &FlexTensor,
        attention: Attention,
        rows: &CacheRows,
    ) -> FlexTensor {
        if !all_f32(&[&qkv, keys, values]) {
            return composed::cached_attention::<Self>(qkv, keys, values, attention, rows);
        }
        let [n, _] = dims(&qkv);
        let [_, _, capacity, _] = dims(keys);
        let (keys, values) = (Values::new(keys), Values::new(values));
        let qkv = Values::new(&qkv);
        let output = cache::attention(&qkv, &keys, &values, capacity, attention, rows);
        from_vec(output, [n, attention.heads.q_width()])
    }

    fn square_sum(x: FlexTensor) -> FlexTensor {
        if !all_f32(&[&x]) {
            return composed::square_sum::<Self>(x);
        }
        from_vec(vec![adamw::square_sum(&Values::new(&x)) as f32], [1])
    }

    fn adamw(
        mut param: FlexTensor,
        grad: FlexTensor,
        moment_1: &mut FlexTensor,
        moment_2: &mut FlexTensor,
        update: AdamWUpdate,
    ) -> FlexTensor {
        if !all_f32(&[&param, &grad, moment_1, moment_2]) {
            return composed::adamw::<Self>(param, grad, moment_1, moment_2, update);
        }
        let grad = Values::new(&grad);
        in_place(&mut param, |param| {
            in_place(moment_1, |m| {
                in_place(moment_2, |v| adamw::step(param, &grad, m, v, update));
            });
        });
        param
    }

    fn adamw_8bit(
        mut param: FlexTensor,
        grad: FlexTensor,
        moments: &mut Moments8,
        update: AdamWUpdate,
    ) -> FlexTensor {
        if !all_f32(&[&param, &grad]) {
            return composed::adamw_8bit::<Self>(param, grad, moments, update);
        }
        let grad = Values::new(&grad);
        in_place(&mut param, |param| moments.step(param, &grad, update));
        param
    }

    fn adamw_schedule_free(
        mut y: FlexTensor,
        grad: FlexTensor,
        z: &mut FlexTensor,
        moment_2: &mut FlexTensor,
        update: ScheduleFreeUpdate,
    ) -> FlexTensor {
        if !all_f32(&[&y, &grad, z, moment_2]) {
            return composed::adamw_schedule_free::<Self>(y, grad, z, moment_2, update);
        }
        let grad = Values::new(&grad);
        in_place(&mut y, |y| {
            in_place(z, |z| {
                in_place(moment_2, |v| {
                    adamw::schedule_free_step(y, &grad, z, v, update)
                });
            });
        });
        y
    }
}

fn rotate(
    mut qkv: FlexTensor,
    heads: HeadLayout,
    rope: &RopeTable,
    packing: &Packing,
    direction: f32,
) -> FlexTensor {
    in_place(&mut qkv, |qkv| {
        rotary::rotate(qkv, heads, rope, packing.positions(), direction)
    });
    qkv
}
