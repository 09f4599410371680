//! Decompression: content codings taken off, for filters that read bodies: gzip, deflate, br and zstd (RFC 9110,
//! section 8.4.1; RFC 7932; RFC 9659). The bytes on their way are not touched.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{self, HeaderMap};

/// A body may grow by so many bytes, and to so many times what came of it; and so may each piece of it. Texts that
/// repeat themselves come to some 30; what grows more is meant to exhaust whoever decodes it.
const GROWTH_FREE: u64 = 1 << 20;
const GROWTH_MAX: u64 = 100;

/// What all decoders of the process may take together, in bytes: a coding's window is memory.
const DECODERS_MAX: usize = 256 << 20;

/// What decoders take now.
static DECODERS: AtomicUsize = AtomicUsize::new(0);

/// What a decoder takes beside its window, in bytes, and the window of the codings that have a small one.
const DECODER: usize = 96 << 10;

/// The largest window that a body in zstd may ask for, as a power of two: 8 MiB (RFC 9659, section 3). A window is
/// memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What is decoded at a time of a body in br, in bytes.
const BROTLI_BUFFER: usize = 4 << 10;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// What a body is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coded {
    /// No coding at all.
    Plain,
    /// One that can be taken off.
    Known(KnownCoding),
    /// One that nobody here knows, or several.
    Unknown,
}

/// A content coding that can be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownCoding(Coding);

/// Takes the coding off a body, piece by piece.
pub(crate) struct Decoder {
    state: DecoderState,
    share: Share,
}

/// A part of what decoders may take, until it is dropped.
struct Share(usize);

enum DecoderState {
    /// Of a body in br, the first byte tells how large its window is.
    Brotli,
    /// In deflate nobody knows before the first bytes whether they stand in the zlib format, as they should, or bare,
    /// as some send them.
    Undecided(Vec<u8>),
    Decided(Codec),
}

/// A decoder of the library's for each coding.
enum Codec {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Zlib(Box<ZlibDecoder<Bounded>>),
    Bare(Box<DeflateDecoder<Bounded>>),
    Brotli(Box<DecompressorWriter<Bounded>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Bounded>>),
}

/// Takes what was decoded, as long as it is in proportion.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    came: u64,
    grew: u64,
    /// How far it may grow by this piece.
    grown_max: u64,
}

/// A body is not what it claims to be, or grows out of all proportion.
#[derive(Debug)]
pub(crate) struct Undecodable;

impl Coded {
    /// What the header fields say of their body.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::CONTENT_ENCODING);
        let names = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut names =
            names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
        let Some(name) = names.next() else { return Self::Plain };
        match (Coding::named(name), names.next()) {
            (Some(coding), None) => Self::Known(KnownCoding(coding)),
            _ => Self::Unknown,
        }
    }
}

impl Coding {
    fn named(name: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 5] = [
            (b"gzip", Self::Gzip),
            (b"x-gzip", Self::Gzip),
            (b"deflate", Self::Deflate),
            (b"br", Self::Brotli),
            (b"zstd", Self::Zstd),
        ];
        known.into_iter().find_map(|(known, coding)| name.eq_ignore_ascii_case(known).then_some(coding))
    }
}

impl Decoder {
    /// Begins a body in this coding.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(known: KnownCoding) -> Result<Self, Undecodable> {
        let bounded = Bounded::default();
        let window = if known.0 == Coding::Zstd { 1 << ZSTD_WINDOW_LOG_MAX } else { 0 };
        let share = Share::take(DECODER + window)?;
        let state = match known.0 {
            Coding::Deflate => DecoderState::Undecided(Vec::new()),
            Coding::Brotli => DecoderState::Brotli,
            Coding::Gzip => DecoderState::Decided(Codec::Gzip(Box::new(MultiGzDecoder::new(bounded)))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(bounded).map_err(|_| Undecodable)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| Undecodable)?;
                DecoderState::Decided(Codec::Zstd(Box::new(decoder)))
            }
        };
        Ok(Self { state, share })
    }

    /// What this piece adds to the decoded body. What is behind the end of the coding is left out.
    ///
    /// # Errors
    /// The body is not what it claims to be, grows out of all proportion, or asks for more memory than there is. There
    /// is nothing more to be had of it.
    pub(crate) fn decode(&mut self, piece: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let (mut codec, first) = match &mut self.state {
            DecoderState::Decided(codec) => return codec.decode(piece),
            DecoderState::Brotli => {
                let Some(head) = piece.first() else { return Ok(Vec::new()) };
                self.share.grow(brotli_window(*head).ok_or(Undecodable)?)?;
                (Codec::Brotli(Box::new(DecompressorWriter::new(Bounded::default(), BROTLI_BUFFER))), piece.to_vec())
            }
            DecoderState::Undecided(first) => {
                first.extend_from_slice(piece);
                let [head, flags, ..] = first[..] else { return Ok(Vec::new()) };
                // RFC 1950, section 2.2: the method, and a number of two bytes that 31 divides.
                let codec = match head & 0xf == 8 && u16::from_be_bytes([head, flags]).is_multiple_of(31) {
                    true => Codec::Zlib(Box::new(ZlibDecoder::new(Bounded::default()))),
                    false => Codec::Bare(Box::new(DeflateDecoder::new(Bounded::default()))),
                };
                (codec, std::mem::take(first))
            }
        };
        let decoded = codec.decode(&first);
        self.state = DecoderState::Decided(codec);
        decoded
    }
}

/// How large the window of a body in br is, in bytes, by its first byte (RFC 7932, section 9.1). None: that one is not
/// allowed.
fn brotli_window(head: u8) -> Option<usize> {
    let bits = match (head & 1, head >> 1 & 7, head >> 4 & 7) {
        (0, _, _) => 16,
        (_, 0, 0) => 17,
        // Larger windows than the RFC knows.
        (_, 0, 1) => return None,
        (_, 0, more) => 8 + more,
        (_, more, _) => 17 + more,
    };
    Some(1 << bits)
}

impl Share {
    fn take(bytes: usize) -> Result<Self, Undecodable> {
        let mut share = Self(0);
        share.grow(bytes)?;
        Ok(share)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Undecodable> {
        let before = DECODERS.fetch_add(bytes, Ordering::Relaxed);
        self.0 += bytes;
        if before + bytes > DECODERS_MAX { Err(Undecodable) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        DECODERS.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Codec {
    fn decode(&mut self, piece: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let bounded = self.bounded();
        let came = piece.len() as u64;
        bounded.came += came;
        let of_all = GROWTH_FREE + bounded.came.saturating_mul(GROWTH_MAX);
        bounded.grown_max = of_all.min(bounded.grew + GROWTH_FREE + came.saturating_mul(GROWTH_MAX));
        let written = match self {
            Self::Gzip(decoder) => write(decoder, piece),
            Self::Zlib(decoder) => write(decoder, piece),
            Self::Bare(decoder) => write(decoder, piece),
            Self::Brotli(decoder) => write(decoder, piece),
            Self::Zstd(decoder) => write(decoder, piece),
        };
        written.map_err(|_| Undecodable)?;
        Ok(std::mem::take(&mut self.bounded().bytes))
    }

    fn bounded(&mut self) -> &mut Bounded {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Bare(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.grew += bytes.len() as u64;
        if self.grew > self.grown_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a decoder all of a piece, and takes all that it makes of it.
fn write(decoder: &mut impl Write, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match decoder.write(piece)? {
            // It has come to its end.
            0 => break,
            taken => piece = piece.get(taken..).unwrap_or_default(),
        }
    }
    decoder.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const CODINGS: [&str; 5] = ["gzip", "deflate", "bare", "br", "zstd"];

    fn encoded(coding: &str, text: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            "gzip" => finished(flate2::write::GzEncoder::new(Vec::new(), level), text, |encoder| encoder.finish()),
            "deflate" => finished(flate2::write::ZlibEncoder::new(Vec::new(), level), text, |encoder| encoder.finish()),
            "bare" => finished(flate2::write::DeflateEncoder::new(Vec::new(), level), text, |encoder| encoder.finish()),
            "br" => finished(brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22), text, |encoder| {
                Ok(encoder.into_inner())
            }),
            _ => zstd::encode_all(text, 3).expect("memory for a small text"),
        }
    }

    fn finished<W: Write>(mut encoder: W, text: &[u8], finish: impl FnOnce(W) -> io::Result<Vec<u8>>) -> Vec<u8> {
        encoder.write_all(text).expect("memory for a small text");
        finish(encoder).expect("memory for a small text")
    }

    fn known(coding: &str) -> KnownCoding {
        let name = if coding == "bare" { "deflate" } else { coding };
        match coded(&[name]) {
            Coded::Known(known) => known,
            other => panic!("{coding}: {other:?}"),
        }
    }

    fn coded(values: &[&str]) -> Coded {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).expect("a value"));
        }
        Coded::of(&headers)
    }

    fn decoded(coding: &str, body: &[u8], piece: usize) -> Result<Vec<u8>, Undecodable> {
        let mut decoder = Decoder::new(known(coding))?;
        let mut all = Vec::new();
        for piece in body.chunks(piece) {
            all.extend(decoder.decode(piece)?);
        }
        Ok(all)
    }

    #[test]
    fn what_was_encoded_comes_back_whatever_its_pieces() {
        let text: Vec<u8> = (0..40_000_u32)
            .flat_map(|number| format!("data: {{\"n\":{}}}\n\n", number.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        for coding in CODINGS {
            let body = encoded(coding, &text);
            assert!(body.len() < text.len() / 2, "{coding}");
            for piece in [1, 7, 8_191, body.len()] {
                assert!(
                    decoded(coding, &body, piece).expect("no mistake in it") == text,
                    "{coding} in pieces of {piece}"
                );
            }
            // A part of it shows a part: nobody waits for the end.
            let half = decoded(coding, &body[..body.len() / 2], 1_000).expect("no mistake in it");
            assert!(
                half.len() > text.len() / 4 && text.starts_with(&half),
                "{coding}: {} of {}",
                half.len(),
                text.len()
            );
            assert!(decoded(coding, b"", 1).expect("nothing is no mistake").is_empty(), "{coding}");
        }
    }

    #[test]
    fn what_grows_out_of_proportion_is_not_decoded_to_its_end() {
        let zeros = vec![0; 64 << 20];
        for coding in CODINGS {
            let body = encoded(coding, &zeros);
            let mut decoder = Decoder::new(known(coding)).expect("memory");
            let mut grew = 0;
            let ended =
                body.chunks(100).try_for_each(|piece| decoder.decode(piece).map(|decoded| grew += decoded.len()));
            assert!(ended.is_err(), "{coding}: {} bytes became {grew}", body.len());
            assert!(grew as u64 <= GROWTH_FREE + GROWTH_MAX * body.len() as u64, "{coding}");
        }
    }

    /// What came before buys nothing for a piece that bursts.
    #[test]
    fn a_piece_that_bursts_is_not_decoded_whatever_came_before() {
        let mut number = 1_u64;
        let mut noise = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 56) as u8
        };
        let mut text: Vec<u8> = (0..2 << 20).map(|_| noise()).collect();
        text.resize(64 << 20, 0);
        for coding in CODINGS {
            let mut decoder = Decoder::new(known(coding)).expect("memory");
            let mut most = 0;
            let ended = encoded(coding, &text).chunks(4_096).try_for_each(|piece| {
                let decoded = decoder.decode(piece)?;
                most = most.max(decoded.len() as u64);
                Ok::<(), Undecodable>(())
            });
            assert!(ended.is_err() && most <= GROWTH_FREE + 4_096 * GROWTH_MAX, "{coding}: {most}");
        }
    }

    #[test]
    fn windows_are_memory_and_bounded_together() {
        assert_eq!(
            [0x00, 0x0b, 0x1b, 0x0f, 0x01, 0x21].map(brotli_window),
            [16, 22, 22, 24, 17, 10].map(|bits| Some(1 << bits))
        );
        assert_eq!([0x11, 0x91].map(brotli_window), [None, None]);
        let mut decoders = Vec::new();
        while let Ok(decoder) = Decoder::new(known("zstd")) {
            decoders.push(decoder);
        }
        assert!((20..=32).contains(&decoders.len()), "{}", decoders.len());
        decoders.clear();
        assert!(Decoder::new(known("zstd")).is_ok());
    }

    #[test]
    fn what_is_none_is_an_error_and_no_panic() {
        let mut number = 1_u64;
        for coding in CODINGS {
            let body = encoded(
                coding,
                b"some text that is long enough to have something in it that can be broken, and some more of it",
            );
            let mut errors = 0;
            for at in 0..body.len() {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut broken = body.clone();
                broken[at] ^= (number >> 56) as u8 | 1;
                errors += usize::from(decoded(coding, &broken, 16).is_err());
            }
            assert!(errors > body.len() / 10, "{coding}: {errors} of {}", body.len());
        }
    }

    #[test]
    fn a_coding_is_known_by_its_name_and_several_are_not() {
        for values in [&[][..], &["identity"], &[""], &["identity, identity"]] {
            assert_eq!(coded(values), Coded::Plain, "{values:?}");
        }
        for values in [&["GZip"][..], &["x-gzip"], &["identity, br"], &[" zstd "], &["", "deflate"]] {
            assert!(matches!(coded(values), Coded::Known(_)), "{values:?}");
        }
        for values in [&["gzip, br"][..], &["gzip", "gzip"], &["compress"], &["gzip;q=1"]] {
            assert_eq!(coded(values), Coded::Unknown, "{values:?}");
        }
    }
}
