//! Values of a configuration, read as loosely as the stock plugin reads JSON.

use serde_json::{Number, Value};

/// A plugin of Higress that Slidegate replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StockPlugin {
    /// `cluster-key-rate-limit`.
    Requests,
    /// `ai-token-ratelimit`.
    Tokens,
}

impl StockPlugin {
    /// The counts that it reads, by the length of their windows.
    pub(super) fn units(self) -> [&'static str; 4] {
        match self {
            Self::Requests => ["query_per_second", "query_per_minute", "query_per_hour", "query_per_day"],
            Self::Tokens => ["token_per_second", "token_per_minute", "token_per_hour", "token_per_day"],
        }
    }
}

/// Integers up to here keep their digits in a number that passes through a double, as all do on their way through
/// Higress.
pub(super) const EXACT_MAX: i64 = 1 << 53;

/// A text; none for what is no scalar.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number_text(number)),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Doubles without a fraction are written without one.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= EXACT_MAX as f64 => {
            (double as i64).to_string()
        }
        _ => number.to_string(),
    }
}

/// A whole number: fractions are cut, words are 0.
pub(super) fn whole(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0),
        Value::Bool(value) => i64::from(*value),
        // Casting saturates.
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().map(|double| double as i64)).unwrap_or(i64::MAX)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => 0,
    }
}

/// True or false: also a number, and a few words.
pub(super) fn flag(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true"),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The elements of an array; what is no array is one element, and null is none.
pub(super) fn elements(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list,
        Some(single) => std::slice::from_ref(single),
    }
}

/// Whether a text can be the name of a header (RFC 9110, 5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What stock makes of the key of a network.
pub(super) enum Network {
    /// As it stands.
    Written,
    /// A mask that means every address.
    Everything,
    /// IPv6, so short that stock also compares IPv4 addresses with it.
    ShortV6,
}

/// Reads the key of a network; none if it is invalid.
pub(super) fn network(key: &str) -> Option<Network> {
    let (address, mask) = key.split_once('/').map_or((key, None), |(address, mask)| (address, Some(mask)));
    let is_number = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if mask.is_some_and(|mask| !mask.is_empty() && !is_number(mask)) {
        return None;
    }
    if key.find('.').is_some_and(|at| at > 0) {
        let is_octet = |octet: &str| {
            octet.is_empty() || (is_number(octet) && octet.parse::<u32>().is_ok_and(|octet| octet <= 255))
        };
        if address.split('.').count() != 4 || !address.split('.').all(is_octet) {
            return None;
        }
        let is_everything = mask.is_some_and(|mask| mask.parse::<u32>().map_or(true, |bits| bits > 32));
        return Some(if is_everything { Network::Everything } else { Network::Written });
    }
    let _: std::net::Ipv6Addr = address.parse().ok()?;
    match mask.map(str::parse::<u32>) {
        None => Some(Network::Written),
        Some(Ok(1..=32)) => Some(Network::ShortV6),
        Some(Ok(0..=128)) => Some(Network::Written),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_as_stock_reads_them() {
        let cases = [
            (json!(null), Some(""), 0, false),
            (json!(true), Some("true"), 1, true),
            (json!(7), Some("7"), 7, true),
            (json!(1000.0), Some("1000"), 1000, true),
            (json!(1.9), Some("1.9"), 1, true),
            (json!(0.5), Some("0.5"), 0, true),
            (json!(-3), Some("-3"), -3, true),
            (json!("10"), Some("10"), 10, false),
            (json!("T"), Some("T"), 0, true),
            (json!("x"), Some("x"), 0, false),
            (json!([1]), None, 0, false),
            (json!(1e300), Some("1e+300"), i64::MAX, true),
        ];
        for (value, as_text, as_whole, as_flag) in cases {
            assert_eq!((text(&value).as_deref(), whole(&value), flag(&value)), (as_text, as_whole, as_flag), "{value}");
        }
        assert_eq!(
            [elements(None).len(), elements(Some(&json!(null))).len(), elements(Some(&json!({}))).len()],
            [0, 0, 1]
        );
    }

    #[test]
    fn networks_are_read_as_stock_reads_them() {
        let read = |key: &str| match network(key) {
            None => "invalid",
            Some(Network::Written) => "written",
            Some(Network::Everything) => "everything",
            Some(Network::ShortV6) => "short",
        };
        for (keys, expected) in [
            (
                &["1.2.3.4", "10.1.2.3/8", "1..1.1", "01.2.3.4", "::1", "2001:db8::/64", "::/0", "0.0.0.0/0"][..],
                "written",
            ),
            (&["10.0.0.0/40", "1.2.3.4/"], "everything"),
            (&["2001:db8::/32", "2000::/3"], "short"),
            (
                &[
                    "10.0.0.256",
                    "10.0.0",
                    "::1%eth0",
                    "::1/129",
                    "::1/",
                    "localhost",
                    "1.2.3.4/x",
                    "1.2.3.4/-1",
                    "",
                    "regexp:1",
                ],
                "invalid",
            ),
        ] {
            for key in keys {
                assert_eq!(read(key), expected, "{key}");
            }
        }
    }
}
