//! What a case runs on: anything that can be configured, shown requests, and looked at from outside.

pub mod engine;
mod simulated_cache;
pub mod simulated_store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::case::{Answer, Calls, Case, Expected, FieldValue, Fields, Request, Requests, Seen, Step, Store};

/// The clock of every case starts here, in microseconds: a midnight of our days, so that totals and times are as long
/// as they will be and slots begin where a case expects.
pub const START_US: u64 = 20_777 * 86_400 * 1_000_000;

/// Something that limits requests, with a Redis for each service that can be disturbed.
pub trait Runner: Sync {
    /// Its name in `skip` and in the names of tests.
    fn name(&self) -> &'static str;

    /// Configures a filter of the case's own, which shares no window with those of other cases.
    ///
    /// # Errors
    ///
    /// Why the configuration was refused.
    fn start(&self, case: &Case) -> Result<Box<dyn Session + '_>, String>;
}

/// A filter that runs, and a Redis behind it for each [`Case::services`].
pub trait Session {
    /// The Redis of a service behaves like this from here on.
    fn set_store(&mut self, service: &str, store: &Store);

    /// Somebody else says this command to the Redis of a service.
    fn say(&mut self, service: &str, command: &[Vec<u8>]);

    /// One request, from its arrival to the end of its response. `now_us` is the clock, Redis' and the filter's, which
    /// goes on with the pauses of the answer that the upstream gives, should the request get there.
    ///
    /// # Panics
    ///
    /// When the filter does what no filter may, such as leaving the request without an end.
    fn request(&mut self, now_us: u64, request: &Request, answer: &Answer) -> Seen;

    /// How many commands were sent to the Redis of a service so far, but for those answered NOSCRIPT.
    fn calls(&self, service: &str) -> usize;
}

/// Runs a case; the error tells the first step that went another way.
///
/// # Errors
///
/// As said.
pub fn run(case: &Case, runner: &dyn Runner) -> Result<(), String> {
    let mut session =
        runner.start(case).map_err(|errors| format!("{}\nthe configuration is refused: {errors}", case.about))?;
    let services = case.services();
    for (index, step) in case.steps.iter().enumerate() {
        match step {
            Step::Store(store, Some(service)) => session.set_store(service, store),
            Step::Store(store, None) => services.iter().for_each(|service| session.set_store(service, store)),
            Step::Redis(commands, of) => {
                for service in services.iter().filter(|service| of.as_ref().is_none_or(|of| of == *service)) {
                    commands.iter().for_each(|command| session.say(service, command));
                }
            }
            Step::Requests(requests) => {
                requested(session.as_mut(), requests, &services)
                    .map_err(|error| format!("{}\nstep {}, {error}", case.about, index + 1))?;
            }
        }
    }
    Ok(())
}

fn requested(session: &mut dyn Session, requests: &Requests, services: &BTreeSet<String>) -> Result<(), String> {
    let calls = |session: &dyn Session| services.iter().map(|service| session.calls(service)).collect::<Vec<_>>();
    let before = calls(session);
    for repetition in 0..requests.times {
        let at_ms = requests.at_ms + repetition * requests.every_ms;
        let seen = session.request(START_US + at_ms * 1_000, &requests.request, &requests.answer);
        if let Some(difference) = difference(requests, &seen, repetition) {
            let path = requests.request.path.escape_ascii();
            return Err(format!(
                "request {} of {} at {at_ms} ms ({path:.200}): {difference}",
                repetition + 1,
                requests.times
            ));
        }
    }
    let made = services.iter().zip(calls(session).into_iter().zip(before).map(|(after, before)| after - before));
    let made: BTreeMap<&str, usize> = made.map(|(service, made)| (service.as_str(), made)).collect();
    let is_as_wanted = match &requests.calls {
        Some(Calls::All(wanted)) => made.values().sum::<usize>() == *wanted,
        Some(Calls::Of(wanted)) => wanted.iter().all(|(service, wanted)| made.get(service.as_str()) == Some(wanted)),
        None => true,
    };
    if is_as_wanted { Ok(()) } else { Err(format!("expected {:?} calls of Redis, saw {made:?}", requests.calls)) }
}

/// What is another than expected, if anything is.
fn difference(requests: &Requests, seen: &Seen, repetition: u64) -> Option<String> {
    let Requests { expected, answer, request, .. } = requests;
    match (expected, seen) {
        (
            Expected::Pass { headers: wanted, body, sent, told },
            Seen::Pass { headers, body: seen_body, sent: seen_sent, told: seen_told },
        ) => {
            if let Some(difference) = differing_request(told, seen_told, repetition, &request.headers) {
                return Some(difference);
            }
            let body = body.clone().or_else(|| answer.cut.is_none().then(|| answer.bytes()));
            let sent = sent.clone().unwrap_or_else(|| request.body.concat());
            let bodies = [("client", body, seen_body), ("upstream", Some(sent), seen_sent)];
            let other =
                bodies.into_iter().find(|(_, wanted, seen)| wanted.as_ref().is_some_and(|wanted| wanted != *seen));
            if let Some((who, wanted, seen)) = other {
                let wanted = wanted.unwrap_or_default();
                return Some(format!(
                    "expected that the {who} gets the body `{}`, saw `{}`",
                    wanted.escape_ascii(),
                    seen.escape_ascii()
                ));
            }
            differing(wanted.as_ref()?, headers, repetition, &answer.headers)
        }
        (
            Expected::Refuse { status, body, headers: wanted },
            Seen::Refuse { status: seen_status, body: seen_body, headers },
        ) => {
            if status != seen_status {
                return Some(format!("expected status {status}, saw {seen_status}"));
            }
            if body != seen_body {
                return Some(format!(
                    "expected the body `{}`, saw `{}`",
                    body.escape_ascii(),
                    seen_body.escape_ascii()
                ));
            }
            differing(wanted.as_ref()?, headers, repetition, &[])
        }
        (Expected::Pass { .. }, Seen::Refuse { status, body, headers }) => {
            Some(format!("expected it to pass, saw {status} `{}` {}", body.escape_ascii(), listed(headers)))
        }
        (Expected::Refuse { .. }, Seen::Pass { headers, .. }) => {
            Some(format!("expected it to be refused, saw it pass {}", listed(headers)))
        }
    }
}

/// What is told in a request's fields; the rest is as the client sent it, but for what a gateway asks of upstreams so
/// that it can read their answers.
fn differing_request(
    told: &Fields,
    seen: &[(String, Vec<u8>)],
    repetition: u64,
    client: &[(String, Vec<u8>)],
) -> Option<String> {
    let kept: Vec<_> = client.iter().filter(|(name, _)| !told.contains_key(name)).cloned().collect();
    let asks_identity = |(name, value): &&(String, Vec<u8>)| name == "accept-encoding" && value == b"identity";
    let seen: Vec<_> = seen.iter().filter(|field| !asks_identity(field)).cloned().collect();
    let difference = differing(told, &seen, repetition, &kept)?;
    Some(format!("upstream: {difference}"))
}

/// Fields that are wanted stand in place of the upstream's of the same name, empty ones for none; the rest are the
/// upstream's.
fn differing(
    wanted: &Fields,
    seen: &[(String, Vec<u8>)],
    repetition: u64,
    upstream: &[(String, Vec<u8>)],
) -> Option<String> {
    let kept = upstream.iter().filter(|(name, _)| !wanted.contains_key(name)).cloned();
    let added = wanted.iter().filter(|(_, value)| **value != FieldValue::Text(String::new()));
    let added = added.map(|(name, value)| (name.clone(), value.text(repetition).into_bytes()));
    let mut expected: Vec<_> = kept.chain(added).collect();
    let known = |(name, value): &(String, Vec<u8>)| match wanted.get(name) {
        Some(FieldValue::Begins(begins)) if value.starts_with(begins.as_bytes()) => begins.clone().into_bytes(),
        _ => value.clone(),
    };
    let mut seen: Vec<_> = seen.iter().map(|field| (field.0.clone(), known(field))).collect();
    expected.sort();
    seen.sort();
    (expected != seen).then(|| format!("expected the header fields {}, saw {}", listed(&expected), listed(&seen)))
}

fn listed(fields: &[(String, Vec<u8>)]) -> String {
    let mut list = "{".to_owned();
    for (index, (name, value)) in fields.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(list, "{separator}{name}: {}", value.escape_ascii());
    }
    list + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(Vec<Seen>);

    struct Playing(std::vec::IntoIter<Seen>);

    impl Runner for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn start(&self, _case: &Case) -> Result<Box<dyn Session + '_>, String> {
            let copy = |seen: &Seen| match seen {
                Seen::Pass { headers, body, sent, told } => {
                    Seen::Pass { headers: headers.clone(), body: body.clone(), sent: sent.clone(), told: told.clone() }
                }
                Seen::Refuse { status, body, headers } => {
                    Seen::Refuse { status: *status, body: body.clone(), headers: headers.clone() }
                }
            };
            Ok(Box::new(Playing(self.0.iter().map(copy).collect::<Vec<_>>().into_iter())))
        }
    }

    impl Session for Playing {
        fn set_store(&mut self, _service: &str, _store: &Store) {}

        fn say(&mut self, _service: &str, _command: &[Vec<u8>]) {}

        fn request(&mut self, _now_us: u64, _request: &Request, _answer: &Answer) -> Seen {
            self.0.next().unwrap()
        }

        fn calls(&self, _service: &str) -> usize {
            0
        }
    }

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn outcome(steps: &str, seen: Vec<Seen>) -> Result<(), String> {
        run(&Case::read("a/b", &format!("about: a\nconfig: {{}}\nsteps: {steps}")).unwrap(), &Scripted(seen))
    }

    #[test]
    fn what_differs_is_told_and_nothing_else() {
        let pass = |headers: &[(&str, &str)]| Seen::Pass {
            headers: fields(headers),
            body: vec![],
            sent: vec![],
            told: vec![],
        };
        let body =
            |body: &str, sent: &str| Seen::Pass { headers: vec![], body: body.into(), sent: sent.into(), told: vec![] };
        let told = |headers: &[(&str, &str)]| Seen::Pass {
            headers: vec![],
            body: vec![],
            sent: vec![],
            told: fields(headers),
        };
        let refuse = |status, body: &str| Seen::Refuse { status, body: body.into(), headers: fields(&[("x-a", "1")]) };
        for (steps, seen, difference) in [
            ("[{pass: {}}]", vec![pass(&[("x-a", "1")])], ""),
            ("[{pass: {headers: {}}}]", vec![pass(&[("x-a", "1")])], "header fields"),
            ("[{pass: {headers: {x-a: 1}}}]", vec![pass(&[("x-a", "1")])], ""),
            ("[{pass: {headers: {x-a: 1}}}]", vec![pass(&[("x-a", "1"), ("x-a", "1")])], "header fields"),
            (
                "[{upstream: {x-a: 9, x-b: 2}, pass: {headers: {x-a: 1}}}]",
                vec![pass(&[("x-a", "1"), ("x-b", "2")])],
                "",
            ),
            ("[{upstream: {x-b: 2}, pass: {headers: {}}}]", vec![pass(&[])], "header fields"),
            (
                "[{times: 2, pass: {headers: {x-a: {down_from: 1}}}}]",
                vec![pass(&[("x-a", "1")]), pass(&[("x-a", "0")])],
                "",
            ),
            (
                "[{times: 2, pass: {headers: {x-a: {down_from: 1}}}}]",
                vec![pass(&[("x-a", "1")]), pass(&[("x-a", "1")])],
                "request 2 of 2",
            ),
            ("[{body: q, answer: {body: [a, b]}, pass: {}}]", vec![body("ab", "q")], ""),
            ("[{answer: {body: [a, b]}, pass: {}}]", vec![body("a", "")], "client gets the body `ab`, saw `a`"),
            ("[{answer: {body: [a, b]}, pass: {body: a}}]", vec![body("a", "")], ""),
            ("[{answer: {body: [a, b], cut: client}, pass: {}}]", vec![body("a", "")], ""),
            ("[{body: q, pass: {}}]", vec![body("", "r")], "upstream gets the body `q`, saw `r`"),
            ("[{body: q, pass: {sent: r}}]", vec![body("", "r")], ""),
            ("[{headers: {x-u: a}, pass: {}}]", vec![told(&[("x-u", "a"), ("accept-encoding", "identity")])], ""),
            ("[{headers: {x-u: a}, pass: {}}]", vec![told(&[])], "upstream: expected the header fields {x-u: a}"),
            ("[{headers: {x-u: a}, pass: {told: {x-u: b, x-v: 1}}}]", vec![told(&[("x-v", "1"), ("x-u", "b")])], ""),
            ("[{headers: {x-u: a}, pass: {told: {x-u: ''}}}]", vec![told(&[])], ""),
            ("[{headers: {x-u: a}, pass: {told: {x-u: ''}}}]", vec![told(&[("x-u", "a")])], "upstream"),
            ("[{pass: {headers: {x-a: {begins: ab}}}}]", vec![pass(&[("x-a", "abc")])], ""),
            ("[{pass: {headers: {x-a: {begins: ab}}}}]", vec![pass(&[("x-a", "ac")])], "header fields"),
            ("[{upstream: {x-a: 1}, pass: {headers: {x-a: ''}}}]", vec![pass(&[])], ""),
            ("[{refuse: {}}]", vec![refuse(429, "Too many requests")], ""),
            ("[{refuse: {headers: {}}}]", vec![refuse(429, "Too many requests")], "header fields"),
            ("[{refuse: {}}]", vec![refuse(503, "Too many requests")], "status 429, saw 503"),
            ("[{refuse: {}}]", vec![refuse(429, "")], "body"),
            ("[{refuse: {}}]", vec![pass(&[])], "saw it pass"),
            ("[{pass: {}}]", vec![refuse(429, "")], "expected it to pass"),
        ] {
            match outcome(steps, seen) {
                Ok(()) => assert!(difference.is_empty(), "{steps}"),
                Err(error) => assert!(!difference.is_empty() && error.contains(difference), "{steps}: {error}"),
            }
        }
    }
}
