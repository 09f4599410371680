//! RESP2, the bytes of Redis' commands and replies (<https://redis.io/docs/latest/develop/reference/protocol-spec/>),
//! for adapters whose host speaks bytes.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::str;

use super::{Command, Reply, Value};

/// Spells a command: an array of bulk strings.
///
/// ```
/// use slidegate_engine::redis::{Command, resp::encode};
///
/// let command: Command = ["GET", "a"].into_iter().collect();
/// assert_eq!(encode(&command), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
/// ```
pub fn encode(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + command.words().map(|word| word.len() + 16).sum::<usize>());
    header(&mut bytes, b'*', command.words().count());
    for word in command.words() {
        header(&mut bytes, b'$', word.len());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn header(bytes: &mut Vec<u8>, kind: u8, number: usize) {
    bytes.push(kind);
    bytes.extend_from_slice(number.to_string().as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// Reads one complete reply. `None`: the bytes are not exactly one, or it is an array that holds more than flat values.
/// What it allocates is bounded by the length of `bytes`.
///
/// ```
/// use slidegate_engine::redis::{Reply, Value, resp::decode};
///
/// assert_eq!(decode(b":5\r\n"), Some(Reply::Single(Value::Integer(5))));
/// assert_eq!(decode(b":5\r\n:"), None);
/// ```
pub fn decode(bytes: &[u8]) -> Option<Reply> {
    let (&kind, rest) = bytes.split_first()?;
    let (reply, rest) = match kind {
        b'-' => {
            let (line, rest) = line(rest)?;
            (Reply::Error(text(line)), rest)
        }
        b'*' => array(rest)?,
        _ => {
            let (value, rest) = value(bytes)?;
            (Reply::Single(value), rest)
        }
    };
    rest.is_empty().then_some(reply)
}

fn array(bytes: &[u8]) -> Option<(Reply, &[u8])> {
    let (count, mut rest) = integer(bytes)?;
    if count == -1 {
        return Some((Reply::Single(Value::Nil), rest));
    }
    let mut values = Vec::new();
    // A count that the bytes do not bear out ends with them.
    for _ in 0..usize::try_from(count).ok()? {
        let (value, after) = value(rest)?;
        values.push(value);
        rest = after;
    }
    Some((Reply::Many(values), rest))
}

/// A value that holds no others.
fn value(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    match kind {
        b':' => integer(rest).map(|(number, rest)| (Value::Integer(number), rest)),
        b'+' => line(rest).map(|(line, rest)| (Value::Status(text(line)), rest)),
        b'$' => bulk(rest),
        _ => None,
    }
}

fn bulk(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = integer(bytes)?;
    if length == -1 {
        return Some((Value::Nil, rest));
    }
    let (bulk, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Value::Bulk(bulk.to_vec()), rest.strip_prefix(b"\r\n")?))
}

fn integer(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (line, rest) = line(bytes)?;
    Some((str::from_utf8(line).ok()?.parse().ok()?, rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(
            encode(&[&b"EVALSHA"[..], b"", b"a\r\nb"].into_iter().collect()),
            b"*3\r\n$7\r\nEVALSHA\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"
        );
        assert_eq!(encode(&Command::default()), b"*0\r\n");
    }

    #[test]
    fn flat_replies_keep_their_kinds() {
        for (bytes, reply) in [
            (b":-5\r\n".as_slice(), Reply::Single(Value::Integer(-5))),
            (b"$-1\r\n", Reply::Single(Value::Nil)),
            (b"*-1\r\n", Reply::Single(Value::Nil)),
            (b"$4\r\n\xff\0\r\n\r\n", Reply::Single(Value::Bulk(vec![0xff, 0, b'\r', b'\n']))),
            (b"+OK\r\n", Reply::Single(Value::Status("OK".into()))),
            (b"-NOAUTH Authentication required.\r\n", Reply::Error("NOAUTH Authentication required.".into())),
            (b"-\xff\r\n", Reply::Error("\u{fffd}".into())),
            (b"*0\r\n", Reply::Many(Vec::new())),
            (
                b"*3\r\n:1\r\n$1\r\na\r\n+b\r\n",
                Reply::Many(vec![Value::Integer(1), Value::Bulk(b"a".to_vec()), Value::Status("b".into())]),
            ),
        ] {
            assert_eq!(decode(bytes), Some(reply), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn whatever_else_is_no_reply() {
        for bytes in [
            b"".as_slice(),
            b"\r\n",
            b":\r\n",
            b":9223372036854775808\r\n",
            b":1\n",
            b"$5\r\nabc\r\n",
            b"$3\r\nabcd\r\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"*1\r\n",
            b"*9223372036854775807\r\n:1\r\n",
            b"*1\r\n*1\r\n:1\r\n",
            b"*1\r\n-ERR inside\r\n",
            b":1\r\n:2\r\n",
            b"_\r\n",
            b"%1\r\n+a\r\n:1\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert_eq!(decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    fn flat_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Integer),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bulk),
            "[^\r\n]{0,10}".prop_map(Value::Status),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            flat_value().prop_map(Reply::Single),
            prop::collection::vec(flat_value(), 0..8).prop_map(Reply::Many),
            "[A-Z]{1,8} [^\r\n]{0,10}".prop_map(Reply::Error),
        ]
    }

    /// As a server spells it.
    fn spell(reply: &Reply) -> Vec<u8> {
        let value = |value: &Value| match value {
            Value::Nil => b"$-1\r\n".to_vec(),
            Value::Integer(number) => format!(":{number}\r\n").into_bytes(),
            Value::Bulk(bulk) => [format!("${}\r\n", bulk.len()).as_bytes(), bulk, b"\r\n"].concat(),
            Value::Status(text) => format!("+{text}\r\n").into_bytes(),
        };
        match reply {
            Reply::Single(single) => value(single),
            Reply::Many(values) => values
                .iter()
                .fold(format!("*{}\r\n", values.len()).into_bytes(), |bytes, each| [bytes, value(each)].concat()),
            Reply::Error(text) => format!("-{text}\r\n").into_bytes(),
        }
    }

    proptest! {
        #[test]
        fn every_flat_reply_is_read_as_it_was(reply in reply()) {
            prop_assert_eq!(decode(&spell(&reply)), Some(reply));
        }

        #[test]
        fn a_part_of_a_reply_is_none_and_neither_are_two(
            reply in reply(),
            other in reply(),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = spell(&reply);
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), None);
            prop_assert_eq!(decode(&[bytes, spell(&other)].concat()), None);
        }

        #[test]
        fn fragments_put_together_at_random_never_panic(
            replies in prop::collection::vec(reply(), 1..5),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
        ) {
            let bytes: Vec<u8> = replies.iter().flat_map(spell).collect();
            let piece = |(from, to): &(prop::sample::Index, prop::sample::Index)| {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                bytes[from.min(to)..from.max(to)].to_vec()
            };
            decode(&cuts.iter().flat_map(piece).collect::<Vec<u8>>());
        }

        #[test]
        fn a_command_is_read_back_as_the_array_it_is(
            command in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let expected = command.iter().cloned().map(Value::Bulk).collect();
            prop_assert_eq!(decode(&encode(&command.iter().collect())), Some(Reply::Many(expected)));
        }
    }
}
