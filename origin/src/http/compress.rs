//! Compressing a chunk that never changes again: the same bytes whenever it is done.

use brotli::CompressorWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use limn_core::protocol::Coding;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A shorter chunk is sent as it is: a head takes more.
pub(super) const COMPRESSED_BYTES_MIN: u64 = 1 << 10;
/// A longer one is sent as it is: it would have to be in memory as a whole.
pub(super) const COMPRESSED_FROM_BYTES_MAX: u64 = 16 << 20;
/// The same where compressing it does not bring it below this length.
pub(super) const COMPRESSED_BYTES_MAX: u64 = 4 << 20;
/// Chunks that are compressed at one time.
const COMPRESSIONS_MAX: usize = 2;

/// The levels of the codings: a processor keeps up with a fast network at them.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW_BITS: u32 = 20;
const GZIP_LEVEL: u32 = 6;
const BUFFER_BYTES: usize = 16 << 10;

/// Turns to compress.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(COMPRESSIONS_MAX)))
    }
}

impl Turns {
    /// Reads a chunk and compresses it. Nothing comes of one that stays too long: its compressed form is empty.
    pub(super) async fn compress(
        &self,
        coding: Coding,
        read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    ) -> io::Result<Vec<u8>> {
        let turn = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let _turn = turn;
            compress(coding, &read()?)
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

fn compress(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let compressed = match coding {
        Coding::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL)?,
        Coding::Brotli => {
            let mut writer =
                CompressorWriter::new(Vec::new(), BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW_BITS);
            writer.write_all(bytes)?;
            writer.into_inner()
        }
        Coding::Gzip => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
            writer.write_all(bytes)?;
            writer.finish()?
        }
    };
    let is_worth_it = compressed.len() < bytes.len() && compressed.len() as u64 <= COMPRESSED_BYTES_MAX;
    Ok(if is_worth_it { compressed } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn text() -> Vec<u8> {
        (0..20_000).map(|number| format!(",{{\"id\":\"{number}\"}}")).collect::<String>().into_bytes()
    }

    #[test]
    fn what_was_compressed_is_the_same_each_time_and_comes_back() {
        let text = text();
        for coding in Coding::ALL {
            let compressed = compress(coding, &text).unwrap();
            assert!(compressed.len() < text.len() / 4, "{coding:?}: {}", compressed.len());
            assert_eq!(compress(coding, &text).unwrap(), compressed, "{coding:?}");
            let mut back = Vec::new();
            match coding {
                Coding::Zstd => back = zstd::decode_all(&compressed[..]).unwrap(),
                Coding::Brotli => {
                    brotli::Decompressor::new(&compressed[..], 4096)
                        .read_to_end(&mut back)
                        .map(drop)
                        .unwrap();
                }
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut back).map(drop).unwrap();
                }
            }
            assert!(back == text, "{coding:?}");
        }
    }

    #[tokio::test]
    async fn chunks_are_compressed_in_turn() {
        let turns = Turns::default();
        let all = u32::try_from(COMPRESSIONS_MAX).unwrap();
        let others = turns.0.clone().try_acquire_many_owned(all).unwrap();
        let mut waiting = Box::pin(turns.compress(Coding::Gzip, || Ok(text())));
        assert!(futures::poll!(waiting.as_mut()).is_pending(), "no turn is left");
        drop(others);
        assert!(!waiting.await.unwrap().is_empty());
    }

    #[test]
    fn what_stays_long_is_left_as_it_is() {
        for coding in Coding::ALL {
            assert!(compress(coding, b"[]").unwrap().is_empty(), "{coding:?}");
        }
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            b'a' + u8::try_from(state >> 59).unwrap()
        };
        let long: Vec<u8> = (0..COMPRESSED_BYTES_MAX * 7 / 4).map(|_| random()).collect();
        assert!(compress(Coding::Zstd, &long).unwrap().is_empty());
    }
}
