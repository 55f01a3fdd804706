/// A direction of a stream of quinn.
pub(crate) enum Half {
    Send(#[expect(dead_code, reason = "it is kept for its drop")] quinn::SendStream),
    Recv(#[expect(dead_code, reason = "it is kept for its drop")] quinn::RecvStream),
}

/// Both directions of a stream of quinn.
pub(crate) type StreamPair = (quinn::SendStream, quinn::RecvStream);
