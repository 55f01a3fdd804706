//! The program itself, run as its users run it.
#![cfg(unix)]

mod forward;
mod misuse;
mod netcat;
mod ping;
mod pipe;
mod route;
