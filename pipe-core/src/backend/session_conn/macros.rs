//! The public types of a connection over a session.

/// Defines a [`Conn`](crate::Conn) over a type that implements [`SessionConn`](crate::backend::SessionConn), which may be
/// private, as a tuple struct around an `Arc` of its [`ConnRef`](crate::backend::ConnRef): dropping the last handle and
/// stream closes the connection. Crates that use the macro depend on `tokio`.
#[doc(hidden)]
#[macro_export]
macro_rules! __session_conn {
    (
        $(#[$meta:meta])*
        $vis:vis struct $conn:ident $(<$param:ident: $bound:path>)? of $inner:ty {
            stream: $stream:ty $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $conn $(<$param: $bound>)? (
            ::std::sync::Arc<$crate::backend::ConnRef<$inner>>,
        );

        impl $(<$param: $bound>)? $crate::Conn for $conn $(<$param>)? {
            type Stream = $stream;

            async fn open_stream(&self) -> $crate::Result<$stream> {
                let stream = $crate::backend::SessionConn::open(self.0.conn()).await?;
                Ok(<$stream>::new(stream, self.0.clone()))
            }

            async fn accept_stream(&self) -> $crate::Result<$stream> {
                let stream = $crate::backend::SessionConn::accept(&**self.0.conn()).await?;
                Ok(<$stream>::new(stream, self.0.clone()))
            }

            async fn ping(&self) -> $crate::Result<::std::time::Duration> {
                $crate::backend::SessionConn::ping(&**self.0.conn()).await
            }

            fn state(&self) -> ::tokio::sync::watch::Receiver<$crate::ConnState> {
                self.0.conn().status.watch()
            }

            fn stats(&self) -> $crate::ConnStats {
                $crate::backend::SessionConn::stats(&**self.0.conn())
            }

            async fn drain(&self) -> $crate::Result<()> {
                $crate::backend::SessionConn::drain(&**self.0.conn()).await
            }

            fn close(&self, code: u32, reason: &str) {
                $crate::backend::SessionConn::close(&**self.0.conn(), code, reason);
            }

            async fn closed(&self) -> $crate::CloseReason {
                self.0.conn().status.ended().await.clone()
            }

            fn local_addr(&self) -> $crate::Addr {
                $crate::backend::SessionConn::local_addr(&**self.0.conn())
            }

            fn remote_addr(&self) -> $crate::Addr {
                $crate::backend::SessionConn::remote_addr(&**self.0.conn())
            }

            fn peer_identity(&self) -> Option<$crate::PeerIdentity> {
                $crate::backend::SessionConn::peer_identity(&**self.0.conn())
            }
        }

        impl $(<$param: $bound>)? Clone for $conn $(<$param>)? {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl $(<$param: $bound>)? ::std::fmt::Debug for $conn $(<$param>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::backend::fmt_conn(::std::stringify!($conn), self, f)
            }
        }
    };
}

/// Defines the streams of a connection over a session, and their halves, over a type that implements
/// [`SessionIo`](crate::backend::SessionIo).
///
/// The result is that of [`joined_stream!`](crate::backend::joined_stream), with the halves around a
/// [`Half`](crate::backend::Half) each. Crates that use the macro depend on `bytes` and `tokio`.
#[doc(hidden)]
#[macro_export]
macro_rules! __session_stream {
    (
        $(#[$meta:meta])*
        $vis:vis struct $stream:ident $(<$param:ident: $bound:path>)? of $inner:ty {
            send: $send:ident,
            recv: $recv:ident $(,)?
        }
    ) => {
        $crate::__joined_stream! {
            $(#[$meta])*
            $vis struct $stream $(<$param: $bound>)? {
                send: $send $(<$param>)?,
                recv: $recv $(<$param>)?,
            }
        }

        #[doc = ::std::concat!("The sending direction of a [`", ::std::stringify!($stream), "`].")]
        $vis struct $send $(<$param: $bound>)? ($crate::backend::Half<$inner>);

        #[doc = ::std::concat!("The receiving direction of a [`", ::std::stringify!($stream), "`].")]
        $vis struct $recv $(<$param: $bound>)? ($crate::backend::Half<$inner>);

        impl $(<$param: $bound>)? $stream $(<$param>)? {
            pub(crate) fn new(
                stream: $crate::backend::StreamRef<<$inner as $crate::backend::SessionConn>::Stream>,
                conn: ::std::sync::Arc<$crate::backend::ConnRef<$inner>>,
            ) -> Self {
                let [send, recv] = $crate::backend::Half::pair(stream, conn);
                Self {
                    send: $send(send),
                    recv: $recv(recv),
                }
            }
        }

        impl $(<$param: $bound>)? ::tokio::io::AsyncWrite for $send $(<$param>)? {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let bufs = [::std::io::IoSlice::new(buf)];
                self.0.poll_write(cx, &bufs).map_err(Into::into)
            }

            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                self.0.poll_write(cx, bufs).map_err(Into::into)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            /// Returns at once: written bytes are under way already.
            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                _: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                $crate::backend::SessionIo::poll_shutdown(&self.0, cx).map_err(Into::into)
            }
        }

        impl $(<$param: $bound>)? $crate::SendStream for $send $(<$param>)? {
            fn id(&self) -> u64 {
                self.0.stream.id
            }

            fn reset(&mut self, code: u32) {
                $crate::backend::SessionIo::reset(&self.0, code);
            }

            async fn stopped(&mut self) -> $crate::Result<Option<u32>> {
                $crate::backend::SessionIo::stopped(&self.0).await
            }
        }

        impl $(<$param: $bound>)? Drop for $send $(<$param>)? {
            fn drop(&mut self) {
                $crate::backend::SessionIo::drop_send(&self.0);
            }
        }

        impl $(<$param: $bound>)? ::tokio::io::AsyncRead for $recv $(<$param>)? {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                self.0.poll_read(cx, buf).map_err(Into::into)
            }
        }

        impl $(<$param: $bound>)? $crate::RecvStream for $recv $(<$param>)? {
            fn id(&self) -> u64 {
                self.0.stream.id
            }

            fn stop(&mut self, code: u32) {
                $crate::backend::SessionIo::stop(&self.0, code);
            }

            fn poll_read_chunk(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
                max: usize,
            ) -> ::std::task::Poll<$crate::Result<Option<::bytes::Bytes>>> {
                self.0.poll_read_chunk(cx, max)
            }
        }

        impl $(<$param: $bound>)? Drop for $recv $(<$param>)? {
            fn drop(&mut self) {
                $crate::backend::SessionIo::stop(&self.0, 0);
            }
        }
    };
}
