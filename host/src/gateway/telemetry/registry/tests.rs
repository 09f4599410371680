use super::*;
use metrics::{Label, Level};

const OWN: Metadata<'static> = Metadata::new("slidegate::somewhere", Level::INFO, None);
const FILTER: Metadata<'static> = Metadata::new(OF_THE_FILTER, Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, *value)).collect::<Vec<_>>())
}

fn registry() -> Registry {
    Registry::new([("seconds", &[0.5, 1.0][..])])
}

#[test]
fn every_kind_is_written_as_prometheus_reads_it() {
    let registry = registry();
    registry.describe_counter("a_total".into(), None, "Back\\slash and\nline".into());
    registry.register_counter(&key("a_total", &[("y", "2"), ("x", "q\"\\\n")]), &OWN).increment(3);
    registry.register_counter(&key("a_total", &[]), &OWN).absolute(7);
    registry.register_gauge(&key("b", &[]), &OWN).set(0.25);
    let seconds = registry.register_histogram(&key("seconds", &[("r", "1")]), &OWN);
    seconds.record_many(0.375, 2);
    [0.75, 2.0].into_iter().for_each(|value| seconds.record(value));
    let expected = "# HELP a_total Back\\\\slash and\\nline
# TYPE a_total counter
a_total 7
a_total{x=\"q\\\"\\\\\\n\",y=\"2\"} 3
# HELP b Without a description
# TYPE b gauge
b 0.25
# HELP seconds Without a description
# TYPE seconds histogram
seconds_bucket{r=\"1\",le=\"0.5\"} 2
seconds_bucket{r=\"1\",le=\"1\"} 3
seconds_bucket{r=\"1\",le=\"+Inf\"} 4
seconds_sum{r=\"1\"} 3.5
seconds_count{r=\"1\"} 4
";
    assert_eq!(registry.render(), expected);
}

#[test]
fn a_series_is_the_same_for_the_same_name_and_labels() {
    let registry = registry();
    registry.register_counter(&key("a", &[("x", "1"), ("y", "2")]), &OWN).increment(1);
    registry.register_counter(&key("a", &[("y", "2"), ("x", "1")]), &OWN).increment(1);
    assert!(registry.render().ends_with("a{x=\"1\",y=\"2\"} 2\n"), "{}", registry.render());
}

#[test]
fn series_of_the_settings_leave_with_those_who_count_in_them() {
    let registry = registry();
    let [kept, left] =
        ["kept", "left"].map(|rule| registry.register_counter(&key("decisions", &[("rule", rule)]), &FILTER));
    [&kept, &left].into_iter().for_each(|counter| counter.increment(1));
    registry.register_counter(&key("own", &[]), &OWN).increment(1);
    assert!(registry.render().contains("left"));
    let again = left.clone();
    drop(left);
    assert!(registry.render().contains("left"), "another handle still counts");
    drop(again);
    let text = registry.render();
    assert!(
        !text.contains("left") && text.contains("decisions{rule=\"kept\"} 1\n") && text.contains("own 1\n"),
        "{text}"
    );
    drop(kept);
    assert_eq!(registry.render(), "# HELP own Without a description\n# TYPE own counter\nown 1\n");
}

#[test]
fn a_name_has_one_kind() {
    let registry = registry();
    registry.register_counter(&key("a", &[]), &OWN).increment(1);
    registry.register_gauge(&key("a", &[("x", "1")]), &OWN).set(5.0);
    registry.register_histogram(&key("a", &[]), &OWN).record(5.0);
    assert_eq!(registry.render(), "# HELP a Without a description\n# TYPE a counter\na 1\n");
}

#[test]
fn names_are_what_prometheus_allows() {
    assert_eq!((sanitized("a.b-c:ä"), sanitized("5xx")), ("a_b_c__".to_owned(), "_5xx".to_owned()));
}
