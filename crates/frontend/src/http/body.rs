//! Bodies: read within a limit, compressed and decompressed within a limit, written in as few
//! pieces as they came in.

use crate::error::InferError;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A client that sends nothing of its body for this long is given up.
const PIECE_WAIT: Duration = Duration::from_secs(30);

/// How much of a body over the limit is read and thrown away, in limits, and for how long: many
/// clients read the answer only after they have sent everything.
const DISCARD_LIMITS: usize = 4;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Answers smaller than this are not worth compressing.
const COMPRESS_MIN: usize = 1024;

/// Reads a whole body.
///
/// # Errors
/// It is larger than the limit, stalls, or breaks off.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, InferError> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(&mut body, limit).await;
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    // Most bodies come in one piece and are used where they lie.
    let mut whole: Option<BytesMut> = None;
    let mut length = 0;
    while let Some(piece) = next_piece(&mut body).await? {
        length += piece.len();
        if length > limit {
            discard(&mut body, limit).await;
            return Err(too_large(limit));
        }
        if first.is_empty() && whole.is_none() {
            first = piece;
            continue;
        }
        let whole = whole.get_or_insert_with(|| {
            let announced = usize::try_from(announced).unwrap_or(0);
            let mut whole = BytesMut::with_capacity(announced.max(length));
            whole.extend_from_slice(&first);
            whole
        });
        whole.extend_from_slice(&piece);
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, InferError> {
    loop {
        let frame = match tokio::time::timeout(PIECE_WAIT, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(InferError::Invalid(format!("the body broke off: {error}")));
            }
            Err(_) => {
                return Err(InferError::Invalid(format!(
                    "the body stalled: nothing came for {} s",
                    PIECE_WAIT.as_secs()
                )));
            }
        };
        // Trailers carry nothing for us.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

async fn discard(body: &mut Incoming, limit: usize) {
    let reading = async {
        let mut left = limit.saturating_mul(DISCARD_LIMITS);
        while let Ok(Some(piece)) = next_piece(body).await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether or not all of it came, the answer is the same.
    let _ = tokio::time::timeout(DISCARD_WAIT, reading).await;
}

fn too_large(limit: usize) -> InferError {
    InferError::TooLarge { what: "body", limit }
}

/// A compression that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// What `Content-Encoding` says; `None` for plain.
    ///
    /// # Errors
    /// It says something else.
    pub(super) fn of_content(header: &str) -> Result<Option<Coding>, InferError> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
            "deflate" => Ok(Some(Coding::Deflate)),
            other => Err(InferError::Unsupported(format!(
                "Content-Encoding {other:?} is not supported: send gzip, deflate or plain"
            ))),
        }
    }

    /// What to answer in under this `Accept-Encoding`; `None` for plain.
    pub(super) fn accepted(header: &str) -> Option<Coding> {
        let mut best = None;
        for item in header.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = match parts.next() {
                Some("gzip" | "*") => Coding::Gzip,
                Some("deflate") => Coding::Deflate,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            if weight.is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)) {
                continue;
            }
            if best.is_none() || coding == Coding::Gzip {
                best = Some(coding);
            }
        }
        best
    }

    /// The plain contents, never more than `limit` bytes of them.
    ///
    /// # Errors
    /// They would be more, or the data is corrupted.
    pub(super) fn decompress(self, data: &[u8], limit: usize) -> Result<Bytes, InferError> {
        let mut plain = Vec::new();
        let bound = (limit as u64).saturating_add(1);
        let read = match self {
            Coding::Gzip => MultiGzDecoder::new(data).take(bound).read_to_end(&mut plain),
            Coding::Deflate => ZlibDecoder::new(data).take(bound).read_to_end(&mut plain),
        };
        match read {
            Ok(_) if plain.len() > limit => {
                Err(InferError::TooLarge { what: "decompressed body", limit })
            }
            Ok(_) => Ok(Bytes::from(plain)),
            Err(error) => Err(InferError::Invalid(format!(
                "the {} body cannot be decompressed: {error}",
                self.name()
            ))),
        }
    }

    /// The contents compressed; `None` when that is not worth it.
    pub(super) fn compress(self, pieces: &[Bytes]) -> Option<Bytes> {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        if length < COMPRESS_MIN {
            return None;
        }
        let level = Compression::fast();
        let written = match self {
            Coding::Gzip => compress(GzEncoder::new(Vec::new(), level), pieces, GzEncoder::finish),
            Coding::Deflate => {
                compress(ZlibEncoder::new(Vec::new(), level), pieces, ZlibEncoder::finish)
            }
        };
        // Writing to a vector cannot fail; were it to, the plain answer is as good.
        written.ok().filter(|compressed| compressed.len() < length).map(Bytes::from)
    }
}

fn compress<W: Write>(
    mut encoder: W,
    pieces: &[Bytes],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> std::io::Result<Vec<u8>> {
    for piece in pieces {
        encoder.write_all(piece)?;
    }
    finish(encoder)
}

/// An answer's body: pieces that are sent as they are, of known total length, so that head and
/// body leave in one write.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Pieces {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces: pieces.into_iter(), left }
    }

    pub(crate) fn one(body: impl Into<Bytes>) -> Pieces {
        Pieces::new(vec![body.into()])
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.find(|piece| !piece.is_empty());
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accept_encoding_is_read() {
        let cases = [
            ("gzip, deflate", Some(Coding::Gzip)),
            ("deflate, gzip;q=0.5", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("gzip;q=0, deflate", Some(Coding::Deflate)),
            ("br", None),
            ("identity", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(Coding::accepted(header), expected, "{header:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = [Bytes::from(vec![0; 1 << 20])];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = coding.compress(&zeros).unwrap();
            assert!(bomb.len() < 1 << 14);
            let stopped = coding.decompress(&bomb, 1 << 16);
            assert!(matches!(stopped, Err(InferError::TooLarge { limit: 0x10000, .. })));
            assert_eq!(coding.decompress(&bomb, 1 << 20), Ok(zeros[0].clone()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decompress_or_are_refused(data in prop::collection::vec(any::<u8>(), 0..99)) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let _ = coding.decompress(&data, 1000);
            }
        }
    }
}
