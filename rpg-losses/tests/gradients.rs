//! Every configuration against every oracle.

use burn::backend::{Autodiff, Flex};
use rpg_losses::verify::{Precision, VerifyOptions, run};

#[test]
fn every_row_holds_and_every_control_is_rejected() {
    for precision in [Precision::F64, Precision::F32] {
        let options = VerifyOptions::<Autodiff<Flex>>::new(Default::default(), precision);
        let report = run(&options);
        println!("{}", report.table());
        assert!(report.passed(), "{precision:?}:\n{}", report.table());
    }
}
