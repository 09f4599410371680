//! Reads what a gateway's `/metrics` says, in the text format of Prometheus.

use std::collections::BTreeMap;

/// All series of one reading.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Series>);

#[derive(Debug, Clone)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Metrics ===

impl Metrics {
    /// Parses a reading.
    ///
    /// # Panics
    ///
    /// On a line that is neither a comment nor a series.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics(lines.map(|line| series(line).unwrap_or_else(|| panic!("`{line}` is no series"))).collect())
    }

    /// The sum of all series of this name with these labels, among others; none if there is no such series.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |series: &&Series| {
            series.name == name
                && labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|own| own == value))
        };
        let mut found = self.0.iter().filter(fits).map(|series| series.value).peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// As [`Metrics::find`]; 0 if there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_default()
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.0.len()
    }
}

fn series(line: &str) -> Option<Series> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Series { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(label.to_owned(), value);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Series { name: name.to_owned(), labels, value })
}

/// The text up to the closing quotation mark, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"\"} 2\na{x=\"2\",y=\"q\\\"}, z\"} 3\n\nb 0.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.series(), 3);
        assert_eq!(metrics.find("a", &[]), Some(5.0));
        assert_eq!(metrics.find("a", &[("x", "2")]), Some(3.0));
        assert_eq!(metrics.find("a", &[("y", "q\"}, z")]), Some(3.0));
        assert_eq!(metrics.find("b", &[]), Some(0.5));
        assert_eq!(metrics.find("c", &[]), None);
    }
}
