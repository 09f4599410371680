//! Where a reply of Redis ends, so that it can be read whole.

/// Whatever came is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A line that is longer has no number in it that counts.
const LINE_MAX: usize = 64 << 10;

/// How many bytes of these are the first reply, or `None` if more of it is to come. Bulk strings are skipped, not
/// looked at.
///
/// # Errors
/// It is none.
pub fn reply_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    // How many values are still to come.
    let (mut values, mut at) = (1_usize, 0_usize);
    while values > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
            return if rest.len() < LINE_MAX { Ok(None) } else { Err(Malformed) };
        };
        let (kind, line) = rest.get(..length).and_then(<[u8]>::split_first).ok_or(Malformed)?;
        let line = line.strip_suffix(b"\r").ok_or(Malformed)?;
        values -= 1;
        at = at.saturating_add(length + 1);
        match kind {
            b'+' | b'-' | b':' => {}
            b'$' => at = at.saturating_add(number(line)?.map_or(0, |length| length.saturating_add(2))),
            b'*' => values = values.saturating_add(number(line)?.unwrap_or(0)),
            _ => return Err(Malformed),
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// A length or a count; none if there is nothing that it would be of.
fn number(line: &[u8]) -> Result<Option<usize>, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    if line == "-1" { Ok(None) } else { line.parse().map(Some).map_err(|_| Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_where_it_ends() {
        for reply in [
            &b"+OK\r\n"[..],
            b"-NOSCRIPT no such script\r\n",
            b":-5\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\n\r\n\xff\0\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n:1\r\n$1\r\na\r\n+b\r\n",
            b"*2\r\n*1\r\n:1\r\n$-1\r\n",
        ] {
            let more = [reply, b"+more\r\n"].concat();
            assert_eq!(reply_length(&more), Ok(Some(reply.len())), "{}", reply.escape_ascii());
            for cut in 0..reply.len() {
                assert_eq!(reply_length(&reply[..cut]), Ok(None), "{} cut at {cut}", reply.escape_ascii());
            }
        }
    }

    #[test]
    fn whatever_is_no_reply_is_told_apart_from_a_part_of_one() {
        for bytes in
            [&b"OK\r\n"[..], b"\r\n", b"\n", b"+OK\n", b"$x\r\n", b"$-2\r\n", b"*1\r\n!\r\n", b"HTTP/1.1 400\r\n"]
        {
            assert_eq!(reply_length(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
        assert_eq!(reply_length(&vec![b'+'; LINE_MAX]), Err(Malformed));
        assert_eq!(reply_length(b"$18446744073709551615\r\n"), Ok(None));
        assert_eq!(reply_length(b"*18446744073709551615\r\n"), Ok(None));
    }
}
