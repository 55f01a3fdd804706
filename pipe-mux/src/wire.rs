pub use pipe_core::Wire;
