//! The program itself, run as its users run it.
#![cfg(unix)]

mod book;
mod doctor;
mod forward;
mod lists;
mod misuse;
mod netcat;
mod offer;
mod perf;
mod ping;
mod pipe;
mod proxy;
mod route;
mod strangers;
mod transfer;
