//! Matrices: comparison, and the arithmetic that occurs in answers.

use super::{Comparer, Outcome};
use crate::ast::Expr;
use crate::exact::Canon;
use crate::verdict::{Budget, Failure};

/// The largest power of a matrix, and the maximum number of cells of a matrix in a product.
const MAX_POWER: i64 = 16;
const MAX_CELLS: usize = 64;

type Rows = Vec<Vec<Expr>>;

impl Comparer {
    /// The rows of an expression whose value is a matrix.
    pub(super) fn matrix_value(
        &mut self,
        expr: &Expr,
        depth: usize,
    ) -> Result<Option<Rows>, Failure> {
        if depth == 0 {
            // A determinant is a number, whatever it contains.
            let scalar = matches!(expr, Expr::Fun(..) | Expr::Num(_) | Expr::Sym(_));
            if scalar || !expr.any(&mut |e| matches!(e, Expr::Matrix(_))) {
                return Ok(None);
            }
        }
        self.spend(1)?;
        match expr {
            Expr::Matrix(rows) => Ok(Some(rows.clone())),
            Expr::Neg(inner) => Ok(self
                .matrix_value(inner, depth + 1)?
                .map(|rows| map_cells(&rows, |cell| Expr::Neg(Box::new(cell))))),
            Expr::Add(terms) => {
                let mut sum: Option<Rows> = None;
                for term in terms {
                    let Some(rows) = self.matrix_value(term, depth + 1)? else {
                        return Ok(None);
                    };
                    sum = Some(match sum {
                        None => rows,
                        Some(old) if same_shape(&old, &rows) => zip_cells(&old, &rows),
                        Some(_) => return Err(Failure::Undefined),
                    });
                }
                Ok(sum)
            }
            Expr::Mul(factors) => {
                let mut scalars: Vec<Expr> = Vec::new();
                let mut product: Option<Rows> = None;
                for factor in factors {
                    match self.matrix_value(factor, depth + 1)? {
                        None => scalars.push(factor.clone()),
                        Some(rows) => {
                            product = Some(match product {
                                None => rows,
                                Some(old) => multiply(&old, &rows)?,
                            });
                        }
                    }
                }
                let Some(rows) = product else { return Ok(None) };
                if scalars.is_empty() {
                    return Ok(Some(rows));
                }
                Ok(Some(map_cells(&rows, |cell| {
                    Expr::Mul(
                        scalars
                            .iter()
                            .cloned()
                            .chain(std::iter::once(cell))
                            .collect(),
                    )
                })))
            }
            Expr::Pow(base, exponent) => {
                let Some(rows) = self.matrix_value(base, depth + 1)? else {
                    return Ok(None);
                };
                if matches!(&**exponent, Expr::Sym(s) if s == "T") {
                    return Ok(Some(transposed(&rows)));
                }
                let power = match &**exponent {
                    Expr::Num(n) if n.value.is_integer() => {
                        i64::try_from(n.value.to_integer()).ok()
                    }
                    Expr::Pow(..) | Expr::Fun(..) => None,
                    _ => return Err(Failure::Unsupported),
                };
                let Some(power) = power.filter(|p| (-1..=MAX_POWER).contains(p)) else {
                    return Err(Failure::OverBudget(Budget::Size));
                };
                if power == -1 {
                    return inverse(&rows).map(Some);
                }
                if power == 0 {
                    return Err(Failure::Unsupported);
                }
                let mut product = rows.clone();
                for _ in 1..power {
                    product = self.reduced(&multiply(&product, &rows)?)?;
                }
                Ok(Some(product))
            }
            Expr::Div(top, bottom) => {
                let Some(rows) = self.matrix_value(top, depth + 1)? else {
                    return Ok(None);
                };
                Ok(Some(map_cells(&rows, |cell| {
                    Expr::Div(Box::new(cell), bottom.clone())
                })))
            }
            _ => Ok(None),
        }
    }

    /// The same matrix with its numeric cells evaluated, so that powers do not grow the trees.
    fn reduced(&mut self, rows: &Rows) -> Result<Rows, Failure> {
        let mut canon = Canon::new(self.fuel);
        let mut reduced = Vec::new();
        for row in rows {
            let mut cells = Vec::new();
            for cell in row {
                let value = canon
                    .canon(cell)?
                    .as_rational()
                    .ok_or(Failure::Unsupported)?;
                cells.push(Expr::Num(crate::ast::Number {
                    value,
                    decimal: false,
                }));
            }
            reduced.push(cells);
        }
        self.fuel -= canon.spent().min(self.fuel);
        Ok(reduced)
    }

    /// Compares cell by cell.
    pub(super) fn same_matrix(&mut self, gold: &Rows, answer: &Rows) -> Outcome {
        if !same_shape(gold, answer) {
            return Outcome::Different;
        }
        self.all_same(gold, answer, |comparer, row, other| {
            comparer.all_same(row, other, Self::scalar)
        })
    }
}

fn same_shape(a: &Rows, b: &Rows) -> bool {
    a.len() == b.len() && a[0].len() == b[0].len()
}

fn map_cells(rows: &Rows, change: impl Fn(Expr) -> Expr) -> Rows {
    rows.iter()
        .map(|row| row.iter().cloned().map(&change).collect())
        .collect()
}

fn zip_cells(a: &Rows, b: &Rows) -> Rows {
    a.iter()
        .zip(b)
        .map(|(x, y)| {
            x.iter()
                .zip(y)
                .map(|(x, y)| Expr::Add(vec![x.clone(), y.clone()]))
                .collect()
        })
        .collect()
}

fn transposed(rows: &Rows) -> Rows {
    (0..rows[0].len())
        .map(|j| rows.iter().map(|row| row[j].clone()).collect())
        .collect()
}

fn multiply(a: &Rows, b: &Rows) -> Result<Rows, Failure> {
    if a[0].len() != b.len() {
        return Err(Failure::Undefined);
    }
    if a.len() * a[0].len() > MAX_CELLS || b.len() * b[0].len() > MAX_CELLS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    let columns = transposed(b);
    Ok(a.iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| {
                    Expr::Add(
                        row.iter()
                            .zip(column)
                            .map(|(x, y)| Expr::Mul(vec![x.clone(), y.clone()]))
                            .collect(),
                    )
                })
                .collect()
        })
        .collect())
}

/// The inverse of a 2x2 matrix.
fn inverse(rows: &Rows) -> Result<Rows, Failure> {
    let [first, second] = rows.as_slice() else {
        return Err(Failure::Unsupported);
    };
    let ([a, b], [c, d]) = (first.as_slice(), second.as_slice()) else {
        return Err(Failure::Unsupported);
    };
    let det = Expr::Fun(crate::ast::Func::Det, vec![Expr::Matrix(rows.clone())]);
    let over = |cell: &Expr| Expr::Div(Box::new(cell.clone()), Box::new(det.clone()));
    let negative = |cell: &Expr| Expr::Neg(Box::new(over(cell)));
    Ok(vec![vec![over(d), negative(b)], vec![negative(c), over(a)]])
}
