//! Compression of bodies and messages, within a limit and within the budget.

use crate::budget::HeldBytes;
use crate::error::InferError;
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{Read, Write};

/// Answers smaller than this are not worth compressing.
const COMPRESS_MIN: usize = 1024;

/// How much is decompressed at a time.
const STEP: usize = 16 << 10;

/// A compression that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// What `Content-Encoding` says; `None` for plain.
    ///
    /// # Errors
    /// It says something else.
    pub(crate) fn of_content(header: &str) -> Result<Option<Coding>, InferError> {
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
    pub(crate) fn accepted(header: &str) -> Option<Coding> {
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

    /// Appends the plain contents, at most `limit` bytes of them, to `plain`. What they add to it is
    /// taken from the budget before it is there.
    ///
    /// # Errors
    /// They would be more than the limit or than there is room for, or the data is corrupted.
    pub(crate) fn decompress(
        self,
        data: &[u8],
        limit: usize,
        held: &mut HeldBytes,
        plain: &mut Vec<u8>,
    ) -> Result<(), InferError> {
        let mut source: Box<dyn Read + '_> = match self {
            Coding::Gzip => Box::new(MultiGzDecoder::new(data)),
            Coding::Deflate => Box::new(ZlibDecoder::new(data)),
        };
        let mut left = limit;
        loop {
            // One byte more than may come shows that too much would.
            let wanted = left.saturating_add(1).min(STEP);
            held.grow(wanted)?;
            let came = source.by_ref().take(wanted as u64).read_to_end(plain);
            let came = came.map_err(|error| self.corrupted(&error))?;
            left = left
                .checked_sub(came)
                .ok_or(InferError::TooLarge { what: "decompressed data", limit })?;
            if came < wanted {
                held.shrink(wanted - came);
                return Ok(());
            }
        }
    }

    fn corrupted(self, error: &std::io::Error) -> InferError {
        let name = self.name();
        InferError::Invalid(format!("the {name} data cannot be decompressed: {error}"))
    }

    /// The contents compressed; `None` when that is not worth it.
    pub(crate) fn compress(self, pieces: &[Bytes]) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;
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
    fn a_bomb_stops_at_the_limit_or_where_there_is_no_room() {
        let zeros = [Bytes::from(vec![0; 1 << 20])];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = coding.compress(&zeros).unwrap();
            assert!(bomb.len() < 1 << 14);
            let budget = ByteBudget::new(8 << 20);
            let plain = |limit: usize, held: &mut HeldBytes| {
                let mut plain = Vec::new();
                coding.decompress(&bomb, limit, held, &mut plain).map(|()| plain)
            };
            let stopped = plain(1 << 16, &mut budget.account());
            assert!(matches!(stopped, Err(InferError::TooLarge { limit: 0x10000, .. })));
            let mut held = budget.account();
            assert_eq!(plain(1 << 20, &mut held).unwrap(), zeros[0]);
            assert_eq!((held.bytes(), budget.held()), (1 << 20, 1 << 20));
            let no_room = plain(1 << 20, &mut ByteBudget::new(1 << 19).account());
            assert!(matches!(no_room, Err(InferError::Overloaded { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decompress_or_are_refused(data in prop::collection::vec(any::<u8>(), 0..99)) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let mut held = ByteBudget::new(1 << 20).account();
                let mut plain = Vec::new();
                if coding.decompress(&data, 1000, &mut held, &mut plain).is_ok() {
                    prop_assert_eq!(held.bytes(), plain.len() as u64);
                }
            }
        }
    }
}
