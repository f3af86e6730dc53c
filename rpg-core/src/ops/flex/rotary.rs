//! Rotary position embedding, half-split as in Hugging Face.

use super::ROW_BLOCK;
use crate::ops::simd::vectorized;
use crate::ops::{HeadLayout, RopeTable};
use rayon::prelude::*;

/// Rotates queries and keys in place, by `direction` (1 or -1) times their angle.
pub(super) fn rotate(
    qkv: &mut [f32],
    heads: HeadLayout,
    rope: &RopeTable,
    positions: &[u32],
    direction: f32,
) {
    let width = heads.width();
    let rotated = heads.q_width() + heads.kv_width();
    let half = rope.half();
    qkv.par_chunks_mut(ROW_BLOCK * width)
        .zip(positions.par_chunks(ROW_BLOCK))
        .for_each(|(rows, positions)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, &position) in rows.chunks_exact_mut(width).zip(positions) {
                        let (cos, sin) = rope.at(position);
                        for head in row[..rotated].chunks_exact_mut(heads.head_dim) {
                            let (a, b) = head.split_at_mut(half);
                            for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                                let sin = sin * direction;
                                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                            }
                        }
                    }
                },
            );
        });
}
