//! Addresses that are lists: dialed, listened on, and handed to those that take none.

mod dials;
mod fakes;
mod listeners;
mod real;
