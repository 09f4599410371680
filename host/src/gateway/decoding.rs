//! Decompression: content codings taken off, for filters that read bodies: gzip, deflate, br and zstd (RFC 9110,
//! section 8.4.1; RFC 7932; RFC 9659). The bytes on their way are not touched.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{self, HeaderMap, HeaderValue};
use zstd::stream::raw::DParameter;

/// Of what a body grows to beyond what is free, and of each piece of it, no more than so many times what came is looked
/// at: what grows more is meant to exhaust whoever decodes it.
const GROWTH_MAX: u64 = 100;

/// What is handed on at a time of what was decoded, in bytes.
const HANDED_ON: usize = 64 << 10;

/// What decoders of bodies that come the same way may take together.
pub(crate) struct DecoderPot {
    /// What they take now, and what they may, in bytes: a coding's window is memory.
    taken: AtomicUsize,
    most: usize,
    /// A body may grow by so many bytes, and so may each piece of it.
    growth_free: u64,
}

/// Of requests, which strangers send.
pub(crate) static OF_REQUESTS: DecoderPot = DecoderPot::new(64 << 20, 1 << 20);

/// Of answers. A text that repeats itself, which models say when they are asked to, is honest.
pub(crate) static OF_ANSWERS: DecoderPot = DecoderPot::new(256 << 20, 16 << 20);

/// What a decoder takes beside its window, in bytes, and the window of the codings that have a small one.
const DECODER: usize = 96 << 10;

/// The largest window that a body in zstd may ask for, as a power of two: 8 MiB (RFC 9659, section 3). A window is
/// memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a body in zstd may take for its window whatever its first frame asks for, in bytes.
const ZSTD_WINDOW_LEAST: usize = 1 << 20;

/// What is decoded at a time of a body in br, in bytes.
const BROTLI_BUFFER: usize = 4 << 10;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentCoding {
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
pub(crate) struct KnownCoding(ContentCoding);

/// Who is given what was decoded.
pub(crate) trait DecodedSink {
    /// Some of it, in order.
    fn take(&mut self, decoded: Vec<u8>);
}

/// Takes the coding off a body, piece by piece, and gives its sink what is behind it.
pub(crate) struct Decoder<S: DecodedSink> {
    state: DecoderState<S>,
    share: Share,
}

/// A part of what decoders may take, until it is dropped.
struct Share {
    pot: &'static DecoderPot,
    bytes: usize,
}

enum DecoderState<S: DecodedSink> {
    /// The first bytes tell what it needs: in br and zstd how large a window, and in deflate whether it stands in the
    /// zlib format, as it should, or bare, as some send it.
    Undecided {
        coding: ContentCoding,
        first: Vec<u8>,
        bounded: Bounded<S>,
    },
    Decided(Codec<S>),
    /// It was none.
    Broken,
}

/// A decoder of the library's for each coding.
enum Codec<S: DecodedSink> {
    Gzip(Box<MultiGzDecoder<Bounded<S>>>),
    Zlib(Box<ZlibDecoder<Bounded<S>>>),
    Bare(Box<DeflateDecoder<Bounded<S>>>),
    Brotli(Box<DecompressorWriter<Bounded<S>>>),
    Zstd(Box<ZstdDecoder<S>>),
}

/// The library's own does not tell whether a frame has ended.
type ZstdDecoder<S> = zstd::stream::zio::Writer<Bounded<S>, zstd::stream::raw::Decoder<'static>>;

/// Takes what was decoded, as long as it is in proportion.
struct Bounded<S: DecodedSink> {
    sink: S,
    bytes: Vec<u8>,
    growth_free: u64,
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
        match (ContentCoding::named(name), names.next()) {
            (Some(coding), None) => Self::Known(KnownCoding(coding)),
            _ => Self::Unknown,
        }
    }
}

/// Has an answer that a filter reads ask for no coding that could not be taken off: not one that is not known here, nor
/// one that needs much memory while others take most of what there is.
pub(crate) fn ask_for_known(headers: &mut HeaderMap) {
    narrow(headers, OF_ANSWERS.is_short());
}

fn narrow(headers: &mut HeaderMap, is_short: bool) {
    let is_asked = |item: &&[u8]| {
        let name = item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match ContentCoding::named(name) {
            Some(ContentCoding::Gzip | ContentCoding::Deflate) => true,
            Some(ContentCoding::Brotli | ContentCoding::Zstd) => !is_short,
            None => name.eq_ignore_ascii_case(b"identity"),
        }
    };
    let fields = headers.get_all(header::ACCEPT_ENCODING);
    let items = fields.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let items: Vec<&[u8]> = items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()).collect();
    let asked: Vec<&[u8]> = items.iter().copied().filter(is_asked).collect();
    if asked.len() == items.len() {
        return;
    }
    let asked = if asked.is_empty() { b"identity".to_vec() } else { asked.join(&b", "[..]) };
    if let Ok(asked) = HeaderValue::from_bytes(&asked) {
        headers.insert(header::ACCEPT_ENCODING, asked);
    }
}

impl ContentCoding {
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

impl DecoderPot {
    const fn new(most: usize, growth_free: u64) -> Self {
        Self { taken: AtomicUsize::new(0), most, growth_free }
    }

    /// Whether more than half of it is taken.
    fn is_short(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.most / 2
    }
}

impl<S: DecodedSink> Decoder<S> {
    /// Begins a body in this coding, of what may be taken from this pot.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(known: KnownCoding, pot: &'static DecoderPot, sink: S) -> Result<Self, Undecodable> {
        let share = Share::take(pot, DECODER)?;
        let bounded = Bounded { sink, bytes: Vec::new(), growth_free: pot.growth_free, came: 0, grew: 0, grown_max: 0 };
        let state = match known.0 {
            ContentCoding::Gzip => DecoderState::Decided(Codec::Gzip(Box::new(MultiGzDecoder::new(bounded)))),
            coding => DecoderState::Undecided { coding, first: Vec::new(), bounded },
        };
        Ok(Self { state, share })
    }

    /// Gives the sink what this piece adds to the decoded body. What is behind the end of the coding is left out.
    ///
    /// # Errors
    /// The body is not what it claims to be, grows out of all proportion, or asks for more memory than there is. There
    /// is nothing more to be had of it.
    pub(crate) fn decode(&mut self, piece: &[u8]) -> Result<(), Undecodable> {
        if let DecoderState::Decided(codec) = &mut self.state {
            return codec.decode(piece);
        }
        let DecoderState::Undecided { coding, mut first, bounded } =
            std::mem::replace(&mut self.state, DecoderState::Broken)
        else {
            return Err(Undecodable);
        };
        first.extend_from_slice(piece);
        let codec = match (coding, &first[..]) {
            (ContentCoding::Brotli, [head, ..]) => {
                self.share.grow(brotli_window(*head).ok_or(Undecodable)?)?;
                Codec::Brotli(Box::new(DecompressorWriter::new(bounded, BROTLI_BUFFER)))
            }
            // RFC 1950, section 2.2: the method, and a number of two bytes that 31 divides.
            (ContentCoding::Deflate, [head, flags, ..]) => {
                match head & 0xf == 8 && u16::from_be_bytes([*head, *flags]).is_multiple_of(31) {
                    true => Codec::Zlib(Box::new(ZlibDecoder::new(bounded))),
                    false => Codec::Bare(Box::new(DeflateDecoder::new(bounded))),
                }
            }
            (ContentCoding::Zstd, first) if let Some(window) = zstd_window(first) => {
                // A body of many frames may begin with a small one.
                let window = window.max(ZSTD_WINDOW_LEAST);
                self.share.grow(window)?;
                let log = window.next_power_of_two().ilog2().min(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|_| Undecodable)?;
                // No later frame may ask for more.
                decoder.set_parameter(DParameter::WindowLogMax(log)).map_err(|_| Undecodable)?;
                Codec::Zstd(Box::new(ZstdDecoder::new(bounded, decoder)))
            }
            _ => {
                self.state = DecoderState::Undecided { coding, first, bounded };
                return Ok(());
            }
        };
        self.state = DecoderState::Decided(codec);
        self.decode(&first)
    }

    /// Whether what has come is a whole body. To be asked when no more comes.
    pub(crate) fn is_complete(&mut self) -> bool {
        match &mut self.state {
            DecoderState::Undecided { first, .. } => first.is_empty(),
            // Of no body at all nothing is missing.
            DecoderState::Decided(codec) => codec.bounded().came == 0 || codec.finish().is_ok(),
            DecoderState::Broken => false,
        }
    }

    /// Who is given what was decoded.
    pub(crate) fn sink(&mut self) -> Option<&mut S> {
        match &mut self.state {
            DecoderState::Undecided { bounded, .. } => Some(&mut bounded.sink),
            DecoderState::Decided(codec) => Some(&mut codec.bounded().sink),
            DecoderState::Broken => None,
        }
    }
}

/// How large the window of a body in zstd is, in bytes, by the header of its first frame (RFC 8878, section 3.1.1.1).
/// None: not all of that has come.
fn zstd_window(first: &[u8]) -> Option<usize> {
    let largest = 1 << ZSTD_WINDOW_LOG_MAX;
    let (magic, rest) = first.split_at_checked(4)?;
    if magic != [0x28, 0xb5, 0x2f, 0xfd] {
        // One to be skipped, or none at all.
        return Some(largest);
    }
    let (&descriptor, rest) = rest.split_first()?;
    let window = if descriptor & 0x20 == 0 {
        let head = u64::from(*rest.first()?);
        let base = 1_u64 << (10 + (head >> 3));
        base + base / 8 * (head & 7)
    } else {
        // The whole content is the window; its length stands behind the name of a dictionary.
        let name = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
        let bytes = rest.get(name..name + length)?;
        let content = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if length == 2 { content + 256 } else { content }
    };
    // More is refused by whoever decodes it.
    Some(usize::try_from(window).map_or(largest, |window| window.min(largest)))
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
    fn take(pot: &'static DecoderPot, bytes: usize) -> Result<Self, Undecodable> {
        let mut share = Self { pot, bytes: 0 };
        share.grow(bytes)?;
        Ok(share)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Undecodable> {
        let before = self.pot.taken.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before + bytes > self.pot.most { Err(Undecodable) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pot.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<S: DecodedSink> Codec<S> {
    fn decode(&mut self, piece: &[u8]) -> Result<(), Undecodable> {
        self.bounded().come(piece.len() as u64);
        let written = match self {
            Self::Gzip(decoder) => write(decoder, piece),
            Self::Zlib(decoder) => write(decoder, piece),
            Self::Bare(decoder) => write(decoder, piece),
            Self::Brotli(decoder) => write(decoder, piece),
            Self::Zstd(decoder) => write(decoder, piece),
        };
        written.map_err(|_| Undecodable)?;
        self.bounded().hand_on();
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// There should have come more.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => takes_no_more(decoder),
            Self::Bare(decoder) => takes_no_more(decoder),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }

    fn bounded(&mut self) -> &mut Bounded<S> {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Bare(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.writer_mut(),
        }
    }
}

impl<S: DecodedSink> Bounded<S> {
    /// A piece has come of so many bytes.
    fn come(&mut self, bytes: u64) {
        self.came += bytes;
        let of_all = self.growth_free + self.came.saturating_mul(GROWTH_MAX);
        self.grown_max = of_all.min(self.grew + self.growth_free + bytes.saturating_mul(GROWTH_MAX));
    }

    fn hand_on(&mut self) {
        if !self.bytes.is_empty() {
            self.sink.take(std::mem::take(&mut self.bytes));
        }
    }
}

impl<S: DecodedSink> fmt::Debug for Decoder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl<S: DecodedSink> Write for Bounded<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.grew += bytes.len() as u64;
        if self.grew > self.grown_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= HANDED_ON {
            self.hand_on();
        }
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

/// Whether a decoder has come to its end, which does not tell so: it takes no byte more.
fn takes_no_more(decoder: &mut impl Write) -> io::Result<()> {
    match decoder.write(&[0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What was decoded, and the most of it at a time.
    #[derive(Default)]
    struct Taken {
        all: Vec<u8>,
        most: usize,
    }

    impl DecodedSink for Taken {
        fn take(&mut self, decoded: Vec<u8>) {
            self.most = self.most.max(decoded.len());
            self.all.extend(decoded);
        }
    }

    /// One of a test's own.
    fn pot(most: usize) -> &'static DecoderPot {
        Box::leak(Box::new(DecoderPot::new(most, FREE)))
    }

    const FREE: u64 = 1 << 20;

    fn decoder(coding: &str) -> Decoder<Taken> {
        Decoder::new(known(coding), pot(64 << 20), Taken::default()).expect("memory")
    }

    fn taken(decoder: &mut Decoder<Taken>) -> &mut Taken {
        decoder.sink().expect("it is not broken")
    }

    fn decoded(coding: &str, body: &[u8], piece: usize) -> Result<Vec<u8>, Undecodable> {
        let mut decoder = decoder(coding);
        body.chunks(piece).try_for_each(|piece| decoder.decode(piece))?;
        Ok(std::mem::take(&mut taken(&mut decoder).all))
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
    fn a_body_that_breaks_off_is_not_complete() {
        let text = b"data: {\"usage\":{}}\n\n".repeat(20);
        for coding in CODINGS {
            let body = encoded(coding, &text);
            for (length, piece) in (0..=body.len()).flat_map(|length| [1, 7, 1_000].map(|piece| (length, piece))) {
                let mut decoder = decoder(coding);
                for piece in body[..length].chunks(piece) {
                    decoder.decode(piece).expect("no mistake in it");
                }
                let is_complete = length == 0 || length == body.len();
                assert_eq!(decoder.is_complete(), is_complete, "{coding}: {length} of {} by {piece}", body.len());
            }
        }
    }

    #[test]
    fn what_grows_out_of_proportion_is_not_decoded_to_its_end() {
        let zeros = vec![0; 64 << 20];
        for coding in CODINGS {
            let body = encoded(coding, &zeros);
            let mut decoder = decoder(coding);
            let ended = body.chunks(100).try_for_each(|piece| decoder.decode(piece));
            let Taken { all, most } = taken(&mut decoder);
            assert!(ended.is_err(), "{coding}: {} bytes became {}", body.len(), all.len());
            assert!(all.len() as u64 <= FREE + GROWTH_MAX * body.len() as u64, "{coding}");
            assert!(*most < 2 * HANDED_ON, "{coding}: {most} at a time");
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
            let mut decoder = decoder(coding);
            let (mut before, mut most) = (0, 0);
            let ended = encoded(coding, &text).chunks(4_096).try_for_each(|piece| {
                let ended = decoder.decode(piece);
                let all = taken(&mut decoder).all.len();
                most = most.max(all - before);
                before = all;
                ended
            });
            assert!(ended.is_err() && most as u64 <= FREE + 4_096 * GROWTH_MAX, "{coding}: {most}");
        }
    }

    #[test]
    fn windows_are_memory_and_bounded_together() {
        assert_eq!(
            [0x00, 0x0b, 0x1b, 0x0f, 0x01, 0x21].map(brotli_window),
            [16, 22, 22, 24, 17, 10].map(|bits| Some(1 << bits))
        );
        assert_eq!([0x11, 0x91].map(brotli_window), [None, None]);
        for (level, window) in [(1, 1 << 19), (3, 2 << 20), (19, 8 << 20)] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).expect("memory");
            // One whose length is not known in advance, as of a stream.
            encoder.write_all(b"data: {}\n\n").and_then(|()| encoder.flush()).expect("memory");
            assert_eq!(zstd_window(encoder.get_ref()), Some(window), "level {level}");
        }
        assert_eq!(zstd_window(&encoded("zstd", &[7; 100])[..5]), None, "it is not whole");
        // One frame for each event.
        let (small, large) = (vec![b'a'; 20], (0..50_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        let frames = [encoded("zstd", &small), encoded("zstd", &large)].concat();
        assert!(decoded("zstd", &frames, 100).expect("two frames") == [small, large].concat());
        assert_eq!(zstd_window(b"none at all"), Some(8 << 20));
        let pot = pot(256 << 20);
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for (coding, least, most) in [("gzip", 2_000, 3_000), ("br", 50, 64), ("zstd", 100, 240)] {
            let body = encoded(coding, &text);
            let mut decoders = Vec::new();
            while let Ok(mut decoder) = Decoder::new(known(coding), pot, Taken::default())
                && decoder.decode(&body[..100]).is_ok()
            {
                decoders.push(decoder);
            }
            assert!((least..=most).contains(&decoders.len()), "{coding}: {}", decoders.len());
        }
        assert_eq!(pot.taken.load(Ordering::Relaxed), 0);
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

    #[test]
    fn only_codings_that_can_be_taken_off_are_asked_for() {
        let narrowed = |values: &[&str], is_short| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(value).expect("a value"));
            }
            narrow(&mut headers, is_short);
            let left = headers.get_all(header::ACCEPT_ENCODING).iter();
            left.map(|value| value.to_str().expect("a text").to_owned()).collect::<Vec<_>>()
        };
        for (asked, expected, when_short) in [
            (&[][..], &[][..], &[][..]),
            (&["gzip, deflate"], &["gzip, deflate"], &["gzip, deflate"]),
            (&["gzip,br;q=0.5", "zstd"], &["gzip,br;q=0.5", "zstd"], &["gzip"]),
            (&["GZIP;q=1, dcb, compress , *;q=0"], &["GZIP;q=1"], &["GZIP;q=1"]),
            (&["br"], &["br"], &["identity"]),
            (&["*"], &["identity"], &["identity"]),
        ] {
            assert_eq!(narrowed(asked, false), expected, "{asked:?}");
            assert_eq!(narrowed(asked, true), when_short, "{asked:?} when memory is short");
        }
    }
}
