//! The same traits over types that are chosen at run time.
//!
//! Each `Box…` type implements the trait of its name over a private object-safe twin. An open,
//! accept, ping or dial costs one allocation for its future, and what it returns is boxed; reads and
//! writes cost a virtual call. Boxing what is boxed already adds no layer.

use std::any::Any;

mod conn;
mod listener;
mod stream;
mod transport;

pub use conn::BoxConn;
pub use listener::BoxListener;
pub use stream::{BoxRecvStream, BoxSendStream, BoxStream};
pub use transport::BoxTransport;

/// Returns `value` as a `B` if it is one.
fn already<B: 'static, T: 'static>(value: T) -> Result<B, T> {
    let mut slot = Some(value);
    match (&mut slot as &mut dyn Any)
        .downcast_mut::<Option<B>>()
        .and_then(Option::take)
    {
        Some(boxed) => Ok(boxed),
        None => match slot {
            Some(value) => Err(value),
            None => unreachable!("the slot is emptied only above"),
        },
    }
}
