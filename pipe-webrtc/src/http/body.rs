use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::signaling::MAX_SIGNAL_LEN;

/// Reads a body of text, of at most [`MAX_SIGNAL_LEN`] bytes, within this time.
pub(crate) async fn read_text<B>(body: B, limit: Duration) -> Result<String, Refusal>
where
    B: Body,
    B::Error: Display,
{
    let too_long = || Refusal::new(413, format!("a body has {MAX_SIGNAL_LEN} bytes at most"));
    if body.size_hint().lower() > MAX_SIGNAL_LEN as u64 {
        return Err(too_long());
    }
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| Refusal::new(400, format!("the body broke off: {error}")))?;
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            if data.remaining() > MAX_SIGNAL_LEN - bytes.len() {
                return Err(too_long());
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                let length = chunk.len();
                data.advance(length);
            }
        }
        Ok(())
    };
    match timeout(limit, reading).await {
        Ok(read) => read?,
        Err(_) => {
            let why = format!("the body has not come within {limit:?}");
            return Err(Refusal::new(408, why));
        }
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new(400, "the body is no text"))
}
