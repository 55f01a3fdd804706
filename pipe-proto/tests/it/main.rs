//! The rules of a connection through the public interface, without I/O.

mod codec;
mod hostile;
mod native;
mod simulation;
mod windows;
