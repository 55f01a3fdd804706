//! Pairs of associations joined by a link that the tests control.

mod ending;
mod hostile;
mod loss;
mod pair;
mod setup;
mod transfer;

use super::*;
