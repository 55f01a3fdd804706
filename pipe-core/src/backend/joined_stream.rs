/// Defines a [`Stream`](crate::Stream) as the pair of its halves.
///
/// Takes a struct with the fields `send`, a [`SendStream`](crate::SendStream), and `recv`, a
/// [`RecvStream`](crate::RecvStream), and implements [`Stream`](crate::Stream), [`AsyncRead`](tokio::io::AsyncRead) and
/// [`AsyncWrite`](tokio::io::AsyncWrite) for it, and [`Debug`](std::fmt::Debug) for all three. The fields are dropped
/// in this order, so that a reset precedes the stop. Crates that use the macro depend on `tokio`.
///
/// ```
/// # use std::{io, pin::Pin, task::{Context, Poll}};
/// # use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
/// use pipe_core::Stream;
/// use pipe_core::backend::joined_stream;
///
/// joined_stream! {
///     /// A stream of my transport.
///     pub struct MyStream {
///         send: MySendStream,
///         recv: MyRecvStream,
///     }
/// }
/// # pub struct MySendStream(WriteHalf<DuplexStream>);
/// # pub struct MyRecvStream(ReadHalf<DuplexStream>);
/// # impl AsyncWrite for MySendStream {
/// #     fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
/// #         Pin::new(&mut self.0).poll_write(cx, buf)
/// #     }
/// #     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
/// #         Pin::new(&mut self.0).poll_flush(cx)
/// #     }
/// #     fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
/// #         Pin::new(&mut self.0).poll_shutdown(cx)
/// #     }
/// # }
/// # impl AsyncRead for MyRecvStream {
/// #     fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
/// #         Pin::new(&mut self.0).poll_read(cx, buf)
/// #     }
/// # }
/// # impl pipe_core::SendStream for MySendStream {
/// #     fn id(&self) -> u64 { 4 }
/// #     fn reset(&mut self, _: u32) {}
/// #     async fn stopped(&mut self) -> pipe_core::Result<Option<u32>> { Ok(None) }
/// # }
/// # impl pipe_core::RecvStream for MyRecvStream {
/// #     fn id(&self) -> u64 { 4 }
/// #     fn stop(&mut self, _: u32) {}
/// # }
/// # let (io, _peer) = tokio::io::duplex(1);
/// # let (recv, send) = tokio::io::split(io);
/// # let (send, recv) = (MySendStream(send), MyRecvStream(recv));
///
/// let stream = MyStream { send, recv };
/// assert_eq!(format!("{stream:?}"), "MyStream { id: 4, .. }");
/// let (send, recv) = stream.into_split();
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __joined_stream {
    (@debug $trait:path, $type:ty $(, $param:ident: $bound:path)?) => {
        impl $(<$param: $bound>)? ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(::std::stringify!($type))
                    .field("id", &<Self as $trait>::id(self))
                    .finish_non_exhaustive()
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $stream:ident $(<$param:ident: $bound:path>)? {
            send: $send:ty,
            recv: $recv:ty $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $stream $(<$param: $bound>)? {
            // Dropped in this order: the reset precedes the stop.
            send: $send,
            recv: $recv,
        }

        impl $(<$param: $bound>)? $crate::Stream for $stream $(<$param>)? {
            type SendHalf = $send;
            type RecvHalf = $recv;

            fn id(&self) -> u64 {
                $crate::SendStream::id(&self.send)
            }

            fn reset(&mut self, code: u32) {
                $crate::SendStream::reset(&mut self.send, code);
            }

            fn stop(&mut self, code: u32) {
                $crate::RecvStream::stop(&mut self.recv, code);
            }

            fn into_split(self) -> ($send, $recv) {
                (self.send, self.recv)
            }
        }

        impl $(<$param: $bound>)? ::tokio::io::AsyncRead for $stream $(<$param>)? {
            fn poll_read(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::tokio::io::AsyncRead::poll_read(::std::pin::Pin::new(&mut self.recv), cx, buf)
            }
        }

        impl $(<$param: $bound>)? ::tokio::io::AsyncWrite for $stream $(<$param>)? {
            fn poll_write(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                ::tokio::io::AsyncWrite::poll_write(::std::pin::Pin::new(&mut self.send), cx, buf)
            }

            fn poll_write_vectored(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                ::tokio::io::AsyncWrite::poll_write_vectored(::std::pin::Pin::new(&mut self.send), cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                ::tokio::io::AsyncWrite::is_write_vectored(&self.send)
            }

            fn poll_flush(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::tokio::io::AsyncWrite::poll_flush(::std::pin::Pin::new(&mut self.send), cx)
            }

            fn poll_shutdown(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::tokio::io::AsyncWrite::poll_shutdown(::std::pin::Pin::new(&mut self.send), cx)
            }
        }

        $crate::__joined_stream!(@debug $crate::Stream, $stream $(<$param>)? $(, $param: $bound)?);
        $crate::__joined_stream!(@debug $crate::SendStream, $send $(, $param: $bound)?);
        $crate::__joined_stream!(@debug $crate::RecvStream, $recv $(, $param: $bound)?);
    };
}
