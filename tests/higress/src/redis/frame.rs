//! Where one RESP2 value ends in a stream of bytes, as the gateway's decoder finds it. The value itself is not read:
//! plugins are handed its bytes.

/// Cuts what arrives into whole values, however it was cut on the way.
#[derive(Debug, Default)]
pub(super) struct Framer {
    bytes: Vec<u8>,
    /// Up to here the value has been followed.
    at: usize,
    /// How many elements each open array still misses, the innermost last.
    open: Vec<u64>,
}

/// The bytes are not RESP2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotResp;

impl Framer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole value, if it is there.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, NotResp> {
        while let Some((length, elements)) = element(self.bytes.get(self.at..).unwrap_or_default())? {
            self.at += length;
            if elements > 0 {
                self.open.push(elements);
            } else if self.closes() {
                let rest = self.bytes.split_off(self.at);
                self.at = 0;
                return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
            }
        }
        Ok(None)
    }

    /// An element has ended; whether the whole value has with it.
    fn closes(&mut self) -> bool {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// The length of the element at the front without its own elements, and how many of these follow; None if it is not all
/// there.
fn element(bytes: &[u8]) -> Result<Option<(usize, u64)>, NotResp> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !b"*$-+:".contains(&kind) {
        return Err(NotResp);
    }
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let text = bytes.get(1..line).unwrap_or_default();
    match kind {
        b'+' | b'-' => Ok(Some((line + 2, 0))),
        b':' => number(text).map(|_| Some((line + 2, 0))),
        b'*' => Ok(Some((line + 2, u64::try_from(number(text)?).unwrap_or(0)))),
        _ => {
            let Ok(length) = usize::try_from(number(text)?) else { return Ok(Some((line + 2, 0))) };
            let end = line + 2 + length + 2;
            match bytes.get(end - 2..end) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some((end, 0))),
                Some(_) => Err(NotResp),
            }
        }
    }
}

fn number(text: &[u8]) -> Result<i64, NotResp> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NotResp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [&[u8]; 8] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n*2\r\n:1\r\n*0\r\n$0\r\n\r\n*1\r\n*1\r\n+x\r\n",
    ];

    #[test]
    fn values_come_out_whole_however_they_are_cut() {
        let stream = VALUES.concat();
        for size in 1..stream.len() {
            let (mut framer, mut values) = (Framer::default(), Vec::new());
            for piece in stream.chunks(size) {
                framer.push(piece);
                while let Some(value) = framer.next().unwrap() {
                    values.push(value);
                }
            }
            assert_eq!(values, VALUES, "cut to {size}");
        }
    }

    #[test]
    fn what_is_not_resp2_is_refused() {
        for bytes in [b"hello\r\n".as_slice(), b"%1\r\n", b":x\r\n", b"$2\r\nabcd", b"*1\r\n_\r\n", b"$1x\r\n"] {
            let mut framer = Framer::default();
            framer.push(bytes);
            assert_eq!(framer.next(), Err(NotResp), "{}", bytes.escape_ascii());
        }
    }
}
