//! Reports: what `rpg report` writes, read as users read it, in a browser and in TensorBoard.

mod browser;
mod follow;
mod page;
mod pipe;
mod reading;
mod runs;
mod tensorboard;
