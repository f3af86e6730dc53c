//! Products of strided matrices.

/// Which threads compute a product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threads {
    /// The calling one: the others have work of their own.
    One,
    /// All of them.
    All,
}

/// A strided matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    pub(super) fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self {
            data,
            row_stride,
            column_stride: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn assert_holds(&self, rows: usize, columns: usize) {
        let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
        assert!(
            last < self.data.len(),
            "a {rows} x {columns} matrix goes past the end of its slice"
        );
    }
}

/// `out (m x n, row stride) = keep * out + scale * a (m x k) * b (k x n)`.
pub(super) fn matmul(
    threads: Threads,
    out: (&mut [f32], usize),
    keep: bool,
    scale: f32,
    a: Matrix,
    b: Matrix,
    [m, n, k]: [usize; 3],
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let (out, out_stride) = out;
    a.assert_holds(m, k);
    b.assert_holds(k, n);
    assert!(
        (m - 1) * out_stride + n <= out.len(),
        "the product goes past the end of its slice"
    );
    // SAFETY: all three matrices lie inside their slices, as asserted, and `out` is borrowed mutably,
    // so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            keep,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            match threads {
                Threads::One => gemm::Parallelism::None,
                Threads::All => gemm::Parallelism::Rayon(0),
            },
        );
    }
}
