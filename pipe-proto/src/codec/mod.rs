//! How frames are written: as bytes over a control channel, or as lines of text for browsers.

pub mod binary;
pub mod text;
