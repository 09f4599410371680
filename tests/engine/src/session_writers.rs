//! One document in all forms in which sessions are written, plainly: what a reader must find the same in each.

use serde_json::{Map, Value};

/// As MessagePack, in the shortest form of each value or in the longest.
pub fn message_pack(value: &Value, is_short: bool) -> Vec<u8> {
    match value {
        Value::Null => vec![0xc0],
        Value::Bool(flag) => vec![0xc2 + u8::from(*flag)],
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number @ 0..=0x7f), _) if is_short => vec![number as u8],
            (_, Some(number @ -32..0)) if is_short => vec![number as u8],
            (Some(number), _) => [&[0xcf], &number.to_be_bytes()[..]].concat(),
            (_, Some(number)) => [&[0xd3], &number.to_be_bytes()[..]].concat(),
            _ => [&[0xcb], &number.as_f64().expect("a number").to_be_bytes()[..]].concat(),
        },
        Value::String(text) => [head(text.len(), 0xa0, 32, 0xdb, is_short), text.clone().into_bytes()].concat(),
        Value::Array(list) => {
            let elements = list.iter().flat_map(|element| message_pack(element, is_short));
            head(list.len(), 0x90, 16, 0xdd, is_short).into_iter().chain(elements).collect()
        }
        Value::Object(members) => {
            let pairs = members.iter().flat_map(|(name, value)| {
                [message_pack(&Value::String(name.clone()), is_short), message_pack(value, is_short)].concat()
            });
            head(members.len(), 0x80, 16, 0xdf, is_short).into_iter().chain(pairs).collect()
        }
    }
}

fn head(length: usize, short: u8, short_max: usize, long: u8, is_short: bool) -> Vec<u8> {
    if is_short && length < short_max {
        return vec![short + length as u8];
    }
    [&[long], &u32::try_from(length).expect("a length").to_be_bytes()[..]].concat()
}

/// As PHP's `serialize`.
pub fn php(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => b"N;".to_vec(),
        Value::Bool(flag) => format!("b:{};", u8::from(*flag)).into_bytes(),
        Value::Number(number) if number.is_f64() => format!("d:{number};").into_bytes(),
        Value::Number(number) => format!("i:{number};").into_bytes(),
        Value::String(text) => format!("s:{}:\"{text}\";", text.len()).into_bytes(),
        Value::Array(list) => {
            let elements = list.iter().enumerate();
            let elements = elements.flat_map(|(at, value)| [format!("i:{at};").into_bytes(), php(value)].concat());
            [format!("a:{}:{{", list.len()).into_bytes(), elements.collect(), b"}".to_vec()].concat()
        }
        Value::Object(members) => {
            let pairs = members
                .iter()
                .flat_map(|(name, value)| [php(&Value::String(name.clone())), php(value)].concat())
                .collect();
            [format!("a:{}:{{", members.len()).into_bytes(), pairs, b"}".to_vec()].concat()
        }
    }
}

/// As PHP's handler `php` does it, of names without a bar.
pub fn php_variables(members: &Map<String, Value>) -> Vec<u8> {
    members.iter().flat_map(|(name, value)| [name.as_bytes(), b"|", &php(value)].concat()).collect()
}
