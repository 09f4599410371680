//! Lines of logs of any size, in memory of a fixed size: as they are, or compressed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// The longest line that is read, in bytes, its end included.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

const BUFFER_BYTES: usize = 256 << 10;

/// How compressed files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The lines of one log.
pub(super) struct LogLines {
    bytes: Box<dyn BufRead>,
    line: Vec<u8>,
    /// How much of the file was read, as it lies there.
    read: Rc<Cell<u64>>,
    /// How long the file is, where that is known.
    pub(super) size: Option<u64>,
    /// The number of the line that was read last, from 1.
    pub(super) number: u64,
}

/// A line, or why there is none.
pub(super) enum LogText<'l> {
    /// Without its end.
    Line(&'l [u8]),
    /// It is longer than any that is read, and was passed over.
    TooLong,
}

impl LogLines {
    /// Of a file; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, size): (Box<dyn Read>, _) = match path.as_os_str() == "-" {
            true => (Box::new(io::stdin()), None),
            false => {
                let file = File::open(path)?;
                let size = file.metadata()?.is_file().then(|| file.metadata().map(|meta| meta.len())).transpose()?;
                (Box::new(file), size)
            }
        };
        Self::of(file, size)
    }

    /// Of bytes that somebody reads.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn of(source: Box<dyn Read>, size: Option<u64>) -> io::Result<Self> {
        let read = Rc::new(Cell::new(0));
        let counted = CountedBytes { source, read: Rc::clone(&read) };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, counted);
        let beginning = raw.fill_buf()?;
        let bytes: Box<dyn BufRead> = if beginning.starts_with(&GZIP) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
        } else if beginning.starts_with(&ZSTD) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, ZstdDecoder::with_buffer(raw)?))
        } else {
            Box::new(raw)
        };
        Ok(Self { bytes, line: Vec::new(), read, size, number: 0 })
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// It cannot be read, or not be decompressed.
    pub(super) fn next(&mut self) -> io::Result<Option<LogText<'_>>> {
        self.line.clear();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.bytes).take(most).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read == LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
            self.bytes.skip_until(b'\n')?;
            self.line = Vec::new();
            return Ok(Some(LogText::TooLong));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The mark that some editors put before a text.
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| self.number == 1).unwrap_or(line);
        Ok(Some(LogText::Line(line)))
    }

    /// How the rest begins, without taking it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn beginning(&mut self) -> io::Result<&[u8]> {
        self.bytes.fill_buf()
    }

    /// All that is left; none if that is more than so many bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn rest(&mut self, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut rest = Vec::new();
        let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        (&mut self.bytes).take(most).read_to_end(&mut rest)?;
        Ok((rest.len() <= bytes_max).then_some(rest))
    }

    /// The part of the file that was read, from 0 to 1, where its length is known.
    pub(super) fn progress(&self) -> Option<f64> {
        let size = self.size.filter(|size| *size > 0)?;
        Some((self.read.get() as f64 / size as f64).min(1.0))
    }
}

/// Counts what is read of a source.
struct CountedBytes {
    source: Box<dyn Read>,
    read: Rc<Cell<u64>>,
}

impl Read for CountedBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = LogLines::of(Box::new(io::Cursor::new(bytes.to_vec())), None).expect("bytes can be read");
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("lines") {
            all.push(match line {
                LogText::Line(line) => String::from_utf8_lossy(line).into_owned(),
                LogText::TooLong => "too long".to_owned(),
            });
        }
        all
    }

    #[test]
    fn lines_are_the_same_however_they_are_compressed() {
        let text = b"\xef\xbb\xbfone\r\n\ntwo\nthree";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("memory");
        let zstd = zstd::stream::encode_all(&text[..], 1).expect("memory");
        for bytes in [text.to_vec(), gzip.finish().expect("memory"), zstd] {
            assert_eq!(lines(&bytes), ["one", "", "two", "three"]);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_any_other() {
        let mut bytes = vec![b'x'; 3 * LINE_BYTES_MAX];
        bytes.extend(b"\nshort\n");
        assert_eq!(lines(&bytes), ["too long", "short"]);
    }
}
